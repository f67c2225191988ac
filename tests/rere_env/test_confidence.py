from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rere_env import confidence

FEW = settings(max_examples=50, deadline=None)


def drawn_rows(values, users, rng, num_resamples):
    """Plain oracle: draw users, put all of their rows one after the other, take the mean."""
    known = np.unique(users)
    means = []
    for _ in range(num_resamples):
        drawn = known[rng.integers(len(known), size=len(known))]
        means.append(np.concatenate([values[users == user] for user in drawn]).mean(axis=0))
    return np.array(means)


def row_bootstrap(values, rng, num_resamples):
    """Plain oracle: draw rows."""
    num_rows = len(values)
    return np.array(
        [values[rng.integers(num_rows, size=num_rows)].mean(axis=0) for _ in range(num_resamples)]
    )


def clustered(rng, num_users=80, mean=0.3):
    """Rows of users who differ: 1 to 9 rows each, spread .5 within and 1 between users."""
    counts = rng.integers(1, 10, num_users)
    users = np.repeat(np.arange(num_users), counts)
    own = rng.normal(mean, 1.0, num_users)
    return own[users] + rng.normal(0, 0.5, len(users)), users


@st.composite
def rows_of_users(draw, min_users=2):
    """Return values [B] and users [B]; their numbers have gaps, their rows are mixed."""
    num_users = draw(st.integers(min_users, 8))
    numbers = draw(
        st.lists(st.integers(-5, 10**6), min_size=num_users, max_size=num_users, unique=True)
    )
    counts = draw(st.lists(st.integers(1, 5), min_size=num_users, max_size=num_users))
    users = np.repeat(numbers, counts)
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    return rng.normal(size=len(users)), rng.permutation(users)


def test_means_by_hand():
    """User 3 has rows 1 and 2, user 7 has 6: drawn in any way, the means are 1.5, 3 or 6."""
    values, users = np.array([1.0, 6.0, 2.0]), np.array([3, 7, 3])
    means = confidence.bootstrap_means(values, users, np.random.default_rng(0), 400)
    found, times = np.unique(means, return_counts=True)
    assert found.tolist() == [1.5, 3.0, 6.0]
    assert times / 400 == pytest.approx([0.25, 0.5, 0.25], abs=0.08)


@pytest.mark.parametrize("max_draws", [1, 21, 10**6])
def test_sums_of_users_give_what_their_rows_give(monkeypatch, max_draws):
    """Resampled sums and counts, in blocks of any size, equal rows put one after the other."""
    rng = np.random.default_rng(1)
    users = np.array([5, 2, 2, 9, 5, 5, 0, 2, 9, 4, 4])
    values = rng.normal(size=(11, 3))
    monkeypatch.setattr(confidence, "MAX_DRAWS", max_draws)
    means = confidence.bootstrap_means(values, users, np.random.default_rng(5), 30)
    assert means == pytest.approx(drawn_rows(values, users, np.random.default_rng(5), 30))
    first = confidence.bootstrap_means(values[:, 0], users, np.random.default_rng(5), 30)
    assert first == pytest.approx(means[:, 0])


@given(rows_of_users(), st.integers(0, 10**6))
@FEW
def test_any_users_give_what_their_rows_give(rows, seed):
    """Numbers with gaps, rows in any order."""
    means = confidence.bootstrap_means(*rows, np.random.default_rng(seed), 5)
    assert means == pytest.approx(drawn_rows(*rows, np.random.default_rng(seed), 5))


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12), st.integers(0, 10**6))
@FEW
def test_a_row_a_user_is_the_bootstrap_over_rows(values, seed):
    """The same draws give the same means."""
    values = np.array(values)
    users = np.arange(len(values)) * 3
    means = confidence.bootstrap_means(values, users, np.random.default_rng(seed), 20)
    expected = row_bootstrap(values, np.random.default_rng(seed), 20)
    assert means == pytest.approx(expected, abs=1e-9)


@given(rows_of_users(), st.integers(2, 4), st.integers(0, 10**6))
@FEW
def test_copies_of_rows_are_no_evidence(rows, num_copies, seed):
    """Each row told several times over leaves the interval where it was."""
    values, users = rows
    once = confidence.bootstrap_interval(values, users, np.random.default_rng(seed), 40)
    again = confidence.bootstrap_interval(
        np.repeat(values, num_copies),
        np.repeat(users, num_copies),
        np.random.default_rng(seed),
        40,
    )
    assert again == pytest.approx(once)


@given(rows_of_users(), st.integers(0, 10**6))
@FEW
def test_the_order_of_the_rows_does_not_matter(rows, seed):
    """Mixed rows have the same interval."""
    values, users = rows
    order = np.random.default_rng(seed).permutation(len(values))
    once = confidence.bootstrap_interval(values, users, np.random.default_rng(seed), 40)
    mixed = confidence.bootstrap_interval(
        values[order], users[order], np.random.default_rng(seed), 40
    )
    assert mixed == pytest.approx(once)


def test_the_interval_covers_the_mean_of_users_that_differ():
    """Of 95 % intervals over users about 95 % hold the true mean; over rows far fewer do."""
    rng = np.random.default_rng(0)
    covered = {"user": 0, "row": 0}
    for _ in range(300):
        values, users = clustered(rng)
        for unit, clusters in (("user", users), ("row", np.arange(len(users)))):
            low, high = confidence.bootstrap_interval(values, clusters, rng, 300)
            covered[unit] += low <= 0.3 <= high
    assert 0.91 <= covered["user"] / 300 <= 0.98
    assert covered["row"] / 300 <= 0.75


def test_the_p_value_is_true_where_there_is_no_difference():
    """Of pairs that do not differ about 5 % have p below .05; by rows far more would."""
    rng = np.random.default_rng(0)
    below = {"user": 0, "row": 0}
    for _ in range(300):
        difference, users = clustered(rng, mean=0.0)
        shared = rng.normal(size=len(users))
        for unit, clusters in (("user", users), ("row", np.arange(len(users)))):
            found = confidence.paired_bootstrap(shared + difference, shared, clusters, rng, 300)
            below[unit] += found.p_value < 0.05
    assert 0.02 <= below["user"] / 300 <= 0.09
    assert below["row"] / 300 >= 0.25


def test_the_interval_shrinks_with_the_root_of_the_users():
    """Sixteen times the users, a quarter of the width."""
    rng = np.random.default_rng(0)
    widths = []
    for num_users in (100, 1600):
        low, high = confidence.bootstrap_interval(*clustered(rng, num_users), rng, 1000)
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.2)


def test_a_constant_has_an_interval_of_no_width():
    """Users who agree leave no doubt."""
    users = np.array([0, 0, 1, 2, 2])
    assert confidence.bootstrap_interval(np.ones(5), users, np.random.default_rng(0)) == (1.0, 1.0)


def test_pairing_removes_what_both_share():
    """A small steady advantage shows in pairs though the single intervals overlap widely."""
    rng = np.random.default_rng(0)
    b, users = clustered(rng, num_users=200)
    a = b + 0.05 + rng.normal(size=len(b)) * 0.1
    difference = confidence.paired_bootstrap(a, b, users, rng, 1000)
    assert difference.value == pytest.approx((a - b).mean())
    assert 0 < difference.low < difference.value < difference.high
    assert difference.p_value == pytest.approx(2 / 1001)
    intervals = [confidence.bootstrap_interval(values, users, rng) for values in (a, b)]
    assert all(first[0] < second[1] for first, second in pairwise([*intervals, intervals[0]]))


def test_the_p_value_by_hand():
    """Of nine resamples one is negative and one zero: 2 x (1 + 2) / 10."""
    means = np.array([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    assert confidence.p_value(means) == pytest.approx(0.6)
    assert confidence.p_value(-means) == pytest.approx(0.6)
    assert confidence.p_value(np.ones(9)) == pytest.approx(0.2)
    assert confidence.p_value(np.array([1e-17, -1e-17, 0.0])) == 1.0


def test_what_does_not_differ_has_a_p_value_of_one():
    """The same values twice."""
    values, users = clustered(np.random.default_rng(0))
    found = confidence.paired_bootstrap(values, values, users, np.random.default_rng(0), 50)
    assert (found.value, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_holm_by_hand():
    """.01 x 4, .02 x 3, .03 x 2, .04 x 1 rise to .06 at most, in the order given."""
    assert confidence.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert confidence.holm([0.005, 0.9, 0.6]) == pytest.approx([0.015, 1.0, 1.0])
    assert confidence.holm([0.2]).tolist() == [0.2]
    assert confidence.holm([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
@FEW
def test_holm_raises_and_keeps_the_order(p_values):
    """No p falls, none passes Bonferroni's, and the smaller stays the smaller."""
    given_p = np.array(p_values)
    corrected = confidence.holm(given_p)
    assert (corrected >= given_p).all()
    assert (corrected <= np.minimum(given_p * len(given_p), 1)).all()
    order = np.argsort(given_p, kind="stable")
    assert (np.diff(corrected[order]) >= 0).all()


def test_of_a_single_user_a_difference_is_all_that_is_known():
    """No interval, no p-value."""
    one = np.zeros(3, int)
    found = confidence.paired_bootstrap(np.ones(3), np.zeros(3), one, np.random.default_rng(0))
    assert found == confidence.Difference(value=1.0)
    assert (found.low, found.high, found.p_value) == (None, None, None)


ALONE = np.arange(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: confidence.bootstrap_interval(np.zeros(0), ALONE[:0], rng), "0 users in 0"),
        (lambda rng: confidence.bootstrap_interval(np.ones(3), ALONE * 0, rng), "1 users in 3"),
        (lambda rng: confidence.bootstrap_interval(np.ones(3), ALONE, rng, 0), "num_resamples"),
        (lambda rng: confidence.bootstrap_interval(np.ones(3), ALONE, rng, level=95), "level"),
        (lambda rng: confidence.bootstrap_interval(np.ones(3), ALONE[:2], rng), "`users`"),
        (lambda rng: confidence.paired_bootstrap(np.ones(3), np.ones(2), ALONE, rng), "same rows"),
        (lambda rng: confidence.paired_bootstrap(np.ones(2), np.ones(2), ALONE * 0, rng), "users"),
        (
            lambda rng: confidence.paired_bootstrap(np.ones(0), np.ones(0), ALONE[:0], rng),
            "two users",
        ),
        (lambda rng: confidence.holm([0.5, np.nan]), "p_values"),
        (lambda rng: confidence.holm([1.5]), "p_values"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    """Rule, value and remedy instead of NaN or a made-up interval."""
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0))
