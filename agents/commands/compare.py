"""`rere compare`: every algorithm at equal time from one start, in one table."""

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agents.runs.folder import RunFolder, Stage
from rere_env.data.known import GAMES

__all__ = ["Compare"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare:
    """Train algorithms for the same time and score them on the same examples.

    Language models start from the SFT checkpoint of a run, agents of RL libraries from nothing.
    A stopped comparison goes on where it was when the command is given again.

    Examples:
        rere train --name start
        rere compare --start runs/start
        rere compare --start runs/start --algorithms rere gspo my_package:MyAlgo --seconds 30
        rere compare --start runs/start --split valid --learning-rate 1e-5 --folder runs/low

    Attributes:
        start: A run of `rere train`, whose SFT checkpoint is used, or a model folder.
        algorithms: Names that `rere algorithms` lists, or `module:name`; default: all of them.
        data: Data folder or `games`.
        seconds: CPU seconds of training a cell, on one thread.
        learning_rate: Peak, of language models; choose it on the `valid` split, for your budget.
        seeds: Seeds of each algorithm.
        workers: Cells at a time; keep it at the number of free cores.
        folder: Where the cells are kept.
        out: Folder for table, JSON and picture; default: that of the cells.
        split: What is evaluated.
        test_rows: Rows of the split; default: all.
    """

    start: Path
    algorithms: tuple[str, ...] = ()
    data: str = GAMES
    seconds: float = 90.0
    learning_rate: float = 1e-4
    seeds: int = 3
    workers: int = os.cpu_count() or 1
    folder: Path = Path("runs/comparison")
    out: Path | None = None
    split: Literal["valid", "test"] = "test"
    test_rows: int | None = None

    def run(self) -> None:
        """Run what is missing and print the table."""
        from agents.comparison.cell import Plan
        from agents.comparison.run import run_cells
        from agents.comparison.table import markdown, write_comparison
        from agents.registry import algorithms

        sft = RunFolder(self.start).best(Stage.SFT)
        start = sft if sft.is_dir() else self.start
        plan = Plan(
            start=str(start),
            data=self.data,
            seconds=self.seconds,
            learning_rate=self.learning_rate,
            split=self.split,
            test_rows=self.test_rows,
        )
        names = self.algorithms or tuple(algorithms())
        run_cells(plan, names, self.seeds, self.folder, self.workers)
        command = shlex.join(["rere", *sys.argv[1:]])
        result = write_comparison(self.folder, self.out or self.folder, command)
        print(markdown(result, command))
