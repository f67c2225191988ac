"""fit(): stopping, resuming, choosing. A resumed run must be the run that never stopped."""

import json
from itertools import pairwise

import pytest
import torch
from accelerate import Accelerator

from agents.lm_recommender import LMRecommender
from agents.losses import grpo
from agents.policy import load_backbone
from agents.rere.config import ReReConfig
from agents.runs.folder import Progress, RunFolder
from agents.runs.numbers import StageSettings
from agents.training.fit import cosine_schedule, fit
from agents.training.learners import ReReLearner, SFTLearner

STEPS = 6
SETTINGS = StageSettings(learning_rate=3e-3, num_evaluations=3, num_saves=3)


class KilledError(Exception):
    """The process dies here."""


def make_learner(stage, successor, accelerator):
    """A learner that only its seed determines."""
    backbone = load_backbone("scratch:nano", successor.catalogue.titles)
    task = backbone.task(successor)
    common = (task, task.split("train"), backbone, SETTINGS, accelerator)
    if stage == "sft":
        return SFTLearner(*common, epochs=STEPS, batch_size=20, seed=0)
    config = ReReConfig(group_size=16, reference_sync_steps=2, loss=grpo(beta=0.1))
    return ReReLearner(*common, config=config, num_steps=STEPS, prompts_per_step=7, seed=0)


def run_stage(stage, successor, folder, *, kill_at=None, resume=False, save_every_s=None):
    """Train a stage, be killed in the update of a step, or go on in a new process's place."""
    accelerator = Accelerator(cpu=True)
    learner = make_learner(stage, successor, accelerator)
    run = RunFolder.open(folder) if resume else RunFolder.create(folder.parent, folder.name, {})
    progress = (run.load_progress() if resume else None) or Progress(stage=stage)
    task = learner.task if stage == "sft" else learner.agent.task
    recommender = LMRecommender(task, learner.language_model, beam=10)

    def validate():
        batch = task.split("valid")
        titles = recommender.recommend(batch, 10)
        return {"valid/ndcg@10": float((titles[:, 0] == batch.target_title).mean())}

    update = learner.update

    def killing_update(step):
        if step == kill_at:
            raise KilledError
        return update(step)

    learner.update = killing_update
    fit(learner, validate, SETTINGS, run, progress, accelerator, save_every_s=save_every_s)
    return learner, progress


def weights(learner):
    """All that a stage has learnt, and the optimiser's memory."""
    found = [p.detach() for p in learner.language_model.parameters()]
    for state in learner.optimizer.state.values():
        found += [state["exp_avg"], state["exp_avg_sq"]]
    if isinstance(learner, ReReLearner):
        found += list(learner.agent.reference.parameters())
    return torch.cat([tensor.flatten() for tensor in found])


def logged(folder):
    """The metrics of a run without what the clock says."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.mark.parametrize("kill_at", [0, 1, 3, 5])
@pytest.mark.parametrize("stage", ["sft", "rl"])
def test_a_resumed_stage_is_the_stage_that_never_stopped(stage, kill_at, successor, tmp_path):
    """Bit for bit: weights, optimiser, reference, log, progress and the best policy.

    Saved after steps 0, 2, 4 and 6: killed right at the start, after a save, and in between.
    """
    whole, whole_progress = run_stage(stage, successor, tmp_path / "whole")
    with pytest.raises(KilledError):
        run_stage(stage, successor, tmp_path / "broken", kill_at=kill_at)
    resumed, progress = run_stage(stage, successor, tmp_path / "broken", resume=True)
    assert torch.equal(weights(whole), weights(resumed))
    assert logged(tmp_path / "whole") == logged(tmp_path / "broken")
    best = {"sft": "sft", "rl": "rere"}[stage]
    names = [tmp_path / name / "checkpoints" / best / "model.safetensors"
             for name in ("whole", "broken")]  # fmt: skip
    assert names[0].read_bytes() == names[1].read_bytes()
    for name in ("step", "best_value", "best_step", "num_worse"):
        assert getattr(progress, name) == getattr(whole_progress, name), name


def test_saves_by_time_change_nothing(successor, tmp_path):
    """Killed after a save that only the clock asked for: its step is not made again."""
    whole, _ = run_stage("rl", successor, tmp_path / "whole")
    with pytest.raises(KilledError):
        run_stage("rl", successor, tmp_path / "broken", kill_at=3, save_every_s=1e-9)
    assert RunFolder.open(tmp_path / "broken").load_progress().step == 3
    resumed, _ = run_stage("rl", successor, tmp_path / "broken", resume=True, save_every_s=3600)
    assert torch.equal(weights(whole), weights(resumed))
    assert logged(tmp_path / "whole") == logged(tmp_path / "broken")


@pytest.mark.slow
def test_two_threads_are_as_repeatable_as_one(successor, tmp_path):
    """Sums are split the same way every time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        whole, _ = run_stage("rl", successor, tmp_path / "whole")
        with pytest.raises(KilledError):
            run_stage("rl", successor, tmp_path / "broken", kill_at=3)
        resumed, _ = run_stage("rl", successor, tmp_path / "broken", resume=True)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(weights(whole), weights(resumed))


class FakeLearner:
    """One weight that counts the steps."""

    name = "fake"

    def __init__(self, num_steps, accelerator):
        """Start at 0."""
        self.num_steps = num_steps
        self.weight = torch.nn.Linear(1, 1)
        self.rates = []
        module, optimizer = accelerator.prepare(
            self.weight, torch.optim.SGD(self.weight.parameters(), lr=1.0)
        )
        self.module, self.optimizer = module, optimizer
        self.saved = []
        self.steps = 0

    def update(self, step):
        """Remember the learning rate."""
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        self.steps = step + 1
        return {"loss/total": 0.0}

    def save_policy(self, folder):
        """Remember when."""
        self.saved.append(self.steps)

    def save_extra(self, folder):
        """Nothing."""

    def load_extra(self, folder):
        """Nothing."""


def fit_fake(tmp_path, accelerator, values, **settings):
    """Fit a fake learner of eight steps whose validations give these values."""
    learner = FakeLearner(8, accelerator)
    given = iter(values)
    progress = Progress()
    fit(
        learner,
        lambda: {"valid/ndcg@10": next(given)},
        StageSettings(**{"learning_rate": 1.0, "num_evaluations": 8, **settings}),
        RunFolder.create(tmp_path, "run", {}),
        progress,
        accelerator,
    )
    return learner, progress


def test_the_best_policy_is_the_best_by_validation(tmp_path, accelerator):
    """The first of equals; one that is worse is never kept."""
    values = [0.1, 0.3, 0.2, 0.5, 0.5, 0.4, 0.1, 0.1, 0.2]
    learner, progress = fit_fake(tmp_path, accelerator, values)
    assert learner.saved == [0, 1, 3]
    assert (progress.best_value, progress.best_step, progress.num_worse) == (0.5, 3, 5)


def test_patience_stops_a_stage_that_gets_no_better(tmp_path, accelerator):
    """Two worse validations are borne, the third ends it."""
    values = [0.1, 0.3, 0.2, 0.2, 0.2, 0.9, 0.9, 0.9, 0.9]
    learner, progress = fit_fake(tmp_path, accelerator, values, patience=2)
    assert learner.steps == progress.step == 4
    assert progress.best_value == 0.3


def test_the_learning_rate_follows_the_schedule(tmp_path, accelerator):
    """Each step has its own, times the peak."""
    learner, _ = fit_fake(tmp_path, accelerator, [0.1] * 9, learning_rate=2.0, warmup_share=0.25)
    assert learner.rates == [2.0 * cosine_schedule(step, 8, 0.25) for step in range(8)]


def test_the_schedule_rises_and_falls():
    """Two steps up, then half a cosine that would reach 0 one step after the last."""
    rates = [cosine_schedule(step, 8, 0.25) for step in range(8)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[5] == pytest.approx(0.5)
    assert all(a >= b for a, b in pairwise(rates[1:]))
    assert 0 < rates[7] < 0.1
    assert cosine_schedule(0, 1, 0.03) == 1.0


@pytest.mark.parametrize(("times", "expected"), [(1, [0, 8]), (3, [0, 3, 6, 8]), (8, [*range(9)])])
def test_validations_are_evenly_spread(times, expected, tmp_path, accelerator):
    """Before the first step, and after the last whatever their number."""
    fit_fake(tmp_path, accelerator, [0.1] * 9, num_evaluations=times)
    seen = [line["step"] for line in logged(tmp_path / "run") if "valid/ndcg@10" in line]
    assert seen == expected
