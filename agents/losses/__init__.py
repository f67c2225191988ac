"""Losses as plain functions: `LossInputs -> (scalar, metrics)`.

A loss is made by its factory, `grpo(beta=1e-3)`. Every mean divides by the totals of the step, so
losses and metrics of its parts add up to those of the step. Groups that are left out because they
carry no signal count there: as 0.

Metrics: `loss/*` are the terms before their weights; `ratio/excess` is the mean of policy / old
policy - 1, `ratio/clipped_fraction` the share whose gradient the clip stopped;
`preference/accuracy` and `preference/margin` compare the target with its best negative.
"""

from agents.losses.clipped import cispo, clipped_surrogate, dapo, dr_grpo, gspo
from agents.losses.divergence import KL, k3, kl_to_reference
from agents.losses.means import sequence_mean
from agents.losses.policy_gradient import grpo, reinforce
from agents.losses.preference import dpo, s_dpo, sprec

__all__ = [
    "KL",
    "cispo",
    "clipped_surrogate",
    "dapo",
    "dpo",
    "dr_grpo",
    "grpo",
    "gspo",
    "k3",
    "kl_to_reference",
    "reinforce",
    "s_dpo",
    "sequence_mean",
    "sprec",
]
