"""The built-in world: its shop, its law, its splits, its calibration."""

import hashlib
import math
import subprocess
import sys

import numpy as np
import pytest

from rere_env.data.splits import Samples, chronological_splits
from rere_env.games import HISTORY_LENGTH, GamesWorld, games_world, law, oracle
from rere_env.types import NO_ITEM, NO_TITLE, Batch, FloatArray, IntArray

DIGEST = "649cfa6198fe8b5271f4c9b41c9c3fa05b741a9d0e2be94d10eb751ea34a506d"


@pytest.fixture(scope="module")
def world() -> GamesWorld:
    """The official world."""
    return games_world()


@pytest.fixture(scope="module")
def splits(world) -> dict[str, Samples]:
    """The paper's split of it."""
    return chronological_splits(
        world.user, world.item, world.timestamp, history_length=HISTORY_LENGTH
    )


@pytest.fixture(scope="module")
def held_out(splits) -> Batch:
    """All test rows, as recommenders get them."""
    return as_batch(splits["test"])


@pytest.fixture(scope="module")
def probability(held_out) -> FloatArray:
    """The law of every test row [B, I]."""
    return oracle().probabilities(held_out)


@pytest.fixture(scope="module")
def tables(world) -> law.Law:
    """The law behind it, for its unnormalised weights."""
    return law.Law(
        franchise=world.franchise,
        instalment=world.instalment,
        genre=world.genre,
        platform=world.platform,
    )


def as_batch(samples: Samples) -> Batch:
    """An item's id is its title's."""
    return Batch(
        user=samples.user,
        history=samples.history,
        target=samples.target,
        target_title=samples.target,
    )


def ndcg(titles: IntArray, target: IntArray) -> float:
    """NDCG@k of title lists [B, k]."""
    gain = 1 / np.log2(np.arange(titles.shape[1]) + 2)
    return float(((titles == target[:, None]) * gain).sum(axis=1).mean())


def padded(*histories: list[int]) -> IntArray:
    """Histories [B, longest], padded on the right."""
    width = max(map(len, histories))
    return np.array([items + [NO_ITEM] * (width - len(items)) for items in histories])


def slow_probabilities(world: GamesWorld, history: list[int]) -> list[float]:
    """The formula at the head of `_games_law.py`, item by item, in plain Python."""
    recent = history[-HISTORY_LENGTH:][::-1]  # the newest first
    recency = [int(weight) for weight in law.RECENCY[: len(recent)]]

    def taste(strength: float, values: IntArray, value: int) -> int:
        same = sum(r for item, r in zip(recent, recency, strict=True) if values[item] == value)
        share = 100 * same // sum(recency) if recent else 0
        return round(law.TASTE_UNIT * math.exp(strength * share / 100))

    def relation(item: int) -> int:
        if item in recent:
            return law.OWNED
        family = [
            (owned, r / 100)
            for owned, r in zip(recent, recency, strict=True)
            if world.franchise[owned] == world.franchise[item]
        ]
        before = [r for owned, r in family if world.instalment[owned] + 1 == world.instalment[item]]
        peak, fading = (
            (law.NEXT_INSTALMENT, before)
            if before
            else (law.SAME_FRANCHISE, [r for _, r in family] or [0])
        )
        return math.floor(law.UNRELATED + (peak - law.UNRELATED) * max(fading) + 1e-9)

    weights = [
        round(math.exp(world.log_popularity[item]))
        * taste(law.GENRE_STRENGTH, world.genre, world.genre[item])
        * taste(law.PLATFORM_STRENGTH, world.platform, world.platform[item])
        * relation(item)
        for item in range(len(world.titles))
    ]
    return [weight / sum(weights) for weight in weights]


def test_titles_are_distinct_and_plain(world):
    """A title is 3 to 9 words, joined by single spaces, and no two are the same."""
    assert len(set(world.titles)) == len(world.titles)
    for title in world.titles:
        words = title.split(" ")
        assert 3 <= len(words) <= 9
        assert all(word.isalnum() and word.isascii() for word in words)


def test_the_size_is_as_described(world):
    """About 3,000 games, 8,000 users, 55,000 interactions."""
    assert 2_900 <= len(world.titles) <= 3_100
    assert len(np.unique(world.user)) == 8_000
    assert 53_000 <= len(world.item) <= 57_000


def test_interactions_are_sorted_and_never_simultaneous(world):
    """By user, then time; no two share a timestamp, so no tie can cross a split."""
    assert np.array_equal(
        np.lexsort((world.timestamp, world.user)), np.arange(len(world.timestamp))
    )
    assert len(np.unique(world.timestamp)) == len(world.timestamp)


def test_popularity_has_a_long_tail(world):
    """A tenth of the games makes a third of the sales."""
    sales = np.sort(np.bincount(world.item, minlength=len(world.titles)))[::-1]
    assert sales[: len(sales) // 10].sum() > len(world.item) / 3


def test_a_sequel_bears_the_words_of_its_franchise(world):
    """All titles of a franchise begin with the same words, a later instalment has its number."""
    for franchise in np.unique(world.franchise)[:50]:
        titles = [
            world.titles[item].split(" ") for item in np.flatnonzero(world.franchise == franchise)
        ]
        assert len({title[0] for title in titles}) == 1
    second = np.flatnonzero(world.instalment == 2)
    assert all({"2", "II"} & set(world.titles[item].split(" ")) for item in second)


def test_probabilities_are_a_distribution(world, probability):
    """No item is impossible and a row sums to 1."""
    assert probability.min() > 0
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [0, 1, 3, 10, 14])
def test_the_law_is_the_formula(world, length):
    """Weights agree with the plain formula, whatever the length of the history."""
    user = np.flatnonzero(np.bincount(world.user) >= 14)[0]
    history = [int(item) for item in world.item[world.user == user][:length]]
    fast = world.next_item_probabilities(padded(history, [0] * 14))[0]
    np.testing.assert_allclose(fast, slow_probabilities(world, history), rtol=1e-12)


def test_relations_by_hand(world):
    """Owning the first instalment favours the second over the first's own copy, by known odds."""
    number = next(
        f for f in world.franchise if {1, 2} <= set(world.instalment[world.franchise == f])
    )
    family = world.franchise == number
    owned = int(np.flatnonzero(family & (world.instalment == 1))[0])
    following = int(np.flatnonzero(family & (world.instalment == 2))[0])
    after, empty = world.next_item_probabilities(padded([owned], []))
    odds = (after[following] / after[owned]) / (empty[following] / empty[owned])
    same_platform = world.platform[owned] == world.platform[following]
    taste = 1 if same_platform else 16 / round(16 * math.exp(law.PLATFORM_STRENGTH))
    assert odds == pytest.approx(law.NEXT_INSTALMENT / law.OWNED * taste)


def test_only_the_last_items_matter(world):
    """What came before the last H items changes nothing, to the last bit."""
    last = list(range(100, 100 + HISTORY_LENGTH))
    a, b, c = world.next_item_probabilities(padded(last, [5, 6, 7, *last], [2000, *last]))
    assert np.array_equal(a, b)
    assert np.array_equal(a, c)


def test_an_empty_history_leaves_popularity(world):
    """The first item of a user is drawn by popularity alone."""
    (row,) = world.next_item_probabilities(np.full((1, HISTORY_LENGTH), NO_ITEM))
    weight = np.exp(world.log_popularity)
    np.testing.assert_allclose(row, weight / weight.sum(), rtol=1e-12)


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([[0, 99_999]], r"item id 99999, but ids must lie in 0 \.\. \d+; pad"),
        ([[-2, 0]], r"item id -2, but"),
        ([[NO_ITEM, 0]], "padding must follow the items; shift each row to the left"),
        ([0, 1], r"shape \(2,\)\) must be \[rows, items\]; use history\[None\]"),
    ],
)
def test_a_broken_history_is_refused(world, history, message):
    """The error names rule, value and remedy."""
    with pytest.raises(ValueError, match=message):
        world.next_item_probabilities(np.array(history))


def test_late_games_are_sold_from_validation_on(world, splits):
    """The release is the first validation sample: none before it, some in both splits after."""
    late = world.released_late
    assert world.release_timestamp == splits["valid"].timestamp[0]
    assert world.timestamp[late[world.item]].min() >= world.release_timestamp
    assert not late[splits["train"].target].any()
    assert not late[splits["train"].history[splits["train"].history >= 0]].any()
    assert late[splits["valid"].target].mean() > 0.1
    assert late[splits["test"].target].mean() > 0.1


@pytest.mark.parametrize("split", ["valid", "test"])
def test_the_sales_obey_the_law(world, splits, split):
    """The mean log-probability of the targets is the law's own, within 4 standard errors."""
    samples = splits[split].take(slice(0, None, 2))
    p = world.next_item_probabilities(samples.history)
    log_p = np.log(p)
    surplus = log_p[np.arange(len(p)), samples.target] - (p * log_p).sum(axis=1)
    assert abs(surplus.mean()) < 4 * surplus.std() / math.sqrt(len(p))


def test_training_sales_obey_the_law_without_late_games(world, splits):
    """In the training period the law is the same, renormalised over what is for sale."""
    samples = splits["train"].take(slice(0, None, 20))
    p = world.next_item_probabilities(samples.history)[:, ~world.released_late]
    p /= p.sum(axis=1, keepdims=True)
    column = np.cumsum(~world.released_late) - 1
    log_p = np.log(p)
    surplus = log_p[np.arange(len(p)), column[samples.target]] - (p * log_p).sum(axis=1)
    assert abs(surplus.mean()) < 4 * surplus.std() / math.sqrt(len(p))


def test_a_draw_follows_the_weights(world, tables):
    """Drawing cell first, game second is the same law: observed and expected shares agree."""
    popularity = np.exp(world.log_popularity).round().astype(np.int64)
    history = np.tile([11, 12, 13], (20_000, 1))
    uniforms = np.random.default_rng(0).random((2, len(history)))
    observed = np.bincount(tables.draw(history, popularity, uniforms), minlength=len(world.titles))
    weight = tables.weights(history[:1], popularity)[0]
    expected = weight / weight.sum() * len(history)
    often = expected > 20
    chi2 = ((observed - expected)[often] ** 2 / expected[often]).sum()
    assert abs(chi2 - often.sum()) < 4 * math.sqrt(2 * often.sum())


def test_all_weights_are_exact(world, tables):
    """Integers that sum to less than 2^53, from tables far from a rounding edge."""
    popularity = np.exp(world.log_popularity).round().astype(np.int64)
    ends = np.flatnonzero(np.append(world.user[1:] != world.user[:-1], True))[::8]
    weight = tables.weights(world.item[ends[:, None] + np.arange(-3, 1)], popularity)
    assert np.array_equal(weight, np.floor(weight))
    assert weight.sum(axis=1).max() < 2**53 / 100
    for strength in (law.GENRE_STRENGTH, law.PLATFORM_STRENGTH):
        exact = law.TASTE_UNIT * np.exp(strength * np.arange(101) / 100)
        assert np.abs(exact % 1 - 0.5).min() > 1e-6
        assert np.array_equal(law.taste_table(strength), np.round(exact))


def test_the_best_possible_score_is_in_its_band(held_out, probability):
    """NDCG@10 of the oracle lies in .20 .. .35, sampled and expected."""
    titles = oracle().recommend(held_out, 10)
    assert 0.20 <= ndcg(titles, held_out.target) <= 0.35
    gain = 1 / np.log2(np.arange(10) + 2)
    expected = (np.take_along_axis(probability, titles, axis=1) * gain).sum(axis=1).mean()
    assert 0.20 <= expected <= 0.35


def test_popularity_is_weak(world, splits, held_out):
    """The most popular training items reach an NDCG@10 of at most .06."""
    count = np.bincount(splits["train"].target, minlength=len(world.titles))
    top = np.argsort(-count, kind="stable")[:10]
    assert ndcg(np.tile(top, (len(held_out), 1)), held_out.target) <= 0.06


def test_co_occurrence_lies_between(world, splits, held_out):
    """Counting what followed what beats popularity and stays well below the oracle."""
    held_out = held_out.take(slice(0, None, 3))
    train, num_items = splits["train"], len(world.titles)
    follows = np.zeros((num_items, num_items))
    score = np.zeros((len(held_out), num_items))
    for age in range(HISTORY_LENGTH):
        rows, items = aged(train.history, age)
        np.add.at(follows, (items, train.target[rows]), 0.75**age)
    follows /= np.sqrt(follows.sum(axis=1, keepdims=True) + 5)
    for age in range(HISTORY_LENGTH):
        rows, items = aged(held_out.history, age)
        score[rows] += 0.75**age * follows[items]
    found = ndcg(np.argsort(-score, axis=1, kind="stable")[:, :10], held_out.target)
    assert 0.08 <= found <= 0.65 * ndcg(oracle().recommend(held_out, 10), held_out.target)


def aged(history: IntArray, age: int) -> tuple[IntArray, IntArray]:
    """Rows that have an item of this age (0: the newest), and the item."""
    column = np.count_nonzero(history >= 0, axis=1) - 1 - age
    rows = np.flatnonzero(column >= 0)
    return rows, history[rows, column[rows]]


def test_the_oracle_ranks_by_probability(held_out, probability):
    """Its list is the stable descending sort of the law, ties by lower id."""
    rows = held_out.take(slice(0, 300))
    expected = np.argsort(-probability[:300], axis=1, kind="stable")
    assert np.array_equal(oracle().recommend(rows, 50), expected[:, :50])
    few = rows.take(slice(0, 5))
    padded_list = oracle().recommend(few, probability.shape[1] + 2)
    assert np.array_equal(padded_list[:, :-2], expected[:5])
    assert (padded_list[:, -2:] == NO_TITLE).all()


def test_the_oracle_needs_a_positive_k(held_out):
    """An empty list is a mistake of the caller."""
    with pytest.raises(ValueError, match=r"`k` \(=0\) must be at least 1"):
        oracle().recommend(held_out, 0)


def test_the_world_is_the_same_everywhere(world):
    """Titles and interactions have a known hash; another seed is another world."""
    digest = hashlib.sha256("\n".join(world.titles).encode())
    for array in (world.user, world.item, world.timestamp):
        digest.update(array.astype("<i8").tobytes())
    assert digest.hexdigest() == DIGEST
    assert games_world(1).titles != world.titles


def test_the_world_is_built_once_and_shared_safely(world):
    """Every call returns the same object, whose arrays cannot be written."""
    assert games_world(0) is world
    with pytest.raises(ValueError, match="read-only"):
        world.item[0] = 0


def test_the_world_is_there_at_once():
    """A fresh process builds it in under two seconds of its own time (half a second, idle)."""
    code = (
        "import time; from rere_env.games import games_world; start = time.process_time(); "
        "games_world(); print(time.process_time() - start)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 2
