"""The global generators, lent and given back."""

import random

import numpy as np
import pytest
import torch

from agents.baselines.gru4rec import GRU4Rec
from agents.baselines.sasrec import SASRec
from agents.policy import load_backbone
from agents.randomness import own_generators
from rere_env.worlds import successor


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


@pytest.mark.parametrize("seed", [-1, 2**40, np.int64(5)])
def test_a_seed_may_be_any_integer_that_torch_takes(seed):
    """NumPy's takes 32 bits, and Python's no integer of NumPy."""
    with own_generators(seed):
        first = draws()
    with own_generators(seed):
        assert draws() == first


def test_models_are_drawn_without_seeding_accelerators(monkeypatch):
    """`torch.manual_seed` would seed those for good, whatever was forked."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda _: pytest.fail("seeded for good"))
    load_backbone("scratch:nano", ["Star Quest"], seed=3)
    GRU4Rec(successor().task, seed=3)
    SASRec(successor().task, seed=3)
