"""What holds for every loss, on random groups."""

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.advantages import group_centered, group_normalized
from agents.losses import (
    cispo,
    clipped_surrogate,
    dapo,
    dpo,
    dr_grpo,
    grpo,
    gspo,
    reinforce,
    s_dpo,
    sprec,
)
from agents.types import LossInputs, StepTotals

LOSSES = {
    "grpo": grpo(beta=0.1),
    "reinforce": reinforce(beta=0.1),
    "clipped_surrogate": clipped_surrogate(beta=0.1),
    "dapo": dapo(beta=0.1),
    "dr_grpo": dr_grpo(beta=0.1),
    "gspo": gspo(beta=0.1),
    "cispo": cispo(beta=0.1),
    "dpo": dpo(),
    "s_dpo": s_dpo(),
    "sprec": sprec(),
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


@st.composite
def steps(draw):
    """Up to three groups, padding and empty slots among them, with or without an exact KL."""
    num_groups, group_size, length = draw(st.tuples(*[st.integers(1, 3)] * 3))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    shape = (num_groups, group_size, length)
    sizes = torch.randint(0, length + 1, shape[:2], generator=random)
    mask = torch.arange(length) < sizes[..., None]
    rewards = torch.randint(0, 2, shape[:2], generator=random).float()
    target = torch.randint(0, group_size + 1, (num_groups, 1), generator=random)
    is_target = (torch.arange(group_size) == target) & mask.any(-1)

    def logprobs():
        return -torch.rand(shape, generator=random) * 3 * mask

    return LossInputs(
        logprobs=logprobs(),
        old_logprobs=logprobs(),
        ref_logprobs=logprobs(),
        mask=mask,
        advantages=group_normalized(rewards),
        rewards=rewards,
        is_target=is_target,
        totals=StepTotals(
            num_groups=num_groups + 1,
            num_candidates=int((sizes > 0).sum()) + 2,
            num_tokens=int(sizes.sum()) + 3,
            longest_title=length,
        ),
        exact_kl=-logprobs() if draw(st.booleans()) else None,
    )


def evaluated(loss, inputs):
    """The loss and its metrics in one vector, and the gradient."""
    logprobs = inputs.logprobs.clone().requires_grad_()
    value, metrics = loss(replace(inputs, logprobs=logprobs))
    (gradient,) = torch.autograd.grad(value, logprobs)
    return torch.stack([value.detach(), *metrics.values()]), gradient


@each_loss
@settings(max_examples=30)
@given(inputs=steps(), junk=st.floats(-30, 30))
def test_padding_never_matters(loss, inputs, junk):
    """Neither to the loss nor to its metrics, and it gets no gradient."""

    def padded(values):
        return None if values is None else torch.where(inputs.mask, values, junk)

    names = ("logprobs", "old_logprobs", "ref_logprobs", "exact_kl")
    changed = replace(inputs, **{name: padded(getattr(inputs, name)) for name in names})
    for ours, theirs in zip(evaluated(loss, inputs), evaluated(loss, changed), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert (evaluated(loss, inputs)[1][~inputs.mask] == 0).all()


@each_loss
@settings(max_examples=30)
@given(inputs=steps())
def test_parts_of_a_step_add_up(loss, inputs):
    """The denominators are the whole step's: group by group, losses and metrics sum to the same."""
    tensors = [f.name for f in fields(inputs) if f.name not in ("totals", "exact_kl")]
    tensors += [] if inputs.exact_kl is None else ["exact_kl"]
    parts = [
        evaluated(loss, replace(inputs, **{n: getattr(inputs, n)[row, None] for n in tensors}))
        for row in range(len(inputs.mask))
    ]
    values, gradient = evaluated(loss, inputs)
    torch.testing.assert_close(sum(part for part, _ in parts), values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat([part for _, part in parts]), gradient)


@each_loss
@pytest.mark.parametrize("group_size", [1, 4])
@pytest.mark.parametrize("advantage", [group_normalized, group_centered])
def test_groups_without_signal_stay_finite(loss, group_size, advantage):
    """A group of one, or of equal rewards: no nan in loss, metrics or gradient."""
    logprobs = torch.full((2, group_size, 3), -0.5)
    rewards = torch.full((2, group_size), 0.1)
    inputs = LossInputs(
        logprobs=logprobs,
        old_logprobs=logprobs,
        ref_logprobs=logprobs,
        mask=torch.ones(logprobs.shape, dtype=torch.bool),
        advantages=advantage(rewards),
        rewards=rewards,
        is_target=torch.arange(group_size).expand(2, -1) == 0,
        totals=StepTotals(
            num_groups=2,
            num_candidates=2 * group_size,
            num_tokens=6 * group_size,
            longest_title=3,
        ),
    )
    values, gradient = evaluated(loss, inputs)
    assert values.isfinite().all()
    assert gradient.isfinite().all()


@each_loss
def test_a_catalogue_of_one_title_decides_nothing(loss):
    """No token is kept: the loss is 0."""
    nothing = torch.zeros(1, 1, 1)
    inputs = LossInputs(
        logprobs=nothing,
        old_logprobs=nothing,
        ref_logprobs=nothing,
        mask=nothing.bool(),
        advantages=torch.ones(1, 1),
        rewards=torch.ones(1, 1),
        is_target=torch.ones(1, 1, dtype=torch.bool),
        totals=StepTotals(num_groups=1, num_candidates=1, num_tokens=0, longest_title=0),
    )
    values, gradient = evaluated(loss, inputs)
    assert (values[:1] == 0).all()
    assert (gradient == 0).all()
