"""What every benchmark asks for, and how it answers."""

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["REPEATS", "Measuring"]

REPEATS = 5
"""Rounds where nobody says how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """A benchmark.

    Attributes:
        repeats: Interleaved rounds; the median is reported. Default: 5, or 2 of the engine where
            it is quick.
        out: Folder for the result as JSON, as a table and, where there is one, as a picture.
        json: Print JSON.
    """

    repeats: int | None = None
    out: Path | None = None
    json: bool = False

    def __post_init__(self) -> None:
        """Check the range."""
        if self.repeats is not None and self.repeats < 1:
            raise ValueError(f"`repeats` (={self.repeats}) must be at least 1.")

    def report(
        self,
        result: dict[str, Any],
        table: Callable[[dict[str, Any]], str],
        write: Callable[[dict[str, Any], Path], None],
    ) -> None:
        """Print what was measured, and write it where that was asked for.

        Args:
            result: What `--json` prints, less the command.
            table: Makes the text for people.
            write: Fills a folder.
        """
        result["command"] = shlex.join(["rere", *sys.argv[1:]])
        if self.out is not None:
            write(result, self.out)
        print(json.dumps(result, indent=2, allow_nan=False) if self.json else table(result))
