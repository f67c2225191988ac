"""Preference losses, worked out by hand.

Three candidates with D = log 2 (split over two tokens), log 6 for the target and log 3; the step
has two groups.
"""

import math
from dataclasses import replace

import pytest
import torch

from agents.losses import dpo, s_dpo, sprec
from agents.types import LossInputs, StepTotals

POLICY = [[[-1.0, -2.0], [-3.0, 0.0], [-1.0, 0.0]]]
DRIFT = [[[math.log(4), -math.log(2)], [math.log(6), 7.0], [math.log(3), 7.0]]]
MASK = [[[True, True], [True, False], [True, False]]]


def inputs_of(*, target=(False, True, False), mask=MASK, logprobs=None):
    """One of the two groups of a step; the reference lies below the policy by the drift."""
    logprobs = torch.tensor(POLICY) if logprobs is None else logprobs
    return LossInputs(
        logprobs=logprobs,
        old_logprobs=logprobs.detach(),
        ref_logprobs=torch.tensor(POLICY) - torch.tensor(DRIFT),
        mask=torch.tensor(mask),
        advantages=torch.zeros(1, 3),
        rewards=torch.zeros(1, 3),
        is_target=torch.tensor([target]),
        totals=StepTotals(num_groups=2, num_candidates=6, num_tokens=8, longest_title=2),
    )


def test_s_dpo_by_hand():
    """exp(D_neg - D_target) are 2/6 and 3/6: log(1 + 5/6), over two groups."""
    loss, metrics = s_dpo()(inputs_of())
    assert loss.item() == pytest.approx(math.log(11 / 6) / 2)
    assert metrics["loss/preference"].item() == pytest.approx(math.log(11 / 6) / 2)
    assert metrics["preference/accuracy"].item() == 0.5
    assert metrics["preference/margin"].item() == pytest.approx(math.log(2) / 2)


def test_dpo_by_hand():
    """The best-ranked negative alone: log(1 + 2/6)."""
    loss, metrics = dpo(beta=1.0)(inputs_of())
    assert loss.item() == pytest.approx(math.log(4 / 3) / 2)
    assert metrics["preference/margin"].item() == pytest.approx(math.log(3) / 2)


def test_beta_scales_the_log_ratio():
    """(2/6)^2 + (3/6)^2 = 13/36."""
    assert s_dpo(beta=2.0)(inputs_of())[0].item() == pytest.approx(math.log(49 / 36) / 2)


def test_the_gradient_by_hand():
    """The target gets -beta p / 2 on each of its tokens, the negatives +beta p / 2, p = 5 / 11.

    Here shared 2 to 3 by the negatives; every kept token of a title gets what the title gets.
    """
    logprobs = torch.tensor(POLICY, requires_grad=True)
    s_dpo()(inputs_of(logprobs=logprobs))[0].backward()
    expected = torch.tensor([[[2.0, 2.0], [-5.0, 0.0], [3.0, 0.0]]]) / 22
    torch.testing.assert_close(logprobs.grad, expected)


def test_sprec_adds_the_likelihood_of_the_target():
    """-(-3) over two groups, half of it."""
    loss, metrics = sprec(beta=1.0, sft_weight=0.5)(inputs_of())
    assert metrics["loss/sft"].item() == pytest.approx(1.5)
    assert loss.item() == pytest.approx(math.log(4 / 3) / 2 + 0.5 * 1.5)
    all_negatives, _ = sprec(beta=1.0, sft_weight=0.5, preference=s_dpo)(inputs_of())
    assert all_negatives.item() == pytest.approx(math.log(11 / 6) / 2 + 0.5 * 1.5)


@pytest.mark.parametrize("target", [(False, False, False), (True, True, True)])
@pytest.mark.parametrize("loss", [dpo(), s_dpo()])
def test_a_group_without_a_pair_adds_nothing(loss, target):
    """Neither value nor gradient nor metrics."""
    logprobs = torch.tensor(POLICY, requires_grad=True)
    value, metrics = loss(inputs_of(target=target, logprobs=logprobs))
    value.backward()
    assert value.item() == 0
    assert (logprobs.grad == 0).all()
    assert all(metric.item() == 0 for metric in metrics.values())


def test_an_empty_slot_is_no_negative():
    """A candidate without a token is not there."""
    mask = [[[False, False], [True, False], [True, False]]]
    for loss in (dpo(beta=1.0), s_dpo()):
        assert loss(inputs_of(mask=mask))[0].item() == pytest.approx(math.log(3 / 2) / 2)


def test_a_second_copy_of_the_target_is_no_negative():
    """It is the target once."""
    inputs = inputs_of(target=(True, False, True))
    inputs = replace(inputs, ref_logprobs=inputs.ref_logprobs.clone())
    inputs.ref_logprobs[0, 2] = inputs.logprobs[0, 2] - torch.tensor([math.log(2), 7.0])
    assert s_dpo()(inputs)[0].item() == pytest.approx(math.log(1 + 6 / 2) / 2)


@pytest.mark.parametrize("loss", [dpo, s_dpo, sprec])
def test_beta_must_be_positive(loss):
    """At 0 there is no preference."""
    with pytest.raises(ValueError, match=r"`beta` \(=0\) must be positive"):
        loss(beta=0)
