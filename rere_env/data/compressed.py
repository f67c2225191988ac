"""The bytes of a file, plain or .gz; what grows beyond a bound is refused in time."""

import gzip
import io
import os
import zlib
from pathlib import Path

__all__ = ["LIMIT_VARIABLE", "max_uncompressed", "open_bytes", "read_bytes"]

LIMIT_VARIABLE = "RERE_MAX_UNCOMPRESSED"
"""Environment variable: bytes that a .gz file may hold; default: 1 GiB."""

DEFAULT_LIMIT = 2**30


def open_bytes(path: Path) -> gzip.GzipFile | io.BufferedReader:
    """Open a file for reading, decompressed if its name ends in .gz."""
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def read_bytes(path: Path) -> bytes:
    """Return what a file holds, decompressed.

    Raises:
        ValueError: It is no gzip file, is cut off, or holds more than `max_uncompressed()`.
    """
    if path.suffix != ".gz":
        return path.read_bytes()
    limit = max_uncompressed()
    try:
        with open_bytes(path) as stream:
            data = stream.read(limit + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(
            f"{path} cannot be decompressed ({error}); download or compress it again."
        ) from error
    if len(data) > limit:
        raise ValueError(
            f"{path} (={path.stat().st_size:,} bytes) must hold at most {limit:,} bytes once it is "
            f"decompressed, and holds more; if it is what you expect, set {LIMIT_VARIABLE} to its "
            "uncompressed size."
        )
    return data


def max_uncompressed() -> int:
    """Return how many bytes a .gz file may hold.

    Raises:
        ValueError: The environment says something else than a number of bytes.
    """
    given = os.environ.get(LIMIT_VARIABLE, str(DEFAULT_LIMIT))
    if not (given.isascii() and given.isdecimal() and int(given) > 0):
        raise ValueError(
            f"the environment variable {LIMIT_VARIABLE} (={given!r}) must be a number of bytes, "
            f"such as {DEFAULT_LIMIT}."
        )
    return int(given)
