"""N environments as one: structure of arrays, no Python object per row and step.

Equal, value for value, to Gymnasium's `SyncVectorEnv` of N `ReReEnv`s, whose row i is seeded
`seed + i` and serves shard (i, N) of an evaluation split. Knows autoreset, not the rules.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rere_env.data.known import GAMES
from rere_env.dynamics.groups import GroupedDynamics, GroupRows, Sync
from rere_env.dynamics.moves import Backend
from rere_env.dynamics.rows import Allowed, Driver, OnIllegal, Rows
from rere_env.envs.infos import spread
from rere_env.envs.schedule import Schedule, check_reset_mask, is_training, row_seeds
from rere_env.envs.single import ReReEnv, check_render_mode
from rere_env.envs.surface import MaskStyle, Surface, TokenIds, make_surface
from rere_env.filters import Exclude
from rere_env.render.display import display
from rere_env.task import Task
from rere_env.tokenizer import Tokenizer
from rere_env.types import BoolArray, IntArray, Reward

__all__ = ["ReReVectorEnv"]

Observations = dict[str, NDArray[Any]]


class ReReVectorEnv(VectorEnv[Observations, IntArray, NDArray[Any]]):
    """`num_envs` users at once; arguments and infos are those of `ReReEnv`.

    Infos are arrays [N, ...] with a bool mask `_key` [N] that says which rows have the key.

    With `group_size=G` each row writes one title, G consecutive rows serve the same user and are
    scored together in one step, as a beam would be: by `set_scores`, or in the order of the rows.
    A row that is done before its group waits: only EOS is legal, its action is ignored, its reward
    is 0. Duplicates are legal, and each copy of the target hits. The last info of such a row also
    has `group_rank`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        task: Task | None = None,
        *,
        data: str | Path = GAMES,
        split: str = "train",
        slate_size: int | None = None,
        tokenizer: Tokenizer | str | None = None,
        token_ids: TokenIds = "local",
        reward: str | Reward | None = None,
        mask: MaskStyle = "info",
        on_illegal: OnIllegal = "terminate",
        illegal_reward: float = -1.0,
        max_tokens: int | None = None,
        shard: tuple[int, int] = (0, 1),
        exclude: Exclude = None,
        backend: Backend = "auto",
        group_size: int = 1,
        sync: Sync = "group",
        render_mode: str | None = None,
        autoreset_mode: str = "NextStep",
    ) -> None:
        """Load the task and prepare N rows.

        Args:
            num_envs: N.
            slate_size: K, titles to write; default 16, of grouped rows 1.
            group_size: G, rows that share a user and are scored together; 1: no groups.
            sync: A group ends with its own last row ("group"), or all with the last of all
                ("batch", for loops over a language model).
            shard: (i, M), a part of an evaluation split, itself dealt out among the rows.
            autoreset_mode: "NextStep", "SameStep" or "Disabled" (`gymnasium.vector`).
            task, data, split, tokenizer, token_ids, reward, mask, on_illegal, illegal_reward,
                max_tokens, exclude, backend, render_mode: As in `ReReEnv`.
        """
        self._surface = make_surface(
            task,
            data=data,
            split=split,
            slate_size=slate_size,
            tokenizer=tokenizer,
            token_ids=token_ids,
            reward=reward,
            mask=mask,
            on_illegal=on_illegal,
            illegal_reward=illegal_reward,
            max_tokens=max_tokens,
            exclude=exclude,
            backend=backend,
            num_rows=num_envs,
            group_size=group_size,
            sync=sync,
        )
        self._dynamics = self._surface.dynamics
        self.driver: Driver = self._dynamics  # a view of the dynamics may take its place
        self.num_envs = num_envs
        self.autoreset_mode = _find_mode(autoreset_mode)
        self.metadata = {**ReReEnv.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = check_render_mode(render_mode)
        self._set_spaces()
        self._all: IntArray = np.arange(num_envs)
        self._rows, self._begun = self._dynamics.new_rows(num_envs), False
        self._schedule = Schedule(
            num_envs,
            len(self._dynamics.examples),
            training=is_training(split),
            shard=shard,
            group_size=group_size,
        )

    @property
    def task(self) -> Task:
        """Catalogue, trie, examples, prompt and reward."""
        return self._dynamics.task

    @cached_property
    def observation_space(self) -> spaces.Space[Any]:  # type: ignore[override]
        """The space of all rows, made when asked for: its bounds weigh twice an observation."""
        return batch_space(self.single_observation_space, self.num_envs)

    @property
    def surface(self) -> Surface:
        """Spaces, token ids and the dynamics behind them."""
        return self._surface

    @property
    def rows(self) -> Rows:
        """The state of all rows."""
        return self._rows

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generator of each row, or group (read ahead in blocks); unseeded: entropy.

        Looking at them changes nothing; drawing from them does.
        """
        return self._schedule.random.generators

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of each row, or group."""
        return tuple(self._schedule.random.seeds)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observations, dict[str, Any]]:
        """Begin an episode in every row, or in those of `options["reset_mask"]`.

        Args:
            seed: Row (or group) i gets `seed + i`, or a sequence with one seed each.
            options: `{"example": i}` or one example a row; `{"reset_mask": bool [N]}`.
        """
        seeds = row_seeds(seed, self._schedule.num_groups)
        rows: IntArray = self._all
        if options is not None and "reset_mask" in options:
            # Read, never popped: RecordEpisodeStatistics looks at it after us.
            rows = np.flatnonzero(check_reset_mask(options["reset_mask"], self.num_envs))
        self._schedule.seed(self._schedule.groups(rows), seeds)
        self._begun = True
        infos: dict[str, Any] = {}
        self._start(rows, infos, options)
        if self.render_mode == "human":
            self.render()
        return self._observe(infos, rows), infos

    def step(
        self, actions: IntArray
    ) -> tuple[Observations, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Write one token in every row; finished rows begin anew as `autoreset_mode` says."""
        if not self._begun:
            raise ResetNeeded("no episode has begun; call `reset()` first.")
        tokens = self._surface.to_local(self._check_actions(actions))
        over = self._dynamics.over(self._rows)
        begins = np.flatnonzero(over)
        if len(begins) and self.autoreset_mode != AutoresetMode.NEXT_STEP:
            raise ResetNeeded(
                f"rows {begins[:10].tolist()} are finished; call "
                "`reset(options={'reset_mask': terminated | truncated})` first."
            )
        live = ~over
        moved = self.driver.step(self._rows, tokens)
        infos: dict[str, Any] = {}
        ended = None
        if moved.outcome is not None:
            ended = moved.outcome.rows, moved.outcome.infos()
        if ended is not None and self.autoreset_mode == AutoresetMode.SAME_STEP:
            self._restart(*ended, moved.illegal, infos)
        else:
            if len(begins) < self.num_envs:
                infos |= {"illegal": moved.illegal, "_illegal": live}
            if ended is not None:
                infos |= spread(ended[1], ended[0], self.num_envs)
        if len(begins):
            self._start(begins, infos)
        if self.render_mode == "human":
            self.render()
        observation = self._observe(infos, self._all)
        return observation, moved.reward, moved.terminated, moved.truncated, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions are legal now, bool [N, actions]."""
        return self._surface.action_masks(self._rows).view(np.bool_)

    def candidates(self) -> Allowed:
        """Return the legal actions of every row, ragged: `indptr` [N + 1] and `tokens`."""
        return self._surface.candidates(self._rows)

    def set_scores(self, rows: IntArray, scores: NDArray[np.floating[Any]]) -> None:
        """Rank rows in their groups: the highest score first, before the step that ends a group.

        Args:
            rows: [n] row numbers.
            scores: [n] finite; the log-probability of the row's title, for example.

        Raises:
            ValueError: There are no groups, or a score is not finite.
        """
        if not isinstance(self._dynamics, GroupedDynamics):
            raise ValueError("`set_scores` ranks the rows of a group; make it with `group_size=G`.")
        assert isinstance(self._rows, GroupRows)
        self._dynamics.set_scores(self._rows, rows, scores)

    def render(self) -> tuple[str, ...] | tuple[NDArray[np.uint8], ...] | None:
        """Return one picture a row, as `ReReEnv.render` does."""
        return display(self.render_mode, self._dynamics, self._rows)

    def get_state(self) -> dict[str, Any]:
        """Return a copy of all rows, their places in the shards and their generators."""
        return {
            "rows": self._rows.state(),
            "begun": self._begun,
            "schedule": self._schedule.state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to a state of `get_state` (of an environment with the same arguments)."""
        self._rows.restore(state["rows"])
        self._begun = state["begun"]
        self._schedule.restore(state["schedule"])

    def _set_spaces(self) -> None:
        self.single_observation_space = self._surface.observation_space
        self.single_action_space = self._surface.action_space
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def _start(
        self, rows: IntArray, infos: dict[str, Any], options: dict[str, Any] | None = None
    ) -> None:
        """Begin an episode in some rows with their next examples."""
        example, num_passes = self._schedule.next(rows, options)
        self.driver.start(self._rows, example, rows)
        reachable = self._dynamics.hidden.reachable[example]
        values = {"example": example, "pass": num_passes, "target_reachable": reachable}
        infos |= spread(values, rows, self.num_envs)

    def _restart(
        self,
        rows: IntArray,
        final: dict[str, Any],
        illegal: BoolArray,
        infos: dict[str, Any],
    ) -> None:
        """Set the last observation and info of ended rows aside and begin them anew."""
        final_info: dict[str, Any] = {}
        observation = self._observe(final_info, rows)
        final_info |= spread({"illegal": illegal[rows], **final}, rows, self.num_envs)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for row in rows.tolist():  # Gymnasium asks for one dict a row here
            final_obs[row] = {name: column[row] for name, column in observation.items()}
        ended = np.zeros(self.num_envs, np.bool_)
        ended[rows] = True
        infos |= {"final_obs": final_obs, "_final_obs": ended}
        infos |= {"final_info": final_info, "_final_info": ended.copy()}
        if not ended.all():
            infos |= {"illegal": np.where(ended, False, illegal), "_illegal": ~ended}
        self._start(rows, infos)

    def _observe(self, infos: dict[str, Any], rows: IntArray) -> Observations:
        """Return fresh observations of all rows; `_action_mask` marks the rows given."""
        observation = self._surface.observe(self._rows, infos)
        if "action_mask" in infos:
            infos["_action_mask"] = np.zeros(self.num_envs, np.bool_)
            infos["_action_mask"][rows] = True
        return observation

    def _check_actions(self, actions: IntArray) -> IntArray:
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or actions.dtype.kind not in "iu":
            raise ValueError(
                f"actions must be {self.num_envs} integers, one a row; got shape {actions.shape} "
                f"of dtype {actions.dtype}."
            )
        return actions


def _find_mode(name: str | AutoresetMode) -> AutoresetMode:
    try:
        return AutoresetMode(name)
    except ValueError:
        raise ValueError(
            f"`autoreset_mode` (={name!r}) must be one of {[mode.value for mode in AutoresetMode]}."
        ) from None
