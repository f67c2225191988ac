"""GRPO as released and REINFORCE, worked out by hand."""

import math

import pytest
import torch

from agents.losses import grpo, reinforce

LOGPROBS = [[[-1.0, -2.0], [-0.5, 0.0]]]


def test_policy_and_kl_terms_by_hand(inputs_of):
    """Means over each candidate's tokens, then over the four candidates of the step."""
    inputs = inputs_of(LOGPROBS, kl=[[[0.1, 0.3], [0.5, 9.0]]])
    loss, metrics = grpo(beta=0.1)(inputs)
    # Policy: -((2 + 2) / 2 - 1) / 4. KL: ((.1 + .3) / 2 + .5) / 4; the 9 is padding.
    assert metrics["loss/policy"].item() == pytest.approx(-0.25)
    assert metrics["loss/kl"].item() == pytest.approx(0.175)
    assert loss.item() == pytest.approx(-0.25 + 0.1 * 0.175)


def test_k3_term_by_hand(inputs_of):
    """The estimator from the chosen tokens: e^d - d - 1 with d = reference - policy."""
    reference = [[[-1.0 + math.log(2), -2.0], [-0.5, 5.0]]]
    _, metrics = grpo(kl="k3")(inputs_of(LOGPROBS, reference=reference))
    assert metrics["loss/kl"].item() == pytest.approx((1 - math.log(2)) / 2 / 4)


def test_the_gradient_is_that_of_reinforce(inputs_of):
    """At ratio 1 each token's log-probability gets -A / (|y| N), the padding 0."""
    logprobs = torch.tensor(LOGPROBS, requires_grad=True)
    loss, _ = grpo(beta=0.0, kl="k3")(inputs_of(logprobs))
    loss.backward()
    expected = torch.tensor([[[-2 / 2 / 4, -2 / 2 / 4], [1 / 4, 0.0]]])
    torch.testing.assert_close(logprobs.grad, expected)


def test_the_kl_pulls_towards_the_reference(inputs_of):
    """Its gradient raises what the reference likes better."""
    logprobs = torch.tensor(LOGPROBS, requires_grad=True)
    inputs = inputs_of(logprobs, reference=[[[-0.5, -2.5], [-0.5, 0.0]]])
    loss, _ = grpo(beta=1.0, kl="k3")(inputs)
    policy, _ = grpo(beta=0.0, kl="k3")(inputs)
    (gradient,) = torch.autograd.grad(loss - policy, logprobs)
    assert gradient[0, 0, 0] < 0 < gradient[0, 0, 1]
    assert (gradient[0, 1] == 0).all()


def test_reinforce_by_hand(inputs_of):
    """Advantage times the sequence's log-probability: -(2 (-1 - 2) - (-.5)) / 4; KL sums .9 / 4."""
    inputs = inputs_of(LOGPROBS, kl=[[[0.1, 0.3], [0.5, 9.0]]])
    loss, metrics = reinforce(beta=0.1)(inputs)
    assert metrics["loss/policy"].item() == pytest.approx(1.375)
    assert metrics["loss/kl"].item() == pytest.approx(0.225)
    assert loss.item() == pytest.approx(1.375 + 0.1 * 0.225)


def test_reinforce_has_no_length_in_its_gradient(inputs_of):
    """-A / N for every kept token."""
    logprobs = torch.tensor(LOGPROBS, requires_grad=True)
    reinforce()(inputs_of(logprobs))[0].backward()
    torch.testing.assert_close(logprobs.grad, torch.tensor([[[-0.5, -0.5], [0.25, 0.0]]]))
