"""Amazon reviews as their authors publish them -> items.csv and interactions.csv.

Reads the review and metadata files of the 2014 and 2018 collections: one object a line, plain or
.gz, as JSON or (metadata of 2014) as Python literals. Knows nothing of protocols and splits.
"""

import ast
import gzip
import html
import json
import re
import zlib
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from rere_env.data.download import ReportBytes
from rere_env.data.tables import write_csv

__all__ = ["convert_amazon"]

REPORT_EVERY = 10_000  # lines

_ASIN = re.compile(rb"""["']asin["']\s*:\s*["']([^"']+)["']""")


def convert_amazon(
    reviews: Path,
    metadata: Path,
    destination: Path,
    *,
    since: date | None = None,
    progress: ReportBytes | None = None,
) -> dict[str, int]:
    """Write items.csv and interactions.csv from a file of reviews and one of metadata.

    A review is an interaction of `reviewerID` with `asin` at `unixReviewTime` (whole days), in the
    order of the file. The collection of 2018 holds some reviews twice: a repetition of user, item
    and time is left out. A title is the metadata's, entities decoded and white space collapsed;
    items without one, with a single character, or with a piece of a web page for a title are left
    out with their reviews. Of several metadata lines on an item the first with a title counts.

    Args:
        reviews: The reviews.
        metadata: Titles of at least the items reviewed; others are ignored.
        destination: A folder, made if need be.
        since: Leave out what was reviewed before this day (UTC).
        progress: Told the bytes read, of both files together.

    Returns:
        Counts of what was read, kept and left out.

    Raises:
        ValueError: A line is broken or lacks a field; the message names file and line.
    """
    size, more = reviews.stat().st_size, metadata.stat().st_size
    events, counts = _read_reviews(reviews, since, _after(0, size + more, progress))
    reviewed = {asin for _, asin, _, _ in events}
    titles = _read_titles(metadata, reviewed, _after(size, size + more, progress))
    kept = [event for event in events if event[1] in titles]
    if not kept:
        raise ValueError(
            f"{metadata} has a title for none of the items in {reviews}; give the metadata of the "
            "same category and collection, and check `since`."
        )
    destination.mkdir(parents=True, exist_ok=True)
    sold = dict.fromkeys(asin for _, asin, _, _ in kept)  # in order of their first review
    write_csv(
        destination / "items.csv", ("item_id", "title"), ((asin, titles[asin]) for asin in sold)
    )
    write_csv(destination / "interactions.csv", ("user_id", "item_id", "timestamp", "rating"), kept)
    return {
        **counts,
        "raw/untitled_items": len(reviewed) - len(sold),
        "raw/untitled_reviews": len(events) - len(kept),
        "raw/interactions": len(kept),
        "raw/items": len(sold),
    }


_Event = tuple[str, str, int, float]  # user, item, time in seconds, rating


def _after(before: int, total: int, progress: ReportBytes | None) -> ReportBytes | None:
    """Return who is told of one file among several."""
    return progress and (lambda done, _: progress(before + done, total))


def _read_reviews(
    path: Path, since: date | None, progress: ReportBytes | None
) -> tuple[list[_Event], dict[str, int]]:
    first = 0 if since is None else int(datetime(*since.timetuple()[:3], tzinfo=UTC).timestamp())
    events: dict[tuple[str, str, int], float] = {}
    num_reviews = num_early = 0
    for line, review in _records(path, progress):
        num_reviews += 1
        user = _field(review, "reviewerID", str, path, line)
        item = _field(review, "asin", str, path, line)
        time = _field(review, "unixReviewTime", int, path, line)
        rating = _field(review, "overall", (int, float), path, line)
        if time < first:
            num_early += 1
        else:
            events.setdefault((user, item, time), float(rating))
    counts = {
        "raw/reviews": num_reviews,
        "raw/early_reviews": num_early,
        "raw/repeated_reviews": num_reviews - num_early - len(events),
    }
    return [(*event, rating) for event, rating in events.items()], counts


def _read_titles(path: Path, wanted: set[str], progress: ReportBytes | None) -> dict[str, str]:
    titles: dict[str, str] = {}
    for line, record in _records(path, progress, frozenset(item.encode() for item in wanted)):
        item = _field(record, "asin", str, path, line)
        if item in wanted and item not in titles:
            title = " ".join(html.unescape(str(record.get("title") or "")).split())
            if len(title) > 1 and not _is_markup(title):
                titles[item] = title
    return titles


def _is_markup(title: str) -> bool:
    # Some pages were cut at the wrong place.
    return "<span" in title or title.startswith("var aPageStart")


def _records(
    path: Path, progress: ReportBytes | None, wanted: frozenset[bytes] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line, object) of every line that is not blank, nor clearly about unwanted items."""
    size = path.stat().st_size
    zipped = path.suffix == ".gz"
    with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) if zipped else raw as stream:
        try:
            for line, text in enumerate(stream, start=1):
                if progress is not None and line % REPORT_EVERY == 0:
                    progress(raw.tell(), size)
                # Parsing is slow, and metadata cover many times the items reviewed.
                items = _ASIN.findall(text) if wanted is not None else ()
                if text.strip() and not (wanted and items and wanted.isdisjoint(items)):
                    yield line, _parse(text, path, line)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(
                f"{path} cannot be decompressed ({error}); delete it and download it again."
            ) from error
    if progress is not None:
        progress(size, size)


def _parse(text: bytes, path: Path, line: int) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):  # broken JSON, nested too deep, or not UTF-8
        try:
            record = ast.literal_eval(text.decode("utf-8").strip())  # metadata of 2014
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise ValueError(
                f"{path}, line {line}: neither JSON nor a Python literal ({error}); download the "
                f"file again, or remove the line. Line: {text[:80]!r}"
            ) from error
    if not isinstance(record, dict):
        raise ValueError(f"{path}, line {line}: {text[:80]!r} is not an object with fields.")
    return record


def _field(
    record: dict[str, Any], name: str, kind: type | tuple[type, ...], path: Path, line: int
) -> Any:  # noqa: ANN401 - of the type asked for
    value = record.get(name)
    if not isinstance(value, kind) or value == "":
        raise ValueError(
            f"{path}, line {line}, field {name}: {value!r:.80} is not what an Amazon file holds; "
            "reviews need reviewerID, asin, unixReviewTime and overall, metadata asin and title."
        )
    return value
