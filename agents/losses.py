"""Policy-gradient losses as plain functions: `LossInputs -> (scalar, metrics)`."""

from typing import Literal

import torch
from torch import Tensor

from agents.types import Loss, LossInputs

__all__ = ["grpo", "k3", "log_ratio_percentile", "sequence_mean"]


def grpo(*, beta: float = 1e-3, kl: Literal["exact", "k3"] = "exact") -> Loss:
    """Return the loss of the released ReRe code: group-relative REINFORCE with a KL anchor.

        loss = -mean_i 1/|y_i| sum_t (exp(lp_t - sg(lp_t)) A_i - beta KL_t)

    There is one update per rollout, so the ratio is 1 and needs no clip (`rere_trainer.py:1031`).

    Args:
        beta: Weight of the KL to the reference policy.
        kl: `exact`: summed over the legal tokens of each decision (`support="catalogue"` only);
            `k3`: Schulman's estimator from the chosen token, as released.
    """

    def loss(inputs: LossInputs) -> tuple[Tensor, dict[str, Tensor]]:
        ratio = torch.exp(inputs.logprobs - inputs.logprobs.detach())
        gain = ratio * inputs.advantages[..., None]
        divergence = _divergence(inputs, kl)
        policy = -sequence_mean(gain, inputs.mask).sum() / inputs.totals.num_candidates
        penalty = sequence_mean(divergence, inputs.mask).sum() / inputs.totals.num_candidates
        metrics = {"loss/policy": policy.detach(), "loss/kl": penalty.detach()}
        return policy + beta * penalty, metrics

    return loss


def sequence_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the kept tokens of each candidate, [B, G, T] -> [B, G]; at least one counts."""
    return (values * mask).sum(-1) / mask.sum(-1).clamp(min=1)


def k3(logprobs: Tensor, ref_logprobs: Tensor, clamp: float = 5.0) -> Tensor:
    """Return e^d - d - 1 with d = ref - lp clamped to +-5 (Schulman's k3, non-negative).

    Unclamped, single tokens have been seen to reach 1e8 to 1e11.
    """
    d = (ref_logprobs - logprobs).clamp(-clamp, clamp)
    return torch.exp(d) - d - 1


def log_ratio_percentile(inputs: LossInputs, share: float) -> Tensor:
    """Return the value that |log policy - log reference| exceeds on 1 - share of the tokens."""
    log_ratio = (inputs.logprobs.detach() - inputs.ref_logprobs).abs()
    return torch.nanquantile(torch.where(inputs.mask, log_ratio, torch.nan).flatten(), share)


def _divergence(inputs: LossInputs, kl: Literal["exact", "k3"]) -> Tensor:
    if kl == "k3":
        return k3(inputs.logprobs, inputs.ref_logprobs)
    if inputs.exact_kl is None:
        raise ValueError(
            '`kl` (="exact") needs the legal tokens\' probabilities, which only '
            'support="catalogue" computes; use kl="k3" with support="vocabulary".'
        )
    return inputs.exact_kl
