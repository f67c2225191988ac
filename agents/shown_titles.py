"""What a prompt may be shown below a node of the trie."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rere_env.trie import Trie
from rere_env.types import IntArray

__all__ = ["ShownTitles"]

Int64: TypeAlias = NDArray[np.int64]


class ShownTitles:
    """Which titles below a node each prompt may be shown; costs what the hidden titles cost."""

    def __init__(self, trie: Trie, num_rows: int, hidden: Sequence[IntArray] | None) -> None:
        """Sort the hidden leaves by (row, trie order)."""
        if hidden is not None and len(hidden) != num_rows:
            raise ValueError(
                f"`hidden` (of {len(hidden)}) needs one array of title ids for each of the "
                f"{num_rows} prompts; an empty one hides nothing."
            )
        self._trie = trie
        rows = [np.zeros(0, np.int64)]
        for row, titles in enumerate(hidden or ()):
            leaf = trie.title_leaf[np.asarray(titles, np.int64)].astype(np.int64)
            rows.append(row * (trie.num_titles + 1) + leaf)
        self._keys = np.unique(np.concatenate(rows))

    def num_titles(self, row: Int64, node: Int64) -> Int64:
        """Return how many titles below a node the prompt of that row may be shown."""
        count = self._trie.num_titles_below(node).astype(np.int64)
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
        owner = np.repeat(np.arange(len(node)), np.diff(children.indptr))
        child = children.nodes.astype(np.int64)
        legal = self.num_titles(row[owner], child) > 0
        return owner[legal], child[legal]
