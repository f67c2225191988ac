"""Files and folders that are replaced in one step: a crash leaves the old one or the new one."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["replace_folder", "restore_folder", "write_json"]


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Fill a new folder, then put it in the place of the old one; a crash keeps the old one."""
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    restore_folder(folder)
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    new.mkdir(parents=True)
    yield new
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def restore_folder(folder: Path) -> None:
    """Undo a crash between the two renames of `replace_folder`; call it before reading."""
    old = folder.with_name(folder.name + ".old")
    if old.exists() and not folder.exists():
        old.rename(folder)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write strict JSON in one step."""
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    new.replace(path)
