"""A log that only grows: whether its beginning is what was written, and how it is cut back."""

import os
from pathlib import Path

from agents.files import DamagedError, sha256

__all__ = ["check_log", "cut_log"]


def check_log(file: Path, size: int, digest: str) -> None:
    """See that a log begins with the `size` bytes of a digest; an empty digest is any.

    Raises:
        DamagedError: It is shorter, or begins otherwise.
    """
    found = file.stat().st_size if file.exists() else 0
    if found < size:
        raise DamagedError(
            f"{file} is damaged: {found} bytes long where {size} were logged (--allow-changed "
            "goes on with what is left)"
        )
    if size and digest and sha256(file, size) != digest:
        raise DamagedError(
            f"{file} is damaged: it is not what was logged (--allow-changed goes on with it)"
        )


def cut_log(file: Path, size: int) -> None:
    """Cut off what was logged later; a shorter log stays as it is."""
    if file.exists() and file.stat().st_size > size:
        os.truncate(file, size)
