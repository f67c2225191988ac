"""The values that travel inside an agent. Shapes: see the legend of `rere_env.types`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Advantage", "Candidates", "Loss", "LossInputs", "Support"]

Support = Literal["catalogue", "vocabulary"]
"""Over which tokens a policy's probabilities sum to one: the legal ones, or all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """Titles written for B prompts, best first.

    Attributes:
        titles: [B, G] int64 title ids, `NO_TITLE` where fewer than G titles exist.
        logprobs: [B, G] float32 log-probability of each title, -inf in empty slots.
        certified: [B] bool, True where no title outside is more probable than one inside; None
            where the method cannot tell.
    """

    titles: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    certified: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LossInputs:
    """What a loss sees: groups of candidates whose tokens have log-probabilities.

    Attributes:
        logprobs: [B, G, T] under the policy, with gradient.
        old_logprobs: [B, G, T] under the policy that wrote the candidates.
        ref_logprobs: [B, G, T] under the reference policy.
        mask: [B, G, T] bool, True on the tokens the support keeps.
        advantages: [B, G].
        rewards: [B, G].
        is_target: [B, G] bool.
        num_candidates: Candidates rolled out in the whole optimiser step: the denominator of a
            mean, whatever part of the step these groups are. Groups without signal count.
        exact_kl: [B, G, T] KL(policy || reference) over the legal tokens of each decision, with
            gradient; None where it is not known (`support="vocabulary"`).
    """

    logprobs: Tensor
    old_logprobs: Tensor
    ref_logprobs: Tensor
    mask: Tensor
    advantages: Tensor
    rewards: Tensor
    is_target: Tensor
    num_candidates: int
    exact_kl: Tensor | None = None


Advantage: TypeAlias = Callable[[Tensor], Tensor]
"""`rewards [B, G] -> advantages [B, G]`."""

Loss: TypeAlias = Callable[[LossInputs], tuple[Tensor, dict[str, Tensor]]]
"""`LossInputs -> (scalar, metrics)`; scalars of the parts of a step add up to its loss."""
