"""Interactions to samples: literal examples, and a slow plain oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rere_env.data.splits import (
    NO_TIME,
    Samples,
    chronological_splits,
    core_rows,
    leave_one_out_splits,
)


def rows(samples: Samples) -> list[tuple[int, list[int], int]]:
    """(user, history without padding, target) of every row."""
    return [
        (int(user), [int(i) for i in history if i >= 0], int(target))
        for user, history, target in zip(samples.user, samples.history, samples.target, strict=True)
    ]


def test_every_later_position_is_a_sample_with_the_items_before_it():
    """A user's first item is only ever history."""
    splits = chronological_splits(
        np.array([7, 7, 7]),
        np.array([3, 1, 2]),
        np.array([10, 20, 30]),
        history_length=5,
        fractions=(1, 0, 0),
    )
    assert rows(splits["train"]) == [(7, [3], 1), (7, [3, 1], 2)]
    assert splits["train"].history.tolist() == [[3, -1, -1, -1, -1], [3, 1, -1, -1, -1]]
    assert splits["train"].timestamp.tolist() == [20, 30]


def test_a_long_history_keeps_its_last_items_and_says_so():
    """The last H items stay, and `num_before` tells how many there were."""
    splits = leave_one_out_splits(np.zeros(5, int), np.arange(5), history_length=2)
    assert rows(splits["test"]) == [(0, [2, 3], 4)]
    assert splits["test"].num_before.tolist() == [4]
    assert splits["train"].num_before.tolist() == [1, 2]


def test_samples_are_cut_by_global_time():
    """User 1 is early and user 0 late: the split follows the clock, not the users."""
    user = np.array([0, 0, 0, 1, 1, 1])
    time = np.array([50, 60, 70, 10, 20, 30])
    splits = chronological_splits(
        user, np.arange(6), time, history_length=3, fractions=(0.5, 0.25, 0.25)
    )
    assert rows(splits["train"]) == [(1, [3], 4), (1, [3, 4], 5)]
    assert rows(splits["valid"]) == [(0, [0], 1)]
    assert rows(splits["test"]) == [(0, [0, 1], 2)]


def test_equal_timestamps_keep_the_order_of_the_rows():
    """Users are interleaved and everything ties: rows come out as they went in."""
    user = np.array([1, 0, 1, 0])
    splits = chronological_splits(
        user, np.array([5, 6, 7, 8]), np.zeros(4, int), history_length=3, fractions=(1, 0, 0)
    )
    assert rows(splits["train"]) == [(1, [5], 7), (0, [6], 8)]


def test_unsorted_rows_are_sorted_by_user_and_time():
    """The file need not be sorted."""
    splits = chronological_splits(
        np.array([0, 1, 0, 1]),
        np.array([10, 20, 11, 21]),
        np.array([9, 4, 2, 3]),
        history_length=3,
        fractions=(1, 0, 0),
    )
    assert rows(splits["train"]) == [(1, [21], 20), (0, [11], 10)]


@pytest.mark.parametrize(
    ("fractions", "sizes"),
    [((0.8, 0.1, 0.1), [8, 1, 1]), ((0.7, 0.1, 0.2), [7, 1, 2]), ((0.55, 0.0, 0.45), [5, 0, 5])],
)
def test_the_ends_of_the_shares_are_rounded_down(fractions, sizes):
    """0.7 + 0.1 is a hair below 0.8, and no row is lost to that."""
    splits = chronological_splits(
        np.zeros(11, int), np.arange(11), np.arange(11), history_length=2, fractions=fractions
    )
    assert [len(splits[name]) for name in ("train", "valid", "test")] == sizes


@pytest.mark.parametrize("fractions", [(0.8, 0.1), (0.8, 0.1, 0.2), (1.1, -0.1, 0.0)])
def test_shares_that_are_no_partition_are_refused(fractions):
    """Three shares, none negative, sum 1."""
    with pytest.raises(ValueError, match="must be three shares that sum to 1"):
        chronological_splits(
            np.zeros(2, int), np.arange(2), np.arange(2), history_length=2, fractions=fractions
        )


def test_a_history_needs_room_for_one_item():
    """H = 0 leaves nothing to recommend from."""
    with pytest.raises(ValueError, match=r"`history_length` \(=0\) must be at least 1"):
        leave_one_out_splits(np.zeros(2, int), np.arange(2), history_length=0)


def test_leave_one_out_takes_the_last_two_of_each_user():
    """Two interactions give a test row only; one gives none."""
    user = np.array([0, 0, 0, 0, 1, 1, 2])
    splits = leave_one_out_splits(user, np.arange(7), history_length=3)
    assert rows(splits["train"]) == [(0, [0], 1)]
    assert rows(splits["valid"]) == [(0, [0, 1], 2)]
    assert rows(splits["test"]) == [(0, [0, 1, 2], 3), (1, [4], 5)]
    assert splits["test"].timestamp.tolist() == [NO_TIME, NO_TIME]


def test_leave_one_out_follows_time_where_there_is_one():
    """The last item is the latest one."""
    splits = leave_one_out_splits(
        np.zeros(3, int), np.array([4, 5, 6]), np.array([3, 1, 2]), history_length=3
    )
    assert rows(splits["test"]) == [(0, [5, 6], 4)]


def test_no_interactions_give_empty_splits():
    """Nothing in, nothing out."""
    none = np.zeros(0, int)
    splits = chronological_splits(none, none, none, history_length=3)
    assert [len(samples) for samples in splits.values()] == [0, 0, 0]
    assert splits["train"].history.shape == (0, 3)


LOG = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 5)), max_size=30)


@given(LOG, st.integers(1, 4))
def test_chronological_splits_equal_a_plain_loop(log, history_length):
    """The vectorised split gives the rows of the obvious program, in its order."""
    expected = []
    for line, (user, item, time) in enumerate(log):
        before = [
            (t, n, i) for n, (u, i, t) in enumerate(log) if u == user and (t, n) < (time, line)
        ]
        if before:
            history = [i for _, _, i in sorted(before)][-history_length:]
            expected.append((time, line, (user, history, item)))
    table = np.array(log, int).reshape(-1, 3)
    splits = chronological_splits(*table.T, history_length=history_length)
    found = [row for samples in splits.values() for row in rows(samples)]
    assert found == [row for _, _, row in sorted(expected)]


def test_the_core_drops_a_rare_item_and_then_the_user_who_is_left_short():
    """Item 2 is rare; without it user 1 has one row; without that item 1 is rare."""
    user = np.array([0, 0, 2, 2, 1, 1])
    item = np.array([0, 3, 0, 3, 0, 2])
    assert core_rows(user, item, 2).tolist() == [True, True, True, True, False, False]


@given(LOG, st.integers(0, 3))
def test_the_core_is_the_largest_set_in_which_all_are_frequent(log, least):
    """Dropping rows one at a time, until every user and item is frequent, ends at the same set."""
    left = dict(enumerate(log))
    while True:
        rare = [
            row
            for row, (user, item, _) in left.items()
            if sum(u == user for u, _, _ in left.values()) < least
            or sum(i == item for _, i, _ in left.values()) < least
        ]
        if not rare:
            break
        del left[rare[0]]
    table = np.array(log, int).reshape(-1, 3)
    assert np.flatnonzero(core_rows(table[:, 0], table[:, 1], least)).tolist() == list(left)
