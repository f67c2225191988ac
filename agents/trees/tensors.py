"""Trees on a device: what a language model is given to read."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from agents.trees.pack import Trees
from rere_env.prompts import Prompts

__all__ = ["Continuations", "NextTokens", "TreeTensors", "pad_prompts"]


class TreeTensors:
    """Trees on a device: tokens, positions and ends, all [R, S] int64."""

    def __init__(self, trees: Trees, device: torch.device) -> None:
        """Copy the arrays."""
        self.tokens, self.positions, self.ends = (
            torch.from_numpy(array).to(device, non_blocking=True)
            for array in (trees.tokens, trees.positions, trees.ends)
        )
        self.length = int(trees.positions.max()) + 1  # of the longest sequence

    def ancestors(self) -> Tensor:
        """Return bool [R, S, S]: node i sees node j if j is i or an ancestor of i."""
        slot = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        return (slot[None, :] <= slot[:, None]) & (slot[:, None] < self.ends[:, None, :])


class Continuations(Protocol):
    """E tokens that may follow M nodes: what `NextTokens` and a trie's `Edges` have in common."""

    @property
    def owner(self) -> Tensor:
        """[E] which of the M nodes each token follows."""
        ...

    @property
    def token(self) -> Tensor:
        """[E] the token."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NextTokens:
    """E tokens that may follow M nodes.

    Attributes:
        owner: [E] int64, which of the M nodes each token follows.
        token: [E] int64 token ids.
    """

    owner: Tensor
    token: Tensor


def pad_prompts(prompts: Prompts) -> tuple[Tensor, Tensor, Tensor]:
    """Return prompts [B, P] padded on the right, their lengths [B] and bool [B, P]: real tokens.

    Raises:
        ValueError: No prompt, or an empty one.
    """
    if len(prompts) == 0 or prompts.lengths.min() == 0:
        raise ValueError(
            f"`prompts` (={len(prompts)}) must hold at least one prompt and no empty one."
        )
    lengths = torch.from_numpy(prompts.lengths)
    padded = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.int64)
    is_real = torch.arange(padded.shape[1]) < lengths[:, None]
    padded[is_real] = torch.tensor([token for ids in prompts.ids for token in ids])
    return padded, lengths, is_real
