"""How rows move through the trie, over arrays: begin, follow a token, list the legal ones.

This is the part of a step that touches every row, so it exists twice behind one class: here in
NumPy, and compiled in `moves_numba.py`. Knows rows, nodes and when an episode is over; no rewards.

Legend: N rows held, n rows asked for, m rows that end, K slate, L prefix, S nodes, V tokens.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from rere_env.dynamics.rows import Allowed, Board, Int64, Moved, Rows, Slates, row_numbers
from rere_env.ragged import offsets, owners, places, stretches
from rere_env.trie import EOS
from rere_env.types import IntArray

__all__ = ["Backend", "Moves", "NumpyMoves", "find_moves"]

Backend = Literal["auto", "numpy", "numba"]

AUTO_ROWS = 32
"""From so many rows on, `backend="auto"` uses the compiled kernel if numba is installed."""


class Moves(Protocol):
    """The moves of N rows on a board."""

    def start(
        self, state: Rows, examples: IntArray, history: NDArray[np.int32], rows: IntArray | slice
    ) -> None:
        """Begin an episode in each of n rows: an empty slate at the root.

        Args:
            state: The rows, changed in place.
            examples: [n] what each answers.
            history: [B, H] what each example shows.
            rows: Distinct row numbers, or a slice.
        """
        ...

    def advance(self, state: Rows, tokens: IntArray, rows: IntArray | slice) -> Moved:
        """Write one token in each of n rows; a row that ends is laid to rest.

        Args:
            state: The rows, changed in place; finished ones stay as they are.
            tokens: [n] local token ids; any other integer is illegal.
            rows: Distinct row numbers, or a slice.
        """
        ...

    def slates(self, state: Rows, targets: IntArray, rows: IntArray) -> Slates:
        """Return the slates of m rows.

        Args:
            state: The rows.
            targets: [B] the answer of each example, a title id.
            rows: Row numbers.
        """
        ...

    def allowed(
        self, state: Rows, rows: IntArray | slice, names: NDArray[np.int32] | None = None
    ) -> Allowed:
        """Return the legal tokens of n rows, ascending; EOS alone if a row is finished.

        Args:
            state: The rows.
            rows: Row numbers, or a slice.
            names: [V] what to call each local token; default: itself.
        """
        ...


class NumpyMoves:
    """The moves in NumPy."""

    def __init__(self, board: Board) -> None:
        """Take the board."""
        self.board, self.trie, self.remaining = board, board.trie, board.remaining
        self._all_shown = board.all_shown

    def start(
        self, state: Rows, examples: IntArray, history: NDArray[np.int32], rows: IntArray | slice
    ) -> None:
        """Begin an episode in each of n rows (see `Moves`)."""
        state.example[rows] = examples
        state.history[rows] = history.take(examples, axis=0)
        state.leaf[rows] = -1
        state.slate[rows] = 0
        state.prefix[row_numbers(rows, state.depth[rows].nonzero()[0])] = 0
        for column in (state.slot, state.num_excluded, state.depth, state.node, state.num_tokens):
            column[rows] = 0
        state.finished[rows] = False

    def advance(self, state: Rows, tokens: IntArray, rows: IntArray | slice) -> Moved:
        """Write one token in each of n rows (see `Moves`)."""
        live = ~state.finished[rows]
        child = self._legal_child(state, tokens, rows)
        legal = (child >= 0) & live
        illegal = legal ^ live
        closes = (tokens == EOS) & legal
        self._append(state, rows, (legal ^ closes).nonzero()[0], tokens, child)
        full = self._close_titles(state, rows, closes.nonzero()[0], child)
        state.num_tokens[rows] += live
        terminated = illegal.copy() if self.board.illegal_ends else np.zeros(len(live), np.bool_)
        terminated[full] = True
        truncated, over = np.zeros(len(live), np.bool_), terminated
        if self.board.max_tokens is not None:
            truncated = (state.num_tokens[rows] >= self.board.max_tokens) & (live > terminated)
            over = terminated | truncated
        ended = over.nonzero()[0]
        resting = row_numbers(rows, ended)
        state.finished[resting] = True
        state.node[resting] = self.board.resting_node
        return Moved(illegal, terminated, truncated, ended)

    def slates(self, state: Rows, targets: IntArray, rows: IntArray) -> Slates:
        """Return the slates of m rows (see `Moves`)."""
        titles = state.slate.take(rows, axis=0) - 1
        target = targets[state.example[rows]].astype(np.int64)
        is_target = titles == target[:, None]  # once at most: titles are distinct
        return Slates(titles, target, is_target @ np.arange(1, titles.shape[1] + 1))

    def allowed(
        self, state: Rows, rows: IntArray | slice, names: NDArray[np.int32] | None = None
    ) -> Allowed:
        """Return the legal tokens of n rows (see `Moves`)."""
        trie, node = self.trie, state.node[rows]
        first = trie.first[node].astype(np.int64)
        counts = trie.first[node + 1] - first
        indptr = offsets(counts)
        tokens = self._children(node, first, counts, indptr, names)
        hidden = self._hidden(state, rows, first, counts, indptr)
        if len(hidden):
            keep = np.ones(len(tokens), np.bool_)
            keep[hidden] = False
            tokens = tokens[keep]
            owner = indptr.searchsorted(hidden, side="right") - 1
            indptr = offsets(counts - np.bincount(owner, minlength=len(node)))
        return Allowed(indptr, tokens)

    def _children(
        self,
        node: IntArray,
        first: Int64,
        counts: Int64,
        indptr: Int64,
        names: NDArray[np.int32] | None,
    ) -> NDArray[np.int32]:
        """Return the tokens below n nodes, one after the other.

        A root has a thousand children, others a handful: rows at the root are copied whole.
        """
        trie, width = self.trie, int(self.trie.first[1])
        inner = offsets(np.where(node == 0, 0, counts))
        owner, step = owners(inner), places(inner)
        found, root = trie.tokens[first[owner] + step], trie.tokens[:width]
        if names is not None:
            found, root = names[found], names[root]
        tokens = np.empty(indptr[-1], np.int32)
        tokens[indptr[owner] + step] = found
        at_root = indptr[(node == 0).nonzero()[0]]
        if len(at_root):
            sliding_window_view(tokens, width, writeable=True)[at_root] = root
        return tokens

    def _hidden(
        self, state: Rows, rows: IntArray | slice, first: Int64, counts: Int64, indptr: Int64
    ) -> Int64:
        """Return where, among the children of n rows, those stand that may not be written."""
        row, edge = self._exhausted_edges(state, rows)
        hidden = indptr[row] + edge - first[row]
        if self._all_shown:
            return hidden
        child = stretches(first + 1, indptr)
        shown = self.remaining[child] > 0
        shown[hidden] = False
        shown |= np.repeat(state.finished[rows], counts)
        gone: Int64 = (~shown).nonzero()[0]
        return gone

    def _legal_child(self, state: Rows, tokens: IntArray, rows: IntArray | slice) -> IntArray:
        """Return the node behind each token, -1 where there is none or nothing is left below.

        Below a node that an unfinished row stands on there always is a title left. So there is
        one below an only child, and a step that was no choice needs no count.
        """
        trie, node = self.trie, state.node[rows]
        child: IntArray = trie.first[node].astype(np.int64) + 1
        choices = ((trie.only_token[node] != tokens) | (tokens < 0)).nonzero()[0]
        if len(choices):
            child[choices] = self._choose(state, row_numbers(rows, choices), tokens[choices])
        return child

    def _choose(self, state: Rows, at: IntArray, tokens: IntArray) -> IntArray:
        """Return the node behind each token of rows whose nodes have several children."""
        child = self.trie.choose(state.node[at], tokens)
        if state.leaf.shape[1] == 1 and self._all_shown:
            return child  # the only title of a slate excludes nothing
        remaining = self.remaining[child]
        child[remaining == 0] = -1
        narrow = (remaining <= state.num_excluded[at]).nonzero()[0]  # these can be used up
        if len(narrow):
            leaf = state.leaf[at[narrow]]
            lo, hi = self.trie.lo[child[narrow], None], self.trie.hi[child[narrow], None]
            used = ((leaf >= lo) & (leaf < hi)).sum(axis=1)
            child[narrow[used == remaining[narrow]]] = -1
        return child

    def _exhausted_edges(self, state: Rows, rows: IntArray | slice) -> tuple[Int64, Int64]:
        """Return (row, edge) of the children whose every title the row excludes by itself.

        Cost: the excluded titles, not the children. Each excluded title below a node lies below
        exactly one child, which its own next token names; a child is exhausted if as many lie
        there as could be shown.
        """
        nothing = np.zeros(0, np.int64)
        if state.leaf.shape[1] == 1:
            return nothing, nothing
        trie, titles = self.trie, self.board.titles
        has_choice = (trie.only_token[state.node[rows]] < 0) & (state.num_excluded[rows] > 0)
        which = (has_choice & ~state.finished[rows]).nonzero()[0]
        at = row_numbers(rows, which)
        node, leaf = state.node[at], state.leaf[at]
        below = (leaf >= trie.lo[node, None]) & (leaf < trie.hi[node, None])
        row, slot = below.nonzero()
        if len(row) == 0:
            return nothing, nothing
        start = titles.indptr[trie.leaf_title[leaf[row, slot]]]
        child = trie.choose(node[row], titles.tokens[start + state.depth[at][row]])
        pair, used = np.unique(row * np.int64(trie.num_nodes) + child, return_counts=True)
        row, child = pair // trie.num_nodes, pair % trie.num_nodes
        full = used == self.remaining[child]
        return which[row[full]], child[full] - 1

    def _append(
        self,
        state: Rows,
        rows: IntArray | slice,
        which: Int64,
        tokens: IntArray,
        child: IntArray,
    ) -> None:
        """Write tokens that end no title."""
        at, length = row_numbers(rows, which), state.prefix.shape[1]
        depth = state.depth[at]
        state.node[at] = child[which]
        state.prefix.reshape(-1)[at * length + depth] = tokens[which]
        state.depth[at] = depth + 1

    def _close_titles(
        self, state: Rows, rows: IntArray | slice, which: Int64, child: IntArray
    ) -> Int64:
        """Move finished titles into the slate; return which of the rows are full now."""
        at, leaf = row_numbers(rows, which), self.trie.lo[child[which]]
        slot = state.slot[at]
        state.slate[at, slot] = self.trie.leaf_title[leaf] + 1
        state.leaf[at, slot] = leaf
        state.slot[at] = slot + 1
        state.num_excluded[at] += 1
        state.node[at] = 0
        state.depth[at] = 0
        state.prefix[at] = 0
        full: Int64 = which[slot == self.board.slate_size - 1]
        return full


def find_moves(backend: Backend, num_rows: int) -> Callable[[Board], Moves]:
    """Return what makes the moves of N rows: compiled where asked for, or worth it and at hand.

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
    from rere_env.dynamics.moves_numba import NumbaMoves

    return NumbaMoves
