"""The groups of a step: titles written for prompts, and what each was paid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.trees.groups import longest_kept, num_kept
from agents.types import Advantage, Candidates, StepTotals, Support
from rere_env.prompts import Prompts
from rere_env.rewards import pay
from rere_env.task import Task
from rere_env.types import NO_TITLE, Batch, BoolArray, FloatArray, IntArray

__all__ = ["Groups", "joined", "judge", "rollout_metrics"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Groups:
    """Some of the groups of a step.

    Attributes:
        prompts: B prompts, with what is hidden from them.
        titles: [B, G] title ids, best first.
        rewards: [B, G] float32.
        advantages: [B, G] float32.
        is_target: [B, G] bool.
        num_kept: [B, G] int64, tokens of each title that its log-probability is made of.
        terms: [B] each term of the reward, unweighted, summed over the group.
        totals: Of the whole step, whichever of its groups these are.

    Two prompts with two titles each, of which the first hits:

    >>> from agents.advantages import group_centered
    >>> from rere_env.worlds import copy_last
    >>> task = copy_last().task
    >>> batch = task.split("train").take([0, 1])
    >>> found = Candidates(titles=np.stack([batch.target_title, batch.target_title + 1], axis=1),
    ...                    logprobs=np.zeros((2, 2), np.float32))
    >>> groups = judge(task, task.prompts(batch), found, batch, group_centered)
    >>> groups.is_target.tolist(), groups.terms["hit"].tolist(), groups.with_signal().tolist()
    ([[True, False], [True, False]], [1.0, 1.0], [0, 1])
    """

    prompts: Prompts
    titles: NDArray[np.int64]
    rewards: Tensor
    advantages: Tensor
    is_target: Tensor
    num_kept: NDArray[np.int64]
    terms: Mapping[str, FloatArray]
    totals: StepTotals

    def with_signal(self) -> NDArray[np.int64]:
        """Return the groups in which a title that decides something has an advantage."""
        return np.flatnonzero(self._has_signal())

    def without_signal(self) -> NDArray[np.int64]:
        """Return the other groups."""
        return np.flatnonzero(~self._has_signal())

    def _has_signal(self) -> BoolArray:
        moves: BoolArray = ((self.advantages.numpy() != 0) & (self.num_kept > 0)).any(axis=1)
        return moves

    def take(self, rows: IntArray | Sequence[int]) -> "Groups":
        """Select groups as a part of the step: its totals stay."""
        index = np.asarray(rows, np.int64)
        return Groups(
            prompts=self.prompts.take(index),
            titles=self.titles[index],
            rewards=self.rewards[index],
            advantages=self.advantages[index],
            is_target=self.is_target[index],
            num_kept=self.num_kept[index],
            terms={name: values[index] for name, values in self.terms.items()},
            totals=self.totals,
        )

    def as_step(self) -> "Groups":
        """Return these groups as a whole step, with totals of their own."""
        totals = replace(
            self.totals,
            num_groups=len(self.titles),
            num_candidates=int((self.titles != NO_TITLE).sum()),
            num_tokens=int(self.num_kept.sum()),
        )
        return replace(self, totals=totals)

    def compared(self, advantage: Advantage) -> "Groups":
        """Return the same groups with advantages anew: some compare all groups of a step."""
        num_titles = (self.titles != NO_TITLE).sum(axis=1)
        return replace(self, advantages=_advantages(self.rewards, num_titles, advantage))


def joined(parts: Sequence[Groups]) -> Groups:
    """Return the groups of several rollouts, one after the other, as one step."""
    first = parts[0]
    names = {name: None for part in parts for name in part.terms}  # none where no title was paid

    def term(name: str) -> FloatArray:
        return np.concatenate([p.terms.get(name, np.zeros(len(p.titles))) for p in parts])

    return Groups(
        prompts=Prompts.joined([part.prompts for part in parts]),
        titles=np.concatenate([part.titles for part in parts]),
        rewards=torch.cat([part.rewards for part in parts]),
        advantages=torch.cat([part.advantages for part in parts]),
        is_target=torch.cat([part.is_target for part in parts]),
        num_kept=np.concatenate([part.num_kept for part in parts]),
        terms={name: term(name) for name in names},
        totals=first.totals,
    ).as_step()


def judge(
    task: Task,
    prompts: Prompts,
    candidates: Candidates,
    batch: Batch,
    advantage: Advantage,
    support: Support = "catalogue",
) -> Groups:
    """Pay candidates, once; empty slots (always last) get 0 and are left out of the advantage.

    What a sampler wrote that is no title is such a slot: it has no tokens to learn from, and no
    part in its group's baseline; `rollout/illegal_rate` counts it.

    Raises:
        ValueError: A title stands behind an empty slot.
    """
    titles = candidates.titles
    is_title = titles != NO_TITLE
    if (is_title[:, 1:] & ~is_title[:, :-1]).any():
        raise ValueError(
            "the candidates to train on must hold their titles first and empty slots last; use "
            "`sample_unconstrained`, not `unconstrained_beam`, whose illegal beams keep their rank."
        )
    rewards = np.zeros(titles.shape, np.float32)
    terms: dict[str, FloatArray] = {}
    num_titles = is_title.sum(axis=1)
    for n in np.unique(num_titles[num_titles > 0]):
        rows = np.flatnonzero(num_titles == n)
        rewards[rows, :n], paid = pay(task.reward, titles[rows, :n], batch.take(rows))
        for name, values in paid.items():
            sums = values.sum(axis=1)
            terms.setdefault(name, np.zeros(len(titles), sums.dtype))[rows] = sums
    kept = num_kept(task.trie, titles, support, prompts)
    return Groups(
        prompts=prompts,
        titles=titles,
        rewards=torch.from_numpy(rewards),
        advantages=_advantages(torch.from_numpy(rewards), num_titles, advantage),
        is_target=torch.from_numpy((titles == batch.target_title[:, None]) & is_title),
        num_kept=kept,
        terms=terms,
        totals=StepTotals(
            num_groups=len(titles),
            num_candidates=int(is_title.sum()),
            num_tokens=int(kept.sum()),
            longest_title=longest_kept(task.trie, support),
        ),
    )


def _advantages(rewards: Tensor, num_titles: IntArray, advantage: Advantage) -> Tensor:
    """Compare candidates [B, G]; empty slots, always last, are left out and get 0."""
    advantages = torch.zeros(rewards.shape)
    for n in np.unique(num_titles[num_titles > 0]):
        rows = np.flatnonzero(num_titles == n)
        advantages[rows, :n] = advantage(rewards[rows, :n])
    return advantages


def _share_of_equal_rewards(groups: Groups) -> float:
    """Return the share of groups whose titles were all paid the same, empty slots aside."""
    rewards = groups.rewards.numpy()
    is_title = groups.titles != NO_TITLE
    high = np.where(is_title, rewards, -np.inf).max(axis=1)
    low = np.where(is_title, rewards, np.inf).min(axis=1)
    return float((high <= low).mean())


def rollout_metrics(candidates: Candidates, groups: Groups) -> dict[str, float]:
    """Return what a step's rollout was worth, before anything is learnt from it."""
    titles, hits = candidates.titles, groups.is_target.numpy()
    metrics = {
        "rollout/reward": float(groups.rewards.sum(dim=1).mean()),
        "rollout/hit_rate": float(hits.any(axis=1).mean()),
        "rollout/hit_rate@1": float(hits[:, 0].mean()),
        "rollout/signal_share": len(groups.with_signal()) / len(titles),
        "rollout/frac_reward_zero_std": _share_of_equal_rewards(groups),
        "rollout/distinct_titles": float(len(np.unique(titles[titles != NO_TITLE]))),
    }
    if (is_written := titles[:, 0] != NO_TITLE).any():
        metrics["rollout/logprob@1"] = float(candidates.logprobs[is_written, 0].mean())
    if candidates.num_illegal is not None:
        metrics["rollout/illegal_rate"] = float(
            candidates.num_illegal.sum() / candidates.titles.size
        )
    for name, sums in groups.terms.items():
        metrics[f"reward/{name}"] = float(sums.mean())
    return metrics
