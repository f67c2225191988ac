"""The global generators, lent and given back."""

import random

import numpy as np
import pytest
import torch

from agents.randomness import own_generators


def state():
    """What the three would draw next."""
    return (
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        torch.get_rng_state().tolist(),
    )


def draws():
    """One number of each."""
    return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002


def test_they_go_on_where_they_were_after_an_error_too():
    """Whatever was drawn inside."""
    before = state()
    with own_generators(5):
        draws()
    assert state() == before
    with pytest.raises(ZeroDivisionError), own_generators(5):
        _ = draws()[0] / 0
    assert state() == before


def test_a_seed_decides_what_is_drawn():
    """Without one they go on as they are."""
    with own_generators(5):
        first = draws()
    with own_generators(5):
        assert draws() == first
    with own_generators():
        assert draws() != first
