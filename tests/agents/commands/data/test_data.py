"""`rere data get` and `rere data check`."""

import gzip
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agents.cli import main
from rere_env.data import find_data
from rere_env.data.fetch import AmazonFiles, RemoteFile


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a word."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server that stands in for the public home of `toys`, and an empty $RERE_DATA."""
    folder = tmp_path / "remote"
    folder.mkdir()
    reviews = [
        {
            "overall": 5.0,
            "reviewerID": f"U{user}",
            "asin": f"B{(user + step) % 8}",
            "unixReviewTime": 86_400 * (step + 1),
        }
        for user in range(10)
        for step in range(6)
    ]
    metadata = [{"asin": f"B{item}", "title": f"Toy {item}"} for item in range(8)]
    for name, records in (("reviews.json.gz", reviews), ("meta.json.gz", metadata)):
        text = "".join(json.dumps(record) + "\n" for record in records)
        (folder / name).write_bytes(gzip.compress(text.encode()))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        home = f"http://127.0.0.1:{server.server_port}"
        files = AmazonFiles(
            reviews=RemoteFile(url=f"{home}/reviews.json.gz"),
            metadata=RemoteFile(url=f"{home}/meta.json.gz"),
        )
        monkeypatch.setattr("rere_env.data.fetch.SOURCES", {"toys": files})
        monkeypatch.setenv("RERE_DATA", str(tmp_path / "data"))
        yield folder
        server.shutdown()
        thread.join()


def test_get_puts_a_data_set_where_its_name_finds_it(
    remote: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fetched, built, reported, with the hashes to pin."""
    assert main(["data", "get", "toys"]) == 0
    assert find_data("toys") == tmp_path / "data" / "toys"
    printed, bars = capsys.readouterr()
    assert "--sha256 meta.json.gz=" in printed
    assert "rere train --data toys" in printed
    assert "fetch reviews.json.gz" in bars


def test_get_checks_what_is_pinned(
    remote: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong hash ends with status 2, both hashes and the remedy."""
    flags = ["--sha256", f"meta.json.gz={'0' * 64}"]
    assert main(["data", "get", "toys", str(tmp_path / "x"), *flags]) == 2
    assert f"expected {'0' * 64}" in capsys.readouterr().err
    assert main(["data", "get", "toys", str(tmp_path / "x"), "--sha256", "meta.json.gz"]) == 2
    assert "must be FILE=DIGEST" in capsys.readouterr().err


def test_get_says_when_a_file_is_gone(
    remote: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """404 is status 2 and says where the file may be put by hand."""
    (remote / "meta.json.gz").unlink()
    assert main(["data", "get", "toys"]) == 2
    assert f"put it at {tmp_path}/data/toys.raw/meta.json.gz" in capsys.readouterr().err


def test_get_explains_what_yelp_asks_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Its licence is accepted by hand."""
    assert main(["data", "get", "yelp"]) == 2
    assert "licence has to be accepted" in capsys.readouterr().err


def test_check_prints_the_audit(capsys: pytest.CaptureFixture[str]) -> None:
    """A table for people, JSON for programs: the same numbers."""
    assert main(["data", "check", "games"]) == 0
    shown = capsys.readouterr().out
    assert main(["data", "check", "games", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    test = found["splits"]["test"]
    cold = [f"{test['cold_targets']:,}", f"{test['cold_targets'] / test['rows']:.2%}"]
    assert cold in [line.split()[-2:] for line in shown.splitlines()]
    assert f"{test['popularity_hit_rate@10']:.2%}" in shown
    assert f"{found['trie']['nodes']:,}" in shown


def test_check_finds_data_by_name(remote: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As training does; another split can count as training."""
    assert main(["data", "get", "toys"]) == 0
    capsys.readouterr()
    assert main(["data", "check", "toys", "--json", "--train-split", "valid"]) == 0
    assert json.loads(capsys.readouterr().out)["train_split"] == "valid"
    assert main(["data", "check", "toys", "--train-split", "nosuch"]) == 2
    assert "`train` (='nosuch')" in capsys.readouterr().err
