"""Means over a step of values per token: what tells GRPO, DAPO and Dr. GRPO apart."""

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from agents.types import LossInputs

__all__ = ["Mean", "mean_of_sequences", "mean_of_sums", "mean_of_tokens", "sequence_mean"]

Mean: TypeAlias = Callable[[Tensor, LossInputs], Tensor]
"""Of values [B, G, T] over the step: parts of a step add up."""


def mean_of_sequences(values: Tensor, inputs: LossInputs) -> Tensor:
    """Mean over each candidate's tokens, then over candidates: every candidate weighs the same."""
    return sequence_mean(values, inputs.mask).sum() / inputs.totals.num_candidates


def mean_of_tokens(values: Tensor, inputs: LossInputs) -> Tensor:
    """Mean over all tokens of the step: every token weighs the same."""
    return (values * inputs.mask).sum() / max(inputs.totals.num_tokens, 1)


def mean_of_sums(values: Tensor, inputs: LossInputs) -> Tensor:
    """Sum over each candidate's tokens, mean over candidates: that of whole sequences."""
    return (values * inputs.mask).sum() / inputs.totals.num_candidates


def sequence_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the kept tokens of each candidate, [B, G, T] -> [B, G]; at least one counts."""
    return (values * mask).sum(-1) / mask.sum(-1).clamp(min=1)
