"""The moves of `moves.py`, compiled with numba (extra `fast`); tested equal to NumPy's.

Loaded only when it is used. Arrays are passed one by one: numba takes twice as long to unpack a
tuple of them.

Legend: N rows, n rows asked for, m rows that end, K slate, E leaves hidden by a filter, S nodes.
"""

import numpy as np
from numpy.typing import NDArray

from rere_env.dynamics import kernels_numba as kernels
from rere_env.dynamics.rows import Allowed, Board, Int64, Moved, Rows, Slates
from rere_env.types import IntArray

__all__ = ["NumbaMoves"]

_NO_BUDGET = np.iinfo(np.int64).max
_NO_NAMES = np.zeros(0, np.int32)


class NumbaMoves:
    """The moves of N rows, one compiled loop over them a call."""

    def __init__(self, board: Board) -> None:
        """Take the board."""
        self.board = board
        trie = board.trie
        self._steps = (trie.first, trie.only_token, trie.tokens, trie.root_edge)
        self._leaves = (trie.lo, trie.hi, board.remaining)
        self._rules = (
            board.slate_size,
            board.illegal_ends,
            _NO_BUDGET if board.max_tokens is None else board.max_tokens,
            board.resting_node,
        )

    def start(
        self, state: Rows, examples: IntArray, history: NDArray[np.int32], rows: IntArray | slice
    ) -> None:
        """Begin an episode in each of n rows (see `Moves`)."""
        kernels.start(
            state.example,
            state.history,
            state.slate,
            state.leaf,
            state.prefix,
            state.slot,
            state.num_excluded,
            state.depth,
            state.node,
            state.num_tokens,
            state.finished,
            np.asarray(examples, np.int64),
            history,
            _numbers(rows, len(state)),
        )

    def advance(self, state: Rows, tokens: IntArray, rows: IntArray | slice) -> Moved:
        """Write one token in each of n rows (see `Moves`)."""
        ids = _numbers(rows, len(state))
        done = np.zeros((3, len(ids)), np.bool_)
        ended = np.empty(len(ids), np.int64)
        num_ended = kernels.advance(
            *self._steps,
            *self._leaves,
            self.board.trie.leaf_title,
            *self._rules,
            state.leaf.shape[1] > 1 or not self.board.all_shown,
            state.node,
            state.depth,
            state.slot,
            state.num_excluded,
            state.num_tokens,
            state.prefix,
            state.slate,
            state.leaf,
            state.finished,
            np.asarray(tokens, np.int64),
            ids,
            done,
            ended,
        )
        illegal, terminated, truncated = done
        return Moved(illegal, terminated, truncated, ended[:num_ended])

    def slates(self, state: Rows, targets: IntArray, rows: IntArray) -> Slates:
        """Return the slates of m rows (see `Moves`)."""
        titles = np.empty((len(rows), state.slate.shape[1]), np.int64)
        target, rank = np.empty((2, len(rows)), np.int64)
        kernels.slates(state.example, state.slate, targets, rows, titles, target, rank)
        return Slates(titles, target, rank)

    def allowed(
        self, state: Rows, rows: IntArray | slice, names: NDArray[np.int32] | None = None
    ) -> Allowed:
        """Return the legal tokens of n rows (see `Moves`)."""
        ids = _numbers(rows, len(state))
        indptr = np.empty(len(ids) + 1, np.int64)
        kernels.count_children(self.board.trie.first, state.node, ids, indptr)
        tokens = np.empty(indptr[-1], np.int32)
        kernels.allowed(
            *self._steps,
            *self._leaves,
            self.board.all_shown,
            state.node,
            state.num_excluded,
            state.finished,
            state.leaf,
            ids,
            _NO_NAMES if names is None else names,
            indptr,
            tokens,
        )
        return Allowed(indptr, tokens[: indptr[-1]])


def _numbers(rows: IntArray | slice, num_rows: int) -> Int64:
    if isinstance(rows, slice):
        return np.arange(num_rows)[rows]
    return np.asarray(rows, np.int64)
