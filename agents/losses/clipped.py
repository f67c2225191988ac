"""Losses with a ratio to the policy that wrote the candidates: several updates per rollout.

At the first update the ratio is 1 and each has the gradient of REINFORCE under its own mean.
"""

from functools import partial

import torch
from torch import Tensor

from agents.losses.divergence import KL, kl_to_reference
from agents.losses.means import Mean, mean_of_sequences, mean_of_sums, mean_of_tokens, sequence_mean
from agents.types import Loss, LossInputs

__all__ = ["cispo", "clipped_surrogate", "dapo", "dr_grpo", "gspo"]

MAX_LOG_RATIO = 20.0
"""Beyond it e^d would soon be infinite; no clip range reaches as far."""


def clipped_surrogate(
    *,
    epsilon_low: float = 0.2,
    epsilon_high: float = 0.2,
    beta: float = 1e-3,
    kl: KL = "auto",
) -> Loss:
    """Return PPO's clipped surrogate as in GRPO (arXiv 1707.06347, 2402.03300).

        loss = -mean_i 1/|y_i| sum_t (min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) - beta KL_t)
        r_t = exp(lp_t - old_t)

    It is the objective of the ReRe paper; the released code has no ratio (see `grpo`).

    Args:
        epsilon_low: How far below 1 a ratio is followed.
        epsilon_high: How far above 1 a ratio is followed.
        beta: Weight of the KL to the reference policy.
        kl: How it is computed.

    Raises:
        ValueError: A bound is out of range.
    """
    return _surrogate(mean_of_sequences, epsilon_low, epsilon_high, beta, kl)


def dapo(
    *,
    epsilon_low: float = 0.2,
    epsilon_high: float = 0.28,
    beta: float = 0.0,
    kl: KL = "auto",
) -> Loss:
    """Return DAPO's loss (arXiv 2503.14476): clip higher, every token of the step weighs the same.

        loss = -1/(sum_i |y_i|) sum_i sum_t min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i)

    Its dynamic sampling is not a matter of the loss: groups without signal are refilled.

    Args:
        epsilon_low: How far below 1 a ratio is followed.
        epsilon_high: How far above 1; higher, so that unlikely tokens can grow.
        beta: Weight of the KL to the reference policy.
        kl: How it is computed.

    Raises:
        ValueError: A bound is out of range.
    """
    return _surrogate(mean_of_tokens, epsilon_low, epsilon_high, beta, kl)


def dr_grpo(
    *,
    epsilon_low: float = 0.2,
    epsilon_high: float = 0.2,
    beta: float = 0.0,
    kl: KL = "auto",
) -> Loss:
    """Return the loss of Dr. GRPO (arXiv 2503.20783): no length bias; use `group_centered`.

        loss = -mean_i 1/L sum_t min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i)

    L, the kept tokens of the catalogue's longest title, is the same for all candidates: at ratio 1
    the gradient is that of `reinforce`, divided by L.

    Args:
        epsilon_low: How far below 1 a ratio is followed.
        epsilon_high: How far above 1 a ratio is followed.
        beta: Weight of the KL to the reference policy.
        kl: How it is computed.

    Raises:
        ValueError: A bound is out of range.
    """

    def mean(values: Tensor, inputs: LossInputs) -> Tensor:
        return mean_of_sums(values, inputs) / max(inputs.totals.longest_title, 1)

    return _surrogate(mean, epsilon_low, epsilon_high, beta, kl)


def gspo(
    *,
    epsilon_low: float = 3e-4,
    epsilon_high: float = 4e-4,
    beta: float = 0.0,
    kl: KL = "auto",
) -> Loss:
    """Return GSPO's loss (arXiv 2507.18071): one ratio for the whole sequence.

        loss = -mean_i min(s_i A_i, clip(s_i, 1 - low, 1 + high) A_i)
        s_i = exp(1/|y_i| sum_t (lp_t - old_t))

    At s = 1 its gradient is that of `grpo`. The paper's clip range is this narrow because s_i is
    normalised by length.

    Args:
        epsilon_low: How far below 1 a ratio is followed.
        epsilon_high: How far above 1 a ratio is followed.
        beta: Weight of the KL to the reference policy.
        kl: How it is computed.

    Raises:
        ValueError: A bound is out of range.
    """
    _check_range(epsilon_low, epsilon_high)

    def loss(inputs: LossInputs) -> tuple[Tensor, dict[str, Tensor]]:
        ratio = _exp(sequence_mean(inputs.logprobs - inputs.old_logprobs, inputs.mask))
        gain, clipped = _clip(ratio, inputs.advantages, epsilon_low, epsilon_high)
        policy = -(gain * inputs.mask.any(-1)).sum() / inputs.totals.num_candidates
        penalty = mean_of_sequences(kl_to_reference(inputs, kl), inputs)
        metrics = {
            "loss/policy": policy.detach(),
            "loss/kl": penalty.detach(),
            "ratio/excess": (ratio.detach() - 1).sum() / inputs.totals.num_candidates,
            "ratio/clipped_fraction": clipped.sum() / inputs.totals.num_candidates,
        }
        return policy + beta * penalty, metrics

    return loss


def cispo(
    *,
    epsilon_low: float = 1.0,
    epsilon_high: float = 0.28,
    beta: float = 0.0,
    kl: KL = "auto",
) -> Loss:
    """Return CISPO's loss (arXiv 2506.13585): the weight is clipped, no token loses its gradient.

        loss = -1/(sum_i |y_i|) sum_i sum_t sg(clip(r_t, 1 - low, 1 + high)) A_i lp_t

    Args:
        epsilon_low: How far below 1 a weight may fall; 1: no bound, as in the paper.
        epsilon_high: How far above 1 it may rise; the paper tunes it and states no value.
        beta: Weight of the KL to the reference policy.
        kl: How it is computed.

    Raises:
        ValueError: A bound is out of range.
    """
    _check_range(epsilon_low, epsilon_high)

    def loss(inputs: LossInputs) -> tuple[Tensor, dict[str, Tensor]]:
        ratio = _exp(inputs.logprobs.detach() - inputs.old_logprobs)
        weight = ratio.clamp(1 - epsilon_low, 1 + epsilon_high)
        gain = weight * inputs.advantages[..., None] * inputs.logprobs
        policy = -mean_of_tokens(gain, inputs)
        penalty = mean_of_tokens(kl_to_reference(inputs, kl), inputs)
        metrics = {
            "loss/policy": policy.detach(),
            "loss/kl": penalty.detach(),
            "ratio/excess": mean_of_tokens(ratio - 1, inputs),
            "ratio/clipped_fraction": mean_of_tokens((weight != ratio).float(), inputs),
        }
        return policy + beta * penalty, metrics

    return loss


def _surrogate(mean: Mean, low: float, high: float, beta: float, kl: KL) -> Loss:
    """Clip the ratio of each token and average by `mean`."""
    _check_range(low, high)
    return partial(_surrogate_loss, mean=mean, low=low, high=high, beta=beta, kl=kl)


def _surrogate_loss(
    inputs: LossInputs, *, mean: Mean, low: float, high: float, beta: float, kl: KL
) -> tuple[Tensor, dict[str, Tensor]]:
    ratio = _exp(inputs.logprobs - inputs.old_logprobs)
    gain, clipped = _clip(ratio, inputs.advantages[..., None], low, high)
    policy = -mean(gain, inputs)
    penalty = mean(kl_to_reference(inputs, kl), inputs)
    metrics = {
        "loss/policy": policy.detach(),
        "loss/kl": penalty.detach(),
        "ratio/excess": mean_of_tokens(ratio.detach() - 1, inputs),
        "ratio/clipped_fraction": mean_of_tokens(clipped.float(), inputs),
    }
    return policy + beta * penalty, metrics


def _clip(ratio: Tensor, advantages: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Return min(r A, clip(r) A), and where the clip has stopped the gradient."""
    gain, bounded = ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages
    return torch.minimum(gain, bounded), bounded.detach() < gain.detach()


def _exp(log_ratio: Tensor) -> Tensor:
    return torch.exp(log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO))


def _check_range(low: float, high: float) -> None:
    if not 0 <= low <= 1 or high < 0:
        raise ValueError(
            f"`epsilon_low` (={low}) must lie in [0, 1] and `epsilon_high` (={high}) be at least "
            "0: ratios are kept in [1 - epsilon_low, 1 + epsilon_high]."
        )
