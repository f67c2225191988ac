"""The trie's arrays on a device, with the tokens of the model instead of local ids."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rere_env.catalogue import TitleTokens
from rere_env.trie import Trie
from rere_env.types import IntArray

__all__ = ["Edges", "TorchTrie"]


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

    Attributes:
        edge_token: [S - 1] int64, the model's token id of each edge.
        first: [S + 1] int64.
        chain_len: [S] int64.
        leaf_title: [S] int64, the title id of a leaf, -1 at inner nodes.
        num_titles: Leaves in all.
        max_length: Tokens of the longest title, EOS included.
    """

    edge_token: Tensor
    first: Tensor
    chain_len: Tensor
    leaf_title: Tensor
    num_titles: int
    max_length: int

    @classmethod
    def build(cls, trie: Trie, tokens: TitleTokens, device: torch.device) -> "TorchTrie":
        """Move the arrays of a trie to a device."""
        leaf_title = np.full(trie.num_nodes, -1, np.int64)
        leaf_title[trie.leaf_node] = trie.leaf_title

        def move(array: IntArray) -> Tensor:
            return torch.tensor(array, dtype=torch.int64, device=device)

        return cls(
            edge_token=move(tokens.to_model_ids(trie.tokens)),
            first=move(trie.first),
            chain_len=move(trie.chain_len),
            leaf_title=move(leaf_title),
            num_titles=trie.num_titles,
            max_length=trie.max_length,
        )

    def num_children(self, nodes: Tensor) -> Tensor:
        """Return the number of children of each node."""
        return self.first[nodes + 1] - self.first[nodes]

    def edges(self, nodes: Tensor) -> Edges:
        """Return the children of M nodes."""
        start = self.first[nodes]
        count = self.first[nodes + 1] - start
        first = torch.cumsum(count, 0) - count
        owner = torch.repeat_interleave(count)
        edge = torch.arange(len(owner), device=nodes.device) - first[owner] + start[owner]
        return Edges(owner=owner, token=self.edge_token[edge], child=edge + 1, first=first)
