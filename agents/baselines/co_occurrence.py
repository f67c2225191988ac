"""What others bought after, or before, the items of the history; the nearer, the heavier."""

import numpy as np
from numpy.typing import NDArray

from agents.baselines.popularity import interaction_counts
from agents.baselines.ranking import best_item_scores, hide, top_titles
from rere_env.ragged import offsets, owners, stretches
from rere_env.task import Task
from rere_env.types import Batch, FloatArray, IntArray

__all__ = ["CoOccurrence"]

MAX_SCORES = 4_000_000  # rows x items scored at a time: 32 MB


class CoOccurrence:
    """Ranks titles by decayed co-occurrence of their best item with the history.

    An item at distance d before a target (1 = immediately before) counts decay^(d - 1) for the
    pair (item, target), and `backward` times that for (target, item). A count is divided by
    (popularity of both)^damping. The score of an item is the sum over the history of
    decay^(d - 1) times the damped count, plus the item's share of all purchases: a small prior
    that ranks what never co-occurred. The defaults were chosen on validation splits, where the
    optimum is flat.
    """

    def __init__(
        self,
        task: Task,
        train_examples: Batch,
        *,
        decay: float = 0.8,
        backward: float = 0.5,
        damping: float = 0.25,
    ) -> None:
        """Count once.

        Args:
            task: Whose catalogue is ranked, and whose filter is kept.
            train_examples: What is counted.
            decay: Weight of a step of distance, in (0, 1].
            backward: Weight of what was bought before an item, against what was bought after it.
            damping: 0 counts plainly, 0.5 is the cosine of items.
        """
        if not 0 < decay <= 1:
            raise ValueError(f"`decay` (={decay}) must lie in (0, 1].")
        if backward < 0:
            raise ValueError(f"`backward` (={backward}) must not be negative.")
        self._item_title = task.catalogue.item_title
        self._decay = decay
        self._task = task
        popularity = interaction_counts(train_examples, task.catalogue.num_items)
        self._prior = popularity / max(popularity.sum(), 1.0)
        self._count(train_examples, popularity, backward, damping)

    def recommend(self, examples: Batch, k: int) -> NDArray[np.int64]:
        """Return title ids [B, k], best first, equals by lower id."""
        titles = np.empty((len(examples), k), np.int64)
        size = max(MAX_SCORES // len(self._prior), 1)
        for start in range(0, len(examples), size):
            batch = examples.take(slice(start, start + size))
            titles[start : start + size] = top_titles(self._title_scores(batch), k)
        return titles

    def _title_scores(self, batch: Batch) -> NDArray[np.float64]:
        scores = best_item_scores(self.item_scores(batch), self._item_title)
        hide(scores, self._task, batch)
        return scores

    def item_scores(self, examples: Batch) -> NDArray[np.float64]:
        """Return the score [B, I] of every item; memory is B x I."""
        num_items = len(self._prior)
        row, item, weight = _weighted_history(examples, self._decay)
        start = self._first[item]
        indptr = offsets(self._first[item + 1] - start)  # the neighbours of each history item
        edge, owner = stretches(start, indptr), owners(indptr)
        cell = row[owner] * num_items + self._neighbour[edge]
        scores = np.bincount(
            cell,
            weight[owner] * self._weight[edge],
            minlength=len(examples) * num_items,
        )
        total: NDArray[np.float64] = scores.reshape(len(examples), num_items) + self._prior
        return total

    def _count(
        self, examples: Batch, popularity: FloatArray, backward: float, damping: float
    ) -> None:
        """Fill the neighbours of every item: `_first` [I + 1], `_neighbour` and `_weight` [E]."""
        num_items = len(popularity)
        row, item, weight = _weighted_history(examples, self._decay)
        target = examples.target[row].astype(np.int64)
        pairs = np.concatenate([item * num_items + target, target * num_items + item])
        weights = np.concatenate([weight, backward * weight])
        pair, place = np.unique(pairs[weights > 0], return_inverse=True)
        source, self._neighbour = np.divmod(pair, num_items)
        counts = np.bincount(place, weights[weights > 0], minlength=len(pair))
        both = np.maximum(popularity[source] * popularity[self._neighbour], 1.0)
        self._weight = counts / both**damping
        self._first = np.searchsorted(source, np.arange(num_items + 1))


def _weighted_history(examples: Batch, decay: float) -> tuple[IntArray, IntArray, FloatArray]:
    """Return (row, item, decay^(d - 1)) of every item of every history; the last has d = 1."""
    distance = examples.history_length[:, None] - np.arange(examples.history.shape[1])  # [B, H]
    row, column = np.nonzero(distance > 0)
    item = examples.history[row, column].astype(np.int64)
    return row, item, decay ** (distance[row, column] - 1.0)
