"""`rere data get`: a well-known data set from its public home."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tqdm import tqdm

from rere_env.data import data_places
from rere_env.data.download import ReportBytes
from rere_env.data.fetch import fetch_dataset

__all__ = ["Get"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Get:
    """Download a well-known data set, build it, and put it where its name finds it.

    toys, industrial, office, video_games: Amazon reviews. An interrupted download goes on where it
    stopped when the command is run again. Their publishers give no checksums: the sha256 of every
    file is printed and written into report.json; pin it with --sha256. yelp: its licence has to be
    accepted by hand; the command says how to go on from there.

    Examples:
        rere data get industrial
        rere data get video_games data/video_games --protocol leave_one_out
        rere data get toys --sha256 reviews_Toys_and_Games_5.json.gz=0a1b...

    Attributes:
        name: Which one.
        dst: Folder to write; default: $RERE_DATA/NAME, else NAME in the user's cache.
        raw: Where downloads are kept; files that lie there already are used. Default: DST.raw
        sha256: What files must be, as NAME=SHA256.
        min_interactions: Fewest interactions of a kept user or item (k-core).
        max_title_words: Most words of a kept title.
        history_length: Most items of a history.
        protocol: How interactions are split.
        duplicates: Items with the same title: one title for all, numbered titles, or an error.
    """

    name: Annotated[
        Literal["toys", "industrial", "office", "video_games", "yelp"], tyro.conf.Positional
    ]
    dst: Annotated[Path | None, tyro.conf.Positional] = None
    raw: Path | None = None
    sha256: tuple[str, ...] = ()
    min_interactions: int = 5
    max_title_words: int = 20
    history_length: int = 10
    protocol: Literal["chronological", "leave_one_out"] = "chronological"
    duplicates: Literal["merge", "suffix", "error"] = "merge"

    def run(self) -> None:
        """Fetch, build and print the report."""
        destination = self.dst or data_places(self.name)[0]
        with _bars() as bars:
            fetch_dataset(
                self.name,
                destination,
                raw=self.raw,
                pins=self._pins(),
                progress=bars,
                min_interactions=self.min_interactions,
                max_title_words=self.max_title_words,
                history_length=self.history_length,
                protocol=self.protocol,
                duplicates=self.duplicates,
            )
        report = json.loads((destination / "report.json").read_text(encoding="utf-8"))
        print(json.dumps(report, indent=2))
        for file, origin in report["sources"].items():
            if file not in self._pins():
                print(f"not pinned; to have it checked: --sha256 {file}={origin['sha256']}")
        print(f"wrote {destination}; train on it with: rere train --data {self.dst or self.name}")

    def _pins(self) -> dict[str, str]:
        pins = {}
        for pin in self.sha256:
            file, separator, digest = pin.partition("=")
            if not separator or len(digest) != 64:
                raise ValueError(f"`sha256` (={pin!r}) must be FILE=DIGEST with 64 digits.")
            pins[file] = digest
        return pins


class _Bars:
    """One progress bar a file, in bytes."""

    def __init__(self) -> None:
        self.open: list[Any] = []

    def __call__(self, what: str) -> ReportBytes:
        bar = tqdm(desc=what, unit="B", unit_scale=True, unit_divisor=1024)
        self.open.append(bar)

        def show(done: int, total: int | None) -> None:
            bar.total, bar.n = total, done
            bar.update(0)  # draws, but not too often

        return show


@contextmanager
def _bars() -> Iterator[_Bars]:
    bars = _Bars()
    try:
        yield bars
    finally:
        for bar in bars.open:
            bar.close()
