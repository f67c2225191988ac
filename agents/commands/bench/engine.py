"""What the benchmarks of the engine ask for: `rere bench search | update | step`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agents.commands.bench.common import Measuring

__all__ = ["Engine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine(Measuring):
    """A part of the engine beside what published code of ReRe computes (CPU, one thread).

    Attributes:
        quick: Answer within two minutes: fewer rounds and users, the small model alone.
        data: Data folder whose items are the catalogue; default: a synthetic one.
        half_b: Unless it is quick, also in the shape of Qwen2-0.5B.
    """

    quick: bool = False
    data: Path | None = None
    half_b: bool = True

    def measure(self, what: Literal["search", "update", "step"], *, growth: bool = False) -> None:
        """Measure and print.

        Args:
            what: The part.
            growth: Also how cost grows.
        """
        from agents.bench.engine.report import markdown, write_report
        from agents.bench.engine.run import bench_engine

        result = bench_engine(
            what,
            quick=self.quick,
            rounds=self.repeats,
            data=self.data,
            half_b=self.half_b,
            growth=growth,
        )
        self.report(result, markdown, write_report)
