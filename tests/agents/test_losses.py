"""The loss, worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.losses import grpo, k3, log_ratio_percentile, sequence_mean
from agents.types import LossInputs, StepTotals

MASK = torch.tensor([[[True, True], [True, False]]])


def inputs_of(logprobs, *, reference=None, kl=None, num_candidates=4):
    """One prompt, two candidates of two and one kept tokens, advantages 2 and -1."""
    logprobs = torch.tensor(logprobs) if isinstance(logprobs, list) else logprobs
    return LossInputs(
        logprobs=logprobs,
        old_logprobs=logprobs.detach(),
        ref_logprobs=logprobs.detach() if reference is None else torch.tensor(reference),
        mask=MASK,
        advantages=torch.tensor([[2.0, -1.0]]),
        rewards=torch.zeros(1, 2),
        is_target=torch.zeros(1, 2, dtype=torch.bool),
        totals=StepTotals(
            num_groups=num_candidates // 2,
            num_candidates=num_candidates,
            num_tokens=3 * num_candidates // 2,
            longest_title=3,
        ),
        exact_kl=None if kl is None else torch.tensor(kl),
    )


LOGPROBS = [[[-1.0, -2.0], [-0.5, 0.0]]]


def test_policy_and_kl_terms_by_hand():
    """Means over each candidate's tokens, then over the four candidates of the step."""
    inputs = inputs_of(LOGPROBS, kl=[[[0.1, 0.3], [0.5, 9.0]]])
    loss, metrics = grpo(beta=0.1)(inputs)
    # Policy: -((2 + 2) / 2 - 1) / 4. KL: ((.1 + .3) / 2 + .5) / 4; the 9 is padding.
    assert metrics["loss/policy"].item() == pytest.approx(-0.25)
    assert metrics["loss/kl"].item() == pytest.approx(0.175)
    assert loss.item() == pytest.approx(-0.25 + 0.1 * 0.175)


def test_k3_term_by_hand():
    """The estimator from the chosen tokens: e^d - d - 1 with d = reference - policy."""
    reference = [[[-1.0 + math.log(2), -2.0], [-0.5, 5.0]]]
    _, metrics = grpo(kl="k3")(inputs_of(LOGPROBS, reference=reference))
    assert metrics["loss/kl"].item() == pytest.approx((1 - math.log(2)) / 2 / 4)


def test_the_gradient_is_that_of_reinforce():
    """At ratio 1 each token's log-probability gets -A / (|y| N), the padding 0."""
    logprobs = torch.tensor(LOGPROBS, requires_grad=True)
    loss, _ = grpo(beta=0.0, kl="k3")(inputs_of(logprobs))
    loss.backward()
    expected = torch.tensor([[[-2 / 2 / 4, -2 / 2 / 4], [1 / 4, 0.0]]])
    torch.testing.assert_close(logprobs.grad, expected)


def test_the_kl_pulls_towards_the_reference():
    """Its gradient raises what the reference likes better."""
    logprobs = torch.tensor(LOGPROBS, requires_grad=True)
    inputs = inputs_of(logprobs, reference=[[[-0.5, -2.5], [-0.5, 0.0]]])
    loss, _ = grpo(beta=1.0, kl="k3")(inputs)
    policy, _ = grpo(beta=0.0, kl="k3")(inputs)
    (gradient,) = torch.autograd.grad(loss - policy, logprobs)
    assert gradient[0, 0, 0] < 0 < gradient[0, 0, 1]
    assert (gradient[0, 1] == 0).all()


def test_parts_of_a_step_add_up():
    """The denominator is the whole step's, so two parts sum to the loss of both together."""
    inputs = inputs_of(LOGPROBS, kl=[[[0.1, 0.3], [0.5, 9.0]]])
    whole = grpo()(inputs)[0]
    twice = LossInputs(
        **{
            name: torch.cat([getattr(inputs, name)] * 2)
            for name in (
                "logprobs",
                "old_logprobs",
                "ref_logprobs",
                "mask",
                "advantages",
                "rewards",
                "is_target",
                "exact_kl",
            )
        },
        totals=inputs.totals,
    )
    assert grpo()(twice)[0].item() == pytest.approx(2 * whole.item())


def test_exact_kl_under_vocabulary_support_is_an_error():
    """Nothing knows the sum over all tokens; the message names the way out."""
    with pytest.raises(ValueError, match='use kl="k3" with support="vocabulary"'):
        grpo(kl="exact")(inputs_of(LOGPROBS))


FINITE = st.floats(-1e4, 0, allow_nan=False)


@given(FINITE, FINITE)
def test_k3_is_never_negative_and_never_huge(logprob, reference):
    """The log-ratio is clamped at +-5."""
    value = k3(torch.tensor(logprob), torch.tensor(reference)).item()
    assert -1e-6 <= value <= math.exp(5) - 6 + 1e-3


def test_k3_at_its_clamp():
    """e^5 - 6 where the reference is far likelier, e^-5 + 4 where it is far less likely."""
    values = k3(torch.tensor([-40.0, 0.0, -1.0]), torch.tensor([0.0, -40.0, -1.0]))
    assert values.tolist() == pytest.approx([math.exp(5) - 6, math.exp(-5) + 4, 0.0])


def test_an_empty_candidate_has_mean_zero():
    """No kept token: no division by zero."""
    assert sequence_mean(torch.ones(1, 1, 3), torch.zeros(1, 1, 3)).tolist() == [[0.0]]


def test_the_log_ratio_percentile_counts_kept_tokens_only():
    """Of 0.1, 0.4 and 0.3 (the 9 is padding) the median is 0.3 and the maximum 0.4."""
    reference = [[[-1.1, -1.6], [-0.8, 9.0]]]
    inputs = inputs_of(LOGPROBS, reference=reference)
    assert log_ratio_percentile(inputs, 0.5).item() == pytest.approx(0.3)
    assert log_ratio_percentile(inputs, 1.0).item() == pytest.approx(0.4)
