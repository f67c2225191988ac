"""The part of a trie that decides, cut into blocks that a model reads one at a time.

Only nodes with two or more titles below are ever read; what follows is forced. They are laid out in
pre-order, and a block is a slice of them behind the ancestors of its first node: all the context
that any of its nodes has within the trie. Knows nothing of prompts, models or torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rere_env.catalogue import TitleTokens
from rere_env.trie import Trie
from rere_env.types import IntArray

__all__ = ["Block", "blocks"]

IntVector = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """A tree of n trie nodes in pre-order, without the root.

    Attributes:
        tokens: [n] model token ids.
        depths: [n] tokens from the root to each node: 1, 2, ...
        ends: [n] one past each node's last descendant in the block.
        slots: [m] the nodes of the block that decide, -1 for the root; each node of the trie
            decides in one block only.
        nodes: [m] their numbers in the trie.
    """

    tokens: IntVector
    depths: IntVector
    ends: IntVector
    slots: IntVector
    nodes: IntVector


def blocks(trie: Trie, tokens: TitleTokens, max_tokens: int) -> Iterator[Block]:
    """Cut a catalogue into blocks: at least one, whose n may be 0.

    Args:
        trie: The catalogue.
        tokens: Its titles as tokens.
        max_tokens: Nodes that a block adds, its first one's ancestors not counted.

    Raises:
        ValueError: Not one node fits.
    """
    if max_tokens < 1:
        raise ValueError(f"`max_tokens` (={max_tokens}) must be at least 1.")
    order = _deciding(trie)
    lo, hi = trie.lo[order], trie.hi[order]
    # In pre-order the descendants of a node are those that follow it and begin before its end.
    ends = np.searchsorted(lo, hi)
    depth = trie.depth(order)
    model_tokens = tokens.to_model_ids(trie.tokens[order - 1])
    decides = trie.num_children(order) > 1
    place = np.full(trie.num_nodes, -1, np.int64)
    place[order] = np.arange(len(order))
    for start in range(0, max(len(order), 1), max_tokens):
        inside = np.arange(start, min(start + max_tokens, len(order)))
        above = _ancestors(trie, place, order[inside[:1]])
        members = np.concatenate([above, inside])
        slots = len(above) + np.flatnonzero(decides[inside])
        nodes = order[members[slots]]
        if start == 0:
            slots, nodes = np.append(-1, slots), np.append(0, nodes)
        yield Block(
            tokens=model_tokens[members],
            depths=depth[members],
            ends=np.searchsorted(members, ends[members]),
            slots=slots,
            nodes=nodes,
        )


def _deciding(trie: Trie) -> IntVector:
    """Return the nodes below the root that have two or more titles, in pre-order."""
    nodes = np.flatnonzero(trie.hi - trie.lo > 1)[1:]
    return nodes[np.argsort(trie.preorder(nodes))]


def _ancestors(trie: Trie, place: IntVector, node: IntArray) -> IntVector:
    """Return the places in pre-order of what lies between the root and a node [1], top down."""
    above = [np.zeros(0, np.int64)]
    node = trie.parents(node)
    while (node > 0).any():
        above.append(place[node])
        node = trie.parents(node)
    return np.concatenate(above[::-1])
