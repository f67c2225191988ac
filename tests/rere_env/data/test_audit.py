"""The audit against plain loops over rows, and against the known facts of the real data."""

import html
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rere_env import NO_ITEM, Batch, Catalogue, Dataset, WordTokenizer, load_dataset
from rere_env.data.audit import audit

TITLES = ["Ant", "Ant Two", "Bee &amp; co", " Bee", "Ant", "Cat  Nine", "Antler"]
"""Item 4 shares its title with item 0; "Ant" begins "Ant Two" and "Antler"."""

row = st.tuples(st.lists(st.integers(0, 6), max_size=3).map(tuple), st.integers(0, 6))


def make(train, test, titles=TITLES):
    """A data set of (history, target) rows; row n of a split is user n's."""
    catalogue = Catalogue.from_items([f"i{n}" for n in range(len(titles))], titles)
    return Dataset(
        name="made",
        catalogue=catalogue,
        splits={"train": pack(train, catalogue), "test": pack(test, catalogue)},
        history_length=3,
        content_hash="abc",
        report={"items": len(titles)},
    )


def pack(rows, catalogue):
    """Rows as a batch."""
    history = np.full((len(rows), 3), NO_ITEM, np.int32)
    for row, (items, _) in enumerate(rows):
        history[row, : len(items)] = items
    target = np.array([target for _, target in rows], np.int32)
    return Batch(
        user=np.arange(len(rows)),
        history=history,
        target=target,
        target_title=catalogue.item_title[target],
    )


def shown(rows):
    """(history, target) as texts, which is what a reader of the data sees."""
    return [(tuple(TITLES[i] for i in history), TITLES[target]) for history, target in rows]


@given(st.lists(row, min_size=1, max_size=12), st.lists(row, max_size=12))
def test_splits_are_counted_as_plain_loops_count(train, test):
    """Every count of a split, row by row."""
    found = audit(make(train, test))["splits"]
    known = {t for history, target in shown(train) for t in (*history, target)}
    for name, rows in (("train", train), ("test", test)):
        texts, split = shown(rows), found[name]
        assert split["rows"] == split["users"] == len(rows)
        assert split["empty_histories"] == sum(not history for history, _ in texts)
        assert split["history_length_mean"] == pytest.approx(
            np.mean([len(history) for history, _ in texts]) if texts else 0
        )
        assert split["shared_title_targets"] == sum(target == "Ant" for _, target in texts)
        assert split["repeat_targets"] == sum(target in history for history, target in texts)
        assert split["cold_targets"] == sum(target not in known for _, target in texts)
        assert split["ambiguous_histories"] == sum(
            any(h == history and t != target for h, t in texts) for history, target in texts
        )
        last = dict(texts)  # a later row overwrites an earlier one
        assert split["lookup_errors"] == sum(last[history] != target for history, target in texts)
        # Six titles fit into a list of ten.
        assert split["popularity_hit_rate@10"] == split["best_constant_hit_rate@10"]
        assert split["popularity_hit_rate@10"] == (1 if rows else 0)


@given(st.lists(row, min_size=1, max_size=12), st.lists(row, max_size=12))
def test_overlaps_are_counted_as_plain_loops_count(train, test):
    """Rows of the second split that have something in the first."""
    found = audit(make(train, test))["overlaps"]
    before, after = shown(train), shown(test)
    assert list(found) == ["train/test"]
    assert found["train/test"] == {
        "users": min(len(train), len(test)),
        "equal_rows": sum(pair in before for pair in after),
        "ambiguous_histories": sum(
            any(h == history and t != target for h, t in before) for history, target in after
        ),
    }


def test_popularity_lists_the_ten_best_sold_titles():
    """Twenty titles: hits are the test targets among the ten that train sells most."""
    titles = [f"title {n}" for n in range(20)]
    rng = np.random.default_rng(0)
    train = [((), int(n)) for n in rng.integers(0, 20, 200)]
    test = [((), int(n)) for n in rng.integers(0, 20, 50)]
    found = audit(make(train, test, titles))["splits"]["test"]
    sold = [sum(target == n for _, target in train) for n in range(20)]
    best = sorted(range(20), key=lambda n: (-sold[n], n))[:10]
    assert found["popularity_hit_rate@10"] == sum(t in best for _, t in test) / 50
    often = sorted((sum(t == n for _, t in test) for n in range(20)), reverse=True)
    assert found["best_constant_hit_rate@10"] == sum(often[:10]) / 50


def test_the_catalogue_is_counted():
    """Literal numbers for the seven titles."""
    found = audit(make([((0,), 1)], []))["catalogue"]
    assert found == {
        "items": 7,
        "titles": 6,
        "shared_titles": 1,
        "items_sharing_a_title": 2,
        "prefix_titles": 1,
        "titles_with_untidy_spaces": 2,
        "titles_with_html_entities": 1,
        "titles_not_in_train": 4,
    }


def test_the_trie_is_counted():
    """Literal numbers: `Ant` can end or go on, the root has the other choices."""
    found = audit(make([((0,), 1)], [], ["Ant", "Ant Two", "Bee"]))["trie"]
    assert found["tokenizer"] == "WordTokenizer"
    assert found["tokens"] == 4
    assert found["nodes"] == 7
    assert found["branching_nodes"] == 2
    assert found["max_branching"] == 2
    assert found["tokens_per_title_mean"] == pytest.approx(7 / 3)
    assert found["tokens_per_title_max"] == 3
    assert found["decisions_per_title_mean"] == pytest.approx(5 / 3)
    assert found["decisions_per_title_max"] == 2
    assert found["prefix_titles"] == 1
    assert found["lossy_titles"] == 0


@given(st.lists(st.text("ab ", min_size=1).filter(str.strip), min_size=1, max_size=8, unique=True))
def test_decisions_are_counted_as_a_dictionary_counts(titles):
    """A decision of a title: a beginning of it that goes on in two ways."""
    found = audit(make([((0,), 0)], [], titles))["trie"]
    rows = WordTokenizer.from_titles(titles).encode_completions(titles)
    goes_on = {}
    for tokens in rows:
        for place, token in enumerate(tokens):
            goes_on.setdefault(tuple(tokens[:place]), set()).add(token)
    counts = [sum(len(goes_on[tuple(r[:n])]) > 1 for n in range(len(r))) for r in rows]
    assert found["decisions_per_title_mean"] == pytest.approx(np.mean(counts))
    assert found["decisions_per_title_max"] == max(counts)


class Deaf(WordTokenizer):
    """Decodes everything in capitals."""

    def decode_completion(self, ids):
        """Shout."""
        return super().decode_completion(ids).upper()


def test_lossy_titles_are_those_of_the_tokenizer():
    """The trie is built from the tokenizer that is given."""
    data = make([((0,), 1)], [], ["ant", "BEE"])
    found = audit(data, tokenizer=Deaf.from_titles(data.catalogue.titles))["trie"]
    assert (found["tokenizer"], found["lossy_titles"]) == ("Deaf", 1)


def test_the_audit_is_json():
    """Plain numbers and strings, with the reader's own counts."""
    found = audit(make([((0,), 1)], [((1,), 0)]))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["counts"] == {"items": 7}


def test_another_training_split_can_be_chosen():
    """What is cold depends on it; an unknown or empty one is an error."""
    data = make([((0,), 1)], [((), 3)])
    assert audit(data)["splits"]["test"]["cold_targets"] == 1
    assert audit(data, train="test")["splits"]["test"]["cold_targets"] == 0
    with pytest.raises(ValueError, match=r"`train` \(='no'\) must be a split that holds rows"):
        audit(data, train="no")
    with pytest.raises(ValueError, match="must be a split that holds rows"):
        audit(make([((0,), 1)], []), train="test")


@pytest.mark.parametrize(
    ("name", "sharing", "prefixes", "untidy_items", "cold", "popularity"),
    [
        ("industrial", 55, 5, 43, 0.12, 0.063),
        ("toys", 120, 141, 135, 0.19, 0.008),
        pytest.param("video_games", 806, 918, 138, 0.002, 0.012, marks=pytest.mark.slow),
    ],
)
def test_the_real_data_are_as_their_readme_says(
    shared_data, name, sharing, prefixes, untidy_items, cold, popularity
):
    """Shared, prefix and untidy titles; the share of cold targets; what popularity hits."""
    data = load_dataset(shared_data / name)
    found = audit(data)
    assert found["catalogue"]["items_sharing_a_title"] == sharing
    assert found["catalogue"]["prefix_titles"] == prefixes
    titles = [data.catalogue.titles[title] for title in data.catalogue.item_title]
    assert sum(t != " ".join(t.split()) for t in titles) == untidy_items  # the README counts items
    assert found["catalogue"]["titles_with_untidy_spaces"] == untidy_items - (name == "video_games")
    assert found["catalogue"]["titles_with_html_entities"] == sum(
        t != html.unescape(t) for t in data.catalogue.titles
    )
    test = found["splits"]["test"]
    assert test["cold_targets"] / test["rows"] == pytest.approx(cold, abs=0.005)
    assert test["popularity_hit_rate@10"] == pytest.approx(popularity, abs=0.002)
    assert found["trie"]["lossy_titles"] == 0


def test_the_industrial_data_are_as_published(shared_data):
    """Shared targets, train_plus, and the wrong rewards of a lookup by text (2.05 % of valid)."""
    data = load_dataset(shared_data / "industrial")
    found = audit(data, train="train_plus")
    test, valid = found["splits"]["test"], found["splits"]["valid"]
    assert (test["shared_title_targets"], test["rows"]) == (315, 4_533)
    assert test["cold_targets"] / test["rows"] == pytest.approx(0.04, abs=0.005)
    assert valid["lookup_errors"] / valid["rows"] == pytest.approx(0.0205, abs=0.0001)
