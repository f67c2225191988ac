"""`rere bench update`: the gradient of a step on packed trees beside G copies of every prompt.

| ratio | says |
|---|---|
| update_vocabulary | released update / ours over the vocabulary: the same gradient |
| update_catalogue | released update / ours over the legal tokens, the default |
| update_memory | peak memory, ours over the legal tokens / released |
| update_memory_vocabulary | peak memory, ours over the vocabulary / released |

An update is a forward pass of the reference and a forward-backward pass of the policy. Every group
has a signal, so both sides train on all of them. The released side may take the size of its passes
that suits it best. Memory is what a pass over the same groups holds at most at one moment beyond
weights, gradients and the optimiser's state, which all stand before the measurement begins.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from agents.advantages import group_normalized
from agents.bench.clock import Ratio, Side, race
from agents.bench.engine.peak import peak_bytes
from agents.bench.engine.plain import assert_same_gradient, catalogue_gradient
from agents.bench.engine.released import BETA, released_gradient
from agents.bench.engine.workload import Measured, Setting, Workload
from agents.language_model import LanguageModel
from agents.losses import grpo
from agents.rere.groups import Groups, judge
from agents.scoring import exact_kl, score_groups
from agents.search import radix_search
from agents.trees.groups import group_sizes
from agents.trees.pack import parts_of_similar_length
from agents.types import LossInputs, Support
from rere_env.prompts import Prompts
from rere_env.types import Batch

__all__ = ["Updates", "gradient", "measure_update"]

RATIOS = {
    "update_vocabulary": ("released", "vocabulary"),
    "update_catalogue": ("released", "catalogue"),
}
MAX_TOKENS = 16_384
"""Tree tokens of a pass, the default of training."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Updates:
    """The groups of a step, and both ways to their gradient.

    Attributes:
        workload: The policy; gradients gather in `workload.model`.
        reference: The reference policy.
        examples: What the users chose.
        groups: Titles with their advantages.
    """

    workload: Workload
    reference: LanguageModel
    examples: Batch
    groups: Groups

    @classmethod
    def of(cls, workload: Workload, group_size: int) -> "Updates":
        """Let users choose one of the titles that a search writes for them, at rank 1, 2, 3, ..."""
        prompts = Prompts(workload.prompts)
        found = radix_search(workload.policy(), prompts, group_size)
        users = np.arange(len(workload.prompts))
        examples = workload.choose(found.titles[users, users % group_size])
        groups = judge(workload.task, prompts, found, examples, group_normalized)
        if len(groups.with_signal()) != len(users):
            raise AssertionError("a group without signal would be no work for one side")
        reference = LanguageModel(_shifted_copy(workload.model)).eval()
        return cls(workload=workload, reference=reference, examples=examples, groups=groups)

    def part(self, num_users: int, num_titles: int) -> "Updates":
        """Return the first titles of the first users alone, with the advantages that they have."""
        some = self.groups.take(np.arange(num_users))
        groups = Groups(
            prompts=some.prompts,
            titles=some.titles[:, :num_titles],
            rewards=some.rewards[:, :num_titles],
            advantages=some.advantages[:, :num_titles],
            is_target=some.is_target[:, :num_titles],
            num_kept=some.num_kept[:, :num_titles],
            terms={},  # those of the whole groups
            totals=some.totals,
        ).as_step()
        return replace(self, examples=self.examples.take(slice(num_users)), groups=groups)

    def ours(self, support: Support) -> None:
        """Add the gradient, computed on packed trees."""
        groups, policy = self.groups, self.workload.policy(support)
        lm = policy.lm
        loss_of = grpo(beta=BETA, kl="exact" if support == "catalogue" else "k3")
        sizes = group_sizes(policy.trie.host, groups.prompts, groups.titles, support)
        for part in parts_of_similar_length(sizes, MAX_TOKENS):
            some = groups.take(part)
            plan = policy.plan(some.prompts, some.titles)
            with torch.no_grad():
                anchor = score_groups(self.reference, plan, lm.device)
            scores = score_groups(lm, plan, lm.device)
            inputs = LossInputs(
                logprobs=scores.logprobs,
                old_logprobs=scores.logprobs.detach(),
                ref_logprobs=anchor.logprobs,
                mask=scores.mask,
                advantages=some.advantages,
                rewards=some.rewards,
                is_target=some.is_target,
                totals=some.totals,
                exact_kl=exact_kl(scores, anchor),
            )
            loss, _ = loss_of(inputs)
            loss.backward()

    def released(self, rows_per_pass: int) -> None:
        """Add the gradient, computed on copies."""
        released_gradient(
            self.workload.model,
            self.reference.model,
            self.groups.prompts.ids,
            self.workload.completions(self.groups.titles),
            self.groups.advantages,
            rows_per_pass=rows_per_pass,
        )

    def plain(self) -> None:
        """Add the gradient over the legal tokens, computed title by title."""
        groups = self.groups
        catalogue_gradient(
            self.workload, self.reference.model, groups.titles, groups.advantages, BETA
        )


def measure_update(workload: Workload, setting: Setting) -> Measured:
    """Compare gradients, then race, then weigh."""
    updates = Updates.of(workload, setting.group_size)
    facts: dict[str, Any] = _assert_same(updates.part(*setting.num_checked))
    model, users, rows = workload.model, len(workload.prompts), setting.rows_per_pass

    def side(run: Callable[[], None], times: int = 1, warm: bool = False) -> Side:
        def from_zero() -> None:
            model.zero_grad()
            run()

        return Side(run=from_zero, users=users, times=times, warm=warm)

    done = race(
        {
            "vocabulary": side(lambda: updates.ours("vocabulary"), setting.times, warm=True),
            "catalogue": side(lambda: updates.ours("catalogue"), setting.times, warm=True),
            "released": side(lambda: updates.released(rows)),
        },
        setting.rounds,
        aside=workload.scores.aside,
        check=lambda _: None,  # `_assert_same` has seen to it
        label=f"update {setting.shape}",
    )
    memory, more_facts = _weigh(updates.part(setting.num_weighed, setting.group_size))
    return Measured(
        ratios=done.ratios(RATIOS) | memory,
        wall_ratios=done.ratios(RATIOS, wall=True),
        beside={},
        facts=facts | more_facts,
        seconds=done.as_dict(),
    )


def gradient(model: PreTrainedModel, compute: Callable[[], None]) -> list[Tensor]:
    """Return the gradient that a computation adds to none."""
    model.zero_grad()
    compute()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def _assert_same(updates: Updates) -> dict[str, float]:
    """Assert that gradients are those of plain computations; return the relative differences."""
    model, rows = updates.workload.model, updates.groups.titles.size
    return {
        "gradient_error_vocabulary": assert_same_gradient(
            gradient(model, lambda: updates.ours("vocabulary")),
            gradient(model, lambda: updates.released(rows)),
        ),
        "gradient_error_catalogue": assert_same_gradient(
            gradient(model, lambda: updates.ours("catalogue")), gradient(model, updates.plain)
        ),
    }


def _weigh(updates: Updates) -> tuple[dict[str, Ratio], dict[str, int]]:
    """Return the ratios of peak memory; every side holds all groups in one pass."""
    for parameter in updates.workload.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    rows = updates.groups.titles.size
    peaks = {
        "released": peak_bytes(lambda: updates.released(rows)),
        "catalogue": peak_bytes(lambda: updates.ours("catalogue")),
        "vocabulary": peak_bytes(lambda: updates.ours("vocabulary")),
    }
    names = {"update_memory": "catalogue", "update_memory_vocabulary": "vocabulary"}
    shares = {name: peaks[side] / peaks["released"] for name, side in names.items()}
    return (
        {name: {"median": share, "low": share, "high": share} for name, share in shares.items()},
        {f"peak_bytes_{side}": peak for side, peak in peaks.items()}
        | {"peak_groups": len(updates.groups.titles)},
    )


def _shifted_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Return a reference that differs a little from the policy, so that the KL has a gradient."""
    other = copy.deepcopy(model).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in other.parameters():
        parameter.add_(1e-2 * torch.randn(parameter.shape, generator=generator))
    return other
