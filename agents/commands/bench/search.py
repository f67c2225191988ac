"""`rere bench search`: the searches for titles, beside published code."""

from dataclasses import dataclass

from agents.commands.bench.engine import Engine

__all__ = ["Search"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search(Engine):
    """Measure the searches for titles beside what published code of ReRe computes (one thread).

    Examples:
        rere bench search --quick --json
        rere bench search --data data/mine --out bench

    Attributes:
        growth: Unless it is quick, also how cost grows with group, prompt, catalogue and batch.
    """

    growth: bool = True

    def run(self) -> None:
        """Measure and print."""
        self.measure("search", growth=self.growth)
