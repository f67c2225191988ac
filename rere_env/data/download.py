"""One file from a web server to disk: resumable, checked. Knows nothing of what files hold.

While a download is under way its bytes lie beside the target as NAME.part; a later call goes on
from there if the server still has the same file, and from the start if not.
"""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

__all__ = ["DownloadError", "ReportBytes", "download", "file_sha256"]

CHUNK = 1 << 20

ReportBytes: TypeAlias = Callable[[int, int | None], None]
"""Called with (bytes so far, bytes in all or None)."""


class DownloadError(ConnectionError):
    """A file could not be fetched; the message says what is left and what to do."""


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    progress: ReportBytes | None = None,
    attempts: int = 3,
    wait_s: float = 1.0,
    timeout_s: float = 60.0,
) -> str:
    """Fetch a file unless it is there already; return its sha256.

    Args:
        url: http or https.
        path: Where the file belongs. A file that is there is checked, not fetched again.
        sha256: What the file must be; None: anything.
        progress: Told how far it is.
        attempts: How often to go on after an interruption before giving up.
        wait_s: Pause before going on, doubled each time.
        timeout_s: Silence of the server that counts as an interruption.

    Raises:
        DownloadError: The server refuses, or every attempt was interrupted; the bytes received
            are kept for the next call.
        ValueError: The file is not the expected one. Its bytes are set aside as NAME.wrong.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"`url` (={url!r}) must begin with http:// or https://.")
    if attempts < 1:
        raise ValueError(f"`attempts` (={attempts}) must be at least 1.")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = _Part.of(path)
        for attempt in range(attempts):
            if attempt:
                time.sleep(wait_s * 2 ** (attempt - 1))
            interruption = _go_on(url, part, progress, timeout_s)
            if interruption is None:
                break
        else:
            raise DownloadError(
                f"{url} was interrupted {attempts} times (last: {interruption}); {part.size:,} "
                f"bytes are kept in {part.data}. Run it again to go on from there, or put the "
                f"whole file at {path} yourself."
            )
        part.finish(path)
    found = file_sha256(path)
    if sha256 is not None and found != sha256.lower():
        aside = path.with_name(path.name + ".wrong")
        path.replace(aside)
        raise ValueError(
            f"{url} has sha256 {found}, expected {sha256}: the file is damaged or was changed at "
            f"its source. It was moved to {aside}. Run it again to fetch it anew; if the source "
            "has published a new file that you trust, give its sha256."
        )
    return found


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Part:
    """The bytes received so far, and the server's name for the version they belong to."""

    data: Path
    version: Path

    @classmethod
    def of(cls, path: Path) -> "_Part":
        return cls(path.with_name(path.name + ".part"), path.with_name(path.name + ".part.version"))

    @property
    def size(self) -> int:
        return self.data.stat().st_size if self.data.exists() else 0

    def resume_headers(self) -> dict[str, str]:
        # Without a version nobody could tell whether the rest is of the same file: start anew.
        if self.size == 0 or not self.version.exists():
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self.version.read_text("utf-8")}

    def begin(self, version: str | None) -> None:
        self.data.write_bytes(b"")
        self.version.unlink(missing_ok=True)
        if version is not None:
            self.version.write_text(version, "utf-8")

    def finish(self, path: Path) -> None:
        self.version.unlink(missing_ok=True)
        self.data.replace(path)


def _go_on(url: str, part: _Part, progress: ReportBytes | None, timeout_s: float) -> str | None:
    """Fetch what is missing; return what interrupted it, None if the file is complete."""
    # identity: a server that compresses on the way would make the bytes other than the file's.
    headers = {"Accept-Encoding": "identity", **part.resume_headers()}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            if response.status != http.client.PARTIAL_CONTENT:
                part.begin(_version(response.headers))
            return _receive(response, part, progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            if error.headers.get("Content-Range") == f"bytes */{part.size}":
                return None  # it was complete already, only not yet in its place
            part.begin(None)
            return "the server has less of the file than was received"
        if error.code >= 500 or error.code == http.client.TOO_MANY_REQUESTS:
            return f"{error.code} {error.reason}"
        raise DownloadError(
            f"{url} answers {error.code} {error.reason}; if the file has moved, find it at its "
            f"source and put it at {part.data.with_suffix('')} yourself."
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        return str(error) or type(error).__name__


def _receive(
    response: http.client.HTTPResponse, part: _Part, progress: ReportBytes | None
) -> str | None:
    start = part.size
    rest = response.headers.get("Content-Length")
    total = None if rest is None else start + int(rest)
    with part.data.open("ab") as file:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            start += len(chunk)
            if progress is not None:
                progress(start, total)
    if total is not None and start < total:
        return f"the connection closed after {start:,} of {total:,} bytes"
    return None


def _version(headers: http.client.HTTPMessage) -> str | None:
    """Return a strong validator for `If-Range`, or else the date; None: the server gives none."""
    tag = headers.get("ETag")
    if tag is not None and not tag.startswith("W/"):
        return str(tag)
    return headers.get("Last-Modified")
