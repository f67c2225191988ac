"""What can be done for groups without signal: the target, put in place of their worst candidate."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from agents.policy import Policy
from agents.rere.groups import Groups, judge
from agents.search import with_target
from agents.types import Advantage, Candidates
from rere_env.task import Task
from rere_env.types import Batch, IntArray

__all__ = ["inject_targets"]


def inject_targets(
    task: Task,
    policy: Policy,
    candidates: Candidates,
    groups: Groups,
    batch: Batch,
    *,
    advantage: Advantage,
    weight: float,
) -> Groups:
    """Give the groups without signal their target, and a share of the advantages they get by it.

    Put in with full weight, a title that the policy would hardly ever write gets an advantage of
    about sqrt(G), which has made a small policy clearly worse than no RL at all: keep it small.

    Args:
        task: Reward and catalogue.
        policy: What wrote them, in eval mode.
        candidates: What was written.
        groups: The same, judged.
        batch: The examples.
        advantage: Of the repaired groups.
        weight: Factor on their advantages.
    """
    rows = groups.without_signal()
    if len(rows) == 0:
        return groups
    written = candidates.take(rows)

    def as_written(*_: Any, **__: Any) -> Candidates:  # noqa: ANN401 - a sampler's arguments
        return written

    prompts = groups.prompts.take(rows)
    found = with_target(as_written)(policy, prompts, written.titles.shape[1])
    repaired = judge(task, prompts, found, batch.take(rows), advantage, policy.support)
    titles, kept = groups.titles.copy(), groups.num_kept.copy()
    titles[rows], kept[rows] = repaired.titles, repaired.num_kept
    return replace(
        groups,
        titles=titles,
        num_kept=kept,
        rewards=_put(groups.rewards, rows, repaired.rewards),
        advantages=_put(groups.advantages, rows, weight * repaired.advantages),
        is_target=_put(groups.is_target, rows, repaired.is_target),
    ).as_step()


def _put(values: Tensor, rows: IntArray, new: Tensor) -> Tensor:
    changed = values.clone()
    changed[rows] = new
    return changed
