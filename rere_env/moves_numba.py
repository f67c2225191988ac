"""The moves of `moves.py`, compiled with numba (extra `fast`); tested equal to NumPy's.

Loaded only when it is used. Compiled once and kept on disk beside this file. Arrays are passed one
by one: numba takes twice as long to unpack a tuple of them.

Legend: N rows, n rows asked for, m rows that end, K slate, E leaves hidden by a filter, S nodes.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from rere_env.rows import Allowed, Board, Int64, Moved, Rows, Slates
from rere_env.types import IntArray

__all__ = ["NumbaMoves"]

_compiled = numba.njit(cache=True, nogil=True, boundscheck=False)

_U = np.uint64  # an unsigned index costs no check whether it counts from the end

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
        _start(
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
        num_ended = _advance(
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
        _slates(state.example, state.slate, targets, rows, titles, target, rank)
        return Slates(titles, target, rank)

    def allowed(
        self, state: Rows, rows: IntArray | slice, names: NDArray[np.int32] | None = None
    ) -> Allowed:
        """Return the legal tokens of n rows (see `Moves`)."""
        ids = _numbers(rows, len(state))
        indptr = np.empty(len(ids) + 1, np.int64)
        _count_children(self.board.trie.first, state.node, ids, indptr)
        tokens = np.empty(indptr[-1], np.int32)
        _allowed(
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


@_compiled
def _start(  # type: ignore[no-untyped-def]
    example, history, slate, leaf, prefix,
    slot, num_excluded, depth, node, num_tokens, finished,
    examples, histories, ids,
):  # fmt: skip
    """Show each row its example, and clear the rest."""
    for i in range(len(ids)):
        row, shown = _U(ids[i]), _U(examples[i])
        example[row] = shown
        for column in range(history.shape[1]):
            history[row, column] = histories[shown, column]
        for column in range(slate.shape[1]):
            slate[row, column] = 0
        for column in range(leaf.shape[1]):
            leaf[row, column] = -1
        for column in range(depth[row]):
            prefix[row, column] = 0
        slot[row] = num_excluded[row] = depth[row] = node[row] = num_tokens[row] = 0
        finished[row] = False


@_compiled
def _num_left(lo, hi, remaining, node, num_excluded, leaf, row):  # type: ignore[no-untyped-def]
    """Count the titles below a node that the row does not exclude; 0 or a lower bound above 0."""
    left = remaining[node]
    if left > num_excluded[row]:
        return left - num_excluded[row]
    for column in range(leaf.shape[1]):
        if lo[node] <= leaf[row, column] < hi[node]:
            left -= 1
    return left


@_compiled
def _choose(first, tokens, root_edge, node, token):  # type: ignore[no-untyped-def]
    """Return the edge of a node behind a token, -1 where there is none."""
    if node == 0:
        return root_edge[_U(token)] if 0 <= token < len(root_edge) else np.int32(-1)
    left, end = first[node], first[node + _U(1)]
    right = end
    while left < right:
        middle = (left + right) >> 1
        if tokens[_U(middle)] < token:
            left = middle + 1
        else:
            right = middle
    return left if left < end and tokens[_U(left)] == token else np.int32(-1)


@_compiled
def _advance(  # type: ignore[no-untyped-def]
    first, only_token, tokens, root_edge, lo, hi, remaining, leaf_title,
    slate_size, illegal_ends, max_tokens, resting_node, excludes,
    node, depth, slot, num_excluded, num_tokens, prefix, slate, leaf, finished,
    wanted, ids, done, ended,
):  # fmt: skip
    """Move each row: find the edge, write the token, see whether the episode is over."""
    edges = np.empty(len(ids), np.int32)
    for i in range(len(ids)):  # nothing but look-ups, so that many can be under way at a time
        at = _U(node[_U(ids[i])])
        edges[i] = first[at] if only_token[at] == wanted[i] else np.int32(-1)
    num_ended = 0
    for i in range(len(ids)):
        row, token, edge = _U(ids[i]), wanted[i], edges[i]
        if finished[row]:
            continue
        num_tokens[row] += 1
        # Below the node of an unfinished row a title is left, and so there is below an only child.
        if edge < 0 or token < 0:
            edge = _choose(first, tokens, root_edge, _U(node[row]), token)
            if excludes and edge >= 0:
                if _num_left(lo, hi, remaining, _U(edge + 1), num_excluded, leaf, row) <= 0:
                    edge = np.int32(-1)
        over = False
        if edge < 0:
            done[0, i] = True
            over = illegal_ends
        elif token != 0:
            node[row] = edge + 1
            prefix[row, _U(depth[row])] = token
            depth[row] += 1
        else:
            over = slot[row] + 1 == slate_size
            _close_title(
                leaf_title, lo[_U(edge + 1)],
                node, depth, slot, num_excluded, prefix, slate, leaf, row,
            )  # fmt: skip
        if over:
            done[1, i] = True
        elif num_tokens[row] >= max_tokens:
            done[2, i] = True
        else:
            continue
        finished[row] = True
        node[row] = resting_node
        ended[num_ended] = i
        num_ended += 1
    return num_ended


@_compiled
def _close_title(  # type: ignore[no-untyped-def]
    leaf_title, closed, node, depth, slot, num_excluded, prefix, slate, leaf, row
):
    """Move a finished title into the slate."""
    place = _U(slot[row])
    slate[row, place] = leaf_title[_U(closed)] + 1
    leaf[row, place] = closed
    slot[row] += 1
    num_excluded[row] += 1
    for column in range(depth[row]):
        prefix[row, column] = 0
    node[row] = depth[row] = 0


@_compiled
def _slates(example, slate, targets, ids, titles, target, rank):  # type: ignore[no-untyped-def]
    """Copy slates and look for the targets."""
    for i in range(len(ids)):
        row = _U(ids[i])
        target[i] = targets[_U(example[row])]
        rank[i] = 0
        for place in range(slate.shape[1]):
            titles[i, place] = slate[row, place] - 1
            if titles[i, place] == target[i]:
                rank[i] = place + 1


@_compiled
def _count_children(first, node, ids, indptr):  # type: ignore[no-untyped-def]
    """Fill `indptr` with the number of children, legal or not."""
    indptr[0] = total = 0
    for i in range(len(ids)):
        at = _U(node[_U(ids[i])])
        total += first[at + _U(1)] - first[at]
        indptr[i + 1] = total


@_compiled
def _exhausted(first, lo, hi, remaining, at, leaf, row, edges):  # type: ignore[no-untyped-def]
    """Collect, ascending, the edges of a node below which the row excludes every title."""
    found = 0
    for column in range(leaf.shape[1]):
        one = leaf[row, column]
        if not lo[at] <= one < hi[at]:
            continue
        left, right = first[at], first[at + _U(1)] - 1
        while left < right:  # the last child that begins at the leaf or before it
            middle = (left + right + 1) >> 1
            if lo[_U(middle + 1)] <= one:
                left = middle
            else:
                right = middle - 1
        begin, end = lo[_U(left + 1)], hi[_U(left + 1)]
        used = 0
        for other in range(leaf.shape[1]):
            used += begin <= leaf[row, other] < end
        place = found
        while place > 0 and edges[place - 1] > left:
            place -= 1
        if used < remaining[_U(left + 1)] or (place > 0 and edges[place - 1] == left):
            continue
        for later in range(found, place, -1):
            edges[later] = edges[later - 1]
        edges[place] = left
        found += 1
    return found


@_compiled
def _allowed(  # type: ignore[no-untyped-def]
    first, only_token, tokens, root_edge, lo, hi, remaining, all_shown,
    node, num_excluded, finished, leaf,
    ids, names, indptr, legal,
):  # fmt: skip
    """Write the legal tokens of every row one after the other; `indptr` is made to fit."""
    edges = np.empty(leaf.shape[1] + 1, np.int32)
    root = tokens[: first[1]].copy()
    if len(names):
        for edge in range(len(root)):
            root[edge] = names[_U(root[edge])]
    total = 0
    for i in range(len(ids)):
        row = _U(ids[i])
        at = _U(node[row])
        start, end = first[at], first[at + _U(1)]
        found = 0
        if end - start > 1 and num_excluded[row] > 0 and not finished[row]:
            found = _exhausted(first, lo, hi, remaining, at, leaf, row, edges)
        edges[found] = end
        for hidden in range(found + 1):
            stop = edges[hidden]
            if at == 0 and all_shown:
                legal[total : total + stop - start] = root[start:stop]
                total += stop - start
            else:
                for edge in range(start, stop):
                    if all_shown or finished[row] or remaining[edge + 1] > 0:
                        token = tokens[edge]
                        legal[total] = names[_U(token)] if len(names) else token
                        total += 1
            start = stop + 1
        indptr[i + 1] = total
