"""`rere bench env`: the environment against plain Python."""

from dataclasses import dataclass
from pathlib import Path

from agents.commands.bench.common import REPEATS, Measuring

__all__ = ["Env"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Measuring):
    """Measure steps of the environment against plain Python, and against Gymnasium's CartPole.

    Examples:
        rere bench env --quick
        rere bench env --data data/mine --out bench

    Attributes:
        quick: Answer within a minute or two: fewer steps, no grid.
        data: Data folder whose items are the catalogue; default: a synthetic one.
    """

    quick: bool = False
    data: Path | None = None

    def run(self) -> None:
        """Measure and print."""
        from agents.bench.env.report import bench_env, markdown, write_env_report

        result = bench_env(data=self.data, quick=self.quick, repeats=self.repeats or REPEATS)
        self.report(result, markdown, write_env_report)
