"""Two processes learn what one does: same global batch, uneven shares, titles of uneven lengths."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from agents import losses
from agents.advantages import group_normalized
from agents.algorithms import cispo, dapo, dr_grpo, grpo, gspo, reinforce, rere, rloo, s_dpo
from agents.policy import load_backbone
from agents.runs.numbers import StageSettings
from agents.search import beam_search, sample
from agents.training.learners import ReReLearner, SFTLearner
from rere_env import Task
from rere_env.types import Batch
from rere_env.worlds import noisy_successor

WORLD = noisy_successor(30).task
SETTINGS = StageSettings(learning_rate=1e-3)

# Beams are the same on every process; what is drawn is not.
CONFIGS = {
    "rere": rere(),
    "kl_of_all": replace(rere(), kl_groups="all", loss=losses.grpo(beta=0.1)),
    "grpo": replace(grpo(), sampler=beam_search),
    "dapo": replace(dapo(), sampler=beam_search),
    "cispo": replace(cispo(), sampler=beam_search),
    "gspo": replace(gspo(), sampler=beam_search),
    "dr_grpo": replace(dr_grpo(), sampler=beam_search),
    "rloo": replace(rloo(), sampler=beam_search),
    "reinforce": replace(reinforce(), sampler=beam_search),
    "repaired": replace(rere(), repair_weight=0.1),
    "s_dpo": s_dpo(),
    "synced": replace(rere(), reference_sync_steps=1, loss=losses.grpo(beta=0.1)),
}


def learner_of(accelerator, stage, *, task=WORLD, **changes):
    """An untrained policy with its learner; of seven prompts, or of batches of some users."""
    backbone = load_backbone("scratch:nano", task.catalogue.titles)
    own = backbone.task(task.dataset, reward=task.reward)
    common = (own, own.split("train"), backbone, SETTINGS, accelerator)
    if stage == "sft":
        return SFTLearner(*common, epochs=1, batch_size=7, seed=0, max_tokens=200)
    config = replace(CONFIGS[stage], group_size=6, max_tokens=400, **changes)
    return ReReLearner(*common, config=config, num_steps=2, prompts_per_step=7, seed=0)


def learn(accelerator, stage, learner=None, num_steps=2):
    """Make steps; return weights, the last gradient and the measures of each step."""
    learner = learner or learner_of(accelerator, stage)
    measures = [learner.update(step) for step in range(num_steps)]
    parameters = list(learner.language_model.parameters())
    return {
        "weights": torch.cat([p.detach().flatten() for p in parameters]),
        "gradient": torch.cat([p.grad.flatten() for p in parameters]),
        "measures": measures,
    }


def learn_all(accelerator, stages):
    """Every stage from the start."""
    return {stage: learn(accelerator, stage) for stage in stages}


def assert_equal(ours, expected):
    """Up to the rounding of sums that are added up in another order."""
    for name in ("gradient", "weights"):
        difference = (ours[name] - expected[name]).norm() / expected[name].norm()
        assert difference < 1e-6, (name, float(difference))
    for mine, theirs in zip(ours["measures"], expected["measures"], strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in theirs.items():
            assert mine[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def no_reward_but_for(user):
    """Pay the hits of one user, nobody else's."""

    def pay(titles, batch: Batch):
        return ((titles == batch.target_title[:, None]) & (batch.user[:, None] == user)).astype(
            np.float32
        )

    return pay


def learn_from_one(accelerator):
    """One group of a step has signal; one user is all that a batch of SFT holds."""
    lucky = Task.build(WORLD.dataset, reward=no_reward_but_for(WORLD.split("train").user[0]))
    rl = learner_of(
        accelerator, "s_dpo", task=lucky, advantage=group_normalized, loss=losses.grpo(beta=10.0)
    )
    rl._rows = lambda step: np.array([1, 0, 2])
    sft = learner_of(accelerator, "sft")
    sft._batches = [np.array([0])]
    with torch.no_grad():
        for parameter in rl.agent.reference.parameters():
            parameter.mul_(0.5)
    return {"rl": learn(accelerator, "rl", rl, 1), "sft": learn(accelerator, "sft", sft, 1)}


def draw(accelerator):
    """Let every process answer the same prompts."""
    drawn = []

    def seen(*args, **options):
        drawn.append(sample(*args, **options).titles)
        return beam_search(*args, **options)

    agent = learner_of(accelerator, "rloo", sampler=seen).agent
    optimizer = torch.optim.SGD(agent.learner.parameters(), lr=0.0)
    agent.update(agent.task.split("train").take(range(7)), optimizer, 0)
    return {"titles": torch.from_numpy(drawn[0])}


FAST = ("sft", "dapo")


def do_all(accelerator):
    """All that two processes are asked: they take seconds to start."""
    return {
        "learnt": learn_all(accelerator, FAST),
        "from_one": learn_from_one(accelerator),
        "drawn": draw(accelerator),
    }


@pytest.fixture(scope="module")
def two(in_processes):
    """What each of two processes did."""
    return in_processes(do_all)


def assert_two_equal_one(two, stages):
    """Both processes end alike, and as one process does."""
    first, second = two
    expected = learn_all(Accelerator(cpu=True), stages)
    for stage in stages:
        assert torch.equal(first[stage]["weights"], second[stage]["weights"]), stage
        assert first[stage]["measures"] == second[stage]["measures"], stage
        assert_equal(first[stage], expected[stage])
    return expected


def test_two_processes_make_the_steps_of_one(two):
    """SFT, and a loss with a mean over tokens after refills: gradient, weights, all measures."""
    expected = assert_two_equal_one([found["learnt"] for found in two], FAST)
    assert expected["dapo"]["measures"][0]["rollout/refills"] > 0


@pytest.mark.slow
def test_every_loss_is_that_of_one_process(in_processes):
    """Whatever it divides by, and whatever an advantage compares."""
    stages = [name for name in CONFIGS if name not in FAST]
    assert_two_equal_one(in_processes(learn_all, stages=stages), stages)


def test_a_process_with_nothing_to_learn_joins_with_no_gradient(two):
    """Not even a KL pulls on it, and it adds to no measure."""
    expected = learn_from_one(Accelerator(cpu=True))
    assert expected["rl"]["measures"][0]["rollout/signal_share"] == pytest.approx(1 / 3)
    for found in two:
        for stage in expected:
            assert_equal(found["from_one"][stage], expected[stage])


def test_processes_draw_other_titles_for_the_same_prompts(two):
    """The seed of a sampler knows the process."""
    first, second = (found["drawn"]["titles"] for found in two)
    assert not torch.equal(first, second)
