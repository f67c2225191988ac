"""The most sold titles, the same for everybody."""

import numpy as np
from numpy.typing import NDArray

from agents.baselines.ranking import Filtered, best_item_scores, top_titles
from rere_env.task import Task
from rere_env.types import NO_ITEM, Batch

__all__ = ["Popularity", "interaction_counts"]


class Popularity:
    """Ranks titles by how often their best item was bought in the training period."""

    def __init__(self, task: Task, train_examples: Batch) -> None:
        """Count once."""
        counts = interaction_counts(train_examples, task.catalogue.num_items)
        scores = best_item_scores(counts[None], task.catalogue.item_title)
        self._filtered = Filtered(_SameForAll(scores), task)

    def recommend(self, examples: Batch, k: int) -> NDArray[np.int64]:
        """Return title ids [B, k], most popular first, equals by lower id."""
        return self._filtered.recommend(examples, k)


class _SameForAll:
    def __init__(self, scores: NDArray[np.float64]) -> None:
        self._scores = scores  # [1, titles]

    def recommend(self, examples: Batch, k: int) -> NDArray[np.int64]:
        return np.repeat(top_titles(self._scores, k), len(examples), axis=0)


def interaction_counts(examples: Batch, num_items: int) -> NDArray[np.float64]:
    """Return how often each item [I] was bought, recovered from examples without counting twice.

    Every position i >= 1 of a user's sequence is one example's target; what no target stands for
    is what came before the user's earliest example, which is that example's history. (Earliest:
    the shortest history, among equals the first row. A purchase between two examples that is no
    target itself, as in a split with rows left out, is not counted.)
    """
    order = np.lexsort((examples.history_length, examples.user))  # stable: rows in file order
    user = examples.user[order]
    is_first = np.concatenate([[True], user[1:] != user[:-1]])
    before = examples.history[order[is_first]]
    bought = np.concatenate([examples.target, before[before != NO_ITEM]])
    return np.bincount(bought, minlength=num_items).astype(np.float64)
