"""Compiled loops over rows, called by `moves_numba.py`. Compiled once and kept on disk.

Legend: N rows, n rows asked for, K slate, S nodes.
"""

import numba
import numpy as np

__all__ = ["advance", "allowed", "count_children", "slates", "start"]

_compiled = numba.njit(cache=True, nogil=True, boundscheck=False)

_U = np.uint64  # an unsigned index costs no check whether it counts from the end


@_compiled
def start(  # type: ignore[no-untyped-def]
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
def advance(  # type: ignore[no-untyped-def]
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
            if (
                excludes
                and edge >= 0
                and _num_left(lo, hi, remaining, _U(edge + 1), num_excluded, leaf, row) <= 0
            ):
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
def slates(example, slate, targets, ids, titles, target, rank):  # type: ignore[no-untyped-def]
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
def count_children(first, node, ids, indptr):  # type: ignore[no-untyped-def]
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
def allowed(  # type: ignore[no-untyped-def]
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
