"""Log-probabilities of given titles under a policy, on trees: what the update computes."""

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.language_model.segments import segment_sum
from agents.policy import Policy
from agents.trees.groups import GroupTrees
from agents.trees.tensors import NextTokens, TreeTensors
from rere_env.prompts import Prompts
from rere_env.types import IntArray

__all__ = ["GroupScores", "exact_kl", "score_groups", "title_logprobs"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupScores:
    """Log-probabilities of the kept tokens.

    Attributes:
        logprobs: [B, G, T] float32, 0 in the padding.
        mask: [B, G, T] bool.
        place: [B, G, T] the slot of each kept token.
        num_slots: M.
        legal: [E] log-probabilities of every legal continuation of every slot; None under
            `support="vocabulary"`.
        owner: [E] the slot of each of those.
    """

    logprobs: Tensor
    mask: Tensor
    place: Tensor
    num_slots: int
    legal: Tensor | None
    owner: Tensor


def score_groups(lm: torch.nn.Module, plan: GroupTrees, device: torch.device) -> GroupScores:
    """Run one forward pass over the planned trees, with gradient if grad mode is on.

    Args:
        lm: A `LanguageModel`, possibly wrapped for distributed training.
        plan: From `plan_groups`.
        device: Where the model is.
    """

    def move(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    mask, owner = move(plan.mask), move(plan.owner)
    if len(plan.slots) == 0:  # a catalogue of one title decides nothing
        scored = torch.zeros(1, device=device)
    else:
        tokens = NextTokens(owner=owner, token=move(plan.token))
        scored = lm(TreeTensors(plan.trees, device), move(plan.slots), tokens, plan.support)
    return GroupScores(
        logprobs=torch.where(mask, _gather(scored, move(plan.chosen)), 0.0),
        mask=mask,
        place=move(plan.place),
        num_slots=len(plan.slots),
        legal=scored if plan.support == "catalogue" and len(plan.slots) else None,
        owner=owner,
    )


def exact_kl(policy: GroupScores, reference: GroupScores) -> Tensor | None:
    """Return KL(policy || reference) [B, G, T] at every decision, summed over its children.

    None under `support="vocabulary"`, where only the chosen tokens' log-probabilities are kept.
    """
    if policy.legal is None or reference.legal is None:
        return None
    term = policy.legal.exp() * (policy.legal - reference.legal)
    at_slot = segment_sum(term, policy.owner, policy.num_slots)
    return torch.where(policy.mask, _gather(at_slot, policy.place), 0.0)


def title_logprobs(policy: Policy, prompts: Prompts, titles: IntArray) -> Tensor:
    """Return the log-probability of each given title, [B, G]; 0 for `NO_TITLE`."""
    plan = policy.plan(prompts, titles)
    return score_groups(policy.lm, plan, policy.lm.device).logprobs.sum(-1)


def _gather(values: Tensor, index: Tensor) -> Tensor:
    """`values[index]` with a gradient that is deterministic on the CPU."""
    return values.index_select(0, index.flatten()).view(index.shape)
