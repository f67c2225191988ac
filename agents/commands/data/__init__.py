"""`rere data`: fetch, build, check and export data sets, one command a file."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from agents.commands.data.build import Build
from agents.commands.data.check import Check
from agents.commands.data.export import Export
from agents.commands.data.get import Get

__all__ = ["Data"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Fetch, build, check and export data sets.

    Attributes:
        command: What to do.
    """

    command: (
        Annotated[Get, tyro.conf.subcommand(name="get")]
        | Annotated[Build, tyro.conf.subcommand(name="build")]
        | Annotated[Check, tyro.conf.subcommand(name="check")]
        | Annotated[Export, tyro.conf.subcommand(name="export")]
    )

    def run(self) -> None:
        """Run the chosen command."""
        self.command.run()
