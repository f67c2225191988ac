"""The agent: rollout -> rewards -> advantages -> loss. The main path, to be read top to bottom."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from agents.language_model import LanguageModel
from agents.policy import Policy
from agents.policy.device import PassLimit
from agents.policy.lora import has_lora
from agents.processes import dealt_order, everyone, part, share
from agents.rere.config import ReReConfig
from agents.rere.gradients import GroupGradients
from agents.rere.groups import Groups, joined, judge, rollout_metrics
from agents.rere.repair import inject_targets
from agents.trees.pack import parts_of_similar_length
from agents.types import Candidates
from rere_env.prompts import Prompts
from rere_env.task import Task
from rere_env.types import Batch

__all__ = ["MorePrompts", "ReReAgent", "ReReConfig"]

AUTO_SYNC_STEPS = 512
"""Steps between updates of a reference that is a copy, unless the choices say otherwise."""

MorePrompts = Callable[[int], Batch]
"""`refill -> examples`: as many as the step began with, others for every refill of it."""

Rolled = TypeVar("Rolled", Candidates, Groups)


class ReReAgent:
    """A policy, its frozen reference and one optimiser step at a time."""

    def __init__(
        self,
        task: Task,
        learner: LanguageModel,
        reference: LanguageModel | None,
        config: ReReConfig,
        accelerator: Accelerator,
        *,
        seed: int = 0,
    ) -> None:
        """Keep the parts.

        Args:
            task: Catalogue, prompts and reward.
            learner: The language model that learns; may be wrapped by `accelerator.prepare`.
            reference: What the KL anchors to, its gradients are switched off; None: the policy
                with its LoRA adapter switched off.
            config: The choices.
            accelerator: Device, precision and processes.
            seed: Of the samplers; what they draw in a step depends on it and the step alone.

        Raises:
            ValueError: The adapter's reference is to be synced, or there is no adapter.
        """
        if reference is None and not has_lora(accelerator.unwrap_model(learner).model):
            raise ValueError("`reference` (=None) needs a policy with a LoRA adapter; pass a copy.")
        if reference is None and isinstance(config.reference_sync_steps, int):
            raise ValueError(
                f"`reference_sync_steps` (={config.reference_sync_steps}) cannot sync `reference` "
                "(=None): the policy with its adapter switched off never changes; use "
                "reference_sync_steps=None, or pass a copy of the policy as the reference."
            )
        self.task = task
        self.learner = learner
        self._policy = Policy.of(accelerator.unwrap_model(learner), task, config.support)
        self.reference = reference if reference is None else reference.requires_grad_(False).eval()
        self.config = config
        self.accelerator = accelerator
        self.budget = PassLimit(config.max_tokens, accelerator.num_processes)
        self.rollout_budget = PassLimit(config.max_rollout_tokens, accelerator.num_processes)
        self._seed = seed
        self._generator = torch.Generator(accelerator.device)

    @property
    def policy(self) -> Policy:
        """What acts: the model without wrappers, in eval mode."""
        self._policy.lm.eval()
        return self._policy

    def rollout(self, prompts: Prompts) -> Candidates:
        """Let the policy write G titles for each prompt, best first, none of the hidden ones."""
        policy, lengths = self.policy, prompts.lengths

        def write(some: Prompts) -> Candidates:
            sampler, group_size = self.config.sampler, self.config.group_size
            return sampler(policy, some, group_size, generator=self._generator)

        needed = int(lengths.max()) * len(lengths)

        def write_all(max_tokens: int) -> Candidates:
            if needed <= max_tokens:
                return write(prompts)
            parts = parts_of_similar_length(lengths, max_tokens)
            order = np.argsort(np.concatenate(parts))
            return Candidates.joined([write(prompts.take(part)) for part in parts]).take(order)

        with self.accelerator.autocast():
            return self.rollout_budget.run(write_all, needed)

    def update(
        self,
        batch: Batch,
        optimizer: torch.optim.Optimizer,
        step: int,
        more: MorePrompts | None = None,
    ) -> dict[str, float]:
        """Roll out B prompts and learn from them; return what happened.

        A step in which no group carries signal leaves the weights as they are. Several processes
        make the step that one would: each lets its share of the examples be answered and paid, all
        know all groups, and those to learn from are dealt out again.

        Args:
            batch: B examples; of several processes, the share that `processes.share` gives to this.
            optimizer: Of the policy.
            step: Counts from 0.
            more: New examples, where `max_refills` asks for them.
        """
        process = self.accelerator.process_index
        draws = np.random.SeedSequence([self._seed, step, process]).generate_state(1, np.uint64)
        self._generator.manual_seed(int(draws[0] >> np.uint64(1)))
        groups, metrics = self._groups(batch)
        if self.config.max_refills:
            if more is None:
                raise ValueError("`max_refills` needs `more`: new prompts to refill from.")
            groups, metrics["rollout/refills"] = self._refill(groups, more)
        learns = groups.with_signal()
        metrics["rollout/updated"] = float(len(learns) > 0)
        if len(learns) > 0:
            if self.config.kl_groups == "all":
                learns = np.arange(len(groups.prompts))
            rows, weight = part(len(learns), self.accelerator)
            metrics |= self._learn(groups.take(learns[rows]), weight, optimizer)
        self._sync_reference(step)
        return metrics

    def _groups(self, batch: Batch) -> tuple[Groups, dict[str, float]]:
        """Write candidates for some examples and pay them; return the groups of all processes."""
        prompts, config = self.task.prompts(batch), self.config
        found = self.rollout(prompts)
        groups = judge(self.task, prompts, found, batch, config.advantage, config.support)
        if self.accelerator.num_processes > 1:
            groups = self._of_everyone(groups, joined).compared(config.advantage)
        metrics = rollout_metrics(self._of_everyone(found, Candidates.joined), groups)
        if config.repair_weight:
            repaired = inject_targets(
                self.task,
                self.policy,
                found,
                groups.take(share(np.arange(len(groups.prompts)), self.accelerator)),
                batch,
                advantage=config.advantage,
                weight=config.repair_weight,
            )
            groups = self._of_everyone(repaired, joined)
        return groups, metrics

    def _of_everyone(self, own: Rolled, join: Callable[[Sequence[Rolled]], Rolled]) -> Rolled:
        """Return the candidates or groups of all processes, in the order of the step."""
        parts = everyone(own, self.accelerator)
        if len(parts) == 1:
            return own
        return join(parts).take(dealt_order([len(dealt.titles) for dealt in parts]))

    def _refill(self, groups: Groups, more: MorePrompts) -> tuple[Groups, int]:
        """Replace groups without signal by those with signal of new prompts."""
        size, alive = len(groups.prompts), groups.take(groups.with_signal())
        for refill in range(self.config.max_refills):
            if len(alive.prompts) >= size:
                return alive.take(range(size)).as_step(), refill
            new, _ = self._groups(more(refill))
            alive = joined([alive, new.take(new.with_signal())])
        dead = groups.take(groups.without_signal())
        return joined([alive, dead]).take(range(size)).as_step(), self.config.max_refills

    def _learn(
        self, groups: Groups, weight: float, optimizer: torch.optim.Optimizer
    ) -> dict[str, float]:
        """Make the optimiser steps on the groups of one rollout; return means over them."""
        self.learner.train()
        gradients = GroupGradients(
            self._policy,
            self.reference,
            groups,
            learner=self.learner,
            loss=self.config.loss,
            accelerator=self.accelerator,
            weight=weight,
        )

        def gradient(max_tokens: int) -> dict[str, Tensor]:
            optimizer.zero_grad()
            return gradients.add(max_tokens)

        steps = []
        for _ in range(self.config.inner_steps):
            terms = self.budget.run(gradient, gradients.num_tokens)
            terms["loss/grad_norm"] = self.accelerator.clip_grad_norm_(
                self.learner.parameters(), self.config.max_grad_norm
            )
            optimizer.step()
            gradients.next_inner_step()
            steps.append(terms)
        return {name: float(sum(float(t[name]) for t in steps)) / len(steps) for name in steps[0]}

    @torch.no_grad()
    def _sync_reference(self, step: int) -> None:
        """Reference <- mix * policy + (1 - mix) * reference, whenever it is due."""
        every = self.config.reference_sync_steps
        if every == "auto":
            every = AUTO_SYNC_STEPS
        if self.reference is None or every is None or (step + 1) % every:
            return
        policy = self._policy.lm
        for ours, theirs in zip(policy.parameters(), self.reference.parameters(), strict=True):
            theirs.lerp_(ours.to(theirs), self.config.reference_mix)
