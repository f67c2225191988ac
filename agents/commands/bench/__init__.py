"""`rere bench`: measure the speed of the parts on this machine, one command a file."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from agents.commands.bench.env import Env
from agents.commands.bench.rollout import Rollout
from agents.commands.bench.search import Search
from agents.commands.bench.step import Step
from agents.commands.bench.update import Update

__all__ = ["Bench"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Measure a part against its plain alternative; equal results are asserted first.

    Examples:
        rere bench env --quick
        rere bench search --quick --json
        rere bench update --data data/mine --out bench
        rere bench rollout --model runs/mine --num-users 256

    Attributes:
        command: What to measure.
    """

    command: (
        Annotated[Env, tyro.conf.subcommand(name="env")]
        | Annotated[Rollout, tyro.conf.subcommand(name="rollout")]
        | Annotated[Search, tyro.conf.subcommand(name="search")]
        | Annotated[Update, tyro.conf.subcommand(name="update")]
        | Annotated[Step, tyro.conf.subcommand(name="step")]
    )

    def run(self) -> None:
        """Run the chosen command."""
        self.command.run()
