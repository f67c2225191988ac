"""What an agent sees of the rows and how it names tokens: spaces, ids, masks, infos.

Shared by the single and the vector environment, so that both show the same. Knows nothing of
seeds, resets or autoreset.
"""

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rere_env.data.known import GAMES
from rere_env.dynamics import Dynamics
from rere_env.dynamics.groups import GroupedDynamics, Sync
from rere_env.dynamics.moves import Backend
from rere_env.dynamics.rows import ALL, Allowed, OnIllegal, Rows, Rules
from rere_env.filters import Exclude
from rere_env.ragged import dense
from rere_env.task import Task, load_task
from rere_env.tokenizer import Tokenizer
from rere_env.types import IntArray, Reward

__all__ = ["SLATE_SIZE", "MaskStyle", "Surface", "TokenIds", "make_surface"]

SLATE_SIZE = 16
"""K, as in the paper."""

TokenIds = Literal["local", "model"]
MaskStyle = Literal["info", "observation", "lazy"]


def make_surface(
    task: Task | None,
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
    exclude: Exclude = None,
    backend: Backend = "auto",
    num_rows: int = 1,
    group_size: int = 1,
    sync: Sync = "group",
) -> "Surface":
    """Turn the arguments of an environment into its dynamics and its surface."""
    for name, value in (("num_envs", num_rows), ("group_size", group_size)):
        if value < 1:
            raise ValueError(f"`{name}` (={value}) must be at least 1.")
    if slate_size is None:
        slate_size = SLATE_SIZE if group_size == 1 else 1
    if task is None:
        task = load_task(data, tokenizer=tokenizer)
    elif data != GAMES or tokenizer is not None:
        raise ValueError("give either `task` or `data` and `tokenizer`: a task has both already.")
    if reward is not None:
        task = task.with_reward(reward)
    if exclude is not None:
        task = task.with_exclude(exclude)
    rules = Rules(
        slate_size=slate_size,
        on_illegal=on_illegal,
        illegal_reward=float(illegal_reward),
        max_tokens=max_tokens,
    )
    if group_size == 1:
        dynamics = Dynamics(task, split, rules, backend=backend, num_rows=num_rows)
    else:
        dynamics = GroupedDynamics(
            task,
            split,
            rules,
            group_size=group_size,
            sync=sync,
            backend=backend,
            num_rows=num_rows,
        )
    return Surface(dynamics, token_ids, mask)


class Surface:
    """Spaces, token ids and masks around a `Dynamics`. Immutable."""

    def __init__(self, dynamics: Dynamics, token_ids: TokenIds, mask: MaskStyle) -> None:
        """Build the spaces.

        Raises:
            ValueError: `token_ids` or `mask` is none of its choices.
        """
        _check_choice("token_ids", token_ids, get_args(TokenIds))
        _check_choice("mask", mask, get_args(MaskStyle))
        self.dynamics, self.mask_style = dynamics, mask
        task = dynamics.task
        self.num_actions = dynamics.trie.num_tokens
        self._model_id: NDArray[np.int32] | None = None  # of each local id, if actions are these
        if token_ids == "model":
            self.num_actions = task.tokenizer.vocab_size
            self._model_id = task.title_tokens.local_model.astype(np.int32)
            # One place more on either side catches what lies outside of the vocabulary.
            self._local_id = np.full(self.num_actions + 2, -1, np.int32)
            self._local_id[self._model_id + 1] = np.arange(len(self._model_id))
        self.action_space = spaces.Discrete(self.num_actions)
        self.observation_space = self._observation_space()

    def to_local(self, actions: IntArray) -> IntArray:
        """Return the local token of each action, -1 where no title uses it."""
        if self._model_id is None:
            return actions
        local: IntArray = self._local_id.take(actions + 1, mode="clip")
        return local

    def to_actions(self, tokens: IntArray) -> IntArray:
        """Return the action of each local token."""
        return tokens if self._model_id is None else self._model_id[tokens]

    def candidates(self, rows: Rows, select: IntArray | slice = ALL) -> Allowed:
        """Return the legal actions of each row, ragged: EOS first, the others ascending."""
        return self.dynamics.allowed(rows, select, self._model_id)

    def action_masks(self, rows: Rows, select: IntArray | slice = ALL) -> NDArray[np.int8]:
        """Return the legal actions as a fresh dense int8 [n, actions]."""
        indptr, tokens = self.candidates(rows, select)
        return dense(indptr, tokens, self.num_actions)

    def observe(self, rows: Rows, infos: dict[str, Any]) -> dict[str, NDArray[np.generic]]:
        """Return fresh observations [N, ...] of all rows; the mask goes where it was asked for."""
        observation: dict[str, NDArray[np.generic]] = {
            "history": rows.history.astype(np.int64),
            "slate": rows.slate.copy(),
            "prefix": rows.prefix.astype(np.int64),
        }
        if self.mask_style == "observation":
            observation["action_mask"] = self.action_masks(rows)
        elif self.mask_style == "info":
            infos["action_mask"] = self.action_masks(rows)
        return observation

    def _observation_space(self) -> spaces.Dict:
        dynamics = self.dynamics
        num_titles = dynamics.trie.num_titles

        def ids(high: int, length: int) -> spaces.Box:
            return spaces.Box(0, high, (length,), np.int64)

        parts: dict[str, spaces.Space[Any]] = {
            "history": ids(num_titles, dynamics.task.history_length),
            "slate": ids(num_titles, dynamics.rules.slate_size),
            "prefix": ids(dynamics.trie.num_tokens - 1, dynamics.max_prefix),
        }
        if self.mask_style == "observation":
            parts["action_mask"] = spaces.Box(0, 1, (self.num_actions,), np.int8)
        return spaces.Dict(parts)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"`{name}` (={value!r}) must be one of {choices}.")
