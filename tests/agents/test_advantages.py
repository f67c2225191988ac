"""Advantages: the numbers of the design, from the rewards on, and tables worked out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.advantages import (
    batch_centered,
    group_centered,
    group_normalized,
    leave_one_out,
    raw,
    windowed,
)
from rere_env import Batch
from rere_env.rewards import hit, rere


def advantages_of_hit_at(rank, group_size=16, reward=rere, advantage=group_normalized):
    """Titles 0, 1, 2, ... of which the one at `rank` (from 1) is the target."""
    target = np.array([rank - 1])
    batch = Batch(user=target, history=np.zeros((1, 1), int), target=target, target_title=target)
    return advantage(torch.from_numpy(reward(np.arange(group_size)[None], batch)))[0]


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


REWARDS = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("advantage", "expected"),
    [
        # Deviations .5 and 1 / root 3.
        (
            group_normalized,
            [[1.5, -0.5, -0.5, -0.5], [0.866, 0.866, -0.866, -0.866], [0.0, 0.0, 0.0, 0.0]],
        ),
        (
            group_centered,
            [[0.75, -0.25, -0.25, -0.25], [0.5, 0.5, -0.5, -0.5], [0.0, 0.0, 0.0, 0.0]],
        ),
        # The others' means: 0 or 1/3; 1/3 or 2/3; 0.
        (
            leave_one_out,
            [[1.0, -1 / 3, -1 / 3, -1 / 3], [2 / 3, 2 / 3, -2 / 3, -2 / 3], [0.0, 0.0, 0.0, 0.0]],
        ),
        (raw, REWARDS.tolist()),
        # Three hits among twelve: the other eleven hold 2 or 3.
        (
            batch_centered,
            [
                [9 / 11, -3 / 11, -3 / 11, -3 / 11],
                [9 / 11, 9 / 11, -3 / 11, -3 / 11],
                [-3 / 11, -3 / 11, -3 / 11, -3 / 11],
            ],
        ),
    ],
)
def test_golden_advantages(advantage, expected):
    """One hit, two hits and none in groups of four."""
    torch.testing.assert_close(advantage(REWARDS), torch.tensor(expected), atol=5e-4, rtol=0)


def test_a_window_of_negatives_by_hand():
    """Four negatives at distances 2, 1, 0, 1 of the anchor share what they had, by e^-distance."""
    advantages = advantages_of_hit_at(2, group_size=5, reward=hit, advantage=windowed())
    of_hit = 0.8 / (math.sqrt(0.2) + 1e-4)
    e = math.e
    weights = torch.tensor([e**-2, e**-1, 1.0, e**-1])
    negatives = advantages[[0, 2, 3, 4]]
    assert advantages[1].item() == pytest.approx(of_hit)
    torch.testing.assert_close(negatives, -of_hit * weights / (1 + 2 / e + e**-2))


def test_a_window_keeps_what_the_reward_says_of_the_negatives():
    """With equal distances from the anchor, the rank penalties' proportions remain."""
    ours = advantages_of_hit_at(1, 4, advantage=windowed(anchor=1.0))
    plain = advantages_of_hit_at(1, 4)
    assert (ours[1] / ours[3]).item() == pytest.approx((plain[1] / plain[3]).item())


def test_a_wide_window_is_no_window():
    """Every negative weighs the same: GRPO."""
    wide = advantages_of_hit_at(4, advantage=windowed(tau=1e6))
    torch.testing.assert_close(wide, advantages_of_hit_at(4), atol=1e-4, rtol=0)


@pytest.mark.parametrize("anchor", [0.0, 2.0, 1e6])
@pytest.mark.parametrize("tau", [1e-6, 1.0, 1e6])
def test_a_window_anywhere_stays_finite(anchor, tau):
    """Also one that no negative lies in: the nearest take it all."""
    advantages = windowed(anchor=anchor, tau=tau)(REWARDS)
    assert advantages.isfinite().all()
    torch.testing.assert_close(advantages.sum(-1), torch.zeros(3), atol=1e-5, rtol=0)
    assert (advantages[2] == 0).all()


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, -1 / 3, 0.7, 1e6])
@pytest.mark.parametrize("group_size", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("advantage", [group_normalized, group_centered, windowed()])
def test_equal_rewards_carry_no_signal(advantage, value, group_size):
    """Exactly 0: the rounding of the mean must not become a signal."""
    assert (advantage(torch.full((2, group_size), value)) == 0).all()


@pytest.mark.parametrize("value", [0.0, 0.1, -1 / 3, 1e6])
@pytest.mark.parametrize("advantage", [leave_one_out, batch_centered])
def test_equal_rewards_carry_no_signal_without_their_own_either(advantage, value):
    """Nor does a batch of them."""
    assert (advantage(torch.full((3, 7), value)) == 0).all()


def test_each_group_has_its_own_mean():
    """Groups do not see each other."""
    rewards = torch.tensor([[0.0, 2.0], [5.0, 5.0]])
    half = 2**-0.5
    expected = torch.tensor([[-half, half], [0.0, 0.0]])
    torch.testing.assert_close(group_normalized(rewards), expected, atol=1e-4, rtol=0)


def test_a_single_candidate_has_no_others():
    """The message names the way out; the batch may still hold others."""
    with pytest.raises(ValueError, match=r"`group_size` \(=1\) must be at least 2.*use `raw`"):
        leave_one_out(torch.ones(3, 1))
    assert batch_centered(torch.tensor([[1.0], [0.0], [0.5]])).flatten().tolist() == pytest.approx(
        [0.75, -0.75, 0.0]
    )
    with pytest.raises(ValueError, match="must hold at least 2 for batch_centered; use `raw`"):
        batch_centered(torch.ones(1, 1))


@pytest.mark.parametrize("options", [{"anchor": -1.0}, {"tau": 0.0}])
def test_a_window_lies_somewhere_and_has_a_width(options):
    """The message names both."""
    with pytest.raises(ValueError, match=r"`anchor` \(=.*`tau` \(="):
        windowed(**options)


GROUPS = st.lists(
    st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=4), min_size=1, max_size=3
)


@given(GROUPS)
def test_others_means_by_counting(groups):
    """The baseline of each candidate, added up without it."""
    rewards = torch.tensor(groups, dtype=torch.float64)
    flat = [value for group in groups for value in group]
    for b, group in enumerate(groups):
        for g, value in enumerate(group):
            of_group = value - (sum(group) - value) / 3
            of_batch = value - (sum(flat) - value) / (len(flat) - 1)
            assert leave_one_out(rewards)[b, g].item() == pytest.approx(of_group, abs=1e-9)
            assert batch_centered(rewards)[b, g].item() == pytest.approx(of_batch, abs=1e-9)


@given(GROUPS)
def test_groups_sum_to_zero(groups):
    """What some gain the others lose."""
    rewards = torch.tensor(groups)
    for advantage in (group_normalized, group_centered, leave_one_out, windowed()):
        total = advantage(rewards).sum(-1)
        torch.testing.assert_close(total, torch.zeros_like(total), atol=1e-3, rtol=0)
