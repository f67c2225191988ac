"""The trie's arrays on a device, with the tokens of the model instead of local ids."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rere_env.catalogue import TitleTokens
from rere_env.filters import Hidden
from rere_env.prompts import Prompts
from rere_env.trie import Trie
from rere_env.types import IntArray

__all__ = ["Edges", "TorchShown", "TorchTrie"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Edges:
    """The children of M nodes, ragged: E edges in all.

    Attributes:
        owner: [E] int64, which of the M nodes an edge belongs to.
        token: [E] int64, the model's token id.
        child: [E] int64, the node an edge leads to.
        first: [M] int64, position of a node's first edge among the E.
    """

    owner: Tensor
    token: Tensor
    child: Tensor
    first: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TorchTrie:
    """`rere_env.Trie` for search and scoring; see there for the meaning of the arrays.

    Nodes are also kept in *reading order*, in which every run of forced tokens is contiguous: what
    a model must read from a node to the next decision is one slice.

    Attributes:
        host: The trie itself, in NumPy.
        title_tokens: Its titles as tokens.
        edge_token: [S - 1] int64, the model's token id of each edge.
        first: [S + 1] int64.
        lo: [S] int64.
        hi: [S] int64.
        chain_end: [S] int64.
        num_read: [S] int64, tokens to read from a node to its chain's end, its own token counted;
            the EOS of a leaf is never read.
        place: [S] int64, position of a node in reading order.
        read_node: [S] int64, the nodes in reading order.
        read_token: [S] int64, the model's token id that leads to each of them (the root: 0).
        leaf_title: [L] int64, trie order -> title id.
        title_leaf: [L] int64, title id -> trie order.
        root_width: Children of the root.
        num_titles: Leaves in all.
        max_length: Tokens of the longest title, EOS included.
    """

    host: Trie
    title_tokens: TitleTokens
    edge_token: Tensor
    first: Tensor
    lo: Tensor
    hi: Tensor
    chain_end: Tensor
    num_read: Tensor
    place: Tensor
    read_node: Tensor
    read_token: Tensor
    leaf_title: Tensor
    title_leaf: Tensor
    root_width: int
    num_titles: int
    max_length: int

    @classmethod
    def build(cls, trie: Trie, tokens: TitleTokens, device: torch.device) -> "TorchTrie":
        """Move the arrays of a trie to a device."""
        edge_token = tokens.to_model_ids(trie.tokens)
        # The nodes of one run have one chain end, and deeper nodes have larger numbers.
        read_node = np.argsort(trie.chain_end, kind="stable")
        place = np.empty_like(read_node)
        place[read_node] = np.arange(trie.num_nodes)
        ends_in_leaf = trie.is_leaf(trie.chain_end)

        def move(array: IntArray) -> Tensor:
            return torch.tensor(array, dtype=torch.int64, device=device)

        return cls(
            host=trie,
            title_tokens=tokens,
            edge_token=move(edge_token),
            first=move(trie.first),
            lo=move(trie.lo),
            hi=move(trie.hi),
            chain_end=move(trie.chain_end),
            num_read=move(trie.chain_len + 1 - ends_in_leaf),
            place=move(place),
            read_node=move(read_node),
            read_token=move(np.concatenate([[0], edge_token])[read_node]),
            leaf_title=move(trie.leaf_title),
            title_leaf=move(trie.title_leaf),
            root_width=int(trie.first[1]),
            num_titles=trie.num_titles,
            max_length=trie.max_length,
        )

    @property
    def eos(self) -> Tensor:
        """The model's EOS id: what leads to the deepest node, which is a leaf."""
        return self.edge_token[-1]

    def num_children(self, nodes: Tensor) -> Tensor:
        """Return the number of children of each node."""
        return self.first[nodes + 1] - self.first[nodes]

    def last_read(self, nodes: Tensor) -> Tensor:
        """Return the last node to be read from each node: a decision, or what a leaf follows."""
        return self.read_node[self.place[nodes] + self.num_read[nodes] - 1]

    def edges(self, nodes: Tensor) -> Edges:
        """Return the children of M nodes."""
        return self.known_edges(nodes, int(self.num_children(nodes).sum()))

    def known_edges(self, nodes: Tensor, total: int, live: Tensor | None = None) -> Edges:
        """Return the children of M nodes whose total the host knows: nothing is read back.

        Args:
            nodes: [M].
            total: E.
            live: [M] bool, nodes whose children count; default: all.
        """
        count = self.num_children(nodes)
        if live is not None:
            count = torch.where(live, count, 0)
        first = torch.cumsum(count, 0) - count
        owner = torch.repeat_interleave(count, output_size=total)
        edge = torch.arange(total, device=nodes.device) + (self.first[nodes] - first)[owner]
        return Edges(owner=owner, token=self.edge_token[edge], child=edge + 1, first=first)


class TorchShown:
    """Which titles each of B prompts may be shown: all but the hidden ones.

    Leaves below a node are an interval, so a node's titles are counted by two searches among the
    hidden leaves: the cost is that of the hidden titles, not of the catalogue. What is hidden from
    everybody is kept once: the others are numbered among the leaves that it leaves.
    """

    def __init__(self, trie: TorchTrie, prompts: Prompts) -> None:
        """Sort the hidden titles of each prompt in trie order.

        Args:
            trie: The catalogue.
            prompts: B prompts, with what is hidden from them.

        Raises:
            ValueError: An id that the catalogue lacks.
        """
        hidden, num_rows = prompts.hidden, len(prompts)
        self._trie, self._num_rows = trie, num_rows
        self.hides = hidden is not None and len(hidden.titles) + len(hidden.everybody) > 0
        if hidden is None or not self.hides:
            return
        _check_titles(hidden, trie.num_titles)
        device, stride = trie.lo.device, trie.num_titles + 1
        title, gone = (
            torch.from_numpy(titles.astype(np.int64)).to(device)
            for titles in (hidden.titles, hidden.everybody)
        )
        self._gone = trie.title_leaf[gone].sort().values
        self._left_before = self._gone - torch.arange(len(gone), device=device)
        key = torch.from_numpy(hidden.row).to(device) * stride + self._left(trie.title_leaf[title])
        self._key = torch.unique(key)  # ascending: row by row, leaf by leaf
        rows = self._key // stride
        self._first = torch.searchsorted(rows, torch.arange(num_rows, device=device))
        # Shown leaves that lie before each hidden one; ascending within a row.
        before = self._key - (torch.arange(len(self._key), device=device) - self._first[rows])
        self._shown_before = before
        self._stride = stride

    def num_titles(self, row: Tensor, node: Tensor) -> Tensor:
        """Return how many shown titles lie below nodes, for the prompts `row` of the same shape."""
        lo, hi = self._trie.lo[node], self._trie.hi[node]
        if not self.hides:
            return hi - lo
        lo, hi = self._left(lo), self._left(hi)
        return hi - lo - (self._rank(row, hi) - self._rank(row, lo))

    def title(self, row: Tensor, node: Tensor) -> Tensor:
        """Return the first shown title below each node, which must have one."""
        lo = self._trie.lo[node]
        if not self.hides:
            return self._trie.leaf_title[lo]
        lo, first = self._left(lo), self._first[row]
        num_before = lo - (self._rank(row, lo) - first)
        skipped = torch.searchsorted(
            self._shown_before, row * self._stride + num_before, right=True
        )
        leaf = self._leaf(num_before + skipped - first)
        return self._trie.leaf_title[leaf.clamp(max=self._trie.num_titles - 1)]

    def titles(self) -> Tensor:
        """Return bool [B, I], the titles that each prompt may be shown."""
        shape = (self._num_rows, self._trie.num_titles + 1)
        by_leaf = torch.ones(shape, dtype=torch.bool, device=self._trie.lo.device)
        if self.hides:
            by_leaf[:, self._gone] = False
            by_leaf[self._key // self._stride, self._leaf(self._key % self._stride)] = False
        return by_leaf[:, self._trie.title_leaf]

    def _left(self, leaf: Tensor) -> Tensor:
        """Number leaves among those that are not hidden from everybody."""
        return leaf - torch.searchsorted(self._gone, leaf)

    def _leaf(self, left: Tensor) -> Tensor:
        """Undo `_left`."""
        return left + torch.searchsorted(self._left_before, left, right=True)

    def _rank(self, row: Tensor, leaf: Tensor) -> Tensor:
        """Count the hidden leaves, of all rows in order, before a leaf of a row."""
        return torch.searchsorted(self._key, row * self._stride + leaf)


def _check_titles(hidden: Hidden, num_titles: int) -> None:
    everybody = hidden.everybody
    for titles, row in ((everybody, np.zeros_like(everybody)), (hidden.titles, hidden.row)):
        wrong = (titles < 0) | (titles >= num_titles)
        if not wrong.any():
            continue
        raise ValueError(
            f"`hidden` names title {titles[wrong][0]} for prompt {row[wrong][0]}; the catalogue "
            f"has 0..{num_titles - 1}. Leave out what is not a title of it."
        )
