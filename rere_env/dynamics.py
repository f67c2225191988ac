"""The one transition function, over arrays of rows. Knows nothing of Gymnasium, masks or text.

A row is one user and one slate in the making (`rere_env.rows`). Every function takes the rows it
is about, as positions or as a slice: `ReReEnv` is one row, `ReReVectorEnv` is N rows, and the
physics is written once.

Legend: N rows held, n rows asked for, m rows that end, H history, K slate, L prefix.
"""

import numpy as np
from numpy.typing import NDArray

from rere_env.filters import hidden_leaves
from rere_env.moves import Backend, find_moves
from rere_env.rewards import reward_terms
from rere_env.rows import ALL, Allowed, Int64, Outcome, Rows, Rules, Transition
from rere_env.task import Task
from rere_env.types import Batch, BoolArray, FloatArray, IntArray

__all__ = ["Dynamics"]


class Dynamics:
    """Episodes over the examples of one split. Immutable; the state lives in `Rows`."""

    def __init__(
        self,
        task: Task,
        split: str,
        rules: Rules,
        *,
        backend: Backend = "numpy",
        num_rows: int = 1,
    ) -> None:
        """Check that an episode is possible at all.

        Args:
            task: Catalogue, trie, examples, reward and filter.
            split: Which examples.
            rules: What makes an episode.
            backend: What moves the rows (`rere_env.moves`).
            num_rows: How many rows there will be, by which `backend="auto"` decides.

        Raises:
            ValueError: The slate is larger than the catalogue, or than what a filter leaves of it;
                the split is unknown or empty.
        """
        self.task, self.rules, self.trie = task, rules, task.trie
        self.examples = task.split(split)
        if rules.slate_size > self.trie.num_titles:
            raise ValueError(
                f"`slate_size` (={rules.slate_size}) must be at most the number of distinct titles "
                f"({self.trie.num_titles}) in {task.dataset.name!r}; use "
                f"`slate_size={self.trie.num_titles}` or less."
            )
        width = self.examples.history.shape[1]
        if width > task.history_length:
            raise ValueError(
                f"the split {split!r} holds histories of {width} items but the data set declares "
                f"`history_length` (={task.history_length}); keep the last {task.history_length}."
            )
        self.hidden = hidden_leaves(task.exclude, task.catalogue, self.trie, self.examples)
        _check_shown(self.hidden.num_shown, rules.slate_size, split)
        self.max_prefix = self.trie.max_length - 1  # EOS is never part of a prefix
        # EOS alone follows the parent of the last, deepest leaf: where finished rows rest.
        self.resting_node = int(self.trie.parents(np.array([self.trie.num_nodes - 1]))[0])
        self.max_tokens = rules.max_tokens
        if rules.on_illegal == "noop" and self.max_tokens is None:
            self.max_tokens = 2 * rules.slate_size * self.trie.max_length
        self.moves = find_moves(backend, num_rows)(
            self.trie,
            self.hidden.remaining,
            slate_size=rules.slate_size,
            illegal_ends=rules.on_illegal == "terminate",
            max_tokens=self.max_tokens,
        )
        # Item id -> title id + 1; the padding item -1 finds the 0 at the end.
        shown = np.append(task.catalogue.item_title + np.int32(1), np.int32(0))
        self._history = np.zeros((len(self.examples), task.history_length), np.int32)
        self._history[:, :width] = shown[self.examples.history]

    def new_rows(self, num_rows: int) -> Rows:
        """Return rows that wait for their first `start`."""

        def zeros(*shape: int) -> Int64:
            return np.zeros((num_rows, *shape), np.int64)

        size = self.rules.slate_size
        return Rows(
            example=zeros(),
            history=zeros(self.task.history_length),
            slate=zeros(size),
            leaf=np.full((num_rows, size + self.hidden.width), -1, np.int32),
            prefix=zeros(self.max_prefix),
            slot=zeros(),
            num_excluded=zeros(),
            depth=zeros(),
            node=np.full(num_rows, self.resting_node, np.int64),
            num_tokens=zeros(),
            finished=np.ones(num_rows, np.bool_),
        )

    def start(self, state: Rows, examples: IntArray, rows: IntArray | slice = ALL) -> None:
        """Begin a new episode in each row with the example given."""
        state.example[rows] = examples
        state.history[rows] = self._history[examples]
        state.leaf[rows] = -1
        state.finished[rows] = False
        for column in (state.slate, state.prefix, state.slot, state.depth, state.node):
            column[rows] = 0
        state.num_tokens[rows] = 0
        state.num_excluded[rows] = 0
        if self.hidden.width:
            self._hide(state, examples, np.arange(len(state))[rows])

    def over(self, state: Rows) -> BoolArray:
        """Return [N] the rows whose episode is over: they wait for `start`."""
        return state.finished

    def step(self, state: Rows, tokens: IntArray, rows: IntArray | slice = ALL) -> Transition:
        """Write one token in each of n rows; a finished one stays as it is, whatever its token.

        Args:
            state: Changed in place.
            tokens: [n] local token ids; any other integer is an illegal token.
            rows: Which rows.

        Raises:
            ValueError: A token is illegal under `on_illegal="raise"`; nothing was changed.
        """
        if self.rules.on_illegal == "raise":
            self._refuse_illegal(state, tokens, rows)
        illegal, terminated, truncated = self.moves.advance(state, tokens, rows)
        reward = np.where(illegal, self.rules.illegal_reward, 0.0)
        ended = np.flatnonzero(terminated | truncated)
        outcome = None
        if len(ended):
            ids = np.arange(len(state))[rows][ended]
            outcome = self._finish(state, ids, ended, void=illegal[ended] & terminated[ended])
            reward[ended] += outcome.item_rewards.sum(axis=1)
        return Transition(reward, terminated, truncated, illegal, outcome)

    def allowed(self, state: Rows, rows: IntArray | slice = ALL) -> Allowed:
        """Return the legal local tokens of each row, ascending: never none, EOS if finished."""
        return self.moves.allowed(state, rows)

    def mask(self, state: Rows, rows: IntArray | slice = ALL) -> NDArray[np.int8]:
        """Return the legal local tokens as a dense int8 [n, V]."""
        indptr, tokens = self.allowed(state, rows)
        mask = np.zeros((len(indptr) - 1, self.trie.num_tokens), np.int8)
        mask[np.repeat(np.arange(len(mask)), np.diff(indptr)), tokens] = 1
        return mask

    def remaining(self, state: Rows, row: int) -> tuple[IntArray, IntArray]:
        """Return the legal tokens of one row and how many titles remain below each."""
        tokens = self.allowed(state, np.array([row])).tokens
        if state.finished[row]:
            return tokens, np.zeros(len(tokens), np.int64)
        child = self.trie.step(np.repeat(state.node[row], len(tokens)), tokens)
        return tokens, self.num_remaining(state, child, np.full(len(child), row))

    def num_remaining(
        self, state: Rows, nodes: IntArray, rows: IntArray | slice = ALL
    ) -> NDArray[np.int64]:
        """Return how many titles below a node [n] each row may still write [n]."""
        lo, hi, leaf = self.trie.lo[nodes], self.trie.hi[nodes], state.leaf[rows]
        excluded = (leaf >= lo[:, None]) & (leaf < hi[:, None])
        remaining: NDArray[np.int64] = self.hidden.remaining[nodes] - excluded.sum(axis=1)
        return remaining

    def _hide(self, state: Rows, examples: IntArray, ids: Int64) -> None:
        """Let rows exclude what the filter hides from their examples."""
        start = self.hidden.indptr[examples]
        count = self.hidden.indptr[np.asarray(examples) + 1] - start
        row = np.repeat(np.arange(len(ids)), count)
        place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        state.leaf[ids[row], self.rules.slate_size + place] = self.hidden.leaf[start[row] + place]
        state.num_excluded[ids] = count

    def _finish(self, state: Rows, ids: Int64, rows: Int64, void: BoolArray) -> Outcome:
        """Score the slates of ended rows (`void`: by an illegal token) and lay the rows to rest."""
        state.finished[ids] = True
        state.node[ids] = self.resting_node
        slate = state.slate[ids] - 1  # an empty slot becomes NO_TITLE
        batch = self.examples.take(state.example[ids])
        rewards, terms = self._score(slate, batch)
        is_target = slate == batch.target_title[:, None]
        rank = np.where(is_target.any(axis=1) & ~void, is_target.argmax(axis=1) + 1, 0)
        return Outcome(
            rows=rows,
            slate=slate,
            item_rewards=np.where(void[:, None], 0.0, rewards),
            reward_terms={
                name: np.where(void, 0.0, values.sum(axis=1)) for name, values in terms.items()
            },
            target=batch.target_title.astype(np.int64),
            target_rank=rank.astype(np.int64),
        )

    def _score(
        self, titles: IntArray, batch: Batch
    ) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
        """Return the reward [B, G] of titles and each of its terms, checked, as float64."""
        rewards, terms = reward_terms(self.task.reward, titles, batch)
        checked = {name: _checked(values, titles) for name, values in terms.items()}
        return _checked(rewards, titles), checked

    def _refuse_illegal(self, state: Rows, tokens: IntArray, rows: IntArray | slice) -> None:
        indptr, legal = self.moves.allowed(state, rows)
        wanted = np.repeat(tokens, np.diff(indptr))
        fine = np.logical_or.reduceat(legal == wanted, indptr[:-1]) | state.finished[rows]
        if fine.all():
            return
        row = int(np.flatnonzero(~fine)[0])
        number = int(np.arange(len(state))[rows][row])
        would = legal[indptr[row] : indptr[row + 1]]
        raise ValueError(
            f"action {int(tokens[row])} in row {number} continues no title that may still be "
            f"written; {len(would)} local tokens would: {would[:10].tolist()}... Sample from "
            "`action_masks()` or `candidates()`, or use on_illegal='terminate'."
        )


def _check_shown(num_shown: IntArray, slate_size: int, split: str) -> None:
    example = int(num_shown.argmin())
    fewest = int(num_shown[example])
    if fewest < slate_size:
        remedy = f"use `slate_size={fewest}` or hide fewer" if fewest else "hide fewer"
        raise ValueError(
            f"`exclude` leaves {fewest} titles for example {example} of {split!r}, fewer than "
            f"`slate_size` (={slate_size}); {remedy} titles."
        )


def _checked(rewards: FloatArray, titles: IntArray) -> NDArray[np.float64]:
    if np.shape(rewards) != titles.shape:
        raise ValueError(
            f"the reward function returned shape {np.shape(rewards)} for titles of shape "
            f"{titles.shape}; it must return one number a title."
        )
    return np.asarray(rewards, np.float64)
