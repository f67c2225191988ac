"""What finished slates are paid: the reward of a task, checked, as float64. Knows no tokens.

Legend: m slates, K titles in each.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rere_env.rewards import pay, sees_rank_only
from rere_env.types import Batch, BatchRows, BoolArray, IntArray, Reward

__all__ = ["Payoff", "SlatePayoffs", "score"]

Float64 = NDArray[np.float64]


class Payoff(NamedTuple):
    """What m slates are paid."""

    items: Float64  # [m, K] for each title
    total: Float64  # [m]
    terms: dict[str, Float64]  # [m] each term of the reward, unweighted, summed over the slate

    def take(self, rows: IntArray) -> "Payoff":
        """Return what some of the slates are paid."""
        return Payoff(
            self.items.take(rows, axis=0),
            self.total.take(rows),
            {name: paid.take(rows) for name, paid in self.terms.items()},
        )


class SlatePayoffs:
    """Pays slates of K distinct titles.

    A reward that sees nothing of a slate but the place of the target is computed once for every
    place, and looked up from then on.
    """

    def __init__(self, reward: Reward, examples: Batch, slate_size: int) -> None:
        """Look at the reward.

        Args:
            reward: `(titles [m, K], batch) -> [m, K]`.
            examples: What `__call__` names by number.
            slate_size: K.
        """
        self._reward, self._examples = reward, examples
        self._void = slate_size + 1
        self.by_rank: Payoff | None = None  # [K + 2] target nowhere, at 1..K; after an illegal end
        if sees_rank_only(reward):
            self.by_rank = _by_rank(reward, slate_size)

    def __call__(
        self, titles: IntArray, rank: IntArray, examples: IntArray, void: BoolArray
    ) -> Payoff:
        """Pay m slates.

        Args:
            titles: [m, K] best first.
            rank: [m] the place of the target from 1, 0 = nowhere.
            examples: [m] what they answer.
            void: [m] the slate ended by an illegal token: nothing is paid for it.
        """
        if self.by_rank is not None:
            return self.by_rank.take(np.where(void, self._void, rank))
        items, terms = score(self._reward, titles, BatchRows(self._examples, examples))
        items = np.where(void[:, None], 0.0, items)
        sums = {name: np.where(void, 0.0, paid.sum(axis=1)) for name, paid in terms.items()}
        return Payoff(items, items.sum(axis=1), sums)


def score(reward: Reward, titles: IntArray, batch: Batch) -> tuple[Float64, dict[str, Float64]]:
    """Return the reward [B, G] of titles and each of its terms, as float64.

    Raises:
        TypeError: The function returned no numbers.
        ValueError: It returned another shape.
    """
    rewards, terms = pay(reward, titles, batch)
    precise = {name: values.astype(np.float64) for name, values in terms.items()}
    return rewards.astype(np.float64), precise


def _by_rank(reward: Reward, slate_size: int) -> Payoff:
    place = np.arange(slate_size + 2)  # the last one is overwritten: it stands for an illegal end
    none = np.zeros(len(place), np.int32)
    batch = Batch(user=none, history=none[:, None], target=none, target_title=place)
    titles = np.broadcast_to(np.arange(1, slate_size + 1), (len(place), slate_size))
    items, terms = score(reward, titles, batch)
    for values in (items, *terms.values()):
        values[-1] = 0.0
    sums = {name: values.sum(axis=1) for name, values in terms.items()}
    return Payoff(items, items.sum(axis=1), sums)
