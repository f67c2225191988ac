"""Well-known data sets from their public homes: download, convert, build.

Knows where files lie and what is made of them; `download.py` fetches, `amazon.py` converts,
`datasets.py` builds.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rere_env.data.amazon import convert_amazon
from rere_env.data.datasets import Dataset, build_dataset, check_empty
from rere_env.data.download import ReportBytes, download
from rere_env.data.known import ORIGINS

__all__ = ["SOURCES", "AmazonFiles", "RemoteFile", "fetch_dataset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file on a web server.

    Attributes:
        url: Where it is.
        sha256: What it must be; None: not pinned, the hash found is written into the report.
    """

    url: str
    sha256: str | None = None

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class AmazonFiles:
    """The two files of a category of the Amazon reviews.

    Attributes:
        reviews: Who reviewed what when.
        metadata: The titles.
        since: First day that counts; None: all.
    """

    reviews: RemoteFile
    metadata: RemoteFile
    since: date | None = None


def _amazon_2014(category: str) -> AmazonFiles:
    # Linked from https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html
    home = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
    return AmazonFiles(
        reviews=RemoteFile(url=f"{home}/reviews_{category}_5.json.gz"),
        metadata=RemoteFile(url=f"{home}/meta_{category}.json.gz"),
    )


def _amazon_2018(category: str, since: date | None = None) -> AmazonFiles:
    # Linked from https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/ (once nijianmo.github.io)
    home = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2"
    return AmazonFiles(
        reviews=RemoteFile(url=f"{home}/categoryFilesSmall/{category}_5.json.gz"),
        metadata=RemoteFile(url=f"{home}/metaFiles2/meta_{category}.json.gz"),
        since=since,
    )


SOURCES: Mapping[str, AmazonFiles] = MappingProxyType(
    {
        "toys": _amazon_2014("Toys_and_Games"),
        "industrial": _amazon_2018("Industrial_and_Scientific"),
        "office": _amazon_2018("Office_Products", since=date(2016, 10, 1)),  # as the paper
        "video_games": _amazon_2018("Video_Games"),
    }
)
"""The data sets that can be downloaded. Their publishers give no checksums, so none is pinned."""


def fetch_dataset(
    name: str,
    destination: Path,
    *,
    raw: Path | None = None,
    source: AmazonFiles | None = None,
    pins: Mapping[str, str] = MappingProxyType({}),
    progress: Callable[[str], ReportBytes] | None = None,
    **build: Any,  # noqa: ANN401 - the arguments of build_dataset
) -> Dataset:
    """Download a data set, build it, and write where it came from into its report.json.

    Args:
        name: A key of `SOURCES`.
        destination: A folder that is empty or does not exist.
        raw: Where downloads are kept (files that lie there already are used); default: the folder
            NAME.raw beside the destination.
        source: Other files than those of `SOURCES`.
        pins: File name -> the sha256 that it must have.
        progress: Given what is being done, returns who is told how far it is.
        **build: As for `build_dataset`: protocol, history_length, ...

    Raises:
        ValueError: The name cannot be downloaded, or a file is not what it should be.
        FileExistsError: The destination holds something.
        DownloadError: A server does not deliver.
    """
    source = source or _find_source(name)
    check_empty(destination)
    raw = raw or destination.with_name(f"{destination.name}.raw")
    files = (source.reviews, source.metadata)
    if unknown := set(pins) - {file.name for file in files}:
        raise ValueError(
            f"`pins` names {sorted(unknown)}; the files of {name!r} are "
            f"{[file.name for file in files]}."
        )
    origin = {
        file.name: {
            "url": file.url,
            "sha256": download(
                file.url,
                raw / file.name,
                sha256=pins.get(file.name, file.sha256),
                progress=progress and progress(f"fetch {file.name}"),
            ),
            "bytes": (raw / file.name).stat().st_size,
        }
        for file in files
    }
    tables = raw / "tables"
    counts = convert_amazon(
        raw / source.reviews.name,
        raw / source.metadata.name,
        tables,
        since=source.since,
        progress=progress and progress("convert"),
    )
    dataset = build_dataset(tables, destination, **build)
    shutil.rmtree(tables)
    report = {**dataset.report, **counts, "sources": origin}
    text = json.dumps(report, indent=2) + "\n"
    (destination / "report.json").write_text(text, encoding="utf-8")
    return dataset


def _find_source(name: str) -> AmazonFiles:
    if name == "yelp":
        raise ValueError(
            "the Yelp Open Dataset cannot be downloaded by a program: its licence has to be "
            f"accepted at {ORIGINS['yelp'].rsplit(' ', 1)[-1]}. Do so, write business_id and name "
            "as item_id and title into SRC/items.csv, and user_id, business_id and date (in whole "
            "seconds) as user_id, item_id and timestamp into SRC/interactions.csv; then: "
            "rere data build SRC DST"
        )
    if name not in SOURCES:
        raise ValueError(
            f"`name` (={name!r}) must be one of {sorted(SOURCES)}; bring other data into items.csv "
            "and interactions.csv in a folder SRC, then: rere data build SRC DST"
        )
    return SOURCES[name]
