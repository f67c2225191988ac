"""`rere bench update`: the gradient of a step, beside published code."""

from dataclasses import dataclass

from agents.commands.bench.engine import Engine

__all__ = ["Update"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Update(Engine):
    """Measure the gradient of a step beside what published code of ReRe computes (CPU, one thread).

    Examples:
        rere bench update --quick --json
        rere bench update --data data/mine --out bench

    Attributes:
        growth: Unless it is quick, also how cost grows with group, prompt, catalogue and batch.
    """

    growth: bool = True

    def run(self) -> None:
        """Measure and print."""
        self.measure("update", growth=self.growth)
