"""The folder of a run: where everything lies, and the log of its metrics.

runs/<name>/
    config.json      what was asked for
    metrics.jsonl    one JSON object a line: {"stage", "step", "seconds", measures...}
    tensorboard/     the same as events
    rewards/         models that the reward asked for, if it needs any
    checkpoints/     sft/ and rere/ (best by validation), last/ (to resume)
    result.json      every recommender on the test split
    report.html      the same for people
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from agents.files import replace_folder, restore_folder, write_json

__all__ = ["Progress", "RunFolder", "Stage"]


class Stage(StrEnum):
    """Where a run is: in one of the stages that train a policy, or done.

    The value is its name in logs, in progress.json and as a row of the tables.
    """

    SFT = "sft"
    RL = "rl"
    DONE = "done"

    @property
    def folder(self) -> str:
        """The name of its best policy's folder; only what trains has one."""
        return {"sft": "sft", "rl": "rere"}[self]

    @property
    def heading(self) -> str:
        """What people call it."""
        return {"sft": "Supervised fine-tuning", "rl": "ReRe", "done": "Done"}[self]


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a run has come; everything a resumed run needs besides weights and optimiser.

    Attributes:
        stage: The stage being trained, or done.
        step: Optimiser steps made in this stage.
        best_value: Best validation NDCG@10 of this stage so far.
        best_step: The step it was seen at.
        num_worse: Evaluations since then.
        metrics_bytes: Length of metrics.jsonl; what a killed run wrote later is cut off.
        seconds: Wall time by stage.
    """

    stage: Stage = Stage.SFT
    step: int = 0
    best_value: float = -1.0
    best_step: int = 0
    num_worse: int = 0
    metrics_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take a stage as progress.json writes it."""
        self.stage = Stage(self.stage)

    def next_stage(self, stage: Stage) -> None:
        """Start a stage at step 0."""
        self.stage, self.step, self.best_step, self.num_worse = Stage(stage), 0, 0, 0
        self.best_value = -1.0


class RunFolder:
    """Paths of a run and its metrics log."""

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is written yet."""
        self.path = path
        self.config = path / "config.json"
        self.metrics = path / "metrics.jsonl"
        self.tensorboard = path / "tensorboard"
        self.checkpoints = path / "checkpoints"
        self.last = self.checkpoints / "last"
        self.result = path / "result.json"
        self.report = path / "report.html"

    @classmethod
    def create(cls, runs_dir: Path, name: str, config: Mapping[str, Any]) -> "RunFolder":
        """Make a new run folder and write its config.

        Raises:
            FileExistsError: The run exists; nothing is overwritten.
        """
        run = cls(runs_dir / name)
        if run.config.exists():
            raise FileExistsError(
                f"the run {run.path} exists; continue it with `rere train --resume {run.path}`, "
                "or choose another --name."
            )
        run.path.mkdir(parents=True, exist_ok=True)
        write_json(run.config, config)
        return run

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open an existing run.

        Raises:
            FileNotFoundError: The folder holds no config.json.
        """
        run = cls(path)
        if not run.config.is_file():
            raise FileNotFoundError(
                f"{path} is not a run: it holds no config.json; runs lie in `--runs-dir` "
                "(default: runs)."
            )
        return run

    def read_config(self) -> dict[str, Any]:
        """Return what was asked for."""
        config: dict[str, Any] = json.loads(self.config.read_text(encoding="utf-8"))
        return config

    def best(self, stage: Stage) -> Path:
        """Return the folder of a stage's best policy."""
        return self.checkpoints / stage.folder

    def latest_policy(self) -> Path | None:
        """Return the best policy of the last stage that left one, None where none did."""
        for stage in (Stage.RL, Stage.SFT):
            if (self.best(stage) / "config.json").is_file():
                return self.best(stage)
        return None

    def log(self, values: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(values), allow_nan=False) + "\n")

    def metrics_size(self) -> int:
        """Return the length of metrics.jsonl in bytes."""
        return self.metrics.stat().st_size if self.metrics.exists() else 0

    def load_progress(self) -> Progress | None:
        """Return how far the run came, and cut off what was logged after that."""
        restore_folder(self.last)
        file = self.last / "progress.json"
        progress = None
        if file.is_file():
            progress = Progress(**json.loads(file.read_text(encoding="utf-8")))
        if self.metrics.exists():
            os.truncate(self.metrics, progress.metrics_bytes if progress else 0)
        return progress

    def save_progress(self, progress: Progress, save_state: Callable[[Path], None]) -> None:
        """Replace checkpoints/last at once: `save_state` fills the new folder."""
        progress.metrics_bytes = self.metrics_size()
        with replace_folder(self.last) as folder:
            save_state(folder)
            write_json(folder / "progress.json", asdict(progress))
