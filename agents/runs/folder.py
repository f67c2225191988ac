"""The folder of a run: where everything lies, and the log of its metrics.

runs/<name>/
    config.json      what was asked for
    begun.json       what it was begun with: hashes of data and titles, config, version
    metrics.jsonl    one JSON object a line: {"stage", "step", "seconds", measures...}
    tensorboard/     the same as events
    rewards/         models that the reward asked for, if it needs any
    checkpoints/     sft/ and rere/ (best by validation), last/ and last.old/ (to resume)
    result.json      every recommender on the test split
    report.html      the same for people

Checkpoints are read only if they are what was written; else the one before is used, loudly.
"""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from agents.files import (
    DamagedError,
    older,
    read_json,
    replace_folder,
    restore_folder,
    sha256,
    sync,
    verify_folder,
    write_json,
)
from agents.runs.checked import from_json
from agents.runs.config import TrainConfig
from agents.runs.log import check_log, cut_log

__all__ = ["Progress", "RunFolder", "Stage"]


class Stage(StrEnum):
    """Where a run is: in one of the stages that train a policy, or done.

    The value is its name in logs, in progress.json and as a row of the tables.
    """

    SFT = "sft"
    RL = "rl"
    DONE = "done"

    @property
    def trains(self) -> bool:
        """Whether it leaves a policy."""
        return self is not Stage.DONE

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
    """How far a run has come: what a resumed run needs besides weights and optimiser.

    Attributes:
        stage: The stage being trained, or done.
        step: Optimiser steps made in this stage.
        best_value: Best validation NDCG@10 of this stage so far.
        best_step: The step it was seen at.
        num_worse: Evaluations since then.
        metrics_bytes: Length of metrics.jsonl; what a killed run wrote later is cut off.
        metrics_sha256: Of these bytes; empty in runs of versions that wrote none.
        seconds: Wall time by stage.
    """

    stage: Stage = Stage.SFT
    step: int = 0
    best_value: float = -1.0
    best_step: int = 0
    num_worse: int = 0
    metrics_bytes: int = 0
    metrics_sha256: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take a stage as progress.json writes it."""
        self.stage = Stage(self.stage)

    def next_stage(self, stage: Stage) -> None:
        """Start a stage at step 0."""
        self.stage, self.step, self.best_step, self.num_worse = Stage(stage), 0, 0, 0
        self.best_value = -1.0

    def stages_with_policy(self) -> list[Stage]:
        """Return the stages that have a best policy by now."""
        order = list(Stage)
        begun = [self.stage] if self.stage.trains and self.best_value >= 0 else []
        return [*order[: order.index(self.stage)], *begun]


class RunFolder:
    """Paths of a run and its metrics log."""

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is written yet."""
        self.path = path
        self.config = path / "config.json"
        self.begun = path / "begun.json"
        self.metrics = path / "metrics.jsonl"
        self.tensorboard = path / "tensorboard"
        self.checkpoints = path / "checkpoints"
        self.last = self.checkpoints / "last"
        self.state = self.last  # the one of the two generations that `load_progress` has read
        self.result = path / "result.json"
        self.report = path / "report.html"

    @classmethod
    def create(
        cls,
        runs_dir: Path,
        name: str,
        config: Mapping[str, Any],
        begun: Mapping[str, Any] | None = None,
    ) -> "RunFolder":
        """Make a new run folder and write its config, and what it is begun with.

        Raises:
            FileExistsError: The run exists; nothing is overwritten.
        """
        run = cls(runs_dir / name)
        if run.config.exists():
            raise FileExistsError(
                f"the run {run.path} exists; continue it with `rere train --resume {run.path}`, "
                "or choose another --name."
            )
        left = [file.name for file in (run.metrics, run.checkpoints, run.result) if file.exists()]
        if left:
            raise FileExistsError(
                f"{run.path} holds {', '.join(left)} of a run whose config.json is gone; choose "
                "another --name, or put config.json back (begun.json has its values)."
            )
        run.path.mkdir(parents=True, exist_ok=True)
        if begun is not None:
            write_json(run.begun, begun)
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
                "(default: runs). One that was stopped before its start is trained anew."
            )
        return run

    def read_config(self) -> TrainConfig:
        """Return what was asked for.

        Raises:
            ValueError: The file is damaged, or of another version.
        """
        remedy = "put back the file as `rere train` wrote it"
        try:
            values = read_json(self.config)
        except DamagedError as error:
            raise DamagedError(f"{error}; {remedy}.") from error
        return from_json(TrainConfig, values, self.config, remedy)

    def best(self, stage: Stage) -> Path:
        """Return the folder of a stage's best policy."""
        return self.checkpoints / stage.folder

    def policy(self, stage: Stage) -> Path:
        """Return the folder of a stage's best policy, or of the one that it was replacing.

        Raises:
            DamagedError: Neither is what was written.
        """
        best, found = self.best(stage), []
        for folder in (best, older(best)):
            if not folder.is_dir():
                found.append(f"{folder} is missing")
                continue
            try:
                verify_folder(folder, needs_manifest=self.begun.is_file())
            except DamagedError as error:
                found.append(str(error))
                continue
            if found:
                _warn(f"{found[0]}; the best policy before it is used, {folder}.")
            return folder
        raise DamagedError(f"{found[0]}; put back a copy of {best}, or train anew.")

    def latest_policy(self) -> Path | None:
        """Return the best policy of the last stage that left one, None where none did.

        Raises:
            DamagedError: It is missing or not what was written: another is not served for it.
        """
        if not self.checkpoints.is_dir():
            return None
        there = [
            stage
            for stage in Stage
            if stage.trains and (self.best(stage).is_dir() or older(self.best(stage)).is_dir())
        ]
        if Stage.RL not in there and self._has_begun_rl():
            raise DamagedError(
                f"{self.best(Stage.RL)} is missing, and the run has come that far; put back a copy "
                "of it, or train anew."
            )
        return self.policy(there[-1]) if there else None

    def _has_begun_rl(self) -> bool:
        for folder in self._generations():
            try:
                progress = self._read_progress(folder)
            except ValueError:
                continue
            return Stage.RL in progress.stages_with_policy()
        return self.result.is_file() or bool(self._generations())

    def log(self, values: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(values), allow_nan=False) + "\n")

    def metrics_size(self) -> int:
        """Return the length of metrics.jsonl in bytes."""
        return self.metrics.stat().st_size if self.metrics.exists() else 0

    def load_progress(self, *, allow_changed: bool = False) -> Progress | None:
        """Return how far the run came, and cut off what was logged after that.

        `self.state` holds the rest: checkpoints/last, or the state before if that is damaged.

        Args:
            allow_changed: Go on with a log that is not what was written.

        Raises:
            DamagedError: Neither state is what was written.
        """
        found: list[str] = []
        for folder in self._generations():
            try:
                progress = self._read_progress(folder)
                if not allow_changed:
                    check_log(self.metrics, progress.metrics_bytes, progress.metrics_sha256)
            except DamagedError as error:
                found.append(str(error))
                continue
            self.state = folder
            if folder != self.last:
                reason = found[0] if found else f"{self.last} was being replaced"
                _warn(f"{reason}; the state before it is used, {folder}.")
            cut_log(self.metrics, progress.metrics_bytes)
            return progress
        if found:
            raise DamagedError(
                f"{'; '.join(found)}; put back a copy of what is named, or delete "
                f"{self.checkpoints} and `rere train --resume {self.path}` begins anew."
            )
        cut_log(self.metrics, 0)
        return None

    def save_progress(self, progress: Progress, save_state: Callable[[Path], None]) -> None:
        """Replace checkpoints/last at once, keeping the state before: `save_state` fills it."""
        progress.metrics_bytes = self.metrics_size()
        progress.metrics_sha256 = ""
        if progress.metrics_bytes:
            sync(self.metrics)
            progress.metrics_sha256 = sha256(self.metrics)
        if self.state != self.last:  # it is damaged, and must not take the place of the good one
            shutil.rmtree(self.last, ignore_errors=True)
        with replace_folder(self.last, keep_older=True) as folder:
            save_state(folder)
            write_json(folder / "progress.json", asdict(progress))
        self.state = self.last
        for stage in Stage:
            if stage.trains:  # what was replaced since the state before is no longer needed
                restore_folder(self.best(stage))
                shutil.rmtree(older(self.best(stage)), ignore_errors=True)

    def _generations(self) -> list[Path]:
        return [folder for folder in (self.last, older(self.last)) if folder.is_dir()]

    def _read_progress(self, folder: Path) -> Progress:
        verify_folder(folder, needs_manifest=self.begun.is_file())
        file = folder / "progress.json"
        if not file.is_file():
            raise DamagedError(f"{file} is missing")
        remedy = "put back the file as it was, or resume with the version that wrote it"
        return from_json(Progress, read_json(file), file, remedy)


def _warn(text: str) -> None:
    print(f"rere: {text}", file=sys.stderr)
