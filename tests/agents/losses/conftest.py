"""Inputs of losses, small enough to work them out by hand."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from agents.types import LossInputs, StepTotals

MASK = torch.tensor([[[True, True], [True, False]]])


def make_inputs(
    logprobs: Any,
    *,
    old: Sequence[Any] | None = None,
    reference: Sequence[Any] | None = None,
    kl: Sequence[Any] | None = None,
) -> LossInputs:
    """One prompt, two candidates of two and one kept tokens, advantages 2 and -1.

    They are half of the step: 2 groups, 4 candidates, 6 tokens; the longest title has 3.
    """
    logprobs = torch.tensor(logprobs) if isinstance(logprobs, list) else logprobs
    return LossInputs(
        logprobs=logprobs,
        old_logprobs=logprobs.detach() if old is None else torch.tensor(old),
        ref_logprobs=logprobs.detach() if reference is None else torch.tensor(reference),
        mask=MASK,
        advantages=torch.tensor([[2.0, -1.0]]),
        rewards=torch.zeros(1, 2),
        is_target=torch.zeros(1, 2, dtype=torch.bool),
        totals=StepTotals(num_groups=2, num_candidates=4, num_tokens=6, longest_title=3),
        exact_kl=None if kl is None else torch.tensor(kl),
    )


@pytest.fixture(scope="session")
def inputs_of() -> Callable[..., LossInputs]:
    """Make inputs of two candidates from their log-probabilities [1, 2, 2]."""
    return make_inputs
