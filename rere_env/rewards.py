"""Rewards of a ranked group of titles. Arrays in, arrays out; knows no tokens and no users.

A reward is `(titles [B, G] best first, batch of B) -> float32 [B, G]`. Position along G is the
beam rank; a title of `NO_TITLE` never hits.
"""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from rere_env.types import NO_TITLE, Batch, BoolArray, FloatArray, IntArray, Reward

__all__ = [
    "REWARDS",
    "hit",
    "rank",
    "rank_literal",
    "rank_weights",
    "rere",
    "reward_terms",
    "sees_rank_only",
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


def weighted_sum(*terms: tuple[float, Reward]) -> Reward:
    """Combine rewards linearly; the result carries its `terms` so that they can be logged.

    >>> my_reward = weighted_sum((1.0, hit), (0.5, rank))
    """
    if not terms:
        raise ValueError("`weighted_sum` needs at least one (weight, reward) pair.")
    return WeightedSum(terms)


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
        """Return the weighted sum, and each unweighted term by the name of its function."""
        values = [term(titles, batch) for _, term in self.terms]
        weighted = [
            value if weight == 1 else weight * value
            for weight, value in zip(self._weights, values, strict=True)
        ]
        total = sum(weighted[1:], start=weighted[0])
        names = [_name(term) for _, term in self.terms]
        return total, dict(zip(names, values, strict=True))


rere: Reward = weighted_sum((1.0, hit), (1.0, rank))
"""The default: hit + rank. Over distinct titles a group sums to w_h / W, h the rank of the hit."""

REWARDS: Mapping[str, Reward] = MappingProxyType(
    {"rere": rere, "hit": hit, "rank": rank, "rank_literal": rank_literal}
)
"""The rewards that a name can choose (names survive `EnvSpec.to_json`)."""


def reward_terms(
    reward: Reward, titles: IntArray, batch: Batch
) -> tuple[FloatArray, dict[str, FloatArray]]:
    """Return a reward and its terms, computed once; a plain function is its own single term."""
    if isinstance(reward, WeightedSum):
        return reward.with_terms(titles, batch)
    values = reward(titles, batch)
    return values, {_name(reward): values}


def sees_rank_only(reward: Reward) -> bool:
    """Say whether a reward sees nothing of a group but where the target is, as all above do."""
    if isinstance(reward, WeightedSum):
        return all(sees_rank_only(term) for _, term in reward.terms)
    return reward in (hit, rank, rank_literal)


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
