"""A short run in a process of its own, and what it must come to.

Processes are forked from one that has imported torch and never used it: a run takes a second.
"""

import errno
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "Ended",
    "count_renames",
    "fails_at",
    "in_process",
    "kill_at",
    "outcome",
    "resume_flags",
    "train_flags",
    "write_data",
]

RENAMES = ("rename", "replace")

Hook = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a process ended: its exit status, what it said, and how long it took."""

    status: int
    said: list[str] = field(default_factory=list)
    seconds: float = 0.0


def write_data(folder: Path) -> Path:
    """Write a small shop: 40 titles, 80 users who walk along them."""
    folder.mkdir(parents=True)
    titles = [
        f"{maker} {kind}" for maker in "ABCDEFGHIJ" for kind in ("Kite", "Car", "Doll", "Bus")
    ]
    lines = [f"i{n},{title}" for n, title in enumerate(titles)]
    (folder / "items.csv").write_text("\n".join(["item_id,title", *lines]) + "\n", "utf-8")
    for split, users in (("train", range(80)), ("valid", range(20)), ("test", range(20, 40))):
        rows = ["user_id,history,item_id,timestamp"]
        for user in users:
            walk = [(user + step) % len(titles) for step in range(2 + user % 5)]
            *history, target = [f"i{item}" for item in walk]
            rows.append(f"u{user},{' '.join(history)},{target},{user}")
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n", "utf-8")
    return folder


def train_flags(data: Path, run: Path) -> list[str]:
    """Return the flags of a run of 4 SFT and 4 RL steps that saves twice a stage."""
    return [
        *("train", "--data", str(data), "--preset", "smoke", "--model", "scratch:nano"),
        *("--device", "cpu", "--sft-epochs", "4", "--rl-steps", "4"),
        *("--runs-dir", str(run.parent), "--name", run.name),
    ]


def resume_flags(run: Path) -> list[str]:
    """Return the flags that go on with a run."""
    return ["train", "--resume", str(run)]


def in_process(
    arguments: list[str], *, hook: Hook | None = None, kill_after_s: float | None = None
) -> Ended:
    """Run a command of `rere` in a forked process.

    Args:
        arguments: Of the command.
        hook: Called in the process before the command.
        kill_after_s: Kill it (SIGKILL) after so long.
    """
    reader, writer = os.pipe()
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _be_child(arguments, hook, writer)
    os.close(writer)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    with os.fdopen(reader, encoding="utf-8", errors="replace") as pipe:
        text = pipe.read()
    _, waited = os.waitpid(child, 0)
    said = [last for line in text.split("\n") if (last := line.rpartition("\r")[2]).strip()]
    seconds = time.perf_counter() - started
    return Ended(status=os.waitstatus_to_exitcode(waited), said=said, seconds=seconds)


def _be_child(arguments: list[str], hook: Hook | None, stderr: int) -> None:
    """Become the process of a command: never returns."""
    import torch

    status = 70
    try:
        os.dup2(stderr, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        torch.set_num_threads(1)
        if hook is not None:
            hook()
        from agents.cli import main

        status = main(arguments)
    finally:
        if (error := sys.exc_info()[0]) is not None:  # what `rere` would print as one line
            print(f"traceback: {error.__name__}: {sys.exc_info()[1]}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(status)


def kill_at(number: int) -> Hook:
    """Return what kills the process before its rename number `number`, counted from 0."""

    def hook() -> None:
        count = 0

        def counting(rename: Callable[..., None]) -> Callable[..., None]:
            def renamed(*args: Any, **options: Any) -> None:
                nonlocal count
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1
                rename(*args, **options)

            return renamed

        for name in RENAMES:
            setattr(os, name, counting(getattr(os, name)))

    return hook


def count_renames(file: Path) -> Hook:
    """Return what writes a byte into a file at every rename."""

    def hook() -> None:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def counting(rename: Callable[..., None]) -> Callable[..., None]:
            def renamed(*args: Any, **options: Any) -> None:
                os.write(descriptor, b".")
                rename(*args, **options)

            return renamed

        for name in RENAMES:
            setattr(os, name, counting(getattr(os, name)))

    return hook


def fails_at(number: int, code: int = errno.ENOSPC) -> Hook:
    """Return what makes every write to the disk fail from number `number` on."""

    def hook() -> None:
        fsync, count = os.fsync, 0

        def failing(descriptor: int) -> None:
            nonlocal count
            count += 1
            if count > number:
                raise OSError(code, os.strerror(code))
            fsync(descriptor)

        os.fsync = failing

    return hook


def outcome(run: Path) -> str:
    """Return a digest of what a run has learnt, logged and scored, less what a clock says."""
    digest = hashlib.sha256()
    for stage in ("sft", "rere"):
        digest.update((run / "checkpoints" / stage / "model.safetensors").read_bytes())
    for line in (run / "metrics.jsonl").read_text("utf-8").splitlines():
        digest.update(json.dumps(_timeless(json.loads(line))).encode())
    result = json.loads((run / "result.json").read_text("utf-8"))
    digest.update(json.dumps(_timeless(result["recommenders"])).encode())
    return digest.hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _timeless(part) for key, part in value.items() if "second" not in key}
    return [_timeless(part) for part in value] if isinstance(value, list) else value
