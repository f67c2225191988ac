"""Ragged segments against a loop over them."""

import torch

from agents.language_model.segments import compute_dtype, segment_log_softmax, segment_sum

SEGMENT = torch.tensor([0, 0, 2, 2, 2, 3])


def test_segment_sum_adds_what_belongs_together():
    """A segment without values sums to 0."""
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert segment_sum(values, SEGMENT, 4).tolist() == [3.0, 0.0, 12.0, 6.0]


def test_segment_log_softmax_is_log_softmax_of_each_segment():
    """Values and gradients, with an empty segment in between and logits of any size."""
    logits = torch.tensor([1e4, 1e4 - 2, -3.0, 0.5, 80.0, -1e4], requires_grad=True)
    ours = segment_log_softmax(logits, SEGMENT, 4)
    plain = torch.cat([torch.log_softmax(logits[s == SEGMENT], 0) for s in (0, 2, 3)])
    torch.testing.assert_close(ours, plain)
    weight = torch.arange(6.0)
    (gradient,) = torch.autograd.grad(ours @ weight, logits)
    (expected,) = torch.autograd.grad(plain @ weight, logits)
    torch.testing.assert_close(gradient, expected)


def test_segment_log_softmax_of_half_precision_is_float32():
    """Probabilities of bf16 logits are computed in float32."""
    logits = torch.zeros(6, dtype=torch.bfloat16)
    logprobs = segment_log_softmax(logits, SEGMENT, 4)
    assert logprobs.dtype == torch.float32
    assert abs(logprobs[2].item() + 1.0986123) < 1e-6


def test_products_are_computed_in_autocasts_dtype():
    """Where it is on; elsewhere in that of the weights."""
    cpu = torch.device("cpu")
    assert compute_dtype(cpu, torch.float64) == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert compute_dtype(cpu, torch.float64) == torch.bfloat16
