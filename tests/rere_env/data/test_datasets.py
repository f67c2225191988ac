"""Folders to data sets: layouts, formats, protocols, filters, and the real data."""

import csv
import gzip
import json
import pickle

import numpy as np
import pytest

from rere_env.data import build_dataset, find_data, games_dataset, load_dataset
from rere_env.games import games_world
from rere_env.types import NO_ITEM

ITEMS = [("i0", 'Rod, 3" long'), ("i1", "Axe"), ("i2", "Bow\nand arrow"), ("i3", "Axe")]
SPLITS = {
    "train": [("u", "i0", "i1", "10"), ("u", "i0 i1", "i2", "20"), ("v", "", "i0", "20")],
    "valid": [("v", "i0", "i1", "")],
    "test": [("w", "i0", "i3", "40"), ("v", "i0 i1", "i3", "41")],
}
SPLIT_COLUMNS = ("user_id", "history", "item_id", "timestamp")


def write_table(folder, name, columns, rows, suffix=".csv"):
    """Write rows of text in a format, compressed if the suffix says so."""
    folder.mkdir(exist_ok=True)
    plain = folder / f"{name}{suffix.removesuffix('.gz')}"
    if plain.suffix == ".csv":
        with plain.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
    elif plain.suffix == ".jsonl":
        records = [dict(zip(columns, row, strict=True)) for row in rows]
        plain.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        polars = pytest.importorskip("polars")
        polars.DataFrame(rows, schema=list(columns), orient="row").write_parquet(plain)
    if suffix.endswith(".gz"):
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()


def write_published(folder, suffix=".csv", splits=SPLITS, items=ITEMS):
    """Write the small shop as a published split."""
    write_table(folder, "items", ("item_id", "title"), items, suffix)
    for name, rows in splits.items():
        write_table(folder, name, SPLIT_COLUMNS, rows, suffix)
    return folder


def write_log(folder, log, items=ITEMS):
    """Write items and interactions."""
    write_table(folder, "items", ("item_id", "title"), items)
    write_table(folder, "interactions", ("user_id", "item_id", "timestamp"), log)
    return folder


def rows(batch):
    """(user, history, target) of every example."""
    return [(example.user, example.history, example.target) for example in batch]


def test_a_published_split_becomes_batches(tmp_path):
    """Literal rows: users in order of appearance, item ids in order of the items file."""
    data = load_dataset(write_published(tmp_path / "shop"), history_length=3)
    assert data.name == "shop"
    assert list(data.splits) == ["train", "valid", "test"]
    assert rows(data.splits["train"]) == [(0, (0,), 1), (0, (0, 1), 2), (1, (), 0)]
    assert rows(data.splits["valid"]) == [(1, (0,), 1)]
    assert rows(data.splits["test"]) == [(2, (0,), 3), (1, (0, 1), 3)]
    assert data.splits["test"].target_title.tolist() == [1, 1]  # i3 is called as i1 is
    assert data.splits["train"].history.tolist() == [[0, -1, -1], [0, 1, -1], [-1, -1, -1]]
    assert data.report == {
        "items": 4,
        "titles": 3,
        "merged_duplicates": 1,
        "users": 3,
        "rows/train": 3,
        "rows/valid": 1,
        "rows/test": 2,
        "truncated_histories": 0,
        "empty_histories": 1,
        "ignored_files": 0,
    }


def test_equal_histories_keep_their_own_targets(tmp_path):
    """The target travels with the example."""
    splits = SPLITS | {"train": [("u", "i0 i1", "i2", "1"), ("v", "i0 i1", "i3", "1")]}
    train = load_dataset(write_published(tmp_path, splits=splits)).splits["train"]
    assert [example.history for example in train] == [(0, 1), (0, 1)]
    assert [example.target for example in train] == [2, 3]
    assert train.target_title.tolist() == [2, 1]


@pytest.mark.parametrize("suffix", [".csv.gz", ".jsonl", ".jsonl.gz", ".parquet", ".parquet.gz"])
def test_the_format_does_not_change_the_content(tmp_path, suffix):
    """One content hash for one content."""
    plain = load_dataset(write_published(tmp_path / "csv"))
    other = load_dataset(write_published(tmp_path / "other", suffix))
    assert other.content_hash == plain.content_hash
    assert other.report == plain.report


@pytest.mark.parametrize(
    "change",
    [
        {"train": SPLITS["train"][:2]},
        {"test": SPLITS["test"][::-1]},
        {"valid": [("v", "i0", "i2", "")]},
        {"valid": [("v", "i1", "i1", "")]},
        {"valid": [("u", "i0", "i1", "")]},
        {"extra": []},
    ],
)
def test_another_content_has_another_hash(tmp_path, change):
    """A row less, another order, target, history or user, a split more."""
    plain = load_dataset(write_published(tmp_path / "a"))
    other = load_dataset(write_published(tmp_path / "b", splits=SPLITS | change))
    assert other.content_hash != plain.content_hash


def test_another_title_has_another_hash(tmp_path):
    """The catalogue counts."""
    items = [*ITEMS[:3], ("i3", "Saw")]
    plain = load_dataset(write_published(tmp_path / "a"))
    other = load_dataset(write_published(tmp_path / "b", items=items))
    assert other.content_hash != plain.content_hash


def test_any_table_with_the_columns_of_a_split_is_one(tmp_path):
    """`train_plus` and `cold` are splits; a table of something else is counted, not read."""
    write_published(tmp_path, splits=SPLITS | {"train_plus": SPLITS["train"], "cold": []})
    write_table(tmp_path, "codes", ("item_id", "code"), [("i0", "x")])
    data = load_dataset(tmp_path)
    assert list(data.splits) == ["train", "valid", "test", "cold", "train_plus"]
    assert data.report["rows/train_plus"] == 3
    assert data.report["ignored_files"] == 1


def test_a_file_named_like_a_split_must_be_one(tmp_path):
    """A misspelt column is an error, not another table."""
    write_published(tmp_path)
    write_table(tmp_path, "train_plus", ("user_id", "hist", "item_id", "timestamp"), [])
    with pytest.raises(ValueError, match=r"train_plus\.csv: the column 'history' is missing"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("name", ["items", "valid"])
def test_a_missing_file_is_named(tmp_path, name):
    """And the folder's content listed."""
    write_published(tmp_path)
    (tmp_path / f"{name}.csv").unlink()
    with pytest.raises(FileNotFoundError, match=f"no table {name!r}: .* the folder holds .*train"):
        load_dataset(tmp_path)


def test_items_alone_are_no_data_set(tmp_path):
    """Either kind of rows would do."""
    write_table(tmp_path, "items", ("item_id", "title"), ITEMS)
    with pytest.raises(FileNotFoundError, match=r"no table 'interactions' \(nor train, valid and"):
        load_dataset(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    """The message says what such a folder holds."""
    with pytest.raises(FileNotFoundError, match=r"/nowhere does not exist; give a folder with"):
        load_dataset(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"protocol": "random"}, r"`protocol` \(='random'\) must be one of \['chronological', "),
        ({"prefer": "log"}, r"`prefer` \(='log'\) must be one of \['splits', 'interactions'\]"),
        ({"history_length": 0}, r"`history_length` \(=0\) must be at least 1"),
        ({"duplicates": "drop"}, r"`duplicates` \(='drop'\) must be 'merge', 'suffix' or 'error'"),
    ],
)
def test_bad_options_are_refused(tmp_path, option, message):
    """Rule, value and remedy."""
    with pytest.raises(ValueError, match=message):
        load_dataset(write_published(tmp_path), **option)


def test_a_long_history_of_a_published_split_is_an_error(tmp_path):
    """Nothing is cut in silence."""
    with pytest.raises(ValueError, match=r"train\.csv, line 3, column history: .*history_length=2"):
        load_dataset(write_published(tmp_path), history_length=1)


LOG = [("u", "i0", "1"), ("v", "i1", "2"), ("u", "i1", "3"), ("u", "i2", "9"), ("v", "i3", "4")]


def test_interactions_are_split_by_time(tmp_path):
    """Three samples: u at 3, v at 4, u at 9."""
    data = load_dataset(write_log(tmp_path, LOG))
    assert rows(data.splits["train"]) == [(0, (0,), 1), (1, (1,), 3)]
    assert rows(data.splits["valid"]) == []
    assert rows(data.splits["test"]) == [(0, (0, 1), 2)]


def test_interactions_are_split_by_user_on_request(tmp_path):
    """Leave-one-out needs no time: the order of the file stands in."""
    log = [(user, item, "") for user, item, _ in LOG]
    data = load_dataset(write_log(tmp_path, [*log, ("w", "i0", "")]), protocol="leave_one_out")
    assert rows(data.splits["train"]) == []
    assert rows(data.splits["valid"]) == [(0, (0,), 1)]
    assert rows(data.splits["test"]) == [(0, (0, 1), 2), (1, (1,), 3)]
    assert data.report["single_interaction_users"] == 1
    assert data.report["interactions"] == 6


def test_cut_histories_are_counted(tmp_path):
    """The last H items stay."""
    data = load_dataset(write_log(tmp_path, LOG), history_length=1)
    assert rows(data.splits["test"]) == [(0, (1,), 2)]
    assert data.report["truncated_histories"] == 1


def test_a_published_split_wins_over_interactions(tmp_path):
    """Unless told otherwise."""
    write_log(write_published(tmp_path), LOG)
    assert load_dataset(tmp_path).report["rows/test"] == 2
    assert load_dataset(tmp_path, prefer="interactions").report["rows/test"] == 1


def test_a_data_set_survives_pickling(tmp_path):
    """Environments travel to worker processes."""
    data = load_dataset(write_published(tmp_path))
    copy = pickle.loads(pickle.dumps(data))
    assert copy.content_hash == data.content_hash
    assert rows(copy.splits["test"]) == rows(data.splits["test"])


def core_log():
    """Users a, b, c take i0, i1 and the long-titled i2; user d takes i0 and the rare i3."""
    times = iter(range(100))
    log = [(user, item, next(times)) for item in ("i0", "i2", "i1") for user in "abc"]
    return [*log, ("d", "i0", next(times)), ("d", "i3", next(times))]


def test_building_filters_and_counts(tmp_path):
    """i2 has a long title; i3 is rare; without i3, user d is."""
    items = [("i0", 'Rod, 3"'), ("i1", "Axe"), ("i2", "Bow " * 4), ("i3", "Axe")]
    source, made = write_log(tmp_path / "src", core_log(), items), tmp_path / "made"
    data = build_dataset(source, made, min_interactions=2, max_title_words=3)
    assert data.catalogue.item_keys == ("i0", "i1")
    assert rows(data.splits["train"]) == [(0, (0,), 1), (1, (0,), 1)]
    assert data.report == {
        "items": 2,
        "titles": 2,
        "merged_duplicates": 0,
        "users": 3,
        "rows/train": 2,
        "rows/valid": 0,
        "rows/test": 1,
        "truncated_histories": 0,
        "empty_histories": 0,
        "interactions": 11,
        "single_interaction_users": 0,
        "dropped/long_title_items": 1,
        "dropped/long_title_interactions": 3,
        "dropped/rare_items": 1,
        "dropped/rare_interactions": 2,
        "dropped/users": 1,
    }
    assert json.loads((made / "report.json").read_text()) == data.report
    assert sorted(path.name for path in made.iterdir()) == [
        "items.csv",
        "report.json",
        "test.csv",
        "train.csv",
        "valid.csv",
    ]
    assert load_dataset(made).content_hash == data.content_hash


def test_building_without_limits_keeps_every_item(tmp_path):
    """Also those that nobody took."""
    source = write_log(tmp_path / "src", core_log(), [*ITEMS, ("i4", "Never taken")])
    data = build_dataset(source, tmp_path / "made", min_interactions=0)
    assert data.catalogue.num_items == 5
    assert data.content_hash == load_dataset(source).content_hash


def test_suffixes_are_given_after_filtering(tmp_path):
    """The dropped twin takes no number."""
    items = [("i3", "Axe"), ("i0", "Axe"), ("i1", "Axe"), ("i2", "Axe")]
    source = write_log(tmp_path / "src", core_log(), items)
    data = build_dataset(source, tmp_path / "made", min_interactions=2, duplicates="suffix")
    assert data.catalogue.titles == ("Axe", "Axe (2)", "Axe (3)")


def test_building_copies_a_published_split(tmp_path):
    """Its rows were chosen by its authors: no filter, nothing lost."""
    source = write_published(tmp_path / "src", ".jsonl", SPLITS | {"cold": SPLITS["valid"]})
    data = build_dataset(source, tmp_path / "made")
    assert data.content_hash == load_dataset(source).content_hash
    assert (tmp_path / "made" / "valid.csv").read_text() == (
        '"user_id","history","item_id","timestamp"\n"v","i0","i1",""\n'
    )


def test_building_never_overwrites(tmp_path):
    """Not even the source itself."""
    source = write_log(tmp_path, core_log())
    with pytest.raises(FileExistsError, match="is not an empty folder; choose another or empty it"):
        build_dataset(source, source)


def test_filters_that_leave_nothing_are_an_error(tmp_path):
    """The remedy is to lower them."""
    source = write_log(tmp_path / "src", core_log())
    with pytest.raises(ValueError, match=r"none of 11 interactions passes .* lower min_interact"):
        build_dataset(source, tmp_path / "made", min_interactions=9)
    assert not (tmp_path / "made").exists()


def test_ids_with_spaces_cannot_be_written_into_histories(tmp_path):
    """They can be read, from interactions."""
    items, log = [("i 0", "Axe"), ("i1", "Bow")], [("u", "i 0", 1), ("u", "i1", 2)]
    source = write_log(tmp_path / "src", log, items)
    assert load_dataset(source).report["rows/test"] == 1
    with pytest.raises(ValueError, match="item id 'i 0' holds white space"):
        build_dataset(source, tmp_path / "made", min_interactions=0)


@pytest.fixture
def no_data_folders(tmp_path, monkeypatch):
    """An empty user cache, and RERE_DATA unset."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("RERE_DATA", raising=False)


def test_data_are_found_by_name(tmp_path, monkeypatch, no_data_folders):
    """`$RERE_DATA` first, then the cache."""
    cached, own = tmp_path / "cache" / "rere_env" / "toys", tmp_path / "own" / "toys"
    cached.mkdir(parents=True)
    assert find_data("toys") == cached
    own.mkdir(parents=True)
    monkeypatch.setenv("RERE_DATA", str(tmp_path / "own"))
    assert find_data("toys") == own
    own.rmdir()
    assert find_data("toys") == cached


def test_data_that_are_missing_say_where_they_belong(tmp_path, monkeypatch, no_data_folders):
    """Places, origin, command."""
    with pytest.raises(FileNotFoundError, match=r"'toys' is not in .*cache/rere_env/toys \(RERE_"):
        find_data("toys")
    monkeypatch.setenv("RERE_DATA", str(tmp_path / "own"))
    with pytest.raises(FileNotFoundError) as caught:
        find_data("toys")
    message = str(caught.value)
    assert f"{tmp_path}/own/toys or {tmp_path}/cache/rere_env/toys" in message
    assert "Get the files from Amazon reviews 2014" in message
    assert message.endswith(f"rere data build SRC {tmp_path}/own/toys")


def test_the_built_in_world_is_split_by_time():
    """Chronological 8:1:1 of all its samples, one title an item."""
    data = games_dataset()
    num = {name: len(batch) for name, batch in data.splits.items()}
    total = sum(num.values())
    assert list(num) == ["train", "valid", "test"]
    assert num["train"] == int(0.8 * total)
    assert num["train"] + num["valid"] == int(0.9 * total + 1e-9)
    assert data.report["items"] == data.report["titles"]
    assert data.history_length == data.splits["train"].history.shape[1] == 10
    assert games_dataset() is data


def test_the_built_in_world_releases_games_when_validation_begins():
    """No late game is seen in training; validation and test sell them."""
    late = games_world().released_late
    splits = games_dataset().splits
    train = splits["train"]
    assert not late[train.target].any()
    assert not late[train.history[train.history != NO_ITEM]].any()
    assert late[splits["valid"].target].any()
    assert late[splits["test"].target].any()


def test_the_industrial_data_are_those_described(shared_data):
    """The counts of the README beside them."""
    data = load_dataset(shared_data / "industrial")
    assert {name: len(batch) for name, batch in data.splits.items()} == {
        "train": 10388,
        "valid": 4532,
        "test": 4533,
        "train_plus": 30963,
    }
    assert data.catalogue.num_items == 3686
    per_title = np.bincount(data.catalogue.item_title)
    assert per_title[per_title > 1].sum() == 55
    test = data.splits["test"]
    assert (per_title[test.target_title] > 1).sum() == 315
    for name, share in (("train", 0.12), ("train_plus", 0.04)):
        seen = np.union1d(data.splits[name].history, data.splits[name].target)
        assert 1 - np.isin(test.target, seen).mean() == pytest.approx(share, abs=0.005)


def test_the_toys_interactions_give_the_published_split(shared_data, tmp_path):
    """Row for row: 5-core, at most 20 words, chronological 8:1:1, equal days in file order."""
    published = load_dataset(shared_data / "toys")
    rebuilt = build_dataset(shared_data / "toys", tmp_path / "made", prefer="interactions")
    assert rebuilt.content_hash == published.content_hash
    assert [len(batch) for batch in rebuilt.splits.values()] == [116108, 14513, 14514]
    assert rebuilt.report["interactions"] == 164099
    assert not any(n for name, n in rebuilt.report.items() if name.startswith("dropped/"))


def test_the_video_games_data_are_those_described(shared_data):
    """The largest of the shared data."""
    data = load_dataset(shared_data / "video_games")
    assert [len(batch) for batch in data.splits.values()] == [286896, 47451, 47451]
    assert data.report["users"] == 47451
    per_title = np.bincount(data.catalogue.item_title)
    assert per_title[per_title > 1].sum() == 806
