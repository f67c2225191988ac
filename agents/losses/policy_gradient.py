"""Policy gradients of candidates that the policy itself has just written."""

import torch
from torch import Tensor

from agents.losses.divergence import KL, kl_to_reference
from agents.losses.means import mean_of_sequences, mean_of_sums
from agents.types import Loss, LossInputs

__all__ = ["grpo", "reinforce"]


def grpo(*, beta: float = 1e-3, kl: KL = "auto") -> Loss:
    """Return the loss of the released ReRe code: group-relative REINFORCE with a KL anchor.

        loss = -mean_i 1/|y_i| sum_t (exp(lp_t - sg(lp_t)) A_i - beta KL_t)

    There is one update per rollout, so the ratio is 1 and needs no clip (`rere_trainer.py:1031`).
    With several, use `clipped_surrogate`.

    Args:
        beta: Weight of the KL to the reference policy.
        kl: How it is computed.
    """

    def loss(inputs: LossInputs) -> tuple[Tensor, dict[str, Tensor]]:
        ratio = torch.exp(inputs.logprobs - inputs.logprobs.detach())
        gain = ratio * inputs.advantages[..., None]
        policy = -mean_of_sequences(gain, inputs)
        penalty = mean_of_sequences(kl_to_reference(inputs, kl), inputs)
        metrics = {"loss/policy": policy.detach(), "loss/kl": penalty.detach()}
        return policy + beta * penalty, metrics

    return loss


def reinforce(*, beta: float = 0.0, kl: KL = "auto") -> Loss:
    """Return the score-function loss (Williams 1992): whole sequences, no length in it.

        loss = -mean_i (A_i sum_t lp_t - beta sum_t KL_t)

    With the advantages `raw`, `batch_centered` or `leave_one_out` (then it is RLOO, arXiv
    2402.14740), candidates from `sample` and beta 0, its mean is the exact policy gradient. One
    update per rollout: it knows no ratio to the policy that wrote the candidates.

    Args:
        beta: Weight of the KL to the reference policy.
        kl: How it is computed.
    """

    def loss(inputs: LossInputs) -> tuple[Tensor, dict[str, Tensor]]:
        policy = -mean_of_sums(inputs.logprobs * inputs.advantages[..., None], inputs)
        penalty = mean_of_sums(kl_to_reference(inputs, kl), inputs)
        metrics = {"loss/policy": policy.detach(), "loss/kl": penalty.detach()}
        return policy + beta * penalty, metrics

    return loss
