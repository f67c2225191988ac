"""A batch of examples: drawing rows from it."""

import numpy as np
import pytest

from rere_env.types import Batch


@pytest.fixture
def batch():
    """Ten rows; row i is of user i."""
    rows = np.arange(10)
    return Batch(user=rows, history=rows[:, None], target=rows, target_title=rows)


def test_a_sample_is_of_distinct_rows_in_their_order(batch):
    """As `choice` without replacement draws them, sorted."""
    expected = sorted(np.random.default_rng(7).choice(10, 4, replace=False).tolist())
    drawn = batch.sample(4, np.random.default_rng(7))
    assert drawn.user.tolist() == expected
    assert drawn.history[:, 0].tolist() == expected
    assert len(set(expected)) == 4


@pytest.mark.parametrize("num", [10, 11])
def test_a_sample_of_all_rows_is_the_batch(batch, num):
    """Nothing is drawn: the generator stands where it stood."""
    rng = np.random.default_rng(0)
    assert batch.sample(num, rng) is batch
    assert rng.integers(1 << 30) == np.random.default_rng(0).integers(1 << 30)


def test_a_sample_of_nothing_is_an_error(batch):
    """It would measure nothing."""
    with pytest.raises(ValueError, match=r"`num` \(=0\) must be at least 1"):
        batch.sample(0, np.random.default_rng(0))
