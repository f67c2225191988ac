"""How rows move through the trie, over arrays: follow a token, list the legal ones.

This is the part of a step that touches every row, so it exists twice behind one class: here in
NumPy, and compiled in `moves_numba.py`. Knows rows, nodes and when an episode is over; no rewards.
"""

from importlib.util import find_spec
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from rere_env.rows import Allowed, Int64, Moved, Rows
from rere_env.trie import EOS, Trie
from rere_env.types import BoolArray, IntArray

__all__ = ["Backend", "Moves", "NumpyMoves", "find_moves"]

Backend = Literal["auto", "numpy", "numba"]

AUTO_ROWS = 32
"""From so many rows on, `backend="auto"` uses the compiled kernel if numba is installed."""


class Moves(Protocol):
    """The moves of N rows."""

    def advance(self, state: Rows, tokens: IntArray, rows: IntArray | slice) -> Moved:
        """Write one token in each of n rows, in place; finished rows stay as they are.

        Args:
            state: The rows; `finished` is read, not set.
            tokens: [n] local token ids; any other integer is illegal.
            rows: Distinct row numbers, or a slice.
        """
        ...

    def allowed(self, state: Rows, rows: IntArray | slice) -> Allowed:
        """Return the legal local tokens of n rows, ascending; EOS alone if a row is finished."""
        ...


class MakeMoves(Protocol):
    """What builds the moves."""

    def __call__(
        self,
        trie: Trie,
        remaining: NDArray[np.int32],
        *,
        slate_size: int,
        illegal_ends: bool,
        max_tokens: int | None,
    ) -> Moves:
        """Take the trie and the rules.

        Args:
            trie: The catalogue.
            remaining: [S] titles below each node that can be shown at all.
            slate_size: K.
            illegal_ends: An illegal token ends the episode.
            max_tokens: Steps until truncation.
        """
        ...


class NumpyMoves:
    """The moves in NumPy."""

    def __init__(
        self,
        trie: Trie,
        remaining: NDArray[np.int32],
        *,
        slate_size: int,
        illegal_ends: bool,
        max_tokens: int | None,
    ) -> None:
        """Take the trie and the rules (see `MakeMoves`)."""
        self.trie, self.remaining = trie, remaining
        self._slate_size, self._illegal_ends = slate_size, illegal_ends
        self._max_tokens = max_tokens
        self._all_shown = bool(remaining[0] == trie.num_titles)

    def advance(self, state: Rows, tokens: IntArray, rows: IntArray | slice) -> Moved:
        """Write one token in each of n rows (see `Moves`)."""
        live = ~state.finished[rows]
        child = self._legal_child(state, tokens, rows)
        illegal: BoolArray = (child < 0) & live
        moves = live & ~illegal
        eos = tokens == EOS
        self._append(state, rows, np.flatnonzero(moves & ~eos), tokens, child)
        self._close_titles(state, rows, np.flatnonzero(moves & eos), child)
        state.num_tokens[rows] += live
        terminated: BoolArray = (state.slot[rows] == self._slate_size) & live
        if self._illegal_ends:
            terminated |= illegal
        if self._max_tokens is None:
            return Moved(illegal, terminated, np.zeros(len(live), np.bool_))
        spent = state.num_tokens[rows] >= self._max_tokens
        return Moved(illegal, terminated, spent & live & ~terminated)

    def allowed(self, state: Rows, rows: IntArray | slice) -> Allowed:
        """Return the legal local tokens of n rows (see `Moves`)."""
        node = state.node[rows]
        indptr, tokens, children = self.trie.children(node)
        row, edge = self._exhausted_edges(state, rows)
        if self._all_shown and len(row) == 0:
            return Allowed(indptr, tokens)
        keep = self.remaining[children] > 0
        keep[indptr[row] + edge - self.trie.first[node[row]]] = False
        owner = np.repeat(np.arange(len(node)), np.diff(indptr))
        keep |= state.finished[rows][owner]
        kept = np.bincount(owner[keep], minlength=len(node))
        return Allowed(np.concatenate([[0], np.cumsum(kept)]), tokens[keep])

    def _legal_child(self, state: Rows, tokens: IntArray, rows: IntArray | slice) -> IntArray:
        """Return the node behind each token, -1 where there is none or nothing is left below."""
        child = self.trie.step(state.node[rows], tokens)
        if state.leaf.shape[1] == 1 and self._all_shown:
            return child  # the only title of a slate excludes nothing
        remaining = self.remaining[child]
        child[remaining == 0] = -1
        narrow = np.flatnonzero(remaining <= state.num_excluded[rows])  # these can be used up
        if len(narrow):
            leaf = state.leaf[rows][narrow]
            lo, hi = self.trie.lo[child[narrow], None], self.trie.hi[child[narrow], None]
            used = ((leaf >= lo) & (leaf < hi)).sum(axis=1)
            child[narrow[used == remaining[narrow]]] = -1
        return child

    def _exhausted_edges(self, state: Rows, rows: IntArray | slice) -> tuple[Int64, Int64]:
        """Return (row, edge) of the children whose every title the row excludes by itself.

        Cost: the excluded titles, not the children. Each excluded leaf below a node lies below
        exactly one child; a child is exhausted if as many lie there as could be shown.
        """
        nothing = np.zeros(0, np.int64)
        if state.leaf.shape[1] == 1:
            return nothing, nothing
        trie, node, leaf = self.trie, state.node[rows], state.leaf[rows]
        below = (leaf >= trie.lo[node][:, None]) & (leaf < trie.hi[node][:, None])
        below &= ~state.finished[rows][:, None]
        row, slot = np.nonzero(below)
        if len(row) == 0:
            return nothing, nothing
        edge = _edge_above(
            trie.lo, trie.first[node[row]], trie.first[node[row] + 1], leaf[row, slot]
        )
        pair, used = np.unique(row * np.int64(trie.num_nodes) + edge, return_counts=True)
        row, edge = pair // trie.num_nodes, pair % trie.num_nodes
        full = used == self.remaining[edge + 1]
        return row[full], edge[full]

    def _append(
        self,
        state: Rows,
        rows: IntArray | slice,
        which: Int64,
        tokens: IntArray,
        child: IntArray,
    ) -> None:
        """Write tokens that end no title."""
        at = _numbers(rows, which)
        state.node[at] = child[which]
        depth = state.depth[at]
        state.prefix[at, depth] = tokens[which]
        state.depth[at] = depth + 1

    def _close_titles(
        self, state: Rows, rows: IntArray | slice, which: Int64, child: IntArray
    ) -> None:
        """Move finished titles into the slate."""
        if len(which) == 0:
            return
        at, leaf = _numbers(rows, which), self.trie.lo[child[which]]
        slot = state.slot[at]
        state.slate[at, slot] = self.trie.leaf_title[leaf] + 1
        state.leaf[at, slot] = leaf
        state.slot[at] = slot + 1
        state.num_excluded[at] += 1
        state.node[at] = 0
        state.depth[at] = 0
        state.prefix[at] = 0


def find_moves(backend: Backend, num_rows: int) -> MakeMoves:
    """Return the class that moves N rows: compiled where asked for, or worth it and at hand.

    Raises:
        ValueError: There is no such backend.
        ImportError: numba was asked for and is not installed.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"`backend` (={backend!r}) must be one of {get_args(Backend)}.")
    installed = find_spec("numba") is not None
    if backend == "numba" and not installed:
        raise ImportError('`backend` (="numba") needs numba: pip install "rere-env[fast]".')
    if backend == "numpy" or not installed or (backend == "auto" and num_rows < AUTO_ROWS):
        return NumpyMoves
    from rere_env.moves_numba import NumbaMoves

    return NumbaMoves


def _numbers(rows: IntArray | slice, which: Int64) -> IntArray:
    """Return the row numbers of some of the rows asked for."""
    if isinstance(rows, slice):
        start, step = rows.start or 0, rows.step or 1
        return which * step + start if (start, step) != (0, 1) else which
    return rows[which]


def _edge_above(lo: IntArray, first: IntArray, end: IntArray, leaf: IntArray) -> Int64:
    """Return the edge in `first:end` whose child's leaves hold each leaf (a search in `lo`)."""
    left, right = first.astype(np.int64), end.astype(np.int64)
    while (right - left > 1).any():
        middle = (left + right) // 2
        # An interval of one edge stays as it is: its middle is its left end, which holds the leaf.
        beyond = lo[middle + 1] <= leaf
        left, right = np.where(beyond, middle, left), np.where(beyond, right, middle)
        right = np.maximum(right, left + 1)
    return left
