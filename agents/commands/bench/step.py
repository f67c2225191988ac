"""`rere bench step`: a whole training step, beside published code."""

from dataclasses import dataclass

from agents.commands.bench.engine import Engine

__all__ = ["Step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Engine):
    """Measure a whole step, search and update, beside what published code computes (one thread).

    Examples:
        rere bench step --quick --json
        rere bench step --no-half-b --out bench
    """

    def run(self) -> None:
        """Measure and print."""
        self.measure("step")
