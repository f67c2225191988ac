"""A batch of examples: drawing rows from it."""

import numpy as np
import pytest

from rere_env.types import BATCH_COLUMNS, NO_ITEM, OBSERVATION_KEYS, Batch, BatchRows


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


def test_some_rows_of_a_batch_read_like_a_batch_of_them():
    """Column by column and example by example, in the order given."""
    batch = Batch(
        user=np.array([5, 6, 7]),
        history=np.array([[1, 2], [3, NO_ITEM], [NO_ITEM, NO_ITEM]]),
        target=np.array([3, 1, 2]),
        target_title=np.array([4, 0, 9]),
    )
    rows = np.array([2, 0, 0])
    some, expected = BatchRows(batch, rows), batch.take(rows)
    assert len(some) == 3
    for column in ("user", "history", "target", "target_title", "history_length"):
        np.testing.assert_array_equal(getattr(some, column), getattr(expected, column))
    assert list(some) == list(expected)
    assert some[1] == expected[1]
    assert some.take([1]).target.tolist() == [3]
    assert some.take(slice(None)).history.tolist() == expected.history.tolist()


def test_some_rows_are_no_batch_and_gather_only_what_is_read(batch):
    """Nothing of the batch is copied, or even there, until it is asked for."""

    class OnlyTitles:
        target_title = np.array([4, 0, 9])

    some = BatchRows(OnlyTitles(), np.array([2, 1]))
    assert some.target_title.tolist() == [9, 0]
    assert not isinstance(BatchRows(batch, np.array([0])), Batch)


def test_columns_have_their_names_in_order():
    """Adapters unpack them in this order."""
    assert BATCH_COLUMNS == ("user", "history", "target", "target_title")
    assert OBSERVATION_KEYS == ("history", "slate", "prefix")
