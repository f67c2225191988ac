"""Random draws that are the same on every platform and for every version of NumPy.

Built on the raw 64-bit output of PCG64, which NumPy promises never to change (NEP 19; the methods
of `Generator` carry no such promise), and on IEEE products. Knows nothing of games.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Draws"]

T = TypeVar("T")


class Draws:
    """A stream of draws."""

    def __init__(self, *seed: int) -> None:
        """Start the stream that belongs to these numbers."""
        self._bits = np.random.PCG64(np.random.SeedSequence(seed))

    def uniforms(self, num: int) -> NDArray[np.float64]:
        """Return [num] multiples of 2^-53 in [0, 1)."""
        # 53 bits fit a float64 and the power of two only moves the exponent: nothing is rounded.
        bits = self._bits.random_raw(num) >> np.uint64(11)
        return bits.astype(np.float64) * 2.0**-53

    def below(self, bound: int) -> int:
        """Return one integer in [0, bound)."""
        return (int(self._bits.random_raw()) * bound) >> 64

    def chance(self, percent: int) -> bool:
        """Return True with this chance."""
        return self.below(100) < percent

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options, each as likely."""
        return options[self.below(len(options))]

    def weighted(self, weights: Sequence[int]) -> int:
        """Return an index with a chance in proportion to its integer weight."""
        left = self.below(sum(weights))
        for index, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return index
        raise AssertionError("unreachable: `left` starts below the sum of the weights")

    def shuffled(self, num: int) -> NDArray[np.int64]:
        """Return 0 .. num - 1 in random order."""
        return np.argsort(self._bits.random_raw(num), kind="stable").astype(np.int64)
