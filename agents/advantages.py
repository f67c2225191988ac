"""Advantages: how much better a candidate was than its group. `rewards [B, G] -> [B, G]`."""

import torch
from torch import Tensor

__all__ = ["group_normalized"]


def group_normalized(rewards: Tensor, eps: float = 1e-4) -> Tensor:
    """Return (r - mean) / (std + eps) within each group, unbiased std (GRPO, arXiv 2402.03300).

    The released ReRe code adds 1e-4 (`rere_trainer.py:954`). A group of one, or of equal rewards,
    gets 0.
    """
    if rewards.shape[-1] == 1:
        return rewards.new_zeros(rewards.shape)
    centered = rewards - rewards.mean(-1, keepdim=True)
    advantages = centered / (rewards.std(-1, keepdim=True) + eps)
    # The mean of equal floats is off by a rounding, which 1 / eps would turn into a signal.
    equal = (rewards == rewards[..., :1]).all(-1, keepdim=True)
    return torch.where(equal, 0.0, advantages)
