"""Advantages: the numbers of the design, from the rewards on."""

import numpy as np
import pytest
import torch

from agents.advantages import group_normalized
from rere_env import Batch
from rere_env.rewards import hit, rere


def advantages_of_hit_at(rank, group_size=16, reward=rere):
    """Titles 0, 1, 2, ... of which the one at `rank` (from 1) is the target."""
    target = np.array([rank - 1])
    batch = Batch(user=target, history=np.zeros((1, 1), int), target=target, target_title=target)
    return group_normalized(torch.from_numpy(reward(np.arange(group_size)[None], batch)))[0]


def test_a_hit_at_the_top():
    """Hit at rank 1 of 16: +3.741 for it, -0.429 at rank 2, -0.190 at rank 16."""
    advantages = advantages_of_hit_at(1)
    assert advantages[[0, 1, 15]].tolist() == pytest.approx([3.741, -0.429, -0.190], abs=1e-3)


def test_a_hit_further_down():
    """Hit at rank 4 of 16: +3.722 for it, -0.629 at rank 1, -0.166 at rank 16."""
    advantages = advantages_of_hit_at(4)
    assert advantages[[3, 0, 15]].tolist() == pytest.approx([3.722, -0.629, -0.166], abs=1e-3)


def test_a_hit_alone():
    """Without the rank reward: +3.749 for the hit and -0.250 for all others."""
    advantages = advantages_of_hit_at(1, reward=hit)
    assert advantages.tolist() == pytest.approx([3.749] + [-0.250] * 15, abs=1e-3)


def test_no_hit_no_advantage():
    """A group without the target has rewards 0 and advantages 0."""
    assert advantages_of_hit_at(17).tolist() == [0.0] * 16


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, -1 / 3, 0.7, 1e6])
@pytest.mark.parametrize("group_size", [1, 2, 3, 7, 16])
def test_equal_rewards_carry_no_signal(value, group_size):
    """Exactly 0: the rounding of the mean must not become a signal."""
    assert (group_normalized(torch.full((2, group_size), value)) == 0).all()


def test_each_group_has_its_own_mean():
    """Groups do not see each other."""
    rewards = torch.tensor([[0.0, 2.0], [5.0, 5.0]])
    half = 2**-0.5
    expected = torch.tensor([[-half, half], [0.0, 0.0]])
    torch.testing.assert_close(group_normalized(rewards), expected, atol=1e-4, rtol=0)
