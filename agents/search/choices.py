"""What may follow the prefixes of a search, and how well: the values that searches hand around."""

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.trees import Edges

__all__ = ["Choices", "Reading", "Sizes", "check_group_size", "take"]

# B prompts (rows), K nodes a row, E continuations in all, T tokens read in all.


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the host must know of a read before it can shape the tensors.

    Attributes:
        width: Most tokens that a row of the cache reads.
        tokens: T.
        nodes: Nodes that are read.
        edges: E.
        edge_width: Most continuations in a row.
    """

    width: int
    tokens: int
    nodes: int
    edges: int
    edge_width: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choices:
    """The continuations of K nodes a row, ragged, ordered by row, node and token.

    Attributes:
        slot: [E] the node that each continues, numbered row * K + k.
        row: [E] its prompt.
        child: [E] trie node.
        logprob: [E] of the child given its parent; -inf where every title below is hidden.
        first: [B * K] position of each node's first continuation.
        place: [E] position in a table [B, width], one row a prompt.
        width: Most continuations in a row.
    """

    slot: Tensor
    row: Tensor
    child: Tensor
    logprob: Tensor
    first: Tensor
    place: Tensor
    width: int

    @classmethod
    def of(cls, edges: Edges, logprob: Tensor, num_rows: int, width: int) -> "Choices":
        """Place the edges of B * K nodes in rows of at most `width`."""
        per_row = len(edges.first) // num_rows
        row = edges.owner // per_row
        rows = torch.arange(num_rows, device=row.device)
        shift = rows * width - edges.first[::per_row]
        return cls(
            slot=edges.owner,
            row=row,
            child=edges.child,
            logprob=logprob,
            first=edges.first,
            place=torch.arange(len(row), device=row.device) + shift[row],
            width=width,
        )

    def table(self, values: Tensor, num_rows: int, fill: float) -> Tensor:
        """Spread values [E] over rows [B, width], the rest filled."""
        table = values.new_full((num_rows * self.width,), fill)
        table[self.place] = values
        return table.view(num_rows, self.width)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """What one read has found.

    Attributes:
        entry: [B, K] the entries that were made, parents of what is read next.
        choices: The continuations of each chain's end.
        forced: [B, K] log-probability of the forced tokens up to the chain's end; None under
            `support="catalogue"`, where it is 0.
        reach: [T] the same up to each token read.
        start: [B, K] the place of each node's own token among the T.
    """

    entry: Tensor
    choices: Choices
    forced: Tensor | None
    reach: Tensor | None
    start: Tensor


def take(values: Tensor, index: Tensor) -> Tensor:
    """Select along the second axis: values [B, N, X], index [B, K] -> [B, K, X]."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def check_group_size(group_size: int) -> None:
    """Raise if no title is asked for.

    Raises:
        ValueError: Naming the value.
    """
    if group_size < 1:
        raise ValueError(f"`group_size` (={group_size}) must be at least 1.")
