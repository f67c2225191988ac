"""The two stages in a world of twenty titles where what follows an item is fixed."""

import numpy as np
import pytest
import torch

from agents.lm_recommender import LMRecommender
from agents.policy import load_backbone
from agents.rere.config import ReReConfig
from agents.runs.numbers import StageSettings
from agents.training.fit import cosine_schedule
from agents.training.learners import ReReLearner, SFTLearner

LEARNING_RATE = 5e-3
SETTINGS = StageSettings(learning_rate=LEARNING_RATE)


@pytest.fixture
def learner_of(successor, accelerator):
    """Make the learner of a stage over an untrained policy."""

    def make(stage, seed, num_steps, prompts_per_step=20, settings=SETTINGS):
        backbone = load_backbone("scratch:nano", successor.catalogue.titles, seed=seed)
        task = backbone.task(successor)
        common = (
            task,
            task.split("train"),
            backbone,
            settings,
            accelerator,
        )
        if stage == "sft":
            return SFTLearner(*common, epochs=num_steps, batch_size=20, seed=seed)
        return ReReLearner(
            *common,
            config=ReReConfig(group_size=16),
            num_steps=num_steps,
            prompts_per_step=prompts_per_step,
            seed=seed,
        )

    return make


def hit_rate_at_1(learner):
    """The share of the twenty users whose next item the policy puts first."""
    task = learner.task if isinstance(learner, SFTLearner) else learner.agent.task
    batch = task.split("test")
    titles = LMRecommender(task, learner.language_model, beam=5).recommend(batch, 1)
    return (titles[:, 0] == batch.target_title).mean()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("stage", "num_steps"), [("sft", 100), ("rl", 80)])
def test_each_stage_alone_learns_the_successor(stage, num_steps, seed, learner_of):
    """From an untrained policy to hit_rate@1 = 1 in seconds."""
    learner = learner_of(stage, seed, num_steps)
    assert learner.num_steps == num_steps
    assert hit_rate_at_1(learner) < 0.5
    for step in range(num_steps):
        for group in learner.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * cosine_schedule(step, num_steps, 0.1)
        learner.update(step)
    assert hit_rate_at_1(learner) == 1.0


def test_prompts_come_in_epochs(learner_of):
    """Every example once before any twice, in an order that the seed and the epoch fix."""
    learner = learner_of("rl", 0, 10, prompts_per_step=7)
    drawn = np.concatenate([learner._rows(step) for step in range(10)])
    assert sorted(drawn[:20]) == sorted(drawn[20:40]) == sorted(drawn[40:60]) == list(range(20))
    assert drawn[:20].tolist() != drawn[20:40].tolist()
    again = learner_of("rl", 0, 10, prompts_per_step=7)
    assert again._rows(4).tolist() == learner._rows(4).tolist()
    other = learner_of("rl", 1, 10, prompts_per_step=7)
    assert other._rows(4).tolist() != learner._rows(4).tolist()


def test_the_reference_is_saved_and_read(learner_of, tmp_path):
    """It is no part of the accelerator's state."""
    learner = learner_of("rl", 0, 4)
    reference = learner.agent.reference
    before = [parameter.clone() for parameter in reference.parameters()]
    learner.save_extra(tmp_path)
    for parameter in reference.parameters():
        parameter.zero_()
    learner.load_extra(tmp_path)
    assert all((a == b).all() for a, b in zip(before, reference.parameters(), strict=True))


def test_a_saved_policy_is_what_was_learnt(learner_of, successor, tmp_path):
    """The folder holds the weights after the update, not those before."""
    learner = learner_of("sft", 0, 2)
    learner.update(0)
    learner.save_policy(tmp_path / "policy")
    loaded = load_backbone(str(tmp_path / "policy"), successor.catalogue.titles)
    ours = learner.language_model.model.state_dict()
    assert all((value == ours[name]).all() for name, value in loaded.model.state_dict().items())


@pytest.mark.parametrize("stage", ["sft", "rl"])
def test_the_optimiser_decays_weights_as_the_settings_say(stage, learner_of):
    """Each step shrinks a weight without gradient by rate x decay."""
    learner = learner_of(stage, 0, 1, settings=StageSettings(learning_rate=0.5, weight_decay=0.1))
    [group] = learner.optimizer.param_groups
    weight = group["params"][0]
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    learner.optimizer.step()
    torch.testing.assert_close(weight.detach(), 0.95 * before)
