"""The action mask in the dialects of other libraries: the observation becomes a pair with it.

The mask is that of the nearest wrapper or environment with `action_masks()`. The environment's own
`action_mask`, if the observation holds one, is left out of the other half; `mask="lazy"` saves it
the work of making one.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper
from numpy.typing import NDArray

from rere_env.envs import ReReVectorEnv
from rere_env.trie import EOS
from rere_env.types import BoolArray
from rere_env.wrappers.actions import VectorDecisionActions
from rere_env.wrappers.base import MASK, VectorObservationView, find_vector_env

__all__ = [
    "MaskInObservation",
    "TianshouMask",
    "VectorMaskInObservation",
    "VectorTianshouMask",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dialect:
    """How a library calls the two halves, and which type its mask has."""

    observation: str
    mask: str
    dtype: Any  # np.int8 or np.bool_

    def pair(self, observation: Any, mask: BoolArray) -> dict[str, Any]:  # noqa: ANN401
        if isinstance(observation, dict):
            observation = {key: value for key, value in observation.items() if key != MASK}
        return {self.observation: observation, self.mask: mask.astype(self.dtype)}

    def space(self, observation: spaces.Space[Any], actions: spaces.Space[Any]) -> spaces.Dict:
        if not isinstance(actions, spaces.Discrete):
            raise TypeError(f"a mask needs Discrete actions; got {actions}.")
        if isinstance(observation, spaces.Dict):
            parts = {key: part for key, part in observation.spaces.items() if key != MASK}
            observation = spaces.Dict(parts)
        mask = spaces.Box(0, 1, (int(actions.n),), self.dtype)
        return spaces.Dict({self.observation: observation, self.mask: mask})


_PETTING_ZOO = _Dialect(observation="observation", mask="action_mask", dtype=np.int8)
_TIANSHOU = _Dialect(observation="obs", mask="mask", dtype=np.bool_)


class MaskInObservation(gym.ObservationWrapper[dict[str, Any], Any, Any], RecordConstructorArgs):
    """`{"observation": ..., "action_mask": int8 [actions]}`, as PettingZoo's environments have it.

    Libraries that know no nested dicts want a `FlattenObservation` inside.
    """

    _dialect = _PETTING_ZOO

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        """Wrap an environment with `action_masks()`."""
        RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        self.observation_space = self._dialect.space(env.observation_space, env.action_space)

    def observation(self, observation: Any) -> dict[str, Any]:  # noqa: ANN401 - of any space
        """Return the pair."""
        return self._dialect.pair(observation, self.env.get_wrapper_attr("action_masks")())


class TianshouMask(MaskInObservation):
    """`{"obs": ..., "mask": bool [actions]}`: Tianshou looks for exactly these two keys.

    It silently ignores any other, and indexes with the mask, so that must be of type bool.
    """

    _dialect = _TIANSHOU


class VectorMaskInObservation(VectorObservationView):
    """`MaskInObservation` of all rows of a `ReReVectorEnv`, or of its decisions."""

    _dialect = _PETTING_ZOO

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        """Wrap a `ReReVectorEnv`."""
        space = self._dialect.space(env.single_observation_space, env.single_action_space)
        super().__init__(env, space)
        self._source = _mask_source(env, type(self).__name__)

    def observations(self, observations: Any) -> dict[str, Any]:  # noqa: ANN401 - of any space
        """Return the pairs of all rows."""
        return self._dialect.pair(observations, self._source.action_masks())

    def last_observation(self, observation: Any) -> dict[str, Any]:  # noqa: ANN401 - of any space
        """Return the pair of one finished row."""
        return self._dialect.pair(observation, _finished_mask(self._source))


class VectorTianshouMask(VectorMaskInObservation):
    """`TianshouMask` of all rows of a `ReReVectorEnv`, or of its decisions."""

    _dialect = _TIANSHOU


def _mask_source(env: VectorEnv[Any, Any, Any], view: str) -> ReReVectorEnv | VectorDecisionActions:
    """Return the nearest wrapper or environment with `action_masks()`."""
    base = find_vector_env(env, view)
    while isinstance(env, VectorWrapper):
        if isinstance(env, VectorDecisionActions):
            return env
        env = env.env
    return base


def _finished_mask(source: ReReVectorEnv | VectorDecisionActions) -> BoolArray:
    """Return the mask of a finished row: EOS alone, or every decision."""
    if isinstance(source, VectorDecisionActions):
        every: BoolArray = source.action_masks()[0]
        return every
    mask: NDArray[np.bool_] = np.zeros(source.surface.num_actions, np.bool_)
    mask[source.surface.to_actions(np.array([EOS]))] = True
    return mask
