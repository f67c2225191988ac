"""A data set from a web server to a folder that training reads."""

import gzip
import hashlib
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from rere_env.data import ORIGINS, load_dataset
from rere_env.data.fetch import SOURCES, AmazonFiles, RemoteFile, fetch_dataset


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, and remembers what was asked for."""

    def log_message(self, *_):
        """Note the path instead of printing it."""
        self.server.asked.append(self.path)


@pytest.fixture
def remote(tmp_path):
    """Two Amazon files on a server: ten users who buy six items each."""
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
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def source(remote):
    """The two files as a source."""
    home = f"http://127.0.0.1:{remote.server_port}"
    return AmazonFiles(
        reviews=RemoteFile(url=f"{home}/reviews.json.gz"),
        metadata=RemoteFile(url=f"{home}/meta.json.gz"),
    )


def sha256(path):
    """The hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_data_set_is_fetched_and_built(remote, tmp_path):
    """The folder can be loaded, and its report says where every byte came from."""
    made = fetch_dataset("toys", tmp_path / "toys", source=source(remote))
    assert load_dataset(tmp_path / "toys").content_hash == made.content_hash
    assert made.catalogue.num_titles == 8
    assert sum(len(batch) for batch in made.splits.values()) == 50
    report = json.loads((tmp_path / "toys" / "report.json").read_text())
    assert report["raw/reviews"] == report["interactions"] == 60
    for name, origin in report["sources"].items():
        kept = tmp_path / "toys.raw" / name
        assert origin == {
            "url": f"http://127.0.0.1:{remote.server_port}/{name}",
            "sha256": sha256(kept),
            "bytes": kept.stat().st_size,
        }
    assert sorted(path.name for path in (tmp_path / "toys.raw").iterdir()) == [
        "meta.json.gz",
        "reviews.json.gz",
    ]


def test_arguments_go_to_the_builder(remote, tmp_path):
    """Another protocol, another split."""
    made = fetch_dataset(
        "toys", tmp_path / "toys", source=source(remote), protocol="leave_one_out", history_length=3
    )
    assert len(made.splits["test"]) == 10
    assert made.history_length == 3


def test_files_that_are_there_are_used(remote, tmp_path):
    """Brought by hand, they need no server."""
    raw = tmp_path / "raw"
    fetch_dataset("toys", tmp_path / "once", source=source(remote), raw=raw)
    asked = list(remote.asked)
    again = fetch_dataset("toys", tmp_path / "twice", source=source(remote), raw=raw)
    assert remote.asked == asked
    assert len(again.splits["train"]) == 40


def test_progress_has_a_name_for_each_step(remote, tmp_path):
    """One bar a file and one for the conversion."""
    told = {}
    fetch_dataset(
        "toys",
        tmp_path / "toys",
        source=source(remote),
        progress=lambda what: lambda done, total: told.update({what: (done, total)}),
    )
    assert list(told) == ["fetch reviews.json.gz", "fetch meta.json.gz", "convert"]
    assert all(done == total for done, total in told.values())


def test_a_pinned_file_must_be_the_one(remote, tmp_path):
    """A wrong hash stops everything; the right one passes."""
    with pytest.raises(ValueError, match=r"expected 0{64}.*meta\.json\.gz\.wrong"):
        fetch_dataset(
            "toys", tmp_path / "toys", source=source(remote), pins={"meta.json.gz": "0" * 64}
        )
    assert not (tmp_path / "toys").exists()
    right = sha256(tmp_path / "toys.raw" / "meta.json.gz.wrong")
    fetch_dataset("toys", tmp_path / "toys", source=source(remote), pins={"meta.json.gz": right})


def test_a_pin_of_another_file_is_an_error(remote, tmp_path):
    """A misspelt name would check nothing."""
    with pytest.raises(ValueError, match=r"`pins` names \['metadata'\]; the files of 'toys' are"):
        fetch_dataset("toys", tmp_path / "x", source=source(remote), pins={"metadata": "0" * 64})


def test_a_full_folder_is_refused_before_anything_is_fetched(remote, tmp_path):
    """No gigabyte for nothing."""
    (tmp_path / "toys").mkdir()
    (tmp_path / "toys" / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="not an empty folder"):
        fetch_dataset("toys", tmp_path / "toys", source=source(remote))
    assert remote.asked == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("yelp", r"licence has to be accepted at https://www.yelp.com/dataset\..*rere data build"),
        ("books", r"`name` \(='books'\) must be one of \['industrial', 'office', 'toys', 'video"),
    ],
)
def test_what_cannot_be_fetched_says_what_to_do(tmp_path, name, message):
    """Yelp wants its licence accepted by hand; other names are unknown."""
    with pytest.raises(ValueError, match=message):
        fetch_dataset(name, tmp_path / name)


def test_every_known_name_but_yelp_has_a_source():
    """Https addresses of a review and a metadata file of the same category."""
    assert SOURCES.keys() == ORIGINS.keys() - {"yelp"}
    for files in SOURCES.values():
        assert files.reviews.url.startswith("https://")
        category = files.metadata.name.removeprefix("meta_").removesuffix(".json.gz")
        assert files.reviews.name.removeprefix("reviews_") == f"{category}_5.json.gz"
    assert len(np.unique([files.reviews.url for files in SOURCES.values()])) == len(SOURCES)
