"""What is done to a run, and whether it came through."""

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.chaos.run import (
    Ended,
    count_renames,
    fails_at,
    in_process,
    kill_at,
    outcome,
    resume_flags,
    train_flags,
)

__all__ = ["DAMAGES", "Case", "damages", "disks", "kills", "renames"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A run that something has happened to.

    Attributes:
        name: What happened.
        run: The run's folder; it is deleted after the verdict.
        data: What it learns from.
        before: What it said when it happened, where it said something that must be one line.
        may_refuse: Whether one line is as good as an equal end.
    """

    name: str
    run: Path
    data: Path
    before: Ended | None = None
    may_refuse: bool = False

    def verdict(self, whole: str) -> tuple[str, list[str]]:
        """Go on with the run; return what came of it, and what it said."""
        try:
            if self.before is not None and not _is_one_line(self.before, self.run):
                return "no clear line", [f"status {self.before.status}", *self.before.said]
            ended = in_process(resume_flags(self.run))
            if ended.status == 2 and "is not a run" in ended.said[-1]:  # not even begun
                ended = in_process(train_flags(self.data, self.run))
            if ended.status == 0:
                return ("equal" if outcome(self.run) == whole else "DIFFERENT"), ended.said
            if self.may_refuse and _is_one_line(ended, self.run):
                return "one line", ended.said
            return "no clear line", [f"status {ended.status}", *ended.said]
        finally:
            shutil.rmtree(self.run, ignore_errors=True)


def kills(
    root: Path, data: Path, count: int, seconds: float, rng: np.random.Generator
) -> Iterator[Case]:
    """Kill runs at random moments of the `seconds` that one takes."""
    for number in range(count):
        run, after = root / f"kill-{number}", float(rng.uniform(0.05, 1.0) * seconds)
        ended = in_process(train_flags(data, run), kill_after_s=after)
        assert ended.status in (-signal.SIGKILL, 0), ended
        yield Case(name=f"after {after:.2f} s", run=run, data=data)


def renames(root: Path, data: Path, count: int, rng: np.random.Generator) -> Iterator[Case]:
    """Kill runs before `count` renames, evenly spread from a random one on; at most all."""
    if not count:
        return
    in_process(train_flags(data, root / "counted"), hook=count_renames(root / "renames"))
    total = (root / "renames").stat().st_size
    count = min(count, total)
    shift = int(rng.integers(total))
    for number in sorted((shift + place * total // count) % total for place in range(count)):
        run = root / f"rename-{number}"
        ended = in_process(train_flags(data, run), hook=kill_at(number))
        assert ended.status == -signal.SIGKILL, ended
        yield Case(name=f"before rename {number} of {total}", run=run, data=data)


def flip(file: Path, rng: np.random.Generator) -> None:
    """Change one bit."""
    content = bytearray(file.read_bytes())
    if content:
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    file.write_bytes(content)


def zero(file: Path, rng: np.random.Generator) -> None:
    """Zero a block of up to 4 KiB."""
    content = bytearray(file.read_bytes())
    start = int(rng.integers(max(len(content), 1)))
    end = min(start + 4_096, len(content))
    content[start:end] = bytes(end - start)
    file.write_bytes(content)


def truncate(file: Path, rng: np.random.Generator) -> None:
    """Lose the end."""
    os.truncate(file, int(rng.integers(max(file.stat().st_size, 1))))


def delete(file: Path, _: np.random.Generator) -> None:
    """Lose all."""
    file.unlink()


DAMAGES: tuple[Callable[[Path, np.random.Generator], None], ...] = (flip, zero, truncate, delete)
"""What happens to a file."""


def damages(root: Path, data: Path, count: int, rng: np.random.Generator) -> Iterator[Case]:
    """Damage one file of a run that was killed in RL, and go on with it."""
    if not count:
        return
    stopped = _stopped_in_rl(root, data)
    files = sorted(
        file.relative_to(stopped)
        for file in stopped.rglob("*")
        if file.is_file() and "tensorboard" not in file.parts
    )
    for number in range(count):
        file, damage = files[int(rng.integers(len(files)))], DAMAGES[number % len(DAMAGES)]
        run = root / f"damage-{number}"
        shutil.copytree(stopped, run)
        damage(run / file, rng)
        yield Case(name=f"{damage.__name__} {file}", run=run, data=data, may_refuse=True)


def _stopped_in_rl(root: Path, data: Path) -> Path:
    """Make a run that was killed in its last RL step, two saves of RL behind it."""
    run = root / "stopped"
    in_process(train_flags(data, run), hook=_kill_in_rl)
    return run


def _kill_in_rl() -> None:
    from agents.training.learners import ReReLearner

    update = ReReLearner.update

    def dies(self: ReReLearner, step: int) -> dict[str, float]:
        if step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return update(self, step)

    ReReLearner.update = dies  # type: ignore[method-assign]


def disks(root: Path, data: Path, count: int, rng: np.random.Generator) -> Iterator[Case]:
    """Run on disks that are full or become read-only: real small ones where root may mount."""
    for number in range(count):
        folder = root / f"disk-{number}"
        folder.mkdir()
        size = int(rng.integers(100, 2_600))
        if number % 2 == 0 and _mounted(folder, size):
            yield _on_small_disk(folder, data, size)
            continue
        code = (errno.ENOSPC, errno.EROFS)[number // 2 % 2]
        fsyncs = int(rng.integers(150))
        run = folder / "run"
        ended = in_process(train_flags(data, run), hook=fails_at(fsyncs, code))
        name = f"{errno.errorcode[code]} from fsync {fsyncs} on, status {ended.status}"
        yield Case(name=name, run=run, data=data, before=ended if ended.status else None)


def _on_small_disk(folder: Path, data: Path, size: int) -> Case:
    """Run on a disk of `size` KiB, then make room and put the run back."""
    run = folder / "run"
    try:
        ended = in_process(train_flags(data, run))
        saved = folder.with_name(folder.name + "-saved")
        shutil.copytree(folder, saved)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()
    saved.rename(folder)
    name = f"a disk of {size} KiB, status {ended.status}"
    return Case(name=name, run=run, data=data, before=ended if ended.status else None)


def _mounted(folder: Path, size: int) -> bool:
    """Say whether a memory disk of `size` KiB could be mounted."""
    if os.name == "nt" or os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _is_one_line(ended: Ended, run: Path) -> bool:
    """Say whether a command ended with one line that names something of the run."""
    ours = [line for line in ended.said if line.startswith(("rere: ", "traceback: "))]
    return (
        ended.status == 2
        and bool(ours)
        and ours[-1].startswith("rere: ")
        and ended.said[-1] == ours[-1]
        and str(run) in ours[-1]
    )
