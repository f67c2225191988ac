"""Interactions to samples and splits. Arrays in, arrays out.

A sample is one position i >= 1 of a user's sequence: "these items came before, which one came
next?". Knows nothing of files, titles or tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rere_env.ragged import offsets, places
from rere_env.types import NO_ITEM, BoolArray, IntArray

__all__ = ["NO_TIME", "Samples", "chronological_splits", "core_rows", "leave_one_out_splits"]

NO_TIME = int(np.iinfo(np.int64).min)
"""An empty timestamp."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Rows of one split.

    Attributes:
        user: [B] int64.
        history: [B, H] int32 item ids, oldest first, padded on the right with `NO_ITEM`.
        target: [B] int32 item ids.
        timestamp: [B] int64 time of the target, `NO_TIME` where unknown.
        num_before: [B] int64 items before the target; more than H means a truncated history.
    """

    user: IntArray
    history: IntArray
    target: IntArray
    timestamp: IntArray
    num_before: IntArray

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.target)

    def take(self, rows: IntArray | BoolArray | slice) -> "Samples":
        """Select rows, in the order given."""
        return Samples(
            user=self.user[rows],
            history=self.history[rows],
            target=self.target[rows],
            timestamp=self.timestamp[rows],
            num_before=self.num_before[rows],
        )


def chronological_splits(
    user: IntArray,
    item: IntArray,
    timestamp: IntArray,
    *,
    history_length: int,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
) -> dict[str, Samples]:
    """Cut all samples by the time of their targets into train, valid and test: the paper's split.

    The interactions may come in any order. Equal timestamps keep it, inside a user's sequence and
    across users.

    Args:
        user: [E] a user a row.
        item: [E] item ids.
        timestamp: [E] integers.
        history_length: H, the last items that a history keeps.
        fractions: Shares of train, valid and test; each end is rounded down.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"`fractions` (={fractions}) must be three shares that sum to 1.")
    samples, row, _ = _samples(user, item, timestamp, history_length)
    samples = samples.take(np.lexsort((row, samples.timestamp)))
    # 1e-9: 0.7 + 0.1 is a hair below 0.8, which must not cost a row.
    train, valid = (int(len(samples) * share + 1e-9) for share in np.cumsum(fractions)[:2])
    return {
        "train": samples.take(slice(train)),
        "valid": samples.take(slice(train, valid)),
        "test": samples.take(slice(valid, None)),
    }


def leave_one_out_splits(
    user: IntArray,
    item: IntArray,
    timestamp: IntArray | None = None,
    *,
    history_length: int,
) -> dict[str, Samples]:
    """Keep each user's last item for test, the one before for validation, the rest for training.

    Args:
        user: [E] a user a row.
        item: [E] item ids.
        timestamp: [E] integers; None: the order of the rows is the order of time.
        history_length: H, the last items that a history keeps.
    """
    if timestamp is None:
        timestamp = np.full(len(user), NO_TIME)
    samples, _, from_end = _samples(user, item, timestamp, history_length)
    return {
        "train": samples.take(from_end > 1),
        "valid": samples.take(from_end == 1),
        "test": samples.take(from_end == 0),
    }


def core_rows(user: IntArray, item: IntArray, min_interactions: int) -> BoolArray:
    """Mark the interactions whose user and item both keep at least `min_interactions` of them.

    The largest such set: dropping a rare item may make a user rare, and so on to the end.

    Args:
        user: [E] ids from 0.
        item: [E] ids from 0.
        min_interactions: The k of "k-core".
    """
    keep = np.ones(len(user), np.bool_)
    while True:
        per_user = np.bincount(user[keep], minlength=int(user.max(initial=-1)) + 1)
        per_item = np.bincount(item[keep], minlength=int(item.max(initial=-1)) + 1)
        frequent = (per_user[user] >= min_interactions) & (per_item[item] >= min_interactions)
        if not (keep & ~frequent).any():
            return keep
        keep &= frequent


def _samples(
    user: IntArray, item: IntArray, timestamp: IntArray, history_length: int
) -> tuple[Samples, NDArray[np.int64], NDArray[np.int64]]:
    """Return every sample by user and time, the row of its target, its distance from the end."""
    if history_length < 1:
        raise ValueError(f"`history_length` (={history_length}) must be at least 1.")
    order = np.lexsort((timestamp, user))  # stable
    user, item = user[order], item[order]
    _, count = np.unique(user, return_counts=True)
    place = places(offsets(count))
    target = np.flatnonzero(place > 0)
    num_before = place[target]
    length = np.minimum(num_before, history_length)
    slot = np.arange(history_length)
    filled = slot < length[:, None]  # [B, H]
    source = np.where(filled, (target - length)[:, None] + slot, 0)
    samples = Samples(
        user=user[target].astype(np.int64),
        history=np.where(filled, item[source], NO_ITEM).astype(np.int32),
        target=item[target].astype(np.int32),
        timestamp=timestamp[order][target].astype(np.int64),
        num_before=num_before,
    )
    return samples, order[target], (np.repeat(count, count) - 1 - place)[target]
