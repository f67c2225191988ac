"""The choices that make an algorithm: one frozen value of plain functions and numbers."""

from dataclasses import dataclass, field
from typing import Literal

from agents.advantages import group_normalized
from agents.losses import grpo
from agents.search import beam_search
from agents.types import Advantage, Loss, Sampler, Support

__all__ = ["ReReConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReReConfig:
    """The choices of an algorithm; each function can be replaced by one of your own.

    Attributes:
        group_size: G, candidates a prompt.
        support: What probabilities are normalised over.
        sampler: Writes the candidates, best first.
        advantage: `rewards [B, G] -> advantages [B, G]`.
        loss: `LossInputs -> (scalar, metrics)`.
        inner_steps: Optimiser steps on one rollout; the ratios of a loss differ from 1 from the
            second on.
        max_refills: How often groups without signal are replaced by those of new prompts (DAPO).
        repair_weight: Groups without signal get their target in place of the worst candidate, and
            this share of the advantages that follow; 0: they stay as they are.
        kl_groups: Groups that the loss, and so its KL, sees: those with `signal` or `all`.
        reference_sync_steps: Steps between updates of the reference, those without signal counted;
            None: it never changes; `auto`: 512 where it is a copy of the policy, never where it is
            the policy with its adapter switched off.
        reference_mix: Share of the policy in the updated reference.
        max_grad_norm: Gradient norm is clipped to this.
        max_tokens: Tree tokens a forward-backward pass may hold (rows times the longest); halved
            once if the device runs out of memory.
        max_rollout_tokens: Prompt tokens that are searched together, likewise.
    """

    group_size: int = 16
    support: Support = "catalogue"
    sampler: Sampler = beam_search
    advantage: Advantage = group_normalized
    loss: Loss = field(default_factory=grpo)
    inner_steps: int = 1
    max_refills: int = 0
    repair_weight: float = 0.0
    kl_groups: Literal["signal", "all"] = "signal"
    reference_sync_steps: int | Literal["auto"] | None = "auto"
    reference_mix: float = 0.6
    max_grad_norm: float = 0.3
    max_tokens: int = 16_384
    max_rollout_tokens: int = 131_072

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.group_size < 2:
            raise ValueError(
                f"`group_size` (={self.group_size}) must be at least 2: the advantage of a "
                "candidate is measured against its group."
            )
        if not 0 < self.reference_mix <= 1:
            raise ValueError(f"`reference_mix` (={self.reference_mix}) must lie in (0, 1].")
        if self.inner_steps < 1 or self.max_refills < 0 or self.repair_weight < 0:
            raise ValueError(
                f"`inner_steps` (={self.inner_steps}) must be at least 1, `max_refills` "
                f"(={self.max_refills}) and `repair_weight` (={self.repair_weight}) at least 0."
            )
