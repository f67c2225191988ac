"""ReRe: rollout -> rewards -> advantages -> loss. The main path, to be read top to bottom.

After "Reinforced Preference Optimization for Recommendation" (arXiv 2510.12211) and its released
code. Every departure from the released code:

1. The target travels with the example as an id. Released: looked up by history text, which gives
   2-4 % of the rows another row's target.
2. Probabilities are renormalised over the legal tokens (`support="catalogue"`): forced tokens have
   log-probability 0 and take no gradient. `support="vocabulary"` is the released full softmax.
3. |y_i| counts the kept tokens: those that decide.
4. The KL is exact over the legal tokens of each decision; `kl="k3"` is the released estimator, here
   with its log-ratio clamped at 5.
5. Groups without signal cost no forward or backward pass and get no KL; they count in the mean.
6. One fixed prompt template. Released: drawn at random per row, at test time too.
7. A title shared by several items is one title; a hit on it is a hit.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from agents.advantages import group_normalized
from agents.group_trees import GroupTrees, group_sizes, plan_groups
from agents.groups import Groups, judge, rollout_metrics
from agents.language_model import LanguageModel
from agents.lora import has_lora, switched_off
from agents.losses import grpo, log_ratio_percentile
from agents.memory import TokenBudget
from agents.scoring import GroupScores, exact_kl, score_groups
from agents.search import beam_search
from agents.torch_trie import TorchTrie
from agents.tree import parts_of_similar_length
from agents.types import Advantage, Candidates, Loss, LossInputs, Support
from rere_env.task import Task
from rere_env.types import Batch, IntArray

__all__ = ["ReReAgent", "ReReConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReReConfig:
    """The choices of ReRe; each function can be replaced by one of your own.

    Attributes:
        group_size: G, candidates a prompt.
        support: What probabilities are normalised over.
        sampler: `(lm, trie, prompts, G, support=...) -> Candidates`, best first.
        advantage: `rewards [B, G] -> advantages [B, G]`.
        loss: `LossInputs -> (scalar, metrics)`.
        reference_sync_steps: Steps between updates of the reference, those without signal counted;
            None: it never changes.
        reference_mix: Share of the policy in the updated reference.
        max_grad_norm: Gradient norm is clipped to this.
        max_tokens: Tree tokens a forward-backward pass may hold (rows times the longest); halved
            once if the device runs out of memory.
    """

    group_size: int = 16
    support: Support = "catalogue"
    sampler: Callable[..., Candidates] = beam_search
    advantage: Advantage = group_normalized
    loss: Loss = field(default_factory=grpo)
    reference_sync_steps: int | None = 512
    reference_mix: float = 0.6
    max_grad_norm: float = 0.3
    max_tokens: int = 16_384

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.group_size < 2:
            raise ValueError(
                f"`group_size` (={self.group_size}) must be at least 2: the advantage of a "
                "candidate is measured against its group."
            )
        if not 0 < self.reference_mix <= 1:
            raise ValueError(f"`reference_mix` (={self.reference_mix}) must lie in (0, 1].")


class ReReAgent:
    """A policy, its frozen reference and one optimiser step at a time."""

    def __init__(
        self,
        task: Task,
        policy: LanguageModel,
        reference: LanguageModel | None,
        config: ReReConfig,
        accelerator: Accelerator,
    ) -> None:
        """Keep the parts; `policy` may be wrapped by `accelerator.prepare`.

        Args:
            task: Catalogue, prompts and reward.
            policy: What learns.
            reference: What the KL anchors to, its gradients are switched off; None: the policy
                with its LoRA adapter switched off.
            config: The choices.
            accelerator: Device, precision and processes.

        Raises:
            ValueError: The adapter's reference is to be synced, or there is no adapter.
        """
        if reference is None and not has_lora(accelerator.unwrap_model(policy).model):
            raise ValueError("`reference` (=None) needs a policy with a LoRA adapter; pass a copy.")
        if reference is None and config.reference_sync_steps is not None:
            raise ValueError(
                f"`reference_sync_steps` (={config.reference_sync_steps}) cannot sync `reference` "
                "(=None): the policy with its adapter switched off never changes; use "
                "reference_sync_steps=None, or pass a copy of the policy as the reference."
            )
        self.task = task
        self.policy = policy
        self.reference = reference if reference is None else reference.requires_grad_(False).eval()
        self.config = config
        self.accelerator = accelerator
        self.trie = TorchTrie.build(task.trie, task.title_tokens, accelerator.device)
        self.budget = TokenBudget(config.max_tokens, accelerator.num_processes)

    def rollout(
        self,
        prompts: Sequence[Sequence[int]],
        hidden: Sequence[IntArray] | None = None,
        targets: IntArray | None = None,
    ) -> Candidates:
        """Let the policy write G titles for each prompt, best first, none of the hidden ones."""
        lm = self.accelerator.unwrap_model(self.policy).eval()
        with self.accelerator.autocast():
            return self.config.sampler(
                lm,
                self.trie,
                prompts,
                self.config.group_size,
                support=self.config.support,
                hidden=hidden,
                targets=targets,
            )

    def update(self, batch: Batch, optimizer: torch.optim.Optimizer, step: int) -> dict[str, float]:
        """Make one optimiser step on B prompts; return what happened.

        A step in which no group carries signal leaves the weights as they are.
        """
        prompts = [self.task.prompt(example.history) for example in batch]
        filtered = self.task.hidden(batch)
        hidden = None if filtered is None else filtered.lists()
        candidates = self.rollout(prompts, hidden, batch.target_title)
        groups = judge(self.task, prompts, candidates, batch, self.config.advantage, hidden)
        signal = groups.with_signal()
        metrics = rollout_metrics(self.task, candidates, batch, groups)
        num_with_signal = self._sum_over_processes(len(signal))
        metrics["rollout/updated"] = float(num_with_signal > 0)
        if num_with_signal > 0:
            # Every process joins the reduction, one without signal with a gradient of 0.
            rows, weight = (signal, 1.0) if len(signal) else (np.arange(1), 0.0)
            metrics |= self._learn(groups.take(rows), weight, optimizer)
        self._sync_reference(step)
        return metrics

    def _learn(
        self, groups: Groups, weight: float, optimizer: torch.optim.Optimizer
    ) -> dict[str, float]:
        """Make one optimiser step on groups with signal."""
        self.policy.train()

        def gradient(max_tokens: int) -> dict[str, Tensor]:
            optimizer.zero_grad()
            return self._gradient(groups, weight, max_tokens)

        terms = self.budget.run(gradient)
        terms["loss/grad_norm"] = self.accelerator.clip_grad_norm_(
            self.policy.parameters(), self.config.max_grad_norm
        )
        optimizer.step()
        return {name: float(value) for name, value in terms.items()}

    def _gradient(self, groups: Groups, weight: float, max_tokens: int) -> dict[str, Tensor]:
        """Add up the gradients of the groups, in parts of similar length."""
        sizes = group_sizes(
            self.task.trie, groups.prompts, groups.titles, self.config.support, groups.hidden
        )
        parts = parts_of_similar_length(sizes, max_tokens)
        sums: dict[str, Tensor] = {}
        percentiles = []
        for i, part in enumerate(parts):
            is_last = i == len(parts) - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.policy):
                inputs = self._loss_inputs(groups.take(part))
                loss, terms = self.config.loss(inputs)
                self.accelerator.backward(weight * loss)
            for name, value in {**terms, "loss/total": loss.detach()}.items():
                sums[name] = sums[name] + value if name in sums else value
            percentiles.append(log_ratio_percentile(inputs, 0.99))
        return sums | {"ratio/log_p99": torch.stack(percentiles).max()}

    def _loss_inputs(self, groups: Groups) -> LossInputs:
        """Score some groups under reference and policy."""
        device = self.accelerator.device
        plan = plan_groups(
            self.task.trie,
            self.task.title_tokens,
            groups.prompts,
            groups.titles,
            self.config.support,
            groups.hidden,
        )
        # Two contexts: autocast keeps cast weights, and those cast without gradient have none.
        with torch.no_grad(), self.accelerator.autocast():
            reference = self._reference_scores(plan)
        with self.accelerator.autocast():
            policy = score_groups(self.policy, plan, device)
        return LossInputs(
            logprobs=policy.logprobs,
            old_logprobs=policy.logprobs.detach(),
            ref_logprobs=reference.logprobs,
            mask=policy.mask,
            advantages=groups.advantages.to(device),
            rewards=groups.rewards.to(device),
            is_target=groups.is_target.to(device),
            totals=groups.totals,
            exact_kl=exact_kl(policy, reference),
        )

    def _reference_scores(self, plan: GroupTrees) -> GroupScores:
        if self.reference is not None:
            return score_groups(self.reference, plan, self.accelerator.device)
        lm = self.accelerator.unwrap_model(self.policy).eval()
        with switched_off(lm.model):
            scores = score_groups(lm, plan, self.accelerator.device)
        self.policy.train()
        return scores

    @torch.no_grad()
    def _sync_reference(self, step: int) -> None:
        """Reference <- mix * policy + (1 - mix) * reference, whenever it is due."""
        every = self.config.reference_sync_steps
        if self.reference is None or every is None or (step + 1) % every:
            return
        policy = self.accelerator.unwrap_model(self.policy)
        for ours, theirs in zip(policy.parameters(), self.reference.parameters(), strict=True):
            theirs.lerp_(ours.to(theirs), self.config.reference_mix)

    def _sum_over_processes(self, count: int) -> int:
        total = torch.tensor(count, device=self.accelerator.device)
        return int(self.accelerator.reduce(total, "sum"))
