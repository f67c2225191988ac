"""Algorithms that train a language model: functions that return a frozen `ReReConfig`.

Each takes the weight of its KL where it has one. Change any other choice with `replace`, or with
the flags of `rere train`; the loss's own numbers are arguments of the loss.

Those whose loss has a ratio make two steps on a rollout: with one the ratio is 1, and all of them
have the gradient of GRPO.
"""

from agents import advantages, losses
from agents.rere.config import ReReConfig
from agents.search import beam_search, sample, sample_distinct, with_target

__all__ = [
    "cispo",
    "dapo",
    "dpo",
    "dr_grpo",
    "grpo",
    "gspo",
    "reinforce",
    "rere",
    "rere_repaired",
    "rloo",
    "s_dpo",
    "sprec",
    "tawin",
]


def rere(kl_weight: float = 1e-3) -> ReReConfig:
    """Return ReRe as released: beams, hit and rank reward, ratio 1 (arXiv 2510.12211)."""
    return ReReConfig(loss=losses.grpo(beta=kl_weight))


def rere_repaired(kl_weight: float = 1e-3) -> ReReConfig:
    """Return ReRe whose groups without signal get their target, gently."""
    return ReReConfig(loss=losses.grpo(beta=kl_weight), repair_weight=0.05)


def tawin(kl_weight: float = 1e-3) -> ReReConfig:
    """Return ReRe with the negatives of a window weighted most (arXiv 2604.22504)."""
    return ReReConfig(loss=losses.grpo(beta=kl_weight), advantage=advantages.windowed())


def grpo(kl_weight: float = 1e-3) -> ReReConfig:
    """Return GRPO with its clipped ratio and two inner steps (arXiv 2402.03300)."""
    return ReReConfig(loss=losses.clipped_surrogate(beta=kl_weight), inner_steps=2)


def dapo(kl_weight: float = 0.0) -> ReReConfig:
    """Return DAPO: clip higher, token mean, groups without signal refilled (arXiv 2503.14476)."""
    return ReReConfig(loss=losses.dapo(beta=kl_weight), inner_steps=2, max_refills=4)


def gspo(kl_weight: float = 0.0) -> ReReConfig:
    """Return GSPO: the ratio of whole sequences, clipped (arXiv 2507.18071)."""
    return ReReConfig(loss=losses.gspo(beta=kl_weight), inner_steps=2)


def dr_grpo(kl_weight: float = 0.0) -> ReReConfig:
    """Return Dr. GRPO: neither standard deviation nor length bias (arXiv 2503.20783)."""
    return ReReConfig(
        loss=losses.dr_grpo(beta=kl_weight), advantage=advantages.group_centered, inner_steps=2
    )


def cispo(kl_weight: float = 0.0) -> ReReConfig:
    """Return CISPO: the importance weight is clipped, no token is dropped (arXiv 2506.13585)."""
    return ReReConfig(loss=losses.cispo(beta=kl_weight), inner_steps=2)


def rloo(kl_weight: float = 0.0) -> ReReConfig:
    """Return RLOO: i.i.d. samples, each against the mean of the others (arXiv 2402.14740)."""
    return ReReConfig(
        sampler=sample,
        advantage=advantages.leave_one_out,
        loss=losses.reinforce(beta=kl_weight),
    )


def reinforce(kl_weight: float = 0.0) -> ReReConfig:
    """Return REINFORCE on i.i.d. samples with the batch's mean as the baseline (Williams 1992)."""
    return ReReConfig(
        sampler=sample,
        advantage=advantages.batch_centered,
        loss=losses.reinforce(beta=kl_weight),
    )


def dpo() -> ReReConfig:
    """Return DPO: the target against the best beam beside it (arXiv 2305.18290)."""
    return ReReConfig(
        sampler=with_target(beam_search),
        advantage=advantages.raw,
        loss=losses.dpo(),
        reference_sync_steps=None,
    )


def s_dpo() -> ReReConfig:
    """Return S-DPO: the target against all other beams at once (arXiv 2406.09215)."""
    return ReReConfig(
        sampler=with_target(beam_search),
        advantage=advantages.raw,
        loss=losses.s_dpo(),
        reference_sync_steps=None,
    )


def sprec() -> ReReConfig:
    """Return self-play as in SPRec: DPO against own samples, and SFT (arXiv 2412.09243).

    The reference is the policy of the round before; a round has 32 steps.
    """
    return ReReConfig(
        sampler=with_target(sample_distinct),
        advantage=advantages.raw,
        loss=losses.sprec(),
        reference_sync_steps=32,
        reference_mix=1.0,
    )
