"""What guards a run: what it must go on with, and the line that ends it from outside."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

import rere_env
from agents.policy import Backbone
from agents.runs.begun import Begun
from agents.runs.stopping import Stopped, Stopping
from rere_env.task import Task

__all__ = ["SaveError", "begun_of", "check_saves", "saving_errors", "stops_of"]

REMEDIES = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room in your quota",
    errno.EFBIG: "lift the limit on the size of a file",
    errno.EROFS: "make its disk writable",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
    errno.EIO: "see to its disk",
}


class SaveError(OSError):
    """A run cannot be written to its folder."""


def begun_of(config: dict[str, Any], task: Task, backbone: Backbone) -> Begun:
    """Return what a run must go on with: config.json and the hashes of what it names."""
    return Begun(
        version=rere_env.__version__,
        data=task.dataset.content_hash,
        catalogue=task.catalogue.content_hash(),
        tokenizer=backbone.tokenizer.content_hash(),
        trie=task.trie.content_hash(),
        config=config,
    )


@contextmanager
def saving_errors(run: Path) -> Iterator[None]:
    """Turn errors of the disk into one line.

    Raises:
        SaveError: Something could not be written.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if (remedy := _remedy(error)) is None:
            raise
        go_on = "then start it again."
        if (run / "config.json").is_file():
            go_on = f"then go on with `rere train --resume {run}`; what was saved before is intact."
        raise SaveError(f"{run} cannot be written ({error}): {remedy}, {go_on}") from error


@contextmanager
def stops_of(run: Path, stopping: Stopping) -> Iterator[None]:
    """Hear signals, and say how to go on after one.

    Raises:
        Stopped: One has come.
    """
    try:
        with stopping:
            yield
    except Stopped as stopped:
        parts = [stopped.done] if stopped.done else []
        parts.append(f"go on with `rere train --resume {run}`")
        raise Stopped(stopped.signum, "; ".join(parts)) from None


def _remedy(error: OSError | SafetensorError | RuntimeError) -> str | None:
    """Return what to do about an error of the disk, None for any other."""
    if isinstance(error, OSError):
        return REMEDIES.get(error.errno or 0)
    # Rust and C++ hide the number of the error that the disk gave.
    if isinstance(error, SafetensorError):
        return "make room on its disk, or make it writable" if "I/O error" in str(error) else None
    of_the_writer = "inline_container" in str(error) or "PytorchStreamWriter" in str(error)
    return REMEDIES[errno.ENOSPC] if of_the_writer else None


def check_saves(algorithm: str, save_every_s: float | None) -> None:
    """Refuse `--save-every` for what keeps no checkpoints.

    Raises:
        ValueError: It was asked for.
    """
    if save_every_s is not None:
        raise ValueError(
            f"`save_every` (={save_every_s:g}s) is about checkpoints, and {algorithm!r} keeps "
            "none; leave it out."
        )
