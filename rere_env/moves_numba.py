"""The moves of `moves.py`, compiled with numba (extra `fast`); tested equal to NumPy's.

Loaded only when it is used. Compiled once and kept on disk beside this file.

Legend: N rows, n rows asked for, K slate, E leaves hidden by a filter, S nodes.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from rere_env.rows import Allowed, Moved, Rows
from rere_env.trie import Trie
from rere_env.types import IntArray

__all__ = ["NumbaMoves"]

_compiled = numba.njit(cache=True, nogil=True, boundscheck=False)


class NumbaMoves:
    """The moves of N rows, one compiled loop over them a call."""

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
        self._nodes = (trie.first, trie.tokens, trie.lo, trie.hi, remaining)
        self._root_edge, self._leaf_title = trie.root_edge, trie.leaf_title
        budget = np.iinfo(np.int64).max if max_tokens is None else max_tokens
        self._rules = (slate_size, illegal_ends, budget)
        self._all_shown = bool(remaining[0] == trie.num_titles)

    def advance(self, state: Rows, tokens: IntArray, rows: IntArray | slice) -> Moved:
        """Write one token in each of n rows (see `Moves`)."""
        ids = _numbers(rows, len(state))
        done = np.zeros((3, len(ids)), np.bool_)
        _advance(
            *self._nodes,
            self._root_edge,
            self._leaf_title,
            *self._rules,
            self._excludes(state),
            (state.node, state.depth, state.slot, state.num_excluded, state.num_tokens),
            (state.prefix, state.slate, state.leaf, state.finished),
            np.asarray(tokens, np.int64),
            ids,
            done,
        )
        return Moved(*done)

    def allowed(self, state: Rows, rows: IntArray | slice) -> Allowed:
        """Return the legal local tokens of n rows (see `Moves`)."""
        ids = _numbers(rows, len(state))
        indptr = np.empty(len(ids) + 1, np.int64)
        _count_children(self._nodes[0], state.node, ids, indptr)
        tokens = np.empty(indptr[-1], np.int32)
        _allowed(
            *self._nodes,
            self._excludes(state),
            state.node,
            state.num_excluded,
            state.finished,
            state.leaf,
            ids,
            indptr,
            tokens,
        )
        return Allowed(indptr, tokens[: indptr[-1]])

    def _excludes(self, state: Rows) -> bool:
        """Say whether anything can be hidden from a row: the only title of a slate hides none."""
        return state.leaf.shape[1] > 1 or not self._all_shown


def _numbers(rows: IntArray | slice, num_rows: int) -> IntArray:
    return np.arange(num_rows)[rows] if isinstance(rows, slice) else np.asarray(rows, np.int64)


@_compiled
def _num_left(lo, hi, remaining, node, num_excluded, leaf):  # type: ignore[no-untyped-def]
    """Count the titles below a node that the row does not exclude; 0 or a lower bound above 0."""
    left = remaining[node]
    if left > num_excluded:
        return left - num_excluded
    for one in leaf:
        if lo[node] <= one < hi[node]:
            left -= 1
    return left


@_compiled
def _edge_of(first, tokens, root_edge, node, token):  # type: ignore[no-untyped-def]
    """Return the edge of a node behind a token, -1 where there is none."""
    left, right = first[node], first[node + 1]
    end = right
    if node == 0:
        return root_edge[token] if 0 <= token < len(root_edge) else -1
    while left < right:
        middle = (left + right) // 2
        if tokens[middle] < token:
            left = middle + 1
        else:
            right = middle
    return left if left < end and tokens[left] == token else -1


@_compiled
def _advance(  # type: ignore[no-untyped-def]
    first, tokens, lo, hi, remaining, root_edge, leaf_title,
    slate_size, illegal_ends, max_tokens, excludes,
    counters, arrays, wanted, ids, done,
):  # fmt: skip
    """Move each row: find the edge, write the token, see whether the episode is over."""
    node, depth, slot, num_excluded, num_tokens = counters
    prefix, slate, leaf, finished = arrays
    for i in range(len(ids)):
        row, token = ids[i], wanted[i]
        if finished[row]:
            continue
        num_tokens[row] += 1
        child = _edge_of(first, tokens, root_edge, node[row], token) + 1
        illegal = child == 0
        if excludes and not illegal:
            illegal = _num_left(lo, hi, remaining, child, num_excluded[row], leaf[row]) <= 0
        if illegal:
            done[0, i] = True
        elif token != 0:
            node[row] = child
            prefix[row, depth[row]] = token
            depth[row] += 1
        else:
            place = slot[row]
            slate[row, place] = leaf_title[lo[child]] + 1
            leaf[row, place] = lo[child]
            slot[row] = place + 1
            num_excluded[row] += 1
            for column in range(depth[row]):
                prefix[row, column] = 0
            node[row] = 0
            depth[row] = 0
        done[1, i] = slot[row] == slate_size or (illegal and illegal_ends)
        done[2, i] = num_tokens[row] >= max_tokens and not done[1, i]


@_compiled
def _count_children(first, node, ids, indptr):  # type: ignore[no-untyped-def]
    """Fill `indptr` with the number of children, legal or not."""
    indptr[0] = 0
    for i in range(len(ids)):
        at = node[ids[i]]
        indptr[i + 1] = indptr[i] + first[at + 1] - first[at]


@_compiled
def _allowed(  # type: ignore[no-untyped-def]
    first, tokens, lo, hi, remaining, excludes,
    node, num_excluded, finished, leaf,
    ids, indptr, legal,
):  # fmt: skip
    """Write the legal tokens of every row one after the other; `indptr` is made to fit."""
    total = 0
    for i in range(len(ids)):
        row = ids[i]
        at = node[row]
        for edge in range(first[at], first[at + 1]):
            shown = not excludes or finished[row] or remaining[edge + 1] > num_excluded[row]
            if shown or _num_left(lo, hi, remaining, edge + 1, num_excluded[row], leaf[row]) > 0:
                legal[total] = tokens[edge]
                total += 1
        indptr[i + 1] = total
