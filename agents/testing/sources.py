"""Rows of environments as Stable-Baselines3 and Tianshou see them, for `check_same_episodes`.

Any `VecEnv` of the one and any `BaseVectorEnv` of the other will do, ours or another's. Imports
neither library: it calls what they define.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rere_env.envs import ReReVectorEnv
from rere_env.task import Task
from rere_env.testing import ActionScores, EpisodeSource, Moment
from rere_env.testing import check_same_episodes as check_same_in_gymnasium
from rere_env.types import BoolArray, IntArray
from rere_env.wrappers import VectorDecisionActions

__all__ = ["TianshouSource", "VecEnvSource", "check_same_episodes"]

# The libraries' environments and batches have no types of ours: `Any` at the border.

Columns = dict[str, Any]


def check_same_episodes(
    task: Task,
    policy: ActionScores | None = None,
    *,
    libraries: tuple[str, ...] = ("sb3", "tianshou"),
    decisions: bool = False,
    num_envs: int = 3,
    num_episodes: int = 4,
    seed: int = 0,
    **options: Any,  # noqa: ANN401 - the arguments of `ReReEnv`
) -> None:
    """Check that a frozen policy lives through the same episodes in other libraries as well.

    As `rere_env.testing.check_same_episodes`, with our adapters for the libraries named.

    Raises:
        AssertionError: A surface shows something else.
        ImportError: A library is missing; the message names the extra.
        ValueError: There is no adapter of that name.
    """
    makers = {"sb3": _stable_baselines, "tianshou": _tianshou}
    if unknown := set(libraries) - makers.keys():
        raise ValueError(f"`libraries` (={libraries}) knows no {unknown}; use {sorted(makers)}.")
    sources: Mapping[str, EpisodeSource] = {
        name: makers[name](task, num_envs, decisions, options) for name in libraries
    }
    check_same_in_gymnasium(
        task,
        policy,
        sources=sources,
        decisions=decisions,
        num_envs=num_envs,
        num_episodes=num_episodes,
        seed=seed,
        **options,
    )


class VecEnvSource:
    """A `VecEnv` of Stable-Baselines3 whose `env_method("action_masks")` knows what is legal."""

    def __init__(self, env: Any) -> None:  # noqa: ANN401
        """Take the environment."""
        self.env = env

    def reset(self, seed: int) -> list[Columns]:
        """Begin N episodes."""
        self.env.seed(seed)
        return _by_row(self.env.reset(), self.env.num_envs)

    def action_masks(self) -> BoolArray:
        """Return the legal actions now, [N, n]."""
        return np.stack(self.env.env_method("action_masks"))

    def step(self, actions: IntArray) -> list[Moment]:
        """Act in every row; what ends has left its last observation in its info."""
        observations, rewards, done, infos = self.env.step(actions)
        moments = []
        for row, shown in enumerate(_by_row(observations, self.env.num_envs)):
            info, over = infos[row], bool(done[row])
            last = info["terminal_observation"] if over else shown
            truncated = over and bool(info["TimeLimit.truncated"])
            step = last, float(rewards[row]), over and not truncated, truncated, info
            moments.append(Moment(step, shown if over else None))
        return moments


class TianshouSource:
    """A vector environment of Tianshou, of single observations as `TianshouMask` makes them."""

    def __init__(self, env: Any) -> None:  # noqa: ANN401
        """Take the environment."""
        self.env = env
        self.num_actions = int(env.get_env_attr("action_space")[0].n)
        self.masks: BoolArray = np.ones((env.env_num, self.num_actions), np.bool_)

    def reset(self, seed: int) -> list[Columns]:
        """Begin N episodes, row by row: `reset` gives all rows of a call the same seed."""
        return [
            self._seen([row], self.env.reset([row], seed=seed + row)[0])[0]
            for row in range(self.env.env_num)
        ]

    def action_masks(self) -> BoolArray:
        """Return the legal actions now, [N, n]: all of them where no mask is shown."""
        return self.masks

    def step(self, actions: IntArray) -> list[Moment]:
        """Act in every row, and reset those that ended, as a collector does."""
        rows = list(range(self.env.env_num))
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        shown = self._seen(rows, observations)
        starts: dict[int, Columns] = {}
        if ended := np.flatnonzero(terminated | truncated).tolist():
            begun = self._seen(ended, self.env.reset(ended)[0])
            starts = dict(zip(ended, begun, strict=True))
        return [
            Moment(
                (shown[row], rewards[row], bool(terminated[row]), bool(truncated[row]), infos[row]),
                starts.get(row),
            )
            for row in rows
        ]

    def _seen(self, rows: list[int], batch: Any) -> list[Columns]:  # noqa: ANN401
        """Keep the masks of some rows, and return their observations."""
        self.masks = self.masks.copy()
        if "mask" in batch:
            self.masks[rows] = batch["mask"]
            batch = batch["obs"]
        return _by_row(batch, len(rows))


def _by_row(columns: Any, num_rows: int) -> list[Columns]:  # noqa: ANN401
    return [
        {key: np.asarray(columns[key])[row] for key in ("history", "slate", "prefix")}
        for row in range(num_rows)
    ]


def _stable_baselines(
    task: Task, num_envs: int, decisions: bool, options: dict[str, Any]
) -> EpisodeSource:
    from agents.adapters.sb3 import make_vec_env

    return VecEnvSource(make_vec_env(num_envs, task, decisions=decisions, **options))


def _tianshou(task: Task, num_envs: int, decisions: bool, options: dict[str, Any]) -> EpisodeSource:
    from agents.adapters.tianshou.env import ReReTianshouEnv

    env = ReReVectorEnv(num_envs, task, **{"mask": "lazy", **options, "autoreset_mode": "Disabled"})
    return TianshouSource(ReReTianshouEnv(VectorDecisionActions(env) if decisions else env))
