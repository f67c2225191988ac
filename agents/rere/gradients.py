"""The gradient of a loss over the groups of a step, added up in parts that fit into memory."""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from agents.language_model import LanguageModel
from agents.language_model.segments import segment_sum
from agents.policy import Policy
from agents.policy.lora import switched_off
from agents.processes import everyone
from agents.rere.groups import Groups
from agents.scoring import GroupScores, exact_kl, score_groups
from agents.trees.groups import GroupTrees, group_sizes
from agents.trees.pack import parts_of_similar_length
from agents.types import Loss, LossInputs

__all__ = ["GroupGradients"]

PERCENTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}
"""Of |log policy - log reference|, over the kept tokens of a step."""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Some groups, and what inner steps do not change.

    Attributes:
        groups: The groups.
        plan: How they are laid out.
        reference: Their scores under the reference.
    """

    groups: Groups
    plan: GroupTrees
    reference: GroupScores


class GroupGradients:
    """Of the groups of one step, again for each of its inner steps."""

    def __init__(
        self,
        policy: Policy,
        reference: LanguageModel | None,
        groups: Groups,
        *,
        learner: torch.nn.Module,
        loss: Loss,
        accelerator: Accelerator,
        weight: float = 1.0,
    ) -> None:
        """Keep the parts.

        Args:
            policy: What learns.
            reference: None: the policy with its adapter switched off.
            groups: What was written and paid.
            learner: The policy's language model, possibly wrapped by `accelerator.prepare`.
            loss: What is differentiated.
            accelerator: Device, precision and processes.
            weight: Of the loss in the gradient, from `processes.part`; 0 where a process only joins
                the others.
        """
        self._policy, self._reference, self._learner = policy, reference, learner
        self._loss, self._accelerator = loss, accelerator
        self._groups, self._weight = groups, weight
        self._parts: dict[tuple[int, ...], _Part] = {}
        shape = (*groups.titles.shape, max(int(groups.num_kept.max()), 1))
        self._old = torch.zeros(shape, device=accelerator.device)
        self._is_first = True
        host = policy.trie.host
        self._sizes = group_sizes(host, groups.prompts, groups.titles, policy.support)

    @property
    def num_tokens(self) -> int:
        """Tree tokens of a pass that would hold all groups."""
        return len(self._sizes) * int(self._sizes.max())

    def add(self, max_tokens: int) -> dict[str, Tensor]:
        """Add the gradient of every part to the policy's; return the loss and what it measures.

        Args:
            max_tokens: Tree tokens a forward-backward pass may hold.
        """
        parts = parts_of_similar_length(self._sizes, max_tokens)
        used = {tuple(rows.tolist()) for rows in parts}
        self._parts = {rows: part for rows, part in self._parts.items() if rows in used}
        sums: dict[str, Tensor] = {}
        log_ratios, entropies = [], []
        for i, rows in enumerate(parts):
            is_last = i == len(parts) - 1
            with nullcontext() if is_last else self._accelerator.no_sync(self._learner):
                inputs, entropy = self._inputs(rows.tolist())
                loss, terms = self._loss(inputs)
                self._accelerator.backward(self._weight * loss)
            for name, value in {**terms, "loss/total": loss.detach()}.items():
                sums[name] = sums[name] + value if name in sums else value
            log_ratio = (inputs.logprobs.detach() - inputs.ref_logprobs).abs()
            log_ratios.append(log_ratio[inputs.mask])
            entropies.append(entropy)
        return self._of_everyone(sums, torch.cat(log_ratios), torch.cat(entropies))

    def _of_everyone(
        self, sums: dict[str, Tensor], log_ratios: Tensor, entropies: Tensor
    ) -> dict[str, Tensor]:
        """Return the measures of the step, whichever processes its groups are on."""
        if self._accelerator.num_processes > 1:
            own = None  # its group is another's
            if self._weight:
                sums = {name: value.cpu() for name, value in sums.items()}
                own = (sums, log_ratios.cpu(), entropies.cpu())
            every = [found for found in everyone(own, self._accelerator) if found is not None]
            all_sums, all_log_ratios, all_entropies = zip(*every, strict=True)
            sums = {name: torch.stack([s[name] for s in all_sums]).sum() for name in all_sums[0]}
            log_ratios, entropies = torch.cat(all_log_ratios), torch.cat(all_entropies)
        return sums | _spread(log_ratios) | _mean("policy/entropy", entropies)

    def next_inner_step(self) -> None:
        """From here on the policy is no longer the one that wrote the groups."""
        self._is_first = False

    def _inputs(self, rows: list[int]) -> tuple[LossInputs, Tensor]:
        """Score some groups under reference and policy; return the entropies of decisions too."""
        part, device = self._part(rows), self._accelerator.device
        with self._accelerator.autocast():
            policy = score_groups(self._learner, part.plan, device)
        groups, width = part.groups, policy.logprobs.shape[-1]
        if self._is_first:
            self._old[rows, :, :width] = policy.logprobs.detach()
        inputs = LossInputs(
            logprobs=policy.logprobs,
            old_logprobs=self._old[rows, :, :width],
            ref_logprobs=part.reference.logprobs,
            mask=policy.mask,
            advantages=groups.advantages.to(device),
            rewards=groups.rewards.to(device),
            is_target=groups.is_target.to(device),
            totals=groups.totals,
            exact_kl=exact_kl(policy, part.reference),
        )
        return inputs, _entropies(policy)

    def _part(self, rows: list[int]) -> _Part:
        """Return some groups with what inner steps share."""
        key = tuple(rows)
        if key not in self._parts:
            groups = self._groups.take(rows)
            plan = self._policy.plan(groups.prompts, groups.titles)
            self._parts[key] = _Part(groups, plan, self._reference_scores(plan))
        return self._parts[key]

    @torch.no_grad()
    def _reference_scores(self, plan: GroupTrees) -> GroupScores:
        # A context of its own: autocast keeps cast weights, and these are cast without gradient.
        with self._accelerator.autocast():
            if self._reference is not None:
                return score_groups(self._reference, plan, self._accelerator.device)
            with self._policy.evaluating() as lm, switched_off(lm.model):
                return score_groups(lm, plan, self._accelerator.device)


@torch.no_grad()
def _entropies(scores: GroupScores) -> Tensor:
    """Return the entropy of every decision [M]; none under `support="vocabulary"`."""
    if scores.legal is None:
        return scores.logprobs.new_zeros(0)
    legal = scores.legal.detach()
    return segment_sum(-legal.exp() * legal, scores.owner, scores.num_slots)


def _spread(values: Tensor) -> dict[str, Tensor]:
    if len(values) == 0:
        return {}
    ordered = values.float().sort().values
    return {
        f"ratio/log_{name}": ordered[round(share * (len(ordered) - 1))]
        for name, share in PERCENTILES.items()
    }


def _mean(name: str, values: Tensor) -> dict[str, Tensor]:
    return {name: values.mean()} if len(values) else {}
