"""Advantages: how much better a candidate was than others. `rewards [B, G] -> [B, G]`.

Each row is a group, best first. A group of equal rewards gets exactly 0 from all that compare
within groups.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from agents.types import Advantage

__all__ = [
    "ADVANTAGES",
    "batch_centered",
    "find_advantage",
    "group_centered",
    "group_normalized",
    "leave_one_out",
    "raw",
    "windowed",
]


def group_normalized(rewards: Tensor, eps: float = 1e-4) -> Tensor:
    """Return (r - mean) / (std + eps) within each group, unbiased std (GRPO, arXiv 2402.03300).

    The released ReRe code adds 1e-4 (`rere_trainer.py:954`). A group of one, or of equal rewards,
    gets 0.
    """
    if rewards.shape[-1] == 1:
        return rewards.new_zeros(rewards.shape)
    return group_centered(rewards) / (rewards.std(-1, keepdim=True) + eps)


def group_centered(rewards: Tensor) -> Tensor:
    """Return r - mean within each group (Dr. GRPO, arXiv 2503.20783).

    Without the division by the standard deviation, easy and hard groups weigh the same. A group of
    one, or of equal rewards, gets 0.
    """
    centered = rewards - rewards.mean(-1, keepdim=True)
    # The mean of equal floats is off by a rounding, which must not become a signal.
    equal = (rewards == rewards[..., :1]).all(-1, keepdim=True)
    return torch.where(equal, 0.0, centered)


def leave_one_out(rewards: Tensor) -> Tensor:
    """Return r less the mean of the group's others (RLOO, arXiv 2402.14740).

        A_i = r_i - 1/(G-1) sum_{j != i} r_j = G/(G-1) (r_i - mean)

    The others are independent of candidate i under `sample`, so the estimator stays unbiased.

    Raises:
        ValueError: G = 1.
    """
    group_size = rewards.shape[-1]
    if group_size == 1:
        raise ValueError(
            "`group_size` (=1) must be at least 2 for leave_one_out; use `raw` or `batch_centered` "
            "for single candidates."
        )
    return group_centered(rewards) * (group_size / (group_size - 1))


def raw(rewards: Tensor) -> Tensor:
    """Return the rewards: no baseline (REINFORCE, Williams 1992)."""
    return rewards


def batch_centered(rewards: Tensor) -> Tensor:
    """Return r less the mean of all other rewards of the batch (REINFORCE with a baseline).

    The baseline of a candidate leaves its own reward out, so it adds no bias; every group, also
    one of equal rewards, is compared with the batch.

    Raises:
        ValueError: The batch is a single reward.
    """
    if rewards.numel() == 1:
        raise ValueError(
            "`rewards` (of 1 candidate) must hold at least 2 for batch_centered; use `raw`, or "
            "more prompts."
        )
    return leave_one_out(rewards.flatten()).view(rewards.shape)


def windowed(*, anchor: float = 2.0, tau: float = 1.0) -> Advantage:
    """Return an advantage that punishes the negatives around one rank most (TAWin).

        A_j = group_normalized_j                              at or above the group's mean
        A_j = -S w_j / sum_k w_k,  w_j = |group_normalized_j| exp(-|j - anchor| / tau)    below it

    j = 0, 1, ... counts the negatives, best first, and S is what they share under
    `group_normalized`, so a group still sums to 0. A target is among the K best exactly if it
    beats negative j = K - 1, hence the paper's anchors: 2 for recall@3, 4 for recall@5. A large
    `tau` gives `group_normalized`.

    After "Objective Shaping with Hard Negatives: Windowed Partial AUC Optimization" (arXiv
    2604.22504): a soft window on the negatives' ranks, tau = 1. The shape of the window is our
    reading: its exact formula was not available to us, nor was the rule for the sum S.

    Args:
        anchor: Rank of the negative, from 0, that matters most.
        tau: Width of the window, in ranks.

    Raises:
        ValueError: `anchor` is negative or `tau` is not positive.
    """
    if anchor < 0 or tau <= 0:
        raise ValueError(
            f"`anchor` (={anchor}) must be at least 0 and `tau` (={tau}) positive: the window "
            "lies around a rank and has a width, both in ranks from 0."
        )

    def advantage(rewards: Tensor) -> Tensor:
        advantages = group_normalized(rewards)
        negative = advantages < 0
        share = torch.where(negative, advantages, 0.0)
        rank = negative.cumsum(-1) - 1
        log_weight = share.abs().log() - (rank - anchor).abs() / tau  # -inf where not negative
        # Without a negative all are -inf: `share` is 0 there, and so must the weights be.
        weight = torch.softmax(log_weight, -1).nan_to_num(0.0)
        return torch.where(negative, share.sum(-1, keepdim=True) * weight, advantages)

    return advantage


ADVANTAGES: Mapping[str, Advantage] = MappingProxyType(
    {
        "group_normalized": group_normalized,
        "group_centered": group_centered,
        "leave_one_out": leave_one_out,
        "batch_centered": batch_centered,
        "raw": raw,
        "windowed": windowed(),
    }
)
"""What a candidate is worth, by the names that `rere train --advantage` takes."""


def find_advantage(advantage: str) -> Advantage:
    """Return an advantage by name.

    Raises:
        ValueError: No advantage has this name.
    """
    if advantage not in ADVANTAGES:
        raise ValueError(f"`advantage` (={advantage!r}) must be one of {sorted(ADVANTAGES)}.")
    return ADVANTAGES[advantage]
