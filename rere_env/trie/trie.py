"""Prefix tree over token ids. Knows nothing of text, users or torch.

Nodes are numbered level by level, the root is 0 and the child of edge e is node e + 1, so edges
need no "next" array. Edges are sorted by (parent, token): `keys[e] = parent * V + token`. Every
sequence ends with token 0 (EOS), which occurs nowhere else, so a leaf is exactly one title and
every other node has a child: a dead end is impossible by construction.
"""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rere_env.ragged import dense, offsets, stretches
from rere_env.trie.build import (
    EOS,
    Int32,
    check_sequences,
    forced_chains,
    leaf_intervals,
    number_nodes,
    split_edges,
)
from rere_env.types import BoolArray, IntArray

__all__ = ["EOS", "Children", "Trie"]


class Children(NamedTuple):
    """The children of several nodes, ragged (CSR): row i owns `indptr[i]:indptr[i + 1]`."""

    indptr: IntArray  # [rows + 1]
    tokens: IntArray  # [total] ascending within a row
    nodes: IntArray  # [total]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trie:
    """An immutable prefix tree in a handful of arrays (S nodes, S - 1 edges, L leaves).

    Attributes:
        num_tokens: V, the number of local token ids.
        keys: [S - 1] int64, parent * V + token, strictly increasing.
        tokens: [S - 1] int32, the token of each edge.
        first: [S + 1] int32, the edges of node s are `first[s]:first[s + 1]`.
        lo: [S] int32, first leaf below a node, in trie (lexicographic) order.
        hi: [S] int32, one past the last leaf below a node.
        chain_end: [S] int32, where the run of forced tokens that starts here ends.
        chain_len: [S] int32, number of forced tokens in that run (0 at a branching node or leaf).
        leaf_node: [L] int32, the node of each leaf.
        leaf_title: [L] int32, trie order -> title id.
        title_leaf: [L] int32, title id -> trie order.
        level_first: [depth + 2] int32, first node of each level.
        root_edge: [V] int32, the root's edge of each token, -1 where there is none. The root has
            a thousand children, all others a handful: a look-up there saves most of a search.
        only_token: [S] int32, the token of a node's only child, -1 where there are several or
            none. Most nodes have one: following it takes one comparison.
        choice_edges: [C] int32, the edges that have siblings, ascending.
        choice_keys: [C] int64, `keys` of those: a small array to search.
    """

    num_tokens: int
    keys: NDArray[np.int64]
    tokens: Int32
    first: Int32
    lo: Int32
    hi: Int32
    chain_end: Int32
    chain_len: Int32
    leaf_node: Int32
    leaf_title: Int32
    title_leaf: Int32
    level_first: Int32
    root_edge: Int32
    only_token: Int32
    choice_edges: Int32
    choice_keys: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Make every array read-only."""
        for name in _ARRAYS:
            getattr(self, name).flags.writeable = False

    @classmethod
    def from_sequences(cls, indptr: IntArray, tokens: IntArray, num_tokens: int) -> "Trie":
        """Build from ragged sequences; sequence i is title id i and ends with its only EOS.

        Args:
            indptr: [I + 1] offsets into `tokens`.
            tokens: [total] local token ids in 0..num_tokens - 1.
            num_tokens: V.

        Raises:
            ValueError: No sequence, a misplaced EOS, an id out of range, or two equal sequences.
        """
        check_sequences(indptr, tokens, num_tokens)
        keys, level_first, title_node = number_nodes(indptr, tokens, num_tokens)
        num_nodes = len(keys) + 1
        parents = keys // num_tokens
        first = np.searchsorted(parents, np.arange(num_nodes + 1)).astype(np.int32)
        lo, hi = leaf_intervals(parents, first, level_first)
        chain_end, chain_len = forced_chains(first, level_first)
        title_leaf = lo[title_node]
        leaf_title = np.empty_like(title_leaf)
        leaf_title[title_leaf] = np.arange(len(title_leaf), dtype=np.int32)
        edge_tokens = (keys % num_tokens).astype(np.int32)
        root_edge = np.full(num_tokens, -1, np.int32)
        root_edge[edge_tokens[: first[1]]] = np.arange(first[1], dtype=np.int32)
        only_token, choice_edges = split_edges(first, edge_tokens)
        return cls(
            num_tokens=num_tokens,
            keys=keys,
            tokens=edge_tokens,
            first=first,
            lo=lo,
            hi=hi,
            chain_end=chain_end,
            chain_len=chain_len,
            leaf_node=title_node[leaf_title],
            leaf_title=leaf_title,
            title_leaf=title_leaf,
            level_first=level_first,
            root_edge=root_edge,
            only_token=only_token,
            choice_edges=choice_edges,
            choice_keys=keys[choice_edges],
        )

    @property
    def num_nodes(self) -> int:
        """S, root and leaves included."""
        return len(self.keys) + 1

    @property
    def num_titles(self) -> int:
        """L, one leaf a title."""
        return len(self.leaf_node)

    @property
    def max_length(self) -> int:
        """Tokens of the longest title, EOS included."""
        return len(self.level_first) - 2

    @property
    def nbytes(self) -> int:
        """Bytes held by the arrays."""
        return sum(getattr(self, name).nbytes for name in _ARRAYS)

    def num_children(self, nodes: IntArray) -> IntArray:
        """Return the number of children of each node (0 at a leaf)."""
        return self.first[nodes + 1] - self.first[nodes]

    def parents(self, nodes: IntArray) -> IntArray:
        """Return the parent of each node; the root is its own parent."""
        parents = self.keys[np.maximum(nodes, 1) - 1] // self.num_tokens
        return np.where(nodes > 0, parents, 0)

    def is_leaf(self, nodes: IntArray) -> BoolArray:
        """Say which nodes are complete titles."""
        leaf: BoolArray = self.first[nodes + 1] == self.first[nodes]
        return leaf

    def depth(self, nodes: IntArray) -> IntArray:
        """Return how many tokens lead from the root to each node."""
        return self.level_first.searchsorted(nodes, side="right") - 1

    def preorder(self, nodes: IntArray) -> NDArray[np.int64]:
        """Return int64 keys in whose order parents precede children and siblings ascend.

        Keys are distinct and lie in 0 .. L * S - 1, so those of several rows can be told apart.
        """
        # Of nodes that begin at one leaf the higher has the smaller number.
        return self.lo[nodes].astype(np.int64) * self.num_nodes + nodes

    def titles(self, nodes: IntArray) -> IntArray:
        """Return the title id of leaf nodes (for an inner node: its first title)."""
        return self.leaf_title[self.lo[nodes]]

    def num_titles_below(self, nodes: IntArray) -> IntArray:
        """Return how many titles remain below each node."""
        return self.hi[nodes] - self.lo[nodes]

    def step(self, nodes: IntArray, tokens: IntArray) -> IntArray:
        """Follow one token from each node.

        Args:
            nodes: [n] node ids.
            tokens: [n] local token ids, any integer.

        Returns:
            [n] int64 node ids, -1 where the token does not continue a title.
        """
        child = self.first[nodes].astype(np.int64) + 1
        others = ((self.only_token[nodes] != tokens) | (tokens < 0)).nonzero()[0]
        if len(others):
            child[others] = self.choose(nodes[others], tokens[others])
        return child

    def choose(self, nodes: IntArray, tokens: IntArray) -> IntArray:
        """Follow one token from each node that has several children; -1 from any other."""
        if len(self.choice_keys) == 0:
            return np.full(len(nodes), -1)
        wanted = nodes * np.int64(self.num_tokens) + tokens
        place = self.choice_keys.searchsorted(wanted)
        place[place == len(self.choice_keys)] = 0
        found = self.choice_keys[place] == wanted
        found &= (tokens >= 0) & (tokens < self.num_tokens)
        return np.where(found, self.choice_edges[place] + 1, -1)

    def children(self, nodes: IntArray) -> Children:
        """Return the legal continuations of each node, ragged."""
        start = self.first[nodes].astype(np.int64)
        indptr = offsets(self.first[nodes + 1] - start)
        edges = stretches(start, indptr)
        return Children(indptr, self.tokens[edges], edges + 1)

    def mask(self, nodes: IntArray) -> NDArray[np.int8]:
        """Return a dense int8 [n, V], 1 where a token continues a title."""
        indptr, tokens, _ = self.children(nodes)
        return dense(indptr, tokens, self.num_tokens)

    def paths(self, titles: IntArray) -> Int32:
        """Return the nodes of each title below the root, int32 [n, longest], 0 = past the end."""
        node: IntArray = self.leaf_node[self.title_leaf[titles]].astype(np.int64)
        climbed = []
        while node.any():
            climbed.append(node)
            node = self.parents(node)
        backwards = np.stack(climbed[::-1], axis=-1) if climbed else np.zeros((0, 0), np.int64)
        # Titles of one depth start at one column; shift each row left to its first node.
        shift = np.argmax(backwards > 0, axis=-1) if backwards.size else np.zeros(0, np.int64)
        columns = np.arange(backwards.shape[-1]) + shift[:, None]
        inside = columns < backwards.shape[-1]
        columns = np.minimum(columns, max(backwards.shape[-1] - 1, 0))
        return np.where(inside, np.take_along_axis(backwards, columns, -1), 0).astype(np.int32)

    def content_hash(self) -> str:
        """Return a sha256 over what the trie means: vocabulary size, keys, titles."""
        digest = hashlib.sha256(str(self.num_tokens).encode())
        digest.update(self.keys.astype("<i8").tobytes())
        digest.update(self.leaf_title.astype("<i4").tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        with path.open("wb") as file:
            np.savez(
                file,
                num_tokens=np.int64(self.num_tokens),
                content_hash=np.str_(self.content_hash()),
                **arrays,
            )

    @classmethod
    def load(cls, path: Path) -> "Trie":
        """Read a file of `save`.

        Raises:
            ValueError: The content does not match the stored hash.
        """
        with np.load(path, allow_pickle=False) as file:
            trie = cls(num_tokens=int(file["num_tokens"]), **{name: file[name] for name in _ARRAYS})
            expected = str(file["content_hash"])
        if trie.content_hash() != expected:
            raise ValueError(
                f"{path}: content hash {trie.content_hash()[:12]} differs from the stored "
                f"{expected[:12]}; the file is damaged, build the trie again."
            )
        return trie


_ARRAYS = tuple(field.name for field in fields(Trie) if field.name != "num_tokens")
