"""Preference losses on groups: the target against the titles that the policy writes instead.

They anchor to the reference through D = log(pi / pi_ref) of the whole sequence and have no other
KL; rewards and advantages play no part. Groups without the target, or without a negative, add 0,
so use them with `with_target(...)`. Copies of a negative count as often as they occur.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from agents.types import Loss, LossInputs

__all__ = ["dpo", "s_dpo", "sprec"]

# B prompts, G candidates, best first.


def dpo(*, beta: float = 0.1) -> Loss:
    """Return the DPO loss (arXiv 2305.18290) of the target against its best-ranked negative.

        loss = -mean_groups log sigmoid(beta (D_target - D_negative))

    Args:
        beta: How strongly the reference holds.

    Raises:
        ValueError: `beta` is not positive.
    """
    return _preference(beta, _best)


def s_dpo(*, beta: float = 1.0) -> Loss:
    """Return the softmax DPO loss (arXiv 2406.09215) of the target against all negatives.

        loss = -mean_groups log sigmoid(-log sum_neg exp(beta (D_neg - D_target)))

    Args:
        beta: How strongly the reference holds.

    Raises:
        ValueError: `beta` is not positive.
    """
    return _preference(beta, _all)


def sprec(
    *, beta: float = 0.1, sft_weight: float = 1.0, preference: Callable[..., Loss] = dpo
) -> Loss:
    """Return the loss of self-play (SPRec, arXiv 2412.09243).

        loss = preference + sft_weight mean_groups (-sum_t lp_t of the target)

    The negatives are what the policy writes itself. SPRec alternates a supervised and a DPO step;
    here the two terms share one.

    Args:
        beta: How strongly the reference holds.
        sft_weight: Weight of the negative log-likelihood.
        preference: `dpo` as in the paper, or `s_dpo`.

    Raises:
        ValueError: `beta` is not positive.
    """
    preferred = preference(beta=beta)

    def loss(inputs: LossInputs) -> tuple[Tensor, dict[str, Tensor]]:
        total, metrics = preferred(inputs)
        target, has_target = _of_target((inputs.logprobs * inputs.mask).sum(-1), inputs)
        sft = -torch.where(has_target, target, 0.0).sum() / inputs.totals.num_groups
        return total + sft_weight * sft, {**metrics, "loss/sft": sft.detach()}

    return loss


def _preference(beta: float, negatives_of: Callable[[Tensor], Tensor]) -> Loss:
    if beta <= 0:
        raise ValueError(
            f"`beta` (={beta}) must be positive: at 0 the target is compared with nothing."
        )
    return partial(_preference_loss, beta=beta, negatives_of=negatives_of)


def _preference_loss(
    inputs: LossInputs, *, beta: float, negatives_of: Callable[[Tensor], Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    drift = ((inputs.logprobs - inputs.ref_logprobs) * inputs.mask).sum(-1)  # D, [B, G]
    target, has_target = _of_target(drift, inputs)
    negative = negatives_of(inputs.mask.any(-1) & ~inputs.is_target)
    is_pair = has_target & negative.any(-1)
    # Rows that are no pair get a finite stand-in: -inf would leave nan in the gradient.
    counted = negative | ~is_pair[:, None]
    lead = torch.where(counted, drift - target[:, None], -torch.inf)
    cost = functional.softplus(torch.logsumexp(beta * lead, -1))
    margin = -lead.detach().max(-1).values
    num_groups = inputs.totals.num_groups
    loss = torch.where(is_pair, cost, 0.0).sum() / num_groups
    metrics = {
        "loss/preference": loss.detach(),
        "preference/accuracy": (is_pair & (margin > 0)).sum() / num_groups,
        "preference/margin": torch.where(is_pair, margin, 0.0).sum() / num_groups,
    }
    return loss, metrics


def _of_target(values: Tensor, inputs: LossInputs) -> tuple[Tensor, Tensor]:
    """Return the target's value of each group, [B, G] -> [B], and where there is a target."""
    first = inputs.is_target & (inputs.is_target.cumsum(-1) == 1)
    return (values * first).sum(-1), first.any(-1)


def _best(negative: Tensor) -> Tensor:
    """Keep the first negative of each group."""
    return negative & (negative.cumsum(-1) == 1)


def _all(negative: Tensor) -> Tensor:
    return negative
