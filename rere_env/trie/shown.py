"""What a prompt may be shown below a node of the trie."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rere_env.catalogue import Catalogue
from rere_env.filters import Filter, Hidden
from rere_env.ragged import offsets, owners
from rere_env.trie.trie import Trie
from rere_env.types import Batch, BoolArray

__all__ = ["HiddenLeaves", "ShownTitles", "hidden_leaves"]

Int64: TypeAlias = NDArray[np.int64]


class ShownTitles:
    """Which titles below a node each prompt may be shown; costs what the hidden titles cost."""

    def __init__(self, trie: Trie, hidden: Hidden | None) -> None:
        """Sort everybody's hidden leaves, and the others by (row, trie order)."""
        self._trie = trie
        self._keys = self._gone = np.zeros(0, np.int64)
        if hidden is not None:
            self._gone = np.sort(trie.title_leaf[hidden.everybody].astype(np.int64))
            leaf = trie.title_leaf[hidden.titles].astype(np.int64)
            self._keys = np.unique(hidden.row * (trie.num_titles + 1) + leaf)

    def num_titles(self, row: Int64, node: Int64) -> Int64:
        """Return how many titles below a node the prompt of that row may be shown."""
        count = self._trie.num_titles_below(node).astype(np.int64)
        if len(self._gone):
            below, above = (
                self._gone.searchsorted(b[node]) for b in (self._trie.lo, self._trie.hi)
            )
            count -= above - below
        if len(self._keys) == 0:
            return count
        start = row * (self._trie.num_titles + 1)
        low, high = (
            np.searchsorted(self._keys, start + bound[node])
            for bound in (self._trie.lo, self._trie.hi)
        )
        return count - (high - low)

    def children(self, row: Int64, node: Int64) -> tuple[Int64, Int64]:
        """Return the legal children of M nodes, ragged: owner [E] and child [E]."""
        children = self._trie.children(node)
        owner = owners(children.indptr)
        child = children.nodes.astype(np.int64)
        legal = self.num_titles(row[owner], child) > 0
        return owner[legal], child[legal]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HiddenLeaves:
    """What a filter hides from the examples of a split, as leaves of a trie.

    Attributes:
        remaining: [S] int32, titles below each node that are not hidden from everybody.
        indptr: [B + 1] int64, example i's own leaves are `indptr[i]:indptr[i + 1]`.
        leaf: [total] int32, leaves hidden from one example (and not from everybody).
        reachable: [B] bool, the target is not hidden.
        num_shown: [B] int64, titles that can be shown.
    """

    remaining: NDArray[np.int32]
    indptr: NDArray[np.int64]
    leaf: NDArray[np.int32]
    reachable: BoolArray
    num_shown: NDArray[np.int64]

    @property
    def width(self) -> int:
        """Most leaves hidden from one example."""
        return int(np.diff(self.indptr).max(initial=0))


def hidden_leaves(
    exclude: Filter | None, catalogue: Catalogue, trie: Trie, batch: Batch
) -> HiddenLeaves:
    """Find what a filter hides from the examples of a split; done once, O(nodes + hidden)."""
    below = trie.hi - trie.lo
    if exclude is None:
        return HiddenLeaves(
            remaining=below,
            indptr=np.zeros(len(batch) + 1, np.int64),
            leaf=np.zeros(0, np.int32),
            reachable=np.ones(len(batch), np.bool_),
            num_shown=np.full(len(batch), trie.num_titles),
        )
    gone = np.zeros(trie.num_titles, np.bool_)  # by leaf
    hidden = exclude.from_each(catalogue, batch)
    gone[trie.title_leaf[exclude.from_all(catalogue)]] = True
    gone[trie.title_leaf[hidden.everybody]] = True
    gone_before = np.concatenate([[0], np.cumsum(gone)]).astype(np.int32)
    leaf = trie.title_leaf[hidden.titles]
    row = hidden.row[~gone[leaf]]
    leaf = leaf[~gone[leaf]]
    count = np.bincount(row, minlength=len(batch))
    target = trie.title_leaf[batch.target_title]
    reachable = ~gone[target]
    reachable[row[leaf == target[row]]] = False
    return HiddenLeaves(
        remaining=below - (gone_before[trie.hi] - gone_before[trie.lo]),
        indptr=offsets(count),
        leaf=leaf,
        reachable=reachable,
        num_shown=trie.num_titles - int(gone.sum()) - count,
    )
