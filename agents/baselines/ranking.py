"""From scores to ranked titles. Knows nothing of where scores come from."""

import numpy as np
from numpy.typing import NDArray

from rere_env.task import Task
from rere_env.types import NO_TITLE, Batch, FloatArray, IntArray, Recommender

__all__ = ["Filtered", "best_item_scores", "hide", "top_titles"]


def best_item_scores(item_scores: FloatArray, item_title: IntArray) -> NDArray[np.float64]:
    """Return the score [B, titles] of each title's best item.

    Args:
        item_scores: [B, items].
        item_title: [items] the title of each item; every title has one.
    """
    by_title = np.argsort(item_title, kind="stable")
    first = np.flatnonzero(np.diff(item_title[by_title], prepend=-1))
    best: NDArray[np.float64] = np.maximum.reduceat(item_scores[:, by_title], first, axis=1)
    return best


def top_titles(scores: FloatArray, k: int) -> NDArray[np.int64]:
    """Return the k best titles [B, k], equals by lower id.

    Args:
        scores: [B, titles]; -inf: never recommended.
        k: Length of the lists; `NO_TITLE` pads those that run out of titles.

    >>> top_titles(np.array([[0.1, 0.7, 0.1, -np.inf]]), 4).tolist()
    [[1, 0, 2, -1]]
    """
    if k < 1:
        raise ValueError(f"`k` (={k}) must be at least 1; ask for one title or more.")
    num_rows, num_titles = scores.shape
    size = min(k, num_titles)
    least = np.partition(scores, num_titles - size, axis=1)[:, num_titles - size]
    row, title = np.nonzero(scores >= least[:, None])  # `size` a row, more where scores tie
    value = scores[row, title]
    order = np.lexsort((title, -value, row))
    place = np.searchsorted(row, np.arange(num_rows))[:, None] + np.arange(size)
    best = np.where(np.isneginf(value[order][place]), NO_TITLE, title[order][place])
    padding = np.full((num_rows, k - size), NO_TITLE)
    return np.concatenate([best, padding], axis=1).astype(np.int64)


def hide(scores: NDArray[np.float64], task: Task, examples: Batch) -> None:
    """Set to -inf, in place, the scores [B, titles] of what the task's filter hides."""
    hidden = task.hidden(examples)
    if hidden is not None:
        scores[:, hidden.everybody] = -np.inf
        scores[hidden.row, hidden.titles] = -np.inf


class Filtered:
    """A recommender that knows no filter, less what the task's filter hides."""

    def __init__(self, recommender: Recommender, task: Task) -> None:
        """Ask this recommender for longer lists."""
        self.recommender, self.task = recommender, task

    def recommend(self, examples: Batch, k: int) -> NDArray[np.int64]:
        """Return title ids [B, k], best first, hidden ones left out."""
        hidden = self.task.hidden(examples)
        if hidden is None:
            return self.recommender.recommend(examples, k).astype(np.int64)
        longer = k + int(hidden.counts.max(initial=0))
        titles = self.recommender.recommend(examples, longer).astype(np.int64)
        is_hidden = hidden.marks(titles, self.task.catalogue.num_titles)
        order = np.argsort(is_hidden, axis=1, kind="stable")[:, :k]  # shown ones first, in order
        return np.take_along_axis(np.where(is_hidden, NO_TITLE, titles), order, axis=1)
