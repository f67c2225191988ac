"""The KL to the reference, exact or estimated."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.losses import grpo, k3, kl_to_reference

LOGPROBS = [[[-1.0, -2.0], [-0.5, 0.0]]]
REFERENCE = [[[-1.1, -1.6], [-0.8, 9.0]]]


def test_auto_is_exact_where_it_is_known(inputs_of):
    """Else it is k3."""
    exact = [[[0.1, 0.3], [0.5, 0.0]]]
    known, unknown = (inputs_of(LOGPROBS, reference=REFERENCE, kl=kl) for kl in (exact, None))
    assert kl_to_reference(known) is known.exact_kl
    estimated = k3(known.logprobs, known.ref_logprobs)
    torch.testing.assert_close(kl_to_reference(unknown), estimated)
    torch.testing.assert_close(kl_to_reference(known, "k3"), estimated)


def test_exact_kl_under_vocabulary_support_is_an_error(inputs_of):
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
