"""Sets of token sequences packed as prefix trees: every shared prefix is stored and computed once.

A tree is laid out in pre-order, so the descendants of node j are exactly the nodes j..ends[j] - 1,
and "token i sees its ancestors and nothing else" is one comparison. Knows nothing of titles,
models or torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PackedTrees", "Trees", "pack", "parts_of_similar_length"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trees:
    """R trees of at most S nodes, one a row, in pre-order.

    Attributes:
        tokens: [R, S] int64 token ids, 0 in the padding.
        positions: [R, S] int64, depth of each node: its position in every sequence through it.
        ends: [R, S] int64, one past the last descendant; padding nodes see only themselves.
        sizes: [R] int64, nodes of each tree.
    """

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    ends: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> "Trees":
        """Return some of the trees, with no more padding than they need."""
        width = int(self.sizes[rows].max())
        return Trees(
            tokens=self.tokens[rows, :width],
            positions=self.positions[rows, :width],
            ends=self.ends[rows, :width],
            sizes=self.sizes[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedTrees(Trees):
    """Trees made of sequences.

    Attributes:
        slots: [n, L] int64, the node of each token of each input sequence, -1 past its end.
    """

    slots: NDArray[np.int64]


def pack(sequences: Sequence[Sequence[int]], rows: Sequence[int] | None = None) -> PackedTrees:
    """Merge the sequences of each row into one tree.

    Args:
        sequences: n non-empty token sequences.
        rows: [n] the row (0..R - 1, each used) of each sequence; default: all in row 0.

    >>> packed = pack([[7, 8, 9], [7, 8, 5]])
    >>> packed.tokens.tolist(), packed.positions.tolist()
    ([[7, 8, 5, 9]], [[0, 1, 2, 2]])
    >>> packed.slots.tolist()
    [[0, 1, 3], [0, 1, 2]]
    """
    row = np.zeros(len(sequences), np.int64) if rows is None else np.asarray(rows, np.int64)
    padded = _pad(sequences)  # [n, L], -1 past the end
    order = np.lexsort((*padded.T[::-1], row))
    row, sorted_ = row[order], padded[order]
    is_token = sorted_ >= 0

    # A token opens a node unless the sequence above it in sorted order has the same prefix.
    differs = np.ones_like(is_token)
    same_row = row[1:] == row[:-1]
    differs[1:] = np.logical_or.accumulate(
        (sorted_[1:] != sorted_[:-1]) | ~same_row[:, None], axis=1
    )
    opens = differs & is_token

    sizes = np.bincount(row, weights=opens.sum(axis=1)).astype(np.int64)
    first = np.cumsum(sizes) - sizes
    number = (np.cumsum(opens) - 1).reshape(opens.shape)
    # A shared token takes the node that the sequence above it has, or opened, in that column.
    node = np.maximum.accumulate(np.where(opens, number, -1), axis=0)
    slots = np.where(is_token, node - first[row][:, None], -1)

    sequence, depth = np.nonzero(opens)
    where = (row[sequence], slots[sequence, depth])
    shape = (len(sizes), int(sizes.max()))
    tokens, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    tokens[where] = sorted_[sequence, depth]
    positions[where] = depth
    ends = np.tile(np.arange(1, shape[1] + 1), (shape[0], 1))
    sequence, depth = np.nonzero(is_token)
    # A subtree ends with the last of the sorted sequences through it: of repeated indices the
    # last assignment stays.
    ends[row[sequence], slots[sequence, depth]] = slots.max(axis=1)[sequence] + 1
    unsorted = np.empty_like(slots)
    unsorted[order] = slots
    return PackedTrees(
        tokens=tokens,
        positions=positions,
        ends=ends,
        sizes=sizes,
        slots=unsorted,
    )


def parts_of_similar_length(lengths: NDArray[np.int64], max_tokens: int) -> list[NDArray[np.int64]]:
    """Split rows into parts, long rows first, so that padding stays small.

    Args:
        lengths: [n] tokens of each row.
        max_tokens: Most rows times the longest of a part; a single row may exceed it.

    Returns:
        The rows of each part.

    >>> parts_of_similar_length(np.array([5, 90, 100]), 1000)
    [array([2, 1]), array([0])]
    """
    order = np.argsort(-lengths, kind="stable")
    sorted_ = lengths[order]
    parts, start = [], 0
    while start < len(order):
        longest = max(int(sorted_[start]), 1)
        similar = int(np.count_nonzero(sorted_[start:] >= 0.6 * longest))
        size = max(1, min(max_tokens // longest, similar))
        parts.append(order[start : start + size])
        start += size
    return parts


def _pad(sequences: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    lengths = np.array([len(sequence) for sequence in sequences])
    if len(lengths) == 0 or lengths.min() == 0:
        raise ValueError("`pack` needs at least one sequence and no empty one.")
    padded = np.full((len(lengths), lengths.max()), -1, np.int64)
    padded[np.arange(lengths.max()) < lengths[:, None]] = np.concatenate(
        [np.asarray(sequence, np.int64) for sequence in sequences]
    )
    return padded
