"""Amazon's files to tables, line by line."""

import csv
import gzip
import json
from datetime import date

import pytest

from rere_env.data import build_dataset
from rere_env.data.amazon import convert_amazon

DAY = 86_400


def review(user, item, day, rating=5.0):
    """One review, with the fields that nobody reads."""
    return {
        "overall": rating,
        "reviewerID": user,
        "asin": item,
        "unixReviewTime": day * DAY,
        "reviewText": 'said "so"',
    }


REVIEWS = [
    review("A", "b2", 3),
    review("A", "b1", 1, 4),
    review("B", "b1", 2),
    review("A", "b2", 3),  # again
    review("B", "b3", 4),  # no title
    review("B", "b4", 5),  # a piece of a page
]
METADATA = [
    {"asin": "b9", "title": "Nobody's"},
    {"asin": "b1", "title": "Nuts &amp;  Bolts\n(10)"},
    {"asin": "b2", "title": ""},
    {"asin": "b2", "title": 'Rod, 3" long'},
    {"asin": "b2", "title": "A later title"},
    {"asin": "b3"},
    {"asin": "b4", "title": '<span id="productTitle" class="a-size'},
]


def as_json(records):
    """One JSON object a line."""
    return "".join(json.dumps(record) + "\n" for record in records)


def as_literals(records):
    """One Python literal a line, as the metadata of 2014 are."""
    return "".join(f"{record!r}\n" for record in records)


def write(folder, reviews=None, metadata=None, suffix=".json"):
    """Write the two files; None: the ones above as JSON."""
    reviews = as_json(REVIEWS) if reviews is None else reviews
    metadata = as_json(METADATA) if metadata is None else metadata
    paths = folder / f"reviews{suffix}", folder / f"meta{suffix}"
    for path, text in zip(paths, (reviews, metadata), strict=True):
        data = text.encode() if isinstance(text, str) else text
        path.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
    return paths


def rows(path):
    """All cells of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
@pytest.mark.parametrize("form", [as_json, as_literals])
def test_reviews_become_interactions(tmp_path, form, suffix):
    """Literal tables: file order, first title, no repetition, no item without a title."""
    paths = write(tmp_path, metadata=form(METADATA), suffix=suffix)
    counts = convert_amazon(*paths, tmp_path / "out")
    assert rows(tmp_path / "out" / "items.csv") == [
        ["item_id", "title"],
        ["b2", 'Rod, 3" long'],
        ["b1", "Nuts & Bolts (10)"],
    ]
    assert rows(tmp_path / "out" / "interactions.csv") == [
        ["user_id", "item_id", "timestamp", "rating"],
        ["A", "b2", str(3 * DAY), "5.0"],
        ["A", "b1", str(1 * DAY), "4.0"],
        ["B", "b1", str(2 * DAY), "5.0"],
    ]
    assert counts == {
        "raw/reviews": 6,
        "raw/early_reviews": 0,
        "raw/repeated_reviews": 1,
        "raw/untitled_items": 2,
        "raw/untitled_reviews": 2,
        "raw/interactions": 3,
        "raw/items": 2,
    }


def test_a_first_day_leaves_out_what_came_before(tmp_path):
    """The day itself counts."""
    counts = convert_amazon(*write(tmp_path), tmp_path / "out", since=date(1970, 1, 3))
    assert [row[:2] for row in rows(tmp_path / "out" / "interactions.csv")[1:]] == [
        ["A", "b2"],
        ["B", "b1"],
    ]
    assert counts["raw/early_reviews"] == 1


def test_the_tables_can_be_built(tmp_path):
    """The result is a source of `build_dataset`."""
    convert_amazon(*write(tmp_path), tmp_path / "out")
    made = build_dataset(tmp_path / "out", tmp_path / "made", min_interactions=1)
    assert made.catalogue.titles == ('Rod, 3" long', "Nuts & Bolts (10)")
    assert sum(len(batch) for batch in made.splits.values()) == 1


def test_progress_covers_both_files(tmp_path):
    """It ends at the bytes of the two."""
    paths, told = write(tmp_path, suffix=".json.gz"), []
    convert_amazon(*paths, tmp_path / "out", progress=lambda *step: told.append(step))
    size = sum(path.stat().st_size for path in paths)
    assert told[-1] == (size, size)
    assert told == sorted(told)


@pytest.mark.parametrize("form", [as_json, as_literals])
def test_metadata_of_other_items_are_not_even_parsed(tmp_path, form):
    """They are most of the file; another item's id in a field of a wanted one does no harm."""
    metadata = [{**record, "description": "'asin': 'b9'"} for record in METADATA]
    lines = '{"asin": "b9", broken\n{"asin":"b8" broken\n' + form(metadata)
    counts = convert_amazon(*write(tmp_path, metadata=lines), tmp_path / "out")
    assert counts["raw/items"] == 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"reviews": as_json(REVIEWS) + '{"asin": '}, "line 7: neither JSON nor a Python literal"),
        ({"reviews": b"\n\xff\xfe\n"}, "line 2: neither JSON nor a Python literal"),
        ({"reviews": "__import__('os')\n"}, "line 1: neither JSON nor a Python literal"),
        ({"reviews": "[1]\n"}, r"line 1: .* is not an object"),
        ({"reviews": '{"asin": "b1"}\n'}, "line 1, field reviewerID: None"),
        ({"reviews": as_json([{**REVIEWS[0], "unixReviewTime": "3"}])}, "field unixReviewTime"),
        ({"metadata": '{"title": "x"}\n'}, "meta.json, line 1, field asin"),
        ({"metadata": as_json(METADATA[:1])}, "has a title for none of the items"),
    ],
    ids=str,
)
def test_broken_files_are_errors(tmp_path, files, message):
    """File, line and what is wrong."""
    with pytest.raises(ValueError, match=message):
        convert_amazon(*write(tmp_path, **files), tmp_path / "out")


def test_a_cut_archive_is_an_error(tmp_path):
    """The remedy is to download again."""
    paths = write(tmp_path, suffix=".json.gz")
    paths[0].write_bytes(paths[0].read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"reviews.json.gz cannot be decompressed .*again"):
        convert_amazon(*paths, tmp_path / "out")
