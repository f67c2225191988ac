"""From scores to ranked titles. Knows nothing of where scores come from."""

import numpy as np
from numpy.typing import NDArray

from rere_env.types import NO_TITLE, FloatArray, IntArray

__all__ = ["best_item_scores", "top_titles"]


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
