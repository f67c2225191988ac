"""Ids as one-hot vectors, for linear models and plain networks over tiny catalogues.

The environments show ids as numbers, which only an embedding can read. At real size one-hot
vectors are wider than any network wants: 112,530 for a history of ten from 11,253 titles.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from rere_env.types import OBSERVATION_KEYS, IntArray
from rere_env.wrappers.base import VectorObservationView, check_ids

__all__ = ["OneHotObservation", "VectorOneHotObservation"]

MAX_SIZE = 10_000
"""Floats of an observation beyond which a one-hot form is refused by default."""


class OneHotObservation(
    gym.ObservationWrapper[NDArray[np.float32], Any, dict[str, Any]], RecordConstructorArgs
):
    """`history`, `slate` and `prefix` as one flat float32 Box of ones and zeros.

    Each place takes as many floats as there are ids; an empty one is all zeros. The environment's
    own mask, if the observation holds one, is left out.
    """

    def __init__(self, env: gym.Env[Any, Any], *, max_size: int = MAX_SIZE) -> None:
        """Wrap a `ReReEnv` whose observation would have at most `max_size` floats.

        Raises:
            TypeError: A wrapper inside has changed the observation.
            ValueError: The observation would be larger.
        """
        RecordConstructorArgs.__init__(self, max_size=max_size)
        gym.ObservationWrapper.__init__(self, env)
        self.observation_space = _flat_space(env.observation_space, "OneHotObservation", max_size)
        self._num_ids = _num_ids(env.observation_space)

    def observation(self, observation: dict[str, Any]) -> NDArray[np.float32]:
        """Return the ones and zeros [size]."""
        return _one_hot(observation, self._num_ids)


class VectorOneHotObservation(VectorObservationView):
    """`OneHotObservation` of all rows of a `ReReVectorEnv`."""

    def __init__(self, env: VectorEnv[Any, Any, Any], *, max_size: int = MAX_SIZE) -> None:
        """Wrap a `ReReVectorEnv` (see `OneHotObservation`)."""
        space = env.single_observation_space
        super().__init__(env, _flat_space(space, "VectorOneHotObservation", max_size))
        self._num_ids = _num_ids(space)

    def observations(self, observations: dict[str, Any]) -> NDArray[np.float32]:
        """Return the ones and zeros of all rows [N, size]."""
        return _one_hot(observations, self._num_ids)

    def last_observation(self, observation: dict[str, Any]) -> NDArray[np.float32]:
        """Return the ones and zeros of one finished row [size]."""
        return _one_hot(observation, self._num_ids)


def _num_ids(space: spaces.Space[Any]) -> dict[str, int]:
    """Return the highest id of each key."""
    return {key: int(space[key].high.max()) for key in OBSERVATION_KEYS}  # type: ignore[index]


def _flat_space(space: spaces.Space[Any], view: str, max_size: int) -> spaces.Space[Any]:
    """Return the space of the ones and zeros, if it is not too large."""
    check_ids(space, view)
    lengths = {key: space[key].shape[0] for key in OBSERVATION_KEYS}  # type: ignore[index]
    num_ids = _num_ids(space)
    size = sum(lengths[key] * num_ids[key] for key in OBSERVATION_KEYS)
    if size > max_size:
        parts = " + ".join(f"{key} {lengths[key]} x {num_ids[key]}" for key in OBSERVATION_KEYS)
        raise ValueError(
            f"a one-hot observation may have at most `max_size` (={max_size}) floats, but this one "
            f"would have {size} ({parts}); embed the ids, take a smaller catalogue or "
            "`slate_size`, or raise `max_size`."
        )
    return spaces.Box(0.0, 1.0, (size,), np.float32)


def _one_hot(observation: dict[str, IntArray], num_ids: dict[str, int]) -> NDArray[np.float32]:
    """Return [..., size]: in the place of each id i the float i - 1 is one."""
    parts = []
    for key, high in num_ids.items():
        ids = observation[key]
        hot = np.zeros((*ids.shape, high + 1), np.float32)
        np.put_along_axis(hot, ids[..., None], 1.0, axis=-1)
        parts.append(hot[..., 1:].reshape(*ids.shape[:-1], -1))
    return np.concatenate(parts, axis=-1)
