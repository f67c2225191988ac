"""What a step's candidates are paid, group by group."""

import numpy as np
import pytest
import torch

from agents.advantages import group_normalized
from agents.rere.groups import judge, rollout_metrics
from agents.types import Candidates
from rere_env import NO_TITLE
from rere_env.prompts import Prompts

PROMPTS = Prompts([[9], [8, 8], [7]])


@pytest.fixture
def judged(animal_task):
    """Targets 2, 4 and 7: hit at rank 2, missed, hit at rank 1 of a group of two."""
    titles = np.array([[0, 2, 1], [5, 6, 7], [7, 0, NO_TITLE]])
    logprobs = np.array([[-1, -2, -3], [-2, -3, -4], [-3, -4, -np.inf]], np.float32)
    candidates = Candidates(titles=titles, logprobs=logprobs)
    batch = animal_task.split("train").take(np.arange(3))
    return judge(animal_task, PROMPTS, candidates, batch, group_normalized), candidates, batch


def test_rewards_and_targets_are_those_of_the_titles(judged):
    """An empty slot is paid nothing and is nobody's target."""
    groups, _, _ = judged
    weights = 1 / np.log2(np.arange(2, 5))
    penalties = -weights / weights.sum()
    pair = -weights[1] / weights[:2].sum()
    expected = [[penalties[0], 1, penalties[2]], [0, 0, 0], [1, pair, 0]]
    np.testing.assert_allclose(groups.rewards, expected, atol=1e-6)
    assert groups.is_target.tolist() == [[False, True, False], [False] * 3, [True, False, False]]
    assert groups.totals.num_candidates == 8


def test_advantages_compare_what_is_there(judged):
    """The group of two is one of two, and its empty slot gets 0."""
    groups, _, _ = judged
    torch.testing.assert_close(groups.advantages[0], group_normalized(groups.rewards[:1])[0])
    torch.testing.assert_close(
        groups.advantages[2, :2], group_normalized(groups.rewards[2:, :2])[0]
    )
    assert groups.advantages[2, 2] == 0
    assert (groups.advantages[1] == 0).all()


def test_groups_with_signal_can_be_taken(judged):
    """They keep their prompts, and the count of the whole step."""
    groups, _, _ = judged
    assert groups.with_signal().tolist() == [0, 2]
    taken = groups.take(np.array([2, 0]))
    assert taken.prompts.ids == [[7], [9]]
    assert taken.titles.tolist() == [[7, 0, NO_TITLE], [0, 2, 1]]
    torch.testing.assert_close(taken.advantages, groups.advantages[[2, 0]])
    assert taken.totals.num_candidates == 8


def test_rollout_metrics_are_means_over_the_prompts(animal_task, judged):
    """Two of three groups hold the target, one of them first."""
    groups, candidates, _ = judged
    metrics = rollout_metrics(candidates, groups)
    assert metrics["rollout/hit_rate"] == pytest.approx(2 / 3)
    assert metrics["rollout/hit_rate@1"] == pytest.approx(1 / 3)
    assert metrics["rollout/signal_share"] == pytest.approx(2 / 3)
    assert metrics["rollout/reward"] == pytest.approx(groups.rewards.sum().item() / 3)
    assert metrics["rollout/logprob@1"] == pytest.approx(-2)
    assert metrics["reward/hit"] == pytest.approx(2 / 3)


def test_illegal_candidates_are_counted_and_left_out(animal_task):
    """Two of six: the group is rewarded as one of those that are titles."""
    candidates = Candidates(
        titles=np.array([[2, 0, NO_TITLE], [5, 6, NO_TITLE]]),
        logprobs=np.array([[-1, -2, -np.inf], [-2, -3, -np.inf]], np.float32),
        num_illegal=np.array([1, 1]),
    )
    batch = animal_task.split("train").take(np.arange(2))
    groups = judge(animal_task, PROMPTS.take([0, 1]), candidates, batch, group_normalized)
    metrics = rollout_metrics(candidates, groups)
    assert metrics["rollout/illegal_rate"] == pytest.approx(2 / 6)
    assert metrics["rollout/distinct_titles"] == 4
    assert groups.advantages[:, 2].tolist() == [0, 0]
    torch.testing.assert_close(
        groups.advantages[0, :2], group_normalized(groups.rewards[:1, :2])[0]
    )


def test_a_title_behind_an_illegal_one_is_an_error(animal_task):
    """A search that keeps illegal beams at their ranks is no sampler to train on."""
    candidates = Candidates(
        titles=np.array([[NO_TITLE, 2]]), logprobs=np.array([[-np.inf, -1]], np.float32)
    )
    batch = animal_task.split("train").take(np.arange(1))
    with pytest.raises(ValueError, match="titles first"):
        judge(animal_task, PROMPTS.take([0]), candidates, batch, group_normalized)


def test_a_reward_of_another_shape_is_refused(animal_task):
    """[B, 1] was spread over the group in silence."""
    task = animal_task.with_reward(lambda titles, batch: np.ones((len(titles), 1), np.float32))
    batch = task.split("train").take(np.arange(2))
    candidates = Candidates(
        titles=np.array([[0, 1], [2, 3]]), logprobs=np.zeros((2, 2), np.float32)
    )
    with pytest.raises(ValueError, match=r"returned shape \(2, 1\) for titles of shape \(2, 2\)"):
        judge(task, PROMPTS.take([0, 1]), candidates, batch, group_normalized)


def test_logged_terms_are_what_was_paid(animal_task):
    """Also where a group has empty slots: the penalties of two titles, not of three."""
    titles = np.array([[7, 0, NO_TITLE]])
    candidates = Candidates(titles=titles, logprobs=np.zeros((1, 3), np.float32))
    batch = animal_task.split("train").take([2])  # its target is 7
    groups = judge(animal_task, PROMPTS.take([2]), candidates, batch, group_normalized)
    metrics = rollout_metrics(candidates, groups)
    assert metrics["reward/hit"] + metrics["reward/rank"] == pytest.approx(
        float(groups.rewards.sum()), abs=1e-6
    )
    assert metrics["reward/rank"] == pytest.approx(-0.6309 / 1.6309, abs=1e-4)
