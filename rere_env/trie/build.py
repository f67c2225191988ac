"""How a trie is built, level by level, in NumPy. Knows sequences of tokens and nothing else."""

from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rere_env.types import IntArray

__all__ = [
    "EOS",
    "Int32",
    "check_sequences",
    "forced_chains",
    "leaf_intervals",
    "number_nodes",
    "split_edges",
]

EOS = 0
"""Local token id of end-of-sequence."""

Int32: TypeAlias = NDArray[np.int32]


def check_sequences(indptr: IntArray, tokens: IntArray, num_tokens: int) -> None:
    """Check that there is a title, and that each ends with its only EOS.

    Raises:
        ValueError: Saying what is wrong.
    """
    if len(indptr) < 2:
        raise ValueError("a trie needs at least one title; the catalogue has none.")
    lengths = np.diff(indptr)
    ends = indptr[1:] - 1
    if (lengths < 1).any() or (tokens[ends] != EOS).any() or (tokens == EOS).sum() != len(ends):
        raise ValueError("every sequence must end with EOS (0), which may occur nowhere else.")
    if tokens.min() < 0 or tokens.max() >= num_tokens:
        raise ValueError(
            f"token ids must lie in 0..{num_tokens - 1}; got {tokens.min()}..{tokens.max()}."
        )


def number_nodes(
    indptr: IntArray, tokens: IntArray, num_tokens: int
) -> tuple[NDArray[np.int64], Int32, Int32]:
    """Number the nodes level by level; return keys, the first node of each level, title nodes."""
    titles = np.arange(len(indptr) - 1)
    lengths = np.diff(indptr)
    node = np.zeros(len(titles), np.int64)
    levels, level_first = [], [0, 1]
    for depth in range(int(lengths.max())):
        alive = titles[lengths > depth]
        key = node[alive] * num_tokens + tokens[indptr[alive] + depth]
        unique, inverse = np.unique(key, return_inverse=True)
        node[alive] = level_first[-1] + inverse
        levels.append(unique)
        level_first.append(level_first[-1] + len(unique))
    ends, counts = np.unique(node, return_counts=True)
    if len(ends) != len(titles):
        first, second = np.flatnonzero(node == ends[counts > 1][0])[:2]
        raise ValueError(
            f"sequences {first} and {second} are equal; every title needs tokens of its own."
        )
    return np.concatenate(levels), np.array(level_first, np.int32), node.astype(np.int32)


def leaf_intervals(
    parents: NDArray[np.int64], first: Int32, level_first: Int32
) -> tuple[Int32, Int32]:
    """Count leaves bottom-up, then place them top-down, siblings in token order."""
    count = (np.diff(first) == 0).astype(np.int64)
    levels = list(pairwise(level_first[1:]))
    for start, end in reversed(levels):
        np.add.at(count, parents[start - 1 : end - 1], count[start:end])
    lo = np.zeros(len(count), np.int64)
    for start, end in levels:
        before = np.cumsum(count[start:end]) - count[start:end]
        parent = parents[start - 1 : end - 1]
        lo[start:end] = lo[parent] + before - before[first[parent] - (start - 1)]
    return lo.astype(np.int32), (lo + count).astype(np.int32)


def forced_chains(first: Int32, level_first: Int32) -> tuple[Int32, Int32]:
    """Follow single children to the next branching node or leaf, for every node at once."""
    end = np.arange(len(first) - 1, dtype=np.int32)
    length = np.zeros(len(end), np.int32)
    forced = np.diff(first) == 1
    for start, stop in reversed(list(pairwise(level_first))):
        nodes = np.arange(start, stop)[forced[start:stop]]
        child = first[nodes] + 1
        end[nodes] = end[child]
        length[nodes] = length[child] + 1
    return end, length


def split_edges(first: Int32, tokens: Int32) -> tuple[Int32, Int32]:
    """Return the token of every only child (-1: none or several), and the edges with siblings."""
    num_children = np.diff(first)
    only_token = np.full(len(num_children), -1, np.int32)
    single = np.flatnonzero(num_children == 1)
    only_token[single] = tokens[first[single]]
    has_siblings = np.ones(len(tokens), np.bool_)
    has_siblings[first[single]] = False
    return only_token, np.flatnonzero(has_siblings).astype(np.int32)
