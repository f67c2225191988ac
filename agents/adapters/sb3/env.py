"""A Stable-Baselines3 `VecEnv` over the native vector environment. Knows no agents.

Equal to `DummyVecEnv` of single environments, without a Python object per row: only rows that end
cost Python work. The infos of all other rows are empty, but for `illegal` where it is True.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from rere_env.dynamics.groups import GroupedDynamics
from rere_env.envs import ReReVectorEnv
from rere_env.task import Task
from rere_env.types import IntArray
from rere_env.wrappers import VectorDecisionActions
from rere_env.wrappers.base import MASK

__all__ = ["ReReVecEnv", "make_vec_env"]

RESET_INFO = ("example", "pass", "target_reachable", MASK)
"""The info of a reset."""

ROW_METHODS = ("action_masks", "render")
"""What `env_method` can call: methods that return one thing a row."""


def make_vec_env(
    num_envs: int,
    task: Task | None = None,
    *,
    decisions: bool = False,
    **options: Any,  # noqa: ANN401 - those of ReReVectorEnv
) -> "ReReVecEnv":
    """Make `num_envs` rows of a task.

    Args:
        num_envs: N.
        task: Default: the built-in world.
        decisions: Actions are those of `DecisionActions`, all of them legal.
        options: Of `ReReVectorEnv`. Masks are made when asked for, unless `mask` says otherwise.
    """
    options = {"mask": "lazy", **options, "autoreset_mode": "SameStep"}
    env: VectorEnv[Any, Any, Any] = ReReVectorEnv(num_envs, task, **options)
    return ReReVecEnv(VectorDecisionActions(env) if decisions else env)


class ReReVecEnv(VecEnv):
    """N rows for an agent of Stable-Baselines3 or sb3-contrib.

    The info of the last step of an episode is that of `ReReEnv`, with `terminal_observation` and
    `TimeLimit.truncated`; `reset_infos` holds the info of each row's last reset. MaskablePPO finds
    `action_masks`.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        """Take a `ReReVectorEnv`, plain or under views such as `VectorDecisionActions`.

        Raises:
            TypeError: It is another vector environment.
            ValueError: It does not reset in the step that ends an episode.
        """
        base = env.unwrapped
        if not isinstance(base, ReReVectorEnv):
            raise TypeError(
                f"`env` (={env}) must be a ReReVectorEnv; single environments go into a "
                "`DummyVecEnv` of Stable-Baselines3."
            )
        if base.autoreset_mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"`autoreset_mode` (={base.autoreset_mode.value!r}) must be 'SameStep': "
                "Stable-Baselines3 expects a new episode from the step that ends one."
            )
        self.env, self._base = env, base
        self._actions: IntArray = np.zeros(env.num_envs, np.int64)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> VecEnvObs:
        """Begin an episode in every row, with the seeds and options that were set."""
        seeds: Any = self._next_seeds()  # Gymnasium's type of `seed` knows no sequences
        observations: VecEnvObs
        observations, infos = self.env.reset(seed=seeds, options=self._next_options())
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = _row_infos(infos, np.arange(self.num_envs))
        return observations

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step all rows."""
        observations, rewards, terminated, truncated, found = self.env.step(self._actions)
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(found.get("illegal", ())).tolist():
            infos[row]["illegal"] = True
        ended = np.flatnonzero(done)
        if len(ended):
            last = _row_infos(found["final_info"], ended)
            begun = _row_infos({key: found[key] for key in RESET_INFO if key in found}, ended)
            for place, row in enumerate(ended.tolist()):
                last[place]["terminal_observation"] = found["final_obs"][row]
                last[place]["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
                infos[row], self.reset_infos[row] = last[place], begun[place]
        return observations, rewards.astype(np.float32), done, infos

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Return one picture a row where `render_mode` is "rgb_array", else None."""
        if self.render_mode != "rgb_array":
            return [None] * self.num_envs
        images: Any = self.env.render()
        return list(images)

    def has_attr(self, attr_name: str) -> bool:
        """Say whether the environment has an attribute."""
        return hasattr(self._owner(attr_name), attr_name)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the environment, the same for each row."""
        return [getattr(self._owner(attr_name), attr_name)] * len(self._rows(indices))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:  # noqa: ANN401
        """Set an attribute of the environment, for all rows.

        Raises:
            ValueError: Only some rows are named.
        """
        if len(set(self._rows(indices))) != self.num_envs:
            raise ValueError(
                f"`indices` (={indices}) must name every row: they are one environment, which has "
                f"{attr_name!r} once."
            )
        setattr(self._owner(attr_name), attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,  # noqa: ANN401
        indices: VecEnvIndices = None,
        **method_kwargs: Any,  # noqa: ANN401
    ) -> list[Any]:
        """Return what `action_masks` or `render` says of each row.

        Raises:
            AttributeError: Another method is wanted.
        """
        if method_name not in ROW_METHODS:
            raise AttributeError(
                f"`method_name` (={method_name!r}) must be one of {ROW_METHODS}: other methods "
                "are not by row; call them on `.env`."
            )
        found = getattr(self._owner(method_name), method_name)(*method_args, **method_kwargs)
        if found is None:  # render under "human"
            return [None] * len(self._rows(indices))
        return list(found) if indices is None else [found[row] for row in self._rows(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return all False: no row has a wrapper of its own."""
        return [False] * len(self._rows(indices))

    def _rows(self, indices: VecEnvIndices) -> list[int]:
        rows = range(self.num_envs)
        return [rows[index] for index in self._get_indices(indices)]

    def _owner(self, name: str) -> VectorEnv[Any, Any, Any]:
        """Return the outermost view that has an attribute, else the environment itself."""
        env = self.env
        while isinstance(env, VectorWrapper) and not hasattr(env, name):
            env = env.env
        return env

    def _next_seeds(self) -> list[int | None]:
        """Return one seed a row; of grouped rows one a group."""
        dynamics = self._base.surface.dynamics
        size = dynamics.group_size if isinstance(dynamics, GroupedDynamics) else 1
        return self._seeds[: self.num_envs // size]

    def _next_options(self) -> dict[str, Any] | None:
        """Return the options of all rows as one.

        Raises:
            ValueError: Only some rows have options, or other ones.
        """
        if not any(self._options):
            return None
        if any(options.keys() != {"example"} for options in self._options):
            raise ValueError(
                f"options (={self._options}) must give every row an `example`, or none to any."
            )
        return {"example": np.array([options["example"] for options in self._options])}


def _row_infos(columns: dict[str, Any], rows: IntArray) -> list[dict[str, Any]]:
    """Turn infos [N, ...] by key into one dict a row, with Python scalars."""
    parts: dict[str, list[Any]] = {}
    for key, column in columns.items():
        if key.startswith("_"):
            continue
        if isinstance(column, dict):
            parts[key] = _row_infos(column, rows)
        else:
            parts[key] = column[rows].tolist() if column.ndim == 1 else list(column[rows])
    return [{key: part[place] for key, part in parts.items()} for place in range(len(rows))]
