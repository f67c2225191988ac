"""The native vector environment as one of Tianshou's. Knows no networks and no learning.

Tianshou resets and steps whichever rows its collector asks for, so rows are stepped one level
below Gymnasium, where subsets are natural; what it sees equals its own `DummyVectorEnv` over single
environments in the `TianshouMask` wrapper, value for value.
"""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rere_env.dynamics.decisions import Decisions
from rere_env.dynamics.groups import GroupedDynamics
from rere_env.dynamics.rows import Transition
from rere_env.envs import ReReVectorEnv
from rere_env.types import OBSERVATION_KEYS, IntArray
from rere_env.wrappers import VectorDecisionActions, VectorTianshouMask

try:
    from tianshou.data import Batch
    from tianshou.env import BaseVectorEnv
except ModuleNotFoundError as error:
    raise ImportError(
        "Tianshou's environments and agents need tianshou; install it with "
        '`pip install "rere-env[tianshou]"`.'
    ) from error

__all__ = ["ReReTianshouEnv"]

Rows = int | list[int] | NDArray[np.integer[Any]] | None
Info = NDArray[np.object_]
Step = tuple[Batch, NDArray[Any], NDArray[Any], NDArray[Any], Info]


class ReReTianshouEnv(BaseVectorEnv):
    """N users for a Tianshou collector.

    Observations are `Batch(obs=Batch(history, slate, prefix), mask=bool [n, actions])`; where
    `VectorDecisionActions` wraps the environment every action is legal, and they are
    `Batch(history, slate, prefix)`. Infos are those of `ReReEnv`, and `env_id`.

        env = ReReTianshouEnv(
            ReReVectorEnv(64, task, slate_size=1, mask="lazy", autoreset_mode="Disabled")
        )

    Do not warm a collector up with `random=True`: it samples illegal actions.
    """

    def __init__(self, env: ReReVectorEnv | VectorDecisionActions) -> None:
        """Take an environment that leaves resets to the collector.

        Args:
            env: Made with `autoreset_mode="Disabled"`; `mask="lazy"` saves work.

        Raises:
            TypeError: It is another environment, or has other wrappers.
            ValueError: It resets itself, or its rows are grouped.
        """
        base = env.env if isinstance(env, VectorDecisionActions) else env
        if not isinstance(base, ReReVectorEnv):
            raise TypeError(
                "a ReReTianshouEnv is made of a ReReVectorEnv, or of VectorDecisionActions around "
                f"one; got {env}."
            )
        if base.autoreset_mode != AutoresetMode.DISABLED:
            raise ValueError(
                f"`autoreset_mode` (={base.autoreset_mode.value!r}) must be 'Disabled': Tianshou's "
                "collector resets rows itself."
            )
        if isinstance(base.surface.dynamics, GroupedDynamics):
            raise ValueError(
                "a collector steps some rows without the others of their group; `group_size` "
                f"(={base.surface.dynamics.group_size}) must be 1."
            )
        # Not calling the constructor above: it makes one worker a row.
        self.env_num = self.wait_num = base.num_envs
        self.is_async = self.is_closed = False
        self._base, self._all = base, np.arange(base.num_envs)
        self._decisions = base.driver if isinstance(base.driver, Decisions) else None
        self._env = env if self._decisions else VectorTianshouMask(env)
        self._action_spaces = [
            spaces.Discrete(int(self._env.single_action_space.n))  # type: ignore[attr-defined]
            for _ in range(self.env_num)
        ]

    def reset(  # type: ignore[override]
        self,
        env_id: Rows = None,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Batch, Info]:
        """Begin an episode in some rows.

        Args:
            env_id: Which rows; default: all.
            seed: The same for each row, as in Tianshou's own environments; `self.seed` gives each
                its own.
            options: As `ReReVectorEnv.reset` takes them.
        """
        self._assert_is_not_closed()
        rows = self._rows(env_id)
        mask = np.zeros(self.env_num, np.bool_)
        mask[rows] = True
        seeds = None if seed is None else [seed] * self.env_num
        options = {**(options or {}), "reset_mask": mask}
        _, infos = self._env.reset(seed=seeds, options=options)
        keys = ("example", "pass", "target_reachable")
        return self._observe(rows), np.array(
            [{key: infos[key][row].item() for key in keys} for row in rows.tolist()]
        )

    def step(  # type: ignore[override]
        self, action: NDArray[Any] | torch.Tensor | None, id: Rows = None
    ) -> Step:
        """Take an action in some rows, the others stay as they are.

        Args:
            action: [n] one a row.
            id: Which n rows, in their order; default: all.

        Raises:
            ResetNeeded: The episode of one of them is over.
        """
        self._assert_is_not_closed()
        rows = self._rows(id)
        actions = np.asarray(action)
        if actions.shape != rows.shape or actions.dtype.kind not in "iu":
            raise ValueError(
                f"actions must be {len(rows)} integers, one a row; got shape {actions.shape} of "
                f"dtype {actions.dtype}."
            )
        state = self._base.rows
        waiting = rows[state.finished[rows]]
        if len(waiting):
            raise ResetNeeded(
                f"rows {waiting[:10].tolist()} are finished; call `reset(env_id)` with them first."
            )
        if self._decisions is not None:
            tokens = self._decisions.tokens(state, actions, rows)
        else:
            tokens = self._base.surface.to_local(actions)
        moved = self._base.driver.step(state, tokens, rows)
        infos = _infos(moved, rows)
        return self._observe(rows), moved.reward, moved.terminated, moved.truncated, infos

    def seed(self, seed: int | list[int] | None = None) -> list[list[int] | None]:
        """Seed row i with `seed + i`, or each with its own, and begin an episode in each."""
        self._assert_is_not_closed()
        seeds = [seed + row for row in range(self.env_num)] if isinstance(seed, int) else seed
        self._env.reset(seed=seeds)
        for row, space in enumerate(self._action_spaces):
            space.seed(None if seeds is None else seeds[row])
        return [None if seeds is None else [seeds[row]] for row in range(self.env_num)]

    def get_env_attr(self, key: str, id: Rows = None) -> list[Any]:
        """Return an attribute of the environment, once for each of some rows."""
        self._assert_is_not_closed()
        rows = self._rows(id).tolist()
        if key == "action_space":
            return [self._action_spaces[row] for row in rows]
        name = "single_observation_space" if key == "observation_space" else key
        return [getattr(self._env, name)] * len(rows)

    def set_env_attr(self, key: str, value: object, id: Rows = None) -> None:
        """Refuse: the rows are one environment."""
        raise TypeError(f"the rows share one environment, so {key!r} cannot be set for some.")

    def render(self, **kwargs: object) -> list[Any]:
        """Return one picture a row."""
        self._assert_is_not_closed()
        return list(self._base.render() or ())

    def close(self) -> None:
        """Close the environment."""
        self._assert_is_not_closed()
        self._env.close()
        self.is_closed = True

    def _rows(self, ids: Rows) -> IntArray:
        if ids is None:
            return self._all
        rows = np.atleast_1d(np.asarray(ids, np.int64))
        if len(np.unique(rows)) != len(rows):
            raise ValueError(f"rows must be distinct; got {rows.tolist()}.")
        return rows

    def _observe(self, rows: IntArray) -> Batch:
        """Return fresh observations of some rows."""
        shown = self._base.surface.observe(self._base.rows, {})
        if isinstance(self._env, VectorTianshouMask):
            everything = Batch(self._env.observations(shown))
        else:
            everything = Batch({key: shown[key] for key in OBSERVATION_KEYS})
        return everything if rows is self._all else everything[rows]


def _infos(moved: Transition, rows: IntArray) -> Info:
    """Return one dict a row, as `ReReEnv.step` and Tianshou's workers make them."""
    infos: list[dict[str, Any]] = [{"illegal": illegal} for illegal in moved.illegal.tolist()]
    if moved.outcome is not None:
        last = moved.outcome.infos()
        for place, row in enumerate(moved.outcome.rows.tolist()):
            infos[row] |= _pick(last, place)
    for info, row in zip(infos, rows.tolist(), strict=True):
        info["env_id"] = row
    return np.array(infos)


def _pick(values: dict[str, Any], place: int) -> dict[str, Any]:
    """Return what one row has of every array."""
    return {
        key: _pick(value, place)
        if isinstance(value, dict)
        else (value[place].copy() if value.ndim > 1 else value[place].item())
        for key, value in values.items()
    }
