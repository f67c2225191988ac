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
from agents.language_model import LanguageModel
from agents.losses import grpo
from agents.scoring import GroupScores, exact_kl, plan_groups, score_groups
from agents.search import beam_search
from agents.torch_trie import TorchTrie
from agents.tree import parts_of_similar_length
from agents.types import Advantage, Candidates, Loss, LossInputs, Support
from rere_env.rewards import hit, reward_terms
from rere_env.task import Task
from rere_env.types import NO_TITLE, Batch, FloatArray

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
        reference_sync_steps: Steps between updates of the reference, those without signal counted.
        reference_mix: Share of the policy in the updated reference.
        max_grad_norm: Gradient norm is clipped to this.
        max_tokens: Tree tokens a forward-backward pass may hold (rows times the longest).
    """

    group_size: int = 16
    support: Support = "catalogue"
    sampler: Callable[..., Candidates] = beam_search
    advantage: Advantage = group_normalized
    loss: Loss = field(default_factory=grpo)
    reference_sync_steps: int = 512
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
        reference: LanguageModel,
        config: ReReConfig,
        accelerator: Accelerator,
    ) -> None:
        """Keep the parts; `policy` may be wrapped by `accelerator.prepare`.

        Args:
            task: Catalogue, prompts and reward.
            policy: What learns.
            reference: What the KL anchors to; its gradients are switched off.
            config: The choices.
            accelerator: Device, precision and processes.
        """
        self.task = task
        self.policy = policy
        self.reference = reference.requires_grad_(False).eval()
        self.config = config
        self.accelerator = accelerator
        self.trie = TorchTrie.build(task.trie, task.title_tokens, accelerator.device)

    def rollout(self, prompts: Sequence[Sequence[int]]) -> Candidates:
        """Let the policy write G titles for each prompt, best first."""
        lm = self.accelerator.unwrap_model(self.policy).eval()
        return self.config.sampler(
            lm, self.trie, prompts, self.config.group_size, support=self.config.support
        )

    def update(self, batch: Batch, optimizer: torch.optim.Optimizer, step: int) -> dict[str, float]:
        """Make one optimiser step on B prompts; return what happened.

        A step in which no group carries signal leaves the weights as they are.
        """
        prompts = [self.task.prompt(example.history) for example in batch]
        candidates = self.rollout(prompts)
        rewards, advantages = self._judge(candidates, batch)
        signal = np.flatnonzero(np.abs(advantages.numpy()).max(axis=1) > 0)
        metrics = _rollout_metrics(self.task, candidates, batch, rewards, len(signal))
        num_with_signal = self._sum_over_processes(len(signal))
        metrics["rollout/updated"] = float(num_with_signal > 0)
        if num_with_signal == 0:
            self._sync_reference(step)
            return metrics

        # Every process joins the reduction, one without signal with a gradient of 0.
        rows, weight = (signal, 1.0) if len(signal) else (np.arange(1), 0.0)
        optimizer.zero_grad()
        self.policy.train()
        lengths = np.array([len(prompts[row]) for row in rows])
        lengths += self.config.group_size * self.task.trie.max_length // 2  # at most about this
        parts = parts_of_similar_length(lengths, self.config.max_tokens)
        for i, part in enumerate(parts):
            is_last = i == len(parts) - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.policy):
                inputs = self._loss_inputs(
                    rows[part], prompts, candidates, rewards, advantages, batch
                )
                loss, terms = self.config.loss(inputs)
                self.accelerator.backward(weight * loss)
            for name, value in {**terms, "loss/total": loss.detach()}.items():
                metrics[name] = metrics.get(name, 0.0) + float(value)
            metrics["ratio/log_p99"] = max(
                metrics.get("ratio/log_p99", 0.0), _log_ratio_p99(inputs)
            )
        norm = self.accelerator.clip_grad_norm_(self.policy.parameters(), self.config.max_grad_norm)
        metrics["loss/grad_norm"] = float(norm)
        optimizer.step()
        self._sync_reference(step)
        return metrics

    def _judge(self, candidates: Candidates, batch: Batch) -> tuple[FloatArray, Tensor]:
        """Return rewards and advantages [B, G]; empty slots (always last) get 0 and are ignored."""
        titles = candidates.titles
        rewards = np.zeros(titles.shape, np.float32)
        advantages = torch.zeros(titles.shape)
        num_titles = (titles != NO_TITLE).sum(axis=1)
        for n in np.unique(num_titles[num_titles > 0]):
            rows = np.flatnonzero(num_titles == n)
            rewards[rows, :n] = self.task.reward(titles[rows, :n], batch.take(rows))
            advantages[rows, :n] = self.config.advantage(torch.from_numpy(rewards[rows, :n]))
        return rewards, advantages

    def _loss_inputs(
        self,
        rows: "np.ndarray[tuple[int], np.dtype[np.int64]]",
        prompts: Sequence[Sequence[int]],
        candidates: Candidates,
        rewards: FloatArray,
        advantages: Tensor,
        batch: Batch,
    ) -> LossInputs:
        """Score some groups under policy and reference."""
        device, support = self.accelerator.device, self.config.support
        titles = candidates.titles[rows]
        plan = plan_groups(
            self.task.trie,
            self.task.title_tokens,
            [prompts[r] for r in rows.tolist()],
            titles,
            support,
        )
        with torch.no_grad():
            reference = score_groups(self.reference, self.trie, plan, support, device)
        with self.accelerator.autocast():
            policy: GroupScores = score_groups(self.policy, self.trie, plan, support, device)
        is_target = (titles == batch.target_title[rows, None]) & (titles != NO_TITLE)
        return LossInputs(
            logprobs=policy.logprobs,
            old_logprobs=policy.logprobs.detach(),
            ref_logprobs=reference.logprobs,
            mask=policy.mask,
            advantages=advantages[torch.from_numpy(rows)].to(device),
            rewards=torch.from_numpy(rewards[rows]).to(device),
            is_target=torch.from_numpy(is_target).to(device),
            num_candidates=int((candidates.titles != NO_TITLE).sum()),
            exact_kl=exact_kl(policy, reference),
        )

    @torch.no_grad()
    def _sync_reference(self, step: int) -> None:
        """Reference <- mix * policy + (1 - mix) * reference, whenever it is due."""
        if (step + 1) % self.config.reference_sync_steps:
            return
        policy = self.accelerator.unwrap_model(self.policy)
        for ours, theirs in zip(policy.parameters(), self.reference.parameters(), strict=True):
            theirs.lerp_(ours.to(theirs), self.config.reference_mix)

    def _sum_over_processes(self, count: int) -> int:
        total = torch.tensor(count, device=self.accelerator.device)
        return int(self.accelerator.reduce(total, "sum"))


def _rollout_metrics(
    task: Task, candidates: Candidates, batch: Batch, rewards: FloatArray, num_signal: int
) -> dict[str, float]:
    titles = candidates.titles[:, : task.trie.num_titles]  # slots beyond the catalogue are empty
    hits = hit(titles, batch).astype(bool)
    metrics = {
        "rollout/reward": float(rewards.sum(axis=1).mean()),
        "rollout/hit_rate": float(hits.any(axis=1).mean()),
        "rollout/hit_rate@1": float(hits[:, 0].mean()),
        "rollout/signal_share": num_signal / len(batch),
        "rollout/distinct_titles": float(len(np.unique(titles))),
        "rollout/logprob@1": float(candidates.logprobs[:, 0].mean()),
    }
    for name, values in reward_terms(task.reward, titles, batch)[1].items():
        metrics[f"reward/{name}"] = float(values.sum(axis=1).mean())
    return metrics


def _log_ratio_p99(inputs: LossInputs) -> float:
    log_ratio = (inputs.logprobs.detach() - inputs.ref_logprobs)[inputs.mask].abs()
    return float(torch.quantile(log_ratio, 0.99)) if log_ratio.numel() else 0.0
