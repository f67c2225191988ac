"""How sure a mean over rows is: the bootstrap over users, p-values, Holm's correction.

Rows of one user share their history, so they are not independent. What is drawn with replacement
is users, each with all of their rows, and the statistic of a draw is the mean over its rows: the
ratio of two sums over the drawn users (cluster bootstrap: Davison & Hinkley, Bootstrap Methods and
their Application, 1997, section 3.8, strategy 1; Field & Welsh, J. R. Stat. Soc. B 69, 2007).
Where each user has one row, this is the bootstrap over rows. Knows nothing of what was measured.

# B rows, U users, R resamples, M metrics
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rere_env.metrics import Metric
from rere_env.types import FloatArray, IntArray

__all__ = [
    "LEVEL",
    "NUM_RESAMPLES",
    "Difference",
    "about_intervals",
    "bootstrap_interval",
    "bootstrap_means",
    "count_users",
    "holm",
    "p_value",
    "paired_bootstrap",
    "percentiles",
]

NUM_RESAMPLES = 10_000
"""Draws of all users, where nothing else is asked for; a tenth of a second for 1,000 users."""

LEVEL = 0.95
"""Of intervals, where nothing else is asked for."""

MAX_DRAWS = 250_000  # users drawn at a time: 2 MB, which stay in the processor's cache
ROUNDING = 1e-12  # a resampled difference this small is none: sums in another order differ by less


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Metric):
    """A difference between two means over the same rows.

    Attributes:
        p_value: Two-sided, of the hypothesis that there is none, as `p_value` defines it; None
            where there is no interval.
    """

    p_value: float | None = None


def count_users(users: IntArray) -> int:
    """Count the different users of rows [B]."""
    return len(np.unique(users))


def about_intervals(num_resamples: int, level: float = LEVEL) -> dict[str, str | int | float]:
    """Return what a file of results says of its intervals: method, unit, resamples, level."""
    return {
        "method": "percentile bootstrap",
        "unit": "user",
        "num_resamples": num_resamples,
        "level": level,
    }


def bootstrap_means(
    values: FloatArray,
    users: IntArray,
    rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
) -> NDArray[np.float64]:
    """Return the means [R] or [R, M] of `values` over the rows of users drawn with replacement.

    The M columns share their draws. A draw takes as many users as there are, in ascending order of
    their numbers; memory stays bounded, whatever B.

    Args:
        values: [B] or [B, M].
        users: [B] whose row each is; any integers.
        rng: Draws users.
        num_resamples: R.

    Raises:
        ValueError: Fewer than two users, no resample, or values without a user.
    """
    _check_rows(values, users)
    sums, counts = _by_user(values, users)
    num_users = len(counts)
    if num_users < 2 or num_resamples < 1:
        raise ValueError(
            f"the bootstrap needs at least two users and one resample; got {num_users} users in "
            f"{len(users)} rows and `num_resamples` (={num_resamples}). Measure more users, or "
            "give the mean without an interval."
        )
    totals = np.column_stack([sums, counts])  # [U, M + 1]
    means = np.empty((num_resamples, totals.shape[1] - 1))
    block = max(MAX_DRAWS // num_users, 1)
    for start in range(0, num_resamples, block):
        size = min(block, num_resamples - start)
        draws = rng.integers(num_users, size=(size, num_users))
        draws += np.arange(size)[:, None] * num_users
        times = np.bincount(draws.reshape(-1), minlength=size * num_users)  # each user was drawn
        drawn = times.reshape(size, num_users) @ totals
        means[start : start + size] = drawn[:, :-1] / drawn[:, -1:]
    return means.reshape(num_resamples, *values.shape[1:])


def bootstrap_interval(
    values: FloatArray,
    users: IntArray,
    rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Return the percentile interval of the mean of `values` [B], rows of `users` [B].

    >>> bootstrap_interval(np.ones(5), np.array([0, 0, 0, 1, 2]), np.random.default_rng(0))
    (1.0, 1.0)
    """
    low, high = percentiles(bootstrap_means(values, users, rng, num_resamples), level)
    return float(low), float(high)


def paired_bootstrap(
    a: FloatArray,
    b: FloatArray,
    users: IntArray,
    rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> Difference:
    """Return mean(a) - mean(b) with its interval and p-value.

    `a`, `b` and `users` [B] belong to the same rows. Of a single user nothing can be said about
    others: then there is neither interval nor p-value.

    Raises:
        ValueError: Other shapes, no rows at all, or no resample.
    """
    if a.shape != b.shape:
        raise ValueError(f"paired values belong to the same rows; got {a.shape} and {b.shape}.")
    _check_rows(a, users)
    if count_users(users) == 1:
        return Difference(value=float((a - b).mean()))
    means = bootstrap_means(a - b, users, rng, num_resamples)
    low, high = percentiles(means, level)
    value = float((a - b).mean())
    # Where all rows agree, the resampled means may differ from the mean by rounding.
    return Difference(
        value=value,
        low=min(float(low), value),
        high=max(float(high), value),
        p_value=p_value(means),
    )


def p_value(means: FloatArray) -> float:
    """Return the two-sided p-value of "no difference" from resampled differences [R].

    p = min(1, 2 min(1 + #{means <= 0}, 1 + #{means >= 0}) / (R + 1)): the percentile interval
    turned round, so that p < .05 where the 95 % interval excludes 0, but for the + 1, which keeps
    p above 0 (Davison & Hinkley 1997, section 4.2). No p is below 2 / (R + 1).

    >>> p_value(np.array([-1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]))
    0.5
    """
    not_above = 1 + int((means <= ROUNDING).sum())
    not_below = 1 + int((means >= -ROUNDING).sum())
    return min(1.0, 2 * min(not_above, not_below) / (len(means) + 1))


def holm(p_values: Sequence[float] | FloatArray) -> NDArray[np.float64]:
    """Return p-values [M] corrected for being M, in the order given.

    The i-th smallest becomes max over j <= i of (M - j + 1) p_(j), at most 1; who calls those
    below .05 shown errs in any of them with a probability of at most .05, however they depend on
    each other (Holm, Scand. J. Stat. 6, 1979).

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, np.float64)
    if given.ndim != 1 or not ((given >= 0) & (given <= 1)).all():
        raise ValueError(f"`p_values` (={given.tolist()}) must be a list of numbers in 0..1.")
    order = np.argsort(given, kind="stable")
    steps = given[order] * np.arange(len(given), 0, -1)
    corrected = np.empty_like(given)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def percentiles(means: FloatArray, level: float) -> NDArray[np.float64]:
    """Return the lower and upper end of the central `level` of resampled means, [2] or [2, M]."""
    if not 0 < level < 1:
        raise ValueError(f"`level` (={level}) must lie between 0 and 1, for example 0.95.")
    ends: NDArray[np.float64] = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return ends


def _check_rows(values: FloatArray, users: IntArray) -> None:
    if users.shape != values.shape[:1]:
        raise ValueError(
            f"`users` must name the user of each row; got {users.shape} users for values of shape "
            f"{values.shape}."
        )


def _by_user(
    values: FloatArray, users: IntArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sums [U, M] of values and the counts [U] of rows, users ascending."""
    if len(users) == 0:
        return np.zeros((0, 1)), np.zeros(0)
    order = np.argsort(users, kind="stable")
    ordered = users[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])  # of each user
    rows = values.reshape(len(users), -1)[order].astype(np.float64)
    return np.add.reduceat(rows, first, axis=0), np.diff(np.r_[first, len(users)]).astype(float)
