"""`rere bench step`: a whole training step, from prompts to new weights, beside the released one.

| ratio | says |
|---|---|
| step_catalogue | released step / ours: rollout, rewards, reference, gradient, optimiser |

Ours is `ReReAgent.update` with `radix_search`. The released side writes G titles with `generate`,
scores G copies of every prompt under reference and policy, and learns. Users choose a title that
our rollout holds, so that we leave no group out; the released side trains on every group anyway.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from agents.advantages import group_normalized
from agents.bench.clock import Side, race
from agents.bench.engine.plain import assert_same_gradient, assert_same_titles, decision_beams
from agents.bench.engine.released import BETA, released_gradient
from agents.bench.engine.search import Peers
from agents.bench.engine.update import Updates, gradient
from agents.bench.engine.workload import Measured, Setting, Workload
from agents.losses import grpo
from agents.rere.agent import ReReAgent
from agents.rere.config import ReReConfig
from agents.rere.groups import judge
from agents.search import radix_search
from agents.types import Candidates
from rere_env.prompts import Prompts

__all__ = ["measure_step"]

RATIOS = {"step_catalogue": ("released", "ours")}
LEARNING_RATE = 1e-6  # any rate is the same work; at this one all rounds see the same policy
MAX_GRAD_NORM = 0.3


def measure_step(workload: Workload, setting: Setting) -> Measured:
    """Compare a small step with a plain computation, then race."""
    optimizer = torch.optim.AdamW(workload.model.parameters(), lr=LEARNING_RATE)
    facts = _assert_same(workload.part(setting.num_checked[0]), setting.num_checked[1], optimizer)
    updates = Updates.of(workload, setting.group_size)
    agent = _agent(updates, setting.group_size)
    users = len(workload.prompts)
    done = race(
        {
            "ours": Side(
                run=lambda: agent.update(updates.examples, optimizer, 0),
                users=users,
                times=setting.times,
            ),
            "released": Side(
                run=_released_step(updates, setting, optimizer), users=users, warm=False
            ),
        },
        setting.rounds,
        aside=workload.scores.aside,
        check=_check,
        label=f"step {setting.shape}",
    )
    return Measured(
        ratios=done.ratios(RATIOS),
        wall_ratios=done.ratios(RATIOS, wall=True),
        beside={},
        facts=facts,
        seconds=done.as_dict(),
    )


def _released_step(
    updates: Updates, setting: Setting, optimizer: torch.optim.Optimizer
) -> Callable[[], None]:
    """Return the step of published code; it learns with the same optimiser."""
    workload, peers = updates.workload, Peers(updates.workload)
    users, group_size = len(workload.prompts), setting.group_size

    def step() -> None:
        titles = workload.titles_of(peers.released(users, group_size))
        found = Candidates(titles=titles, logprobs=np.zeros(titles.shape, np.float32))
        groups = judge(
            workload.task, Prompts(workload.prompts), found, updates.examples, group_normalized
        )
        optimizer.zero_grad()
        released_gradient(
            workload.model,
            updates.reference.model,
            workload.prompts,
            workload.completions(titles),
            groups.advantages,
            rows_per_pass=setting.rows_per_pass,
        )
        torch.nn.utils.clip_grad_norm_(workload.model.parameters(), MAX_GRAD_NORM)
        optimizer.step()

    return step


def _agent(updates: Updates, group_size: int) -> ReReAgent:
    config = ReReConfig(
        group_size=group_size,
        sampler=radix_search,
        loss=grpo(beta=BETA),
        reference_sync_steps=None,
        max_grad_norm=MAX_GRAD_NORM,
    )
    workload = updates.workload
    return ReReAgent(workload.task, workload.lm, updates.reference, config, Accelerator(cpu=True))


def _check(results: dict[str, Any]) -> None:
    metrics = results["ours"]
    if metrics["rollout/signal_share"] != 1 or metrics["rollout/updated"] != 1:
        raise AssertionError("our step has left a group out; nothing is reported.")


def _assert_same(
    workload: Workload, group_size: int, optimizer: torch.optim.Optimizer
) -> dict[str, float]:
    """Assert rollout and clipped gradient of a step on few users."""
    updates = Updates.of(workload, group_size)
    plain = gradient(workload.model, updates.plain)
    norm = torch.nn.utils.get_total_norm(plain)
    scale = min(1.0, MAX_GRAD_NORM / float(norm + 1e-6))
    agent = _agent(updates, group_size)
    beams = [
        decision_beams(workload.scores, user, group_size) for user in range(len(workload.prompts))
    ]
    logprobs = workload.scores.titles()[: len(beams)]
    assert_same_titles(agent.rollout(Prompts(workload.prompts)).titles, np.array(beams), logprobs)
    agent.update(updates.examples, optimizer, 0)
    ours = [p.grad for p in workload.model.parameters() if p.grad is not None]
    error = assert_same_gradient(ours, [scale * part for part in plain])
    return {"gradient_error_step": error}
