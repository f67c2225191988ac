"""What the views share: which environment lies below, and observations changed in every mode."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rere_env.envs import ReReEnv, ReReVectorEnv
from rere_env.types import OBSERVATION_KEYS, BoolArray, FloatArray

__all__ = [
    "MASK",
    "VectorObservationView",
    "VectorStep",
    "check_ids",
    "find_env",
    "find_vector_env",
]

"""The keys of an observation that hold ids."""

MASK = "action_mask"
"""The key of the environments' own mask."""

VectorStep = tuple[Any, FloatArray, BoolArray, BoolArray, dict[str, Any]]


def find_env(env: gym.Env[Any, Any], view: str) -> ReReEnv:
    """Return the environment below all wrappers.

    Raises:
        TypeError: It is another one.
    """
    base = env.unwrapped
    if not isinstance(base, ReReEnv):
        raise TypeError(f"`{view}` is a view of a ReReEnv; got {env}.")
    return base


def find_vector_env(env: VectorEnv[Any, Any, Any], view: str) -> ReReVectorEnv:
    """Return the vector environment below all wrappers.

    Raises:
        TypeError: It is another one.
    """
    base = env.unwrapped
    if not isinstance(base, ReReVectorEnv):
        single = view.removeprefix("Vector")
        raise TypeError(
            f"`{view}` is a view of a ReReVectorEnv; got {env}. In a vector of single "
            f"environments wrap each of them in `{single}`."
        )
    return base


def check_ids(space: spaces.Space[Any], view: str) -> None:
    """Check that the ids are still under their keys.

    Raises:
        TypeError: They are not.
    """
    if not isinstance(space, spaces.Dict) or not set(OBSERVATION_KEYS) <= space.spaces.keys():
        raise TypeError(
            f"`{view}` reads {OBSERVATION_KEYS} of the observation; got {space}. Put the wrapper "
            "that changed it outside."
        )


class VectorObservationView(VectorWrapper):
    """Change the observations of all rows, and the last ones of finished rows under SAME_STEP.

    Gymnasium's `VectorObservationWrapper` refuses SAME_STEP.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], space: spaces.Space[Any]) -> None:
        """Take the new space of one row."""
        super().__init__(env)
        self.single_observation_space = space
        self.observation_space = batch_space(space, env.num_envs)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes and change the observations."""
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        return self.observations(observations), infos

    def step(self, actions: NDArray[Any]) -> VectorStep:
        """Step all rows and change the observations."""
        observations, reward, terminated, truncated, infos = self.env.step(actions)
        if "final_obs" in infos:
            last = np.full(self.num_envs, None, dtype=object)
            for row in np.flatnonzero(infos["_final_obs"]).tolist():
                last[row] = self.last_observation(infos["final_obs"][row])
            infos["final_obs"] = last
        return self.observations(observations), reward, terminated, truncated, infos

    def observations(self, observations: Any) -> Any:  # noqa: ANN401 - of any space
        """Return the new observations of all rows."""
        raise NotImplementedError

    def last_observation(self, observation: Any) -> Any:  # noqa: ANN401 - of any space
        """Return the new observation of one finished row."""
        raise NotImplementedError
