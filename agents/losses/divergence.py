"""How far the policy has moved from the reference, token by token."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from agents.types import LossInputs

__all__ = ["KL", "k3", "kl_to_reference"]

KL: TypeAlias = Literal["auto", "exact", "k3"]
"""`exact`: summed over the legal tokens of each decision (`support="catalogue"` only); `k3`:
Schulman's estimator from the chosen token; `auto`: exact where it is known, else k3."""


def kl_to_reference(inputs: LossInputs, kl: KL = "auto") -> Tensor:
    """Return the KL(policy || reference) of each token, [B, G, T].

    Raises:
        ValueError: The exact KL is asked for and not known.
    """
    if kl == "exact" and inputs.exact_kl is None:
        raise ValueError(
            '`kl` (="exact") needs the legal tokens\' probabilities, which only '
            'support="catalogue" computes; use kl="k3" with support="vocabulary".'
        )
    if kl == "k3" or inputs.exact_kl is None:
        return k3(inputs.logprobs, inputs.ref_logprobs)
    return inputs.exact_kl


def k3(logprobs: Tensor, ref_logprobs: Tensor, clamp: float = 5.0) -> Tensor:
    """Return e^d - d - 1 with d = ref - lp clamped to +-5 (Schulman's k3, non-negative).

    Unclamped, single tokens have been seen to reach 1e8 to 1e11.
    """
    d = (ref_logprobs - logprobs).clamp(-clamp, clamp)
    return torch.exp(d) - d - 1
