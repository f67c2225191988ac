import math
from itertools import permutations, product

import numpy as np
import pytest

from rere_env import NO_TITLE, metrics

LISTS = np.array([[4, 2, 7], [4, 2, 7], [0, 1, 2]])
TARGET = np.array([7, 5, 0])  # ranks 3, none, 1


def test_the_rank_counts_from_one_and_is_zero_without_a_hit():
    """The rank counts from 1; 0 says that the list does not hold the target."""
    assert metrics.target_ranks(LISTS, TARGET).tolist() == [3, 0, 1]


def test_the_first_of_two_copies_is_the_rank():
    """A title that stands twice counts where it stands first."""
    assert metrics.target_ranks(np.array([[1, 5, 5]]), np.array([5])).tolist() == [2]


def test_an_empty_slot_is_never_a_hit():
    """NO_TITLE hits nothing, not even a target of NO_TITLE."""
    assert metrics.target_ranks(np.array([[NO_TITLE]]), np.array([NO_TITLE])).tolist() == [0]


@pytest.mark.parametrize(("k", "expected"), [(1, 1 / 3), (2, 1 / 3), (3, 2 / 3), (9, 2 / 3)])
def test_hit_rate(k, expected):
    """hit_rate@k is the share of rows with a rank of at most k."""
    assert metrics.hit_rate(np.array([3, 0, 1]), k) == pytest.approx(expected)


@pytest.mark.parametrize(("k", "expected"), [(1, 1 / 3), (2, 1 / 3), (3, 0.5)])
def test_ndcg(k, expected):
    """ndcg@k is the mean of 1 / log2(rank + 1): rank 1 gives 1, rank 3 a half."""
    assert metrics.ndcg(np.array([3, 0, 1]), k) == pytest.approx(expected)


def test_mrr():
    """Mrr is the mean of 1 / rank."""
    assert metrics.mrr(np.array([3, 0, 1])) == pytest.approx((1 / 3 + 1) / 3)


def test_rates_by_row_average_to_the_rates():
    """Each headline number is the mean of its rows."""
    ranks = np.array([1, 2, 0, 5])
    assert metrics.hits(ranks, 2).tolist() == [1, 1, 0, 0]
    assert metrics.discounted_gains(ranks, 2).tolist() == [1, 1 / math.log2(3), 0, 0]
    assert metrics.reciprocal_ranks(ranks).tolist() == [1, 0.5, 0, 0.2]


def test_coverage_counts_distinct_legal_titles():
    """Neither empty slots nor ids outside the catalogue cover anything."""
    titles = np.array([[0, 1, 2], [0, 3, NO_TITLE], [0, 99, 1]])
    assert metrics.distinct_titles(titles, 3, num_titles=8) == 4
    assert metrics.distinct_titles(titles, 1, num_titles=8) == 1
    assert metrics.coverage(titles, 3, num_titles=8) == 0.5


@pytest.mark.parametrize(
    ("titles", "expected"),
    [
        ([[0, 1, 2]], 0.0),
        ([[0, 1, 0]], 1 / 3),
        ([[1, 1, 1], [0, 1, 2]], 2 / 6),
        ([[0, NO_TITLE, NO_TITLE]], 0.0),
        ([[NO_TITLE, NO_TITLE]], 0.0),
        ([[0, 0, NO_TITLE]], 0.5),
    ],
)
def test_duplicate_rate(titles, expected):
    """The share of filled slots that repeat an earlier slot of their row."""
    assert metrics.duplicate_rate(np.array(titles)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("titles", "num_titles", "expected"),
    [
        ([[0, 1, 2]], 3, 0.0),
        ([[0, 1, 3]], 3, 1 / 3),  # outside the catalogue
        ([[0, -2, 1]], 3, 1 / 3),
        ([[0, 1, NO_TITLE, NO_TITLE]], 2, 0.0),  # no more than two titles exist
        ([[0, NO_TITLE, NO_TITLE, NO_TITLE]], 2, 1 / 2),  # a second title was there to be named
        ([[0, 1, 5, 6]], 2, 1.0),
        ([[0, 1, 2], [NO_TITLE, 0, 1]], 9, 1 / 6),  # an empty slot that could be filled
    ],
)
def test_illegal_rate(titles, num_titles, expected):
    """Illegal are foreign ids and empty slots, unless nothing was left to fill them."""
    assert metrics.illegal_rate(np.array(titles), num_titles) == pytest.approx(expected)


def test_expected_ndcg():
    """Expected ndcg weighs each slot by the probability of its title."""
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    titles = np.array([[0, 1], [0, 2]])
    gains = [0.5 + 0.3 / math.log2(3), 0.1 + 0.8 / math.log2(3)]
    assert metrics.expected_gains(titles, probabilities, 2) == pytest.approx(gains)
    assert metrics.expected_ndcg(titles, probabilities, 2) == pytest.approx(sum(gains) / 2)
    assert metrics.expected_ndcg(titles, probabilities, 1) == pytest.approx(0.3)
    assert metrics.expected_hits(titles, probabilities, 2) == pytest.approx([0.8, 0.9])


def test_copies_and_empty_slots_add_nothing_to_expected_ndcg():
    """A list of copies is worth one title; slots keep their places."""
    probabilities = np.array([[0.5, 0.3, 0.2]])
    titles = np.array([[0, 0, NO_TITLE, 7, 1]])
    expected = 0.5 + 0.3 / math.log2(6)
    assert metrics.expected_ndcg(titles, probabilities, 5) == pytest.approx(expected)


def test_expected_ndcg_is_the_mean_over_all_targets():
    """It equals ndcg averaged over every possible target, each by its probability."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(6), 4)
    titles = np.array([rng.permutation(6)[:4] for _ in range(4)])
    slow = sum(
        probabilities[:, target]
        * metrics.discounted_gains(metrics.target_ranks(titles, np.full(4, target)), 3)
        for target in range(6)
    )
    assert metrics.expected_gains(titles, probabilities, 3) == pytest.approx(slow)


def test_item_metrics_average_over_every_order_of_items():
    """The closed form equals the mean over all orders in which the titles' items may stand."""
    items_of = {0: ["a"], 1: ["b", "c", "d"], 2: ["e", "f"]}
    width = np.array([1, 3, 2])
    for titles, (target, item) in product(
        permutations(range(3)), [(t, i) for t, items in items_of.items() for i in items]
    ):
        orders = [
            [*first, *second, *third]
            for first in permutations(items_of[titles[0]])
            for second in permutations(items_of[titles[1]])
            for third in permutations(items_of[titles[2]])
        ]
        for k in (1, 2, 3, 5, 9):
            places = [order.index(item) + 1 for order in orders]
            hit_rate = np.mean([place <= k for place in places])
            ndcg = np.mean([(place <= k) / math.log2(place + 1) for place in places])
            row = np.array([titles]), np.array([target]), width, k
            assert metrics.item_hits(*row) == pytest.approx([hit_rate])
            assert metrics.item_discounted_gains(*row) == pytest.approx([ndcg])


def test_item_metrics_equal_title_metrics_where_titles_are_single_items():
    """With one item a title nothing is left to average."""
    rng = np.random.default_rng(0)
    titles = np.array([rng.permutation(9)[:5] for _ in range(40)])
    target, width = rng.integers(9, size=40), np.ones(9, np.int64)
    ranks = metrics.target_ranks(titles, target)
    for k in (1, 3, 5):
        assert metrics.item_hits(titles, target, width, k) == pytest.approx(metrics.hits(ranks, k))
        assert metrics.item_discounted_gains(titles, target, width, k) == pytest.approx(
            metrics.discounted_gains(ranks, k)
        )


def test_an_item_missed_by_a_wide_title_gains_nothing():
    """A target outside the list counts 0, whatever the width of its title."""
    titles, width = np.array([[0, NO_TITLE, 55]]), np.array([1, 40])
    assert metrics.item_hits(titles, np.array([1]), width, 3).tolist() == [0]
