"""How good ranked lists of titles are. Arrays in, numbers out; knows no text and no model.

A list is a row of title ids `[B, K]`, best first. Ranks count from 1; rank 0 means "not in the
list". An empty or illegal slot never hits, but it keeps its place: nothing moves up.

The per-row functions (`hits`, `discounted_gains`, ...) feed the bootstrap of
`rere_env.confidence`; the others are their means over the rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rere_env.types import NO_TITLE, BoolArray, FloatArray, IntArray

__all__ = [
    "Metric",
    "coverage",
    "discounted_gains",
    "distinct_titles",
    "duplicate_rate",
    "expected_gains",
    "expected_hits",
    "expected_ndcg",
    "hit_rate",
    "hits",
    "illegal_rate",
    "item_discounted_gains",
    "item_hits",
    "mrr",
    "ndcg",
    "reciprocal_ranks",
    "target_ranks",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A measured value with its interval.

    Attributes:
        value: The estimate.
        low: Lower end of the interval; None where no interval was asked for or none makes sense.
        high: Upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None


def target_ranks(titles: IntArray, target: IntArray) -> NDArray[np.int64]:
    """Return the rank [B] of the first slot that holds the target; 0 where none does.

    Args:
        titles: [B, K] title ids, best first.
        target: [B] title ids.

    >>> target_ranks(np.array([[4, 2, 7], [4, 2, 7]]), np.array([7, 1])).tolist()
    [3, 0]
    """
    is_target = (titles == target[:, None]) & (titles != NO_TITLE)
    return np.where(is_target.any(axis=1), is_target.argmax(axis=1) + 1, 0)


def hits(ranks: IntArray, k: int) -> NDArray[np.float64]:
    """Return 1.0 [B] where the target is among the first k, else 0.0."""
    found: BoolArray = (ranks >= 1) & (ranks <= k)
    return found.astype(np.float64)


def hit_rate(ranks: IntArray, k: int) -> float:
    """Return the share of rows whose target is among the first k."""
    return float(hits(ranks, k).mean())


def discounted_gains(ranks: IntArray, k: int) -> NDArray[np.float64]:
    """Return 1 / log2(rank + 1) [B] where the target is among the first k, else 0.

    With one relevant title the ideal gain is 1, so this is NDCG@k of each row.
    """
    return hits(ranks, k) / np.log2(np.maximum(ranks, 1) + 1.0)


def ndcg(ranks: IntArray, k: int) -> float:
    """Return the mean over rows of 1 / log2(rank + 1), 0 beyond k."""
    return float(discounted_gains(ranks, k).mean())


def reciprocal_ranks(ranks: IntArray) -> NDArray[np.float64]:
    """Return 1 / rank [B], 0 where the target is not in the list."""
    return np.where(ranks >= 1, 1.0 / np.maximum(ranks, 1), 0.0)


def mrr(ranks: IntArray) -> float:
    """Return the mean reciprocal rank; a target beyond the list counts 0."""
    return float(reciprocal_ranks(ranks).mean())


def distinct_titles(titles: IntArray, k: int, num_titles: int) -> int:
    """Count the different legal titles among the first k of all lists."""
    top = titles[:, :k]
    return len(np.unique(top[_is_legal(top, num_titles)]))


def coverage(titles: IntArray, k: int, num_titles: int) -> float:
    """Return the share of the catalogue among the first k of all lists."""
    return distinct_titles(titles, k, num_titles) / num_titles


def duplicate_rate(titles: IntArray) -> float:
    """Return the share of filled slots whose title stands in an earlier slot of the same row."""
    num_filled = int((titles != NO_TITLE).sum())
    num_repeated = int((_is_repeated(titles) & (titles != NO_TITLE)).sum())
    return num_repeated / num_filled if num_filled else 0.0


def illegal_rate(titles: IntArray, num_titles: int, num_shown: IntArray | None = None) -> float:
    """Return the share of slots that hold no title of the catalogue though one could stand there.

    Illegal are ids outside 0 .. num_titles - 1 and empty slots, except that a catalogue with fewer
    than K titles excuses the `K - num_titles` slots of a row that nothing could fill.

    Args:
        titles: [B, K] title ids, best first.
        num_titles: Size of the catalogue.
        num_shown: [B] titles that each row may be shown, where a filter hides others.
    """
    could = np.full(len(titles), num_titles) if num_shown is None else num_shown
    num_slots = np.minimum(could, titles.shape[1])
    num_empty = (titles == NO_TITLE).sum(axis=1)
    foreign = (~_is_legal(titles, num_titles) & (titles != NO_TITLE)).sum(axis=1)
    illegal = foreign + np.maximum(num_empty - (titles.shape[1] - num_slots), 0)
    total = int(num_slots.sum())
    return float(np.minimum(illegal, num_slots).sum() / total) if total else 0.0


def expected_hits(titles: IntArray, probabilities: FloatArray, k: int) -> NDArray[np.float64]:
    """Return the probability [B] that the next title is among the first k.

    Args:
        titles: [B, K] title ids, best first.
        probabilities: [B, titles of the catalogue], the true next-title distribution of each row.
    """
    chance: NDArray[np.float64] = _mass(titles[:, :k], probabilities).sum(axis=1)
    return chance


def expected_gains(titles: IntArray, probabilities: FloatArray, k: int) -> NDArray[np.float64]:
    """Return the expectation [B] of `discounted_gains` when the target is drawn anew.

    The sum over ranks r <= k of p(title at r) / log2(r + 1): NDCG@k free of target noise. A title
    gains in its first slot only.
    """
    mass = _mass(titles[:, :k], probabilities)
    gains: NDArray[np.float64] = (mass * _discounts(mass.shape[1])).sum(axis=1)
    return gains


def expected_ndcg(titles: IntArray, probabilities: FloatArray, k: int) -> float:
    """Return the mean over rows of `expected_gains`."""
    return float(expected_gains(titles, probabilities, k).mean())


def item_hits(
    titles: IntArray, target: IntArray, items_per_title: IntArray, k: int
) -> NDArray[np.float64]:
    """Return the probability [B] that the target *item* is among the first k items.

    Each title expands to its items in uniformly random order, so no sampling is needed: with m
    items before the target's title, which stands for n, the item's rank is uniform over
    m + 1 .. m + n.

    Args:
        titles: [B, K] title ids, best first; K >= k, or the lists hold the whole catalogue.
        target: [B] title ids of the target items.
        items_per_title: [titles of the catalogue] how many items share each title.
        k: Length of the list of items.
    """
    return _mean_over_items(np.ones(k), titles, target, items_per_title)


def item_discounted_gains(
    titles: IntArray, target: IntArray, items_per_title: IntArray, k: int
) -> NDArray[np.float64]:
    """Return the expected NDCG@k [B] of the target item; arguments as for `item_hits`."""
    return _mean_over_items(_discounts(k), titles, target, items_per_title)


def _discounts(k: int) -> NDArray[np.float64]:
    """Return 1 / log2(rank + 1) for the ranks 1..k."""
    discounts: NDArray[np.float64] = 1.0 / np.log2(np.arange(2, k + 2))
    return discounts


def _is_legal(titles: IntArray, num_titles: int) -> BoolArray:
    legal: BoolArray = (titles >= 0) & (titles < num_titles)
    return legal


def _is_repeated(titles: IntArray) -> BoolArray:
    """Mark [B, K] the slots whose value stands in an earlier slot of the row."""
    order = np.argsort(titles, axis=1, kind="stable")
    ordered = np.take_along_axis(titles, order, axis=1)
    repeated = np.zeros(titles.shape, np.bool_)
    np.put_along_axis(repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return repeated


def _mass(titles: IntArray, probabilities: FloatArray) -> NDArray[np.float64]:
    """Return the probability [B, K] that each slot adds to the list."""
    adds = _is_legal(titles, probabilities.shape[1]) & ~_is_repeated(titles)
    mass = np.take_along_axis(probabilities, np.where(adds, titles, 0), axis=1)
    return np.where(adds, mass, 0.0)


def _mean_over_items(
    gain: FloatArray, titles: IntArray, target: IntArray, items_per_title: IntArray
) -> NDArray[np.float64]:
    """Average `gain` [k] of an item's rank over the places that its title's items may take."""
    k = len(gain)
    ranks = target_ranks(titles, target)
    legal = _is_legal(titles, len(items_per_title))
    width = np.where(legal, items_per_title[np.where(legal, titles, 0)], 1)  # [B, K]
    ends = np.cumsum(width, axis=1)  # items up to and with each slot
    end = np.take_along_axis(ends, np.maximum(ranks - 1, 0)[:, None], axis=1)[:, 0]
    size = items_per_title[target]
    total = np.concatenate([[0.0], np.cumsum(gain)])  # total[n] = gain of the first n ranks
    mean = (total[np.minimum(end, k)] - total[np.clip(end - size, 0, k)]) / size
    return np.where(ranks >= 1, mean, 0.0)
