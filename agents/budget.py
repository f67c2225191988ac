"""How long an algorithm may train, so that different ones can be compared at equal cost."""

import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Budget", "Meter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits on training; the one reached first ends it.

    Attributes:
        seconds: By `clock`; None: no limit.
        steps: Environment steps, or optimiser steps where a language model is trained; None: no
            limit.
        clock: Seconds since anything; default: the clock on the wall.
    """

    seconds: float | None = None
    steps: int | None = None
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.seconds is None and self.steps is None:
            raise ValueError("a budget needs `seconds` or `steps`: training must end.")
        for name, value in (("seconds", self.seconds), ("steps", self.steps)):
            if value is not None and value <= 0:
                raise ValueError(f"`{name}` (={value}) must be positive.")

    def start(self) -> "Meter":
        """Start the clock."""
        return Meter(self, self.clock())


class Meter:
    """A budget that is being spent."""

    def __init__(self, budget: Budget, started: float) -> None:
        """Keep when it began; `pause` moves that on."""
        self.budget = budget
        self._started = started

    @property
    def seconds(self) -> float:
        """Time spent so far."""
        return self.budget.clock() - self._started

    def used(self, steps: int) -> float:
        """Return the share of the budget that is spent after this many steps; 1: all of it."""
        shares = []
        if self.budget.seconds is not None:
            shares.append(self.seconds / self.budget.seconds)
        if self.budget.steps is not None:
            shares.append(steps / self.budget.steps)
        return max(shares)

    def over(self, steps: int) -> bool:
        """Say whether the budget is spent."""
        return self.used(steps) >= 1

    def without(self, seconds: float) -> None:
        """Do not count time that was spent on something else, such as validation."""
        self._started += seconds
