"""Losses with a ratio, worked out by hand.

The ratios are 1.5 and 0.5 for the tokens of the candidate with advantage 2, 0.5 for that of the
candidate with advantage -1.
"""

import math

import pytest
import torch

from agents.losses import cispo, clipped_surrogate, dapo, dr_grpo, grpo, gspo, reinforce

LOGPROBS = [[[-1.0, -2.0], [-0.5, 0.0]]]
OLD = [[[-1.0 - math.log(1.5), -2.0 + math.log(2)], [-0.5 + math.log(2), 9.0]]]


def gradient_of(loss, inputs_of, *, old=None):
    """By the log-probabilities."""
    logprobs = torch.tensor(LOGPROBS, requires_grad=True)
    loss(inputs_of(logprobs, old=old))[0].backward()
    return logprobs.grad


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # 1.5 is cut to 1.2 and -0.5 to -0.8: both clips bind; 0.5 stays, as it is pessimistic.
        (clipped_surrogate(beta=0), -((2.4 + 1.0) / 2 - 0.8) / 4),
        (dapo(), -(2.56 + 1.0 - 0.8) / 6),
        (dr_grpo(), -(2.4 + 1.0 - 0.8) / 3 / 4),
        # The ratio of the first sequence is the root of 1.5 x 0.5.
        (gspo(), -(2 * 0.75**0.5 - 0.9997) / 4),
        (cispo(), -(1.28 * 2 * -1 + 0.5 * 2 * -2 + 0.5 * -1 * -0.5) / 6),
    ],
)
def test_golden_values(loss, expected, inputs_of):
    """Each surrogate under its own clip and mean."""
    value, metrics = loss(inputs_of(LOGPROBS, old=OLD))
    assert value.item() == pytest.approx(expected)
    assert metrics["loss/policy"].item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # A token whose clip binds has no gradient; the others A r / (their mean's denominator).
        (clipped_surrogate(beta=0), [[0.0, -2 * 0.5 / 2 / 4], [0.0, 0.0]]),
        (dapo(), [[0.0, -2 * 0.5 / 6], [0.0, 0.0]]),
        (dr_grpo(), [[0.0, -2 * 0.5 / 12], [0.0, 0.0]]),
        (gspo(), [[-(0.75**0.5) / 4, -(0.75**0.5) / 4], [0.0, 0.0]]),
        # Every token keeps one: -weight A / 6.
        (cispo(), [[-1.28 * 2 / 6, -0.5 * 2 / 6], [0.5 / 6, 0.0]]),
    ],
)
def test_golden_gradients(loss, expected, inputs_of):
    """What the clips let through."""
    gradient = gradient_of(loss, inputs_of, old=OLD)
    torch.testing.assert_close(gradient, torch.tensor([expected]))


@pytest.mark.parametrize(
    ("loss", "clipped", "excess"),
    [
        (clipped_surrogate(), 2 / 6, (0.5 - 0.5 - 0.5) / 6),
        (dapo(), 2 / 6, (0.5 - 0.5 - 0.5) / 6),
        (dr_grpo(), 2 / 6, (0.5 - 0.5 - 0.5) / 6),
        (gspo(), 1 / 4, (0.75**0.5 - 1 - 0.5) / 4),
        (cispo(), 1 / 6, (0.5 - 0.5 - 0.5) / 6),
    ],
)
def test_the_ratio_is_logged(loss, clipped, excess, inputs_of):
    """The share of tokens (GSPO: candidates) that were clipped, and the mean ratio less 1."""
    _, metrics = loss(inputs_of(LOGPROBS, old=OLD))
    assert metrics["ratio/clipped_fraction"].item() == pytest.approx(clipped)
    assert metrics["ratio/excess"].item() == pytest.approx(excess)


@pytest.mark.parametrize(
    ("loss", "penalty"),
    [
        (clipped_surrogate, ((0.1 + 0.3) / 2 + 0.5) / 4),
        (dapo, (0.1 + 0.3 + 0.5) / 6),
        (dr_grpo, (0.1 + 0.3 + 0.5) / 12),
        (gspo, ((0.1 + 0.3) / 2 + 0.5) / 4),
        (cispo, (0.1 + 0.3 + 0.5) / 6),
    ],
)
def test_the_kl_is_averaged_as_the_policy_term_is(loss, penalty, inputs_of):
    """And weighs beta."""
    inputs = inputs_of(LOGPROBS, kl=[[[0.1, 0.3], [0.5, 9.0]]])
    value, metrics = loss(beta=0.1)(inputs)
    assert metrics["loss/kl"].item() == pytest.approx(penalty)
    assert value.item() == pytest.approx(metrics["loss/policy"].item() + 0.1 * penalty)


PER_TOKEN = torch.tensor([[[2.0, 2.0], [1.0, 1.0]]]) * 4 / 6
"""From 1 / (|y| 4), the mean of sequences, to 1 / 6, the mean of tokens."""


@pytest.mark.parametrize(
    ("loss", "factor"),
    [(clipped_surrogate(beta=0), 1.0), (gspo(), 1.0), (dapo(), PER_TOKEN), (cispo(), PER_TOKEN)],
)
class TestAgainstGRPO:
    """The same candidates, up to how the loss weighs sequences of unequal length."""

    def test_the_first_inner_step_is_grpo(self, loss, factor, inputs_of):
        """At ratio 1 nothing is clipped."""
        expected = factor * gradient_of(grpo(beta=0), inputs_of)
        torch.testing.assert_close(gradient_of(loss, inputs_of), expected)

    def test_the_second_inner_step_is_not(self, loss, factor, inputs_of):
        """Once the policy has moved, it counts by how much."""
        expected = factor * gradient_of(grpo(beta=0), inputs_of, old=OLD)
        assert not torch.allclose(gradient_of(loss, inputs_of, old=OLD), expected, rtol=0.1)


def test_the_first_inner_step_of_dr_grpo_is_reinforce(inputs_of):
    """Divided by the tokens of the longest title."""
    expected = gradient_of(reinforce(), inputs_of) / 3
    torch.testing.assert_close(gradient_of(dr_grpo(), inputs_of), expected)


def test_three_losses_differ_at_the_second_inner_step(inputs_of):
    """Not even their directions agree."""
    directions = [
        torch.nn.functional.normalize(gradient_of(loss, inputs_of, old=OLD).flatten(), dim=0)
        for loss in (dapo(), gspo(), cispo())
    ]
    cosine = torch.stack(directions) @ torch.stack(directions).T
    assert (cosine.triu(1) < 0.95).all()


@pytest.mark.parametrize("loss", [clipped_surrogate(), dapo(), dr_grpo(), gspo(), cispo()])
@pytest.mark.parametrize("shift", [-500.0, 500.0])
def test_a_policy_that_is_far_away_leaves_the_loss_finite(loss, shift, inputs_of):
    """The log-ratio is bounded before it is raised to a power."""
    logprobs = torch.tensor(LOGPROBS, requires_grad=True)
    inputs = inputs_of(logprobs, old=(torch.tensor(LOGPROBS) + shift).tolist())
    value, metrics = loss(inputs)
    value.backward()
    assert value.isfinite()
    assert logprobs.grad.isfinite().all()
    assert all(metric.isfinite() for metric in metrics.values())


@pytest.mark.parametrize("loss", [clipped_surrogate, dapo, dr_grpo, gspo, cispo])
@pytest.mark.parametrize("bounds", [(-0.1, 0.2), (1.1, 0.2), (0.2, -0.1)])
def test_a_range_that_is_none_is_an_error(loss, bounds):
    """The message names both bounds."""
    low, high = bounds
    with pytest.raises(ValueError, match=r"`epsilon_low` \(=.*`epsilon_high` \(="):
        loss(epsilon_low=low, epsilon_high=high)
