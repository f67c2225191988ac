"""The one transition function, over arrays of rows. Knows nothing of Gymnasium, masks or text.

A row is one user and one slate in the making (`rere_env.dynamics.rows`). Every function takes the
rows it is about, as positions or as a slice: `ReReEnv` is one row, `ReReVectorEnv` is N rows, and
the physics is written once.

Legend: N rows held, n rows asked for, m rows that end, H history, K slate, L prefix.
"""

import numpy as np
from numpy.typing import NDArray

from rere_env.dynamics.moves import Backend, find_moves
from rere_env.dynamics.payoffs import SlatePayoffs
from rere_env.dynamics.rows import (
    ALL,
    Allowed,
    Board,
    Int64,
    Outcome,
    Rows,
    Rules,
    Transition,
    row_numbers,
)
from rere_env.ragged import dense, offsets, owners, places
from rere_env.task import Task
from rere_env.trie.shown import hidden_leaves
from rere_env.types import BoolArray, IntArray

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
            backend: What moves the rows (`rere_env.dynamics.moves`).
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
        board = Board(
            trie=self.trie,
            titles=task.title_tokens,
            remaining=self.hidden.remaining,
            resting_node=self.resting_node,
            slate_size=rules.slate_size,
            illegal_ends=rules.on_illegal == "terminate",
            max_tokens=self.max_tokens,
        )
        self.moves = find_moves(backend, num_rows)(board)
        self._payoffs = SlatePayoffs(task.reward, self.examples, rules.slate_size)
        self._history = np.zeros((len(self.examples), task.history_length), np.int32)
        self._history[:, :width] = task.catalogue.history_titles(self.examples.history)

    def new_rows(self, num_rows: int) -> Rows:
        """Return rows that wait for their first `start`."""

        def zeros() -> Int64:
            return np.zeros(num_rows, np.int64)

        size = self.rules.slate_size
        return Rows(
            example=zeros(),
            history=np.zeros((num_rows, self.task.history_length), np.int32),
            slate=np.zeros((num_rows, size), np.int64),
            leaf=np.full((num_rows, size + self.hidden.width), -1, np.int32),
            prefix=np.zeros((num_rows, self.max_prefix), np.int32),
            slot=zeros(),
            num_excluded=zeros(),
            depth=zeros(),
            node=np.full(num_rows, self.resting_node, np.int64),
            num_tokens=zeros(),
            finished=np.ones(num_rows, np.bool_),
        )

    def start(self, state: Rows, examples: IntArray, rows: IntArray | slice = ALL) -> None:
        """Begin a new episode in each row with the example given."""
        self.moves.start(state, examples, self._history, rows)
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
        illegal, terminated, truncated, ended = self.moves.advance(state, tokens, rows)
        reward = np.zeros(len(illegal))
        if self.rules.on_illegal == "noop":
            reward[illegal] = self.rules.illegal_reward
        outcome = None
        if len(ended):
            outcome, paid = self._finish(state, rows, ended, illegal)
            reward[ended] += paid
        return Transition(reward, terminated, truncated, illegal, outcome)

    def allowed(
        self,
        state: Rows,
        rows: IntArray | slice = ALL,
        names: NDArray[np.int32] | None = None,
    ) -> Allowed:
        """Return the legal tokens of each row, ascending: never none, EOS if finished.

        Args:
            state: The rows.
            rows: Which rows.
            names: [V] what to call each local token; default: itself.
        """
        return self.moves.allowed(state, rows, names)

    def mask(self, state: Rows, rows: IntArray | slice = ALL) -> NDArray[np.int8]:
        """Return the legal local tokens as a dense int8 [n, V]."""
        indptr, tokens = self.allowed(state, rows)
        return dense(indptr, tokens, self.trie.num_tokens)

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
        indptr = offsets(count)
        row, place = owners(indptr), places(indptr)
        state.leaf[ids[row], self.rules.slate_size + place] = self.hidden.leaf[start[row] + place]
        state.num_excluded[ids] = count

    def _finish(
        self, state: Rows, rows: IntArray | slice, ended: Int64, illegal: BoolArray
    ) -> tuple[Outcome, NDArray[np.float64]]:
        """Score the slates of ended rows; return also the reward of each."""
        ids = row_numbers(rows, ended)
        titles, target, rank = self.moves.slates(state, self.examples.target_title, ids)
        void = illegal[ended]
        if self.rules.on_illegal != "terminate":
            void = np.zeros_like(void)  # a token that did nothing leaves the slate as it was
        rank[void] = 0
        paid = self._payoffs(titles, rank, state.example[ids], void)
        outcome = Outcome(
            rows=ended,
            slate=titles,
            item_rewards=paid.items,
            reward_terms=paid.terms,
            target=target,
            target_rank=rank,
        )
        return outcome, np.where(void, self.rules.illegal_reward, paid.total)

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
