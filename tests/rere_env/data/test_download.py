"""Downloads from a server of our own that can refuse, stop half-way and change its mind."""

import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from rere_env.data.download import DownloadError, download, file_sha256

CONTENT = np.random.default_rng(0).bytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves `server.content` with ranges; `server.cuts` are bytes after which to hang up."""

    def do_GET(self):
        """Answer as a file server does."""
        server = self.server
        server.ranges.append(self.headers.get("Range"))
        if server.refusals:
            self.send_error(server.refusals.pop(0))
            return
        content, start = server.content, 0
        wanted = self.headers.get("Range")
        if wanted and server.has_ranges and self.headers.get("If-Range") == server.version:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if server.version:
            self.send_header("ETag", server.version)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        part = content[start:]
        self.wfile.write(part[: server.cuts.pop(0)] if server.cuts else part)

    def log_message(self, *_):
        """Keep quiet."""


class Server(ThreadingHTTPServer):
    """What it serves and how it behaves."""

    content = CONTENT
    version = '"one"'
    has_ranges = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.cuts, self.refusals, self.ranges = [], [], []

    @property
    def url(self):
        """Address of the file."""
        return f"http://127.0.0.1:{self.server_port}/file.bin"


@pytest.fixture
def server():
    """A server in a thread."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(server, path, **arguments):
    """Download without waiting between attempts."""
    return download(server.url, path, **{"wait_s": 0.0, "timeout_s": 5.0, **arguments})


def files(folder):
    """Names of what a folder holds."""
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole(server, tmp_path):
    """The bytes, their hash, and nothing beside them."""
    path = tmp_path / "new" / "file.bin"
    assert fetch(server, path) == DIGEST
    assert path.read_bytes() == CONTENT
    assert files(path.parent) == ["file.bin"]


def test_progress_is_told(server, tmp_path):
    """Rising numbers, the last one the whole."""
    told = []
    fetch(server, tmp_path / "file.bin", progress=lambda *step: told.append(step))
    assert told == sorted(told)
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    """Only its hash is taken."""
    path = tmp_path / "file.bin"
    path.write_bytes(CONTENT)
    assert fetch(server, path, sha256=DIGEST) == DIGEST
    assert server.ranges == []


def test_an_interrupted_download_goes_on_at_once(server, tmp_path):
    """Two interruptions, two ranges, one file."""
    server.cuts = [100_000, 50_000]
    assert fetch(server, tmp_path / "file.bin", sha256=DIGEST) == DIGEST
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_an_interrupted_download_goes_on_in_a_later_call(server, tmp_path):
    """What was received is kept, and the message says so."""
    path = tmp_path / "file.bin"
    server.cuts = [100_000]
    with pytest.raises(DownloadError, match=r"interrupted 1 times .* 100,000 bytes are kept in"):
        fetch(server, path, attempts=1)
    assert not path.exists()
    assert fetch(server, path) == DIGEST
    assert server.ranges == [None, "bytes=100000-"]


def test_a_server_that_goes_down_is_an_interruption(server, tmp_path):
    """Nobody listens: the message names the address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match=rf"http://127.0.0.1:{port}/x was interrupted 2 times"):
        download(f"http://127.0.0.1:{port}/x", tmp_path / "x", attempts=2, wait_s=0.0)


def test_a_changed_file_is_fetched_from_the_start(server, tmp_path):
    """The rest of another version is never appended."""
    path = tmp_path / "file.bin"
    server.cuts = [100_000]
    with pytest.raises(DownloadError):
        fetch(server, path, attempts=1)
    server.content, server.version = CONTENT[::-1], '"two"'
    assert fetch(server, path) == hashlib.sha256(CONTENT[::-1]).hexdigest()


@pytest.mark.parametrize("lack", [{"has_ranges": False}, {"version": None}], ids=str)
def test_a_server_that_cannot_go_on_starts_anew(server, tmp_path, lack):
    """No ranges, or no way to tell whether the file is still the same."""
    for name, value in lack.items():
        setattr(server, name, value)
    server.cuts = [100_000]
    assert fetch(server, tmp_path / "file.bin") == DIGEST


def test_a_download_that_was_complete_is_put_in_place(server, tmp_path):
    """Stopped between the last byte and the renaming."""
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    (tmp_path / "file.bin.part.version").write_text(server.version)
    assert fetch(server, tmp_path / "file.bin") == DIGEST
    assert server.ranges == [f"bytes={len(CONTENT)}-"]
    assert files(tmp_path) == ["file.bin"]


def test_more_than_the_whole_file_is_thrown_away(server, tmp_path):
    """Then the download begins again."""
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    (tmp_path / "file.bin.part.version").write_text(server.version)
    assert fetch(server, tmp_path / "file.bin") == DIGEST


def test_a_wrong_checksum_sets_the_file_aside(server, tmp_path):
    """Both hashes, the place and the remedy are named; the next call fetches anew."""
    path = tmp_path / "file.bin"
    with pytest.raises(ValueError, match=rf"sha256 {DIGEST}, expected {'0' * 64}.*file.bin.wrong"):
        fetch(server, path, sha256="0" * 64)
    assert files(tmp_path) == ["file.bin.wrong"]
    assert fetch(server, path, sha256=DIGEST.upper()) == DIGEST


def test_a_missing_file_is_an_error_at_once(server, tmp_path):
    """404: asking again would not help."""
    server.refusals = [404, 404]
    with pytest.raises(DownloadError, match=r"answers 404 Not Found.*put it at .*file\.bin your"):
        fetch(server, tmp_path / "file.bin")
    assert server.ranges == [None]


def test_a_busy_server_is_asked_again(server, tmp_path):
    """503 and 429 pass."""
    server.refusals = [503, 429]
    assert fetch(server, tmp_path / "file.bin") == DIGEST


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "file:///etc/hosts"}, "must begin with http:// or https://"),
        ({"url": "http://x", "attempts": 0}, r"`attempts` \(=0\) must be at least 1"),
    ],
)
def test_bad_arguments_are_errors(tmp_path, arguments, message):
    """Rule, value and remedy."""
    with pytest.raises(ValueError, match=message):
        download(path=tmp_path / "x", **arguments)


def test_the_hash_of_a_file(tmp_path):
    """As hashlib has it."""
    path = tmp_path / "x"
    path.write_bytes(b"abc" * 1_000_000)
    assert file_sha256(path) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
