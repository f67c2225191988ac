"""Files and folders that are replaced in one step, and how damage to them is found.

A crash leaves the old one or the new one, on the disk and not in its cache only. A replaced folder
holds `manifest.json`, the SHA-256 of each of its files. Knows nothing of runs or models.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = [
    "MANIFEST",
    "DamagedError",
    "older",
    "read_json",
    "replace_folder",
    "restore_folder",
    "sha256",
    "sync",
    "verify_folder",
    "write_json",
]

MANIFEST = "manifest.json"
"""The file of a replaced folder that holds the SHA-256 of the others."""


class DamagedError(ValueError):
    """A file is not what was written."""


@contextmanager
def replace_folder(folder: Path, *, keep_older: bool = False) -> Iterator[Path]:
    """Fill a new folder, then put it in the place of the old one; a crash keeps the old one.

    Args:
        folder: What is replaced.
        keep_older: Keep what is replaced as `older(folder)`, in place of what was kept before.
    """
    new, old = folder.with_name(folder.name + ".new"), older(folder)
    if not keep_older:
        restore_folder(folder)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    filled = False
    try:
        yield new
        _write_manifest(new)
        filled = True
    finally:
        if not filled:  # give a full disk its room back
            shutil.rmtree(new, ignore_errors=True)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    new.rename(folder)
    sync(folder.parent)
    if not keep_older:
        shutil.rmtree(old, ignore_errors=True)


def restore_folder(folder: Path) -> None:
    """Undo a crash between the two renames of `replace_folder`; call it before reading."""
    old = older(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)


def older(folder: Path) -> Path:
    """Return where `replace_folder` puts what it replaces."""
    return folder.with_name(folder.name + ".old")


def verify_folder(folder: Path, *, needs_manifest: bool = False) -> None:
    """See that a folder holds what `replace_folder` put there; more files are no matter.

    Args:
        folder: With a manifest, or from elsewhere without one.
        needs_manifest: A missing manifest is damage too.

    Raises:
        DamagedError: It does not; the message names the file, and leaves the remedy to the caller.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        if needs_manifest:
            raise DamagedError(f"{manifest} is missing")
        return
    found = read_json(manifest)
    for name, digest in found.items():
        file = folder / name
        if not file.is_file():
            raise DamagedError(f"{file} is missing")
        if sha256(file) != digest:
            raise DamagedError(f"{file} is damaged: it is not what its SHA-256 in {MANIFEST} says")


def sha256(file: Path, size: int | None = None) -> str:
    """Return the SHA-256 of a file, or of its first `size` bytes."""
    with file.open("rb") as opened:
        if size is None:
            return hashlib.file_digest(opened, "sha256").hexdigest()
        return hashlib.sha256(opened.read(size)).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        DamagedError: It is none; the message names the file, and leaves the remedy to the caller.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged: it is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise DamagedError(f"{path} is damaged: it is not a JSON object")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write strict JSON in one step."""
    new = path.with_name(path.name + ".new")
    try:
        new.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        sync(new)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    new.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file or the names in a folder are on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_manifest(folder: Path) -> None:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    write_json(
        folder / MANIFEST,
        {file.relative_to(folder).as_posix(): sha256(file) for file in files},
    )
    for path in (*files, *(path for path in folder.rglob("*") if path.is_dir()), folder):
        sync(path)
