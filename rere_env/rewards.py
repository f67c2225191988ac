"""Rewards of a ranked group of titles. Arrays in, arrays out; knows no tokens and no users.

A reward is `(titles [B, G] best first, batch of B) -> float32 [B, G]`. Position along G is the
beam rank; a title of `NO_TITLE` never hits. What a reward needs besides titles and batch, tables of
embeddings or the scores of a model, is given to the function that makes it.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

import numpy as np

from rere_env.types import NO_TITLE, Batch, BoolArray, FloatArray, IntArray, Reward

__all__ = [
    "REWARDS",
    "Scale",
    "collaborative",
    "hit",
    "pay",
    "rank",
    "rank_literal",
    "rank_weights",
    "rere",
    "sees_rank_only",
    "semantic",
    "weighted_sum",
]


def rank_weights(group_size: int) -> FloatArray:
    """Return w_k = 1 / log2(k + 1) for k = 1..G, float64 [G].

    >>> rank_weights(3).round(3).tolist()
    [1.0, 0.631, 0.5]
    """
    if group_size < 1:
        raise ValueError(f"`group_size` (={group_size}) must be at least 1.")
    return 1.0 / np.log2(np.arange(2, group_size + 2))


def hit(titles: IntArray, batch: Batch) -> FloatArray:
    """Pay 1 where the title is the target, else 0 (ReRe, arXiv 2510.12211, Eq. 7)."""
    return _is_target(titles, batch).astype(np.float32)


def rank(titles: IntArray, batch: Batch) -> FloatArray:
    """Penalise the negatives of a group that holds the target, the confident ones most.

    0 on the hit and -w_k / W on the others, W = sum of all w_k; all zeros in a group without the
    target. This is what the authors' released code computes (`ndcg_rule_reward`).
    """
    is_target = _is_target(titles, batch)
    if titles.shape[1] == 1 or not is_target.any():
        return np.zeros(titles.shape, np.float32)
    pays = is_target.any(axis=1, keepdims=True) & ~is_target
    return np.where(pays, _penalties(titles.shape[1]), np.float32(0))


def rank_literal(titles: IntArray, batch: Batch) -> FloatArray:
    """Take the paper's Eq. 8-9 literally: groups without a hit are penalised as well.

    The weights are normalised over the negatives alone, so every group sums to -1 unless it holds
    nothing but the target. Unstable: a third party saw HR@20 fall from .198 to .059 with it. Use
    `rank`; this one is here for comparison.
    """
    weights = np.where(_is_target(titles, batch), 0.0, rank_weights(titles.shape[1]))
    total = weights.sum(axis=1, keepdims=True)
    share = np.divide(-weights, total, out=np.zeros_like(weights), where=total > 0)
    penalty: FloatArray = share.astype(np.float32)
    return penalty


Scale: TypeAlias = Literal["raw", "softmax", "min_max"]
"""How `collaborative` pays a score."""


def semantic(embeddings: FloatArray, name: str = "semantic") -> Reward:
    """Make a reward that pays the cosine of the embeddings of candidate and target.

    In [-1, 1]; the target itself is paid 1, an empty slot 0, and so is a title whose embedding is
    all zeros.

    Args:
        embeddings: [titles, D].
        name: What it is called in logs.

    >>> like = semantic(np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 2.0]]))

    Raises:
        ValueError: The embeddings are no finite matrix.
    """
    return _Semantic(embeddings, name)


def collaborative(
    scores_of: Callable[[Batch], FloatArray], scale: Scale = "raw", name: str = "collaborative"
) -> Reward:
    """Make a reward that pays what a trained sequence model thinks of the candidate.

    An empty slot is paid 0. Raw scores are what the released code pays. They know no bounds: a
    policy was seen to raise them while its accuracy fell (MiniOneRec, its SASRec reward), and they
    drown the other terms of a sum. The other scales lie in [0, 1].

    Args:
        scores_of: `batch of B -> [B, titles]`, finite logits of the next title.
        scale: "raw" pays the logit; "softmax" its probability among all titles; "min_max" the
            place between the worst (0) and the best (1) of the group, 0 where all are equal.
        name: What it is called in logs.
    """
    if scale not in get_args(Scale):
        raise ValueError(f"`scale` (={scale!r}) must be one of {list(get_args(Scale))}.")
    return _Collaborative(scores_of, scale, name)


def weighted_sum(*terms: tuple[float, Reward]) -> Reward:
    """Combine rewards linearly; the result carries its `terms` so that they can be logged.

    A sum among the terms is taken apart, so every term is logged under its own name.

    >>> my_reward = weighted_sum((1.0, hit), (0.5, rank))
    """
    if not terms:
        raise ValueError("`weighted_sum` needs at least one (weight, reward) pair.")
    flat: list[tuple[float, Reward]] = []
    for weight, reward in terms:
        inner = reward.terms if isinstance(reward, WeightedSum) else ((1.0, reward),)
        flat += [(weight * share, term) for share, term in inner]
    return WeightedSum(tuple(flat))


class WeightedSum:
    """A linear combination of rewards, itself a reward."""

    def __init__(self, terms: tuple[tuple[float, Reward], ...]) -> None:
        """Keep the (weight, reward) pairs."""
        self.terms = terms
        self._weights = [np.float32(weight) for weight, _ in terms]

    def __call__(self, titles: IntArray, batch: Batch) -> FloatArray:
        """Return the sum of the weighted terms, float32 [B, G]."""
        return self.with_terms(titles, batch)[0]

    def with_terms(
        self, titles: IntArray, batch: Batch
    ) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Return the weighted sum, and each unweighted term by the name of its function.

        Of terms that share a name the second is called `name_2`, and so on.
        """
        values = [term(titles, batch) for _, term in self.terms]
        weighted = [
            value if weight == 1 else weight * value
            for weight, value in zip(self._weights, values, strict=True)
        ]
        total = sum(weighted[1:], start=weighted[0])
        names = _distinct([_name(term) for _, term in self.terms])
        return total, dict(zip(names, values, strict=True))


# Classes and not closures: environments hold rewards, and environments are pickled.
class _Semantic:
    def __init__(self, embeddings: FloatArray, name: str) -> None:
        table = np.asarray(embeddings, np.float32)
        if table.ndim != 2 or not np.isfinite(table).all():
            raise ValueError(
                f"`embeddings` must be a finite matrix [titles, D]; got shape {table.shape} with "
                f"{np.count_nonzero(~np.isfinite(table))} values that are not finite."
            )
        length = np.linalg.norm(table, axis=1, keepdims=True)
        self._directions = np.divide(table, length, out=np.zeros_like(table), where=length > 0)
        self.__name__ = name

    def __call__(self, titles: IntArray, batch: Batch) -> FloatArray:
        target = self._directions[batch.target_title]  # [B, D]
        cosine = np.einsum("bgd,bd->bg", self._directions[titles], target)
        known = (titles != NO_TITLE) & (batch.target_title != NO_TITLE)[:, None]
        return np.where(known, cosine, np.float32(0))


class _Collaborative:
    def __init__(self, scores_of: Callable[[Batch], FloatArray], scale: Scale, name: str) -> None:
        self._scores_of, self._scale = scores_of, scale
        self.__name__ = name

    def __call__(self, titles: IntArray, batch: Batch) -> FloatArray:
        scores = np.asarray(self._scores_of(batch), np.float64)  # [B, titles]
        is_title = titles != NO_TITLE
        chosen: FloatArray = np.take_along_axis(scores, np.where(is_title, titles, 0), axis=1)
        if self._scale == "softmax":
            top = scores.max(axis=1, keepdims=True)
            chosen = np.exp(chosen - top) / np.exp(scores - top).sum(axis=1, keepdims=True)
        elif self._scale == "min_max":
            chosen = _min_max(chosen, is_title)
        return np.where(is_title, chosen, 0.0).astype(np.float32)


def _min_max(values: FloatArray, counted: BoolArray) -> FloatArray:
    """Map each row to [0, 1] by its least and largest counted value; to 0 if they are equal."""
    least = np.where(counted, values, np.inf).min(axis=1, keepdims=True)
    most = np.where(counted, values, -np.inf).max(axis=1, keepdims=True)
    above = np.where(counted, values - least, 0.0)
    place: FloatArray = np.divide(above, most - least, out=np.zeros_like(above), where=most > least)
    return place


rere: Reward = weighted_sum((1.0, hit), (1.0, rank))
"""The default: hit + rank. Over distinct titles a group sums to w_h / W, h the rank of the hit."""

REWARDS: Mapping[str, Reward] = MappingProxyType(
    {"rere": rere, "hit": hit, "rank": rank, "rank_literal": rank_literal}
)
"""The rewards that a name can choose (names survive `EnvSpec.to_json`)."""


def pay(reward: Reward, titles: IntArray, batch: Batch) -> tuple[FloatArray, dict[str, FloatArray]]:
    """Return what titles [B, G] are paid and each term of it, computed once and checked.

    The one way to pay, for environments and agents alike. A plain function is its own single term.

    Raises:
        TypeError: The function returned no numbers.
        ValueError: It returned another shape than that of the titles.
    """
    if isinstance(reward, WeightedSum):
        values, terms = reward.with_terms(titles, batch)
    else:
        values = reward(titles, batch)
        terms = {_name(reward): values}
    checked = {name: _checked(term, titles, name) for name, term in terms.items()}
    return _checked(values, titles, _name(reward)), checked


def sees_rank_only(reward: Reward) -> bool:
    """Say whether a reward sees nothing of a group but where the target is, as all above do."""
    if isinstance(reward, WeightedSum):
        return all(sees_rank_only(term) for _, term in reward.terms)
    return reward in (hit, rank, rank_literal)


def _checked(rewards: FloatArray, titles: IntArray, name: str) -> FloatArray:
    values = np.asarray(rewards)
    if values.dtype.kind not in "fiub":
        raise TypeError(
            f"the reward {name!r} returned an array of {values.dtype}; it must return one number "
            "(float32) a title."
        )
    if values.shape != titles.shape:
        raise ValueError(
            f"the reward {name!r} returned shape {values.shape} for titles of shape "
            f"{titles.shape}; it must return one number a title."
        )
    return values


@lru_cache(maxsize=64)
def _penalties(group_size: int) -> FloatArray:
    """Return -w_k / W, float32 [G], read-only."""
    weights = rank_weights(group_size)
    penalties: FloatArray = (-weights / weights.sum()).astype(np.float32)
    penalties.flags.writeable = False
    return penalties


def _is_target(titles: IntArray, batch: Batch) -> BoolArray:
    is_target: BoolArray = (titles == batch.target_title[:, None]) & (titles != NO_TITLE)
    return is_target


def _name(reward: Reward) -> str:
    return getattr(reward, "__name__", type(reward).__name__)


def _distinct(names: list[str]) -> list[str]:
    """Number what is named like one before it.

    >>> _distinct(["hit", "semantic", "semantic"])
    ['hit', 'semantic', 'semantic_2']
    """
    numbered: list[str] = []
    for name in names:
        number, free = 1, name
        while free in numbered:
            number += 1
            free = f"{name}_{number}"
        numbered.append(free)
    return numbered
