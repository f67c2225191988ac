"""The exact numbers of DESIGN section 4."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rere_env import (
    NO_TITLE,
    Batch,
    collaborative,
    hit,
    rank,
    rank_literal,
    rank_weights,
    rere,
    semantic,
    weighted_sum,
)
from rere_env.rewards import pay, sees_rank_only
from rere_env.task import find_reward

PENALTIES = [
    *(-0.164, -0.103, -0.082, -0.071, -0.063, -0.058, -0.055, -0.052),
    *(-0.049, -0.047, -0.046, -0.044, -0.043, -0.042, -0.041, -0.040),
]


def batch(*targets: int) -> Batch:
    """One row for each target title."""
    n = len(targets)
    return Batch(
        user=np.arange(n),
        history=np.zeros((n, 1), np.int32),
        target=np.array(targets, np.int32),
        target_title=np.array(targets, np.int32),
    )


def group(size: int, hit_rank: int | None) -> np.ndarray:
    """Titles 1..size with the target, title 0, at a rank."""
    titles = np.arange(1, size + 1)[None]
    if hit_rank is not None:
        titles[0, hit_rank - 1] = 0
    return titles


def advantages(rewards: np.ndarray) -> np.ndarray:
    """(r - mean) / (unbiased std + 1e-4), as the released code has it."""
    return (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)


@pytest.mark.parametrize(("size", "total"), [(16, 6.106), (8, 3.953)])
def test_the_weights_sum_to_w(size, total):
    """W is the sum of 1 / log2(k + 1)."""
    assert rank_weights(size).sum() == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("place", [1, 4, 16])
def test_rank_penalises_the_negatives_by_their_slot(place):
    """Each negative of a group with a hit pays -w_k / W; the hit pays nothing."""
    expected = np.array(PENALTIES)
    expected[place - 1] = 0
    np.testing.assert_allclose(rank(group(16, place), batch(0))[0], expected, atol=1e-3)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (1, {1: 3.741, 2: -0.429, 16: -0.190}),
        (4, {4: 3.722, 1: -0.629, 16: -0.166}),
    ],
)
def test_golden_advantages_of_rere(place, expected):
    """Hit at rank 1 and at rank 4 of a group of 16."""
    values = advantages(rere(group(16, place), batch(0))[0].astype(np.float64))
    for slot, value in expected.items():
        assert values[slot - 1] == pytest.approx(value, abs=1e-3)


def test_golden_advantages_of_the_hit_alone():
    """One hit in 16 is worth +3.749, a miss -0.250."""
    values = advantages(hit(group(16, 7), batch(0))[0].astype(np.float64))
    assert values[6] == pytest.approx(3.749, abs=1e-3)
    assert values[0] == pytest.approx(-0.250, abs=1e-3)


@pytest.mark.parametrize("size", [1, 2, 8, 16, 50])
def test_a_slate_sums_to_its_normalised_discounted_gain(size):
    """The sum of hit + rank over distinct titles is w_h / W."""
    weights = rank_weights(size)
    for place in range(1, size + 1):
        total = rere(group(size, place), batch(0)).sum(dtype=np.float64)
        assert total == pytest.approx(weights[place - 1] / weights.sum(), abs=1e-6)


def test_copies_of_the_target_sum_to_one_less_than_their_number_plus_their_gain():
    """With m copies the sum is m - 1 + sum of w_h / W."""
    weights = rank_weights(4)
    titles = np.array([[0, 5, 0, 6]])
    expected = 2 - 1 + (weights[0] + weights[2]) / weights.sum()
    assert rere(titles, batch(0)).sum() == pytest.approx(expected, abs=1e-6)


def test_rank_is_silent_in_a_group_without_the_target():
    """The released form pays zeros without a hit."""
    np.testing.assert_array_equal(rank(group(4, None), batch(0)), np.zeros((1, 4)))


def test_rank_literal_penalises_a_group_without_the_target():
    """The paper's Eq. 8-9 taken literally share out -1."""
    values = rank_literal(group(4, None), batch(0))
    np.testing.assert_allclose(values, [[-0.390, -0.246, -0.195, -0.168]], atol=1e-3)
    assert values.sum() == pytest.approx(-1)


def test_rank_literal_normalises_over_the_negatives():
    """With a hit, the negatives still share out -1."""
    values = rank_literal(group(4, 1), batch(0))
    np.testing.assert_allclose(values, [[0, -0.404, -0.320, -0.276]], atol=1e-3)


def test_rank_literal_of_the_target_alone_is_zero():
    """No negative, no penalty."""
    np.testing.assert_array_equal(rank_literal(np.array([[0]]), batch(0)), [[0.0]])


def test_an_empty_slot_never_hits():
    """NO_TITLE is no hit, even of a target that is NO_TITLE itself."""
    titles = np.array([[NO_TITLE, NO_TITLE]])
    np.testing.assert_array_equal(rere(titles, batch(NO_TITLE)), [[0.0, 0.0]])


@given(
    st.integers(1, 6).flatmap(
        lambda g: st.lists(
            st.lists(st.integers(-1, 5), min_size=g, max_size=g), min_size=1, max_size=5
        )
    )
)
def test_rewards_equal_a_loop_over_the_published_formula(rows):
    """The arrays agree with two plain loops, duplicates and empty slots included."""
    titles = np.array(rows)
    values = rere(titles, batch(*[2] * len(rows)))
    for row, value in zip(rows, values, strict=True):
        total = sum(1 / np.log2(k + 2) for k in range(len(row)))
        expected = [
            1.0 if title == 2 else (-1 / np.log2(k + 2) / total if 2 in row else 0.0)
            for k, title in enumerate(row)
        ]
        np.testing.assert_allclose(value, expected, atol=1e-6)


def test_rewards_are_float32():
    """float32 [B, G], as the signature says."""
    for reward in (hit, rank, rank_literal, rere):
        values = reward(group(4, 2), batch(0))
        assert values.dtype == np.float32
        assert values.shape == (1, 4)


def test_a_weighted_sum_keeps_its_terms():
    """Terms are logged unweighted, by the names of their functions."""
    reward = weighted_sum((2.0, hit), (0.5, rank))
    titles = group(4, 2)
    np.testing.assert_allclose(
        reward(titles, batch(0)), 2 * hit(titles, batch(0)) + 0.5 * rank(titles, batch(0))
    )
    assert list(pay(reward, titles, batch(0))[1]) == ["hit", "rank"]
    assert list(pay(hit, titles, batch(0))[1]) == ["hit"]


def test_bad_arguments_are_named():
    """Each error gives rule, value and choices."""
    with pytest.raises(ValueError, match="at least one"):
        weighted_sum()
    with pytest.raises(ValueError, match=r"`group_size` \(=0\) must be at least 1"):
        rank_weights(0)
    with pytest.raises(ValueError, match=r"`reward` \(='ndcg'\) must be one of \['hit', 'rank'"):
        find_reward("ndcg")


EMBEDDINGS = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, -2.0], [0.0, 0.0]])
SCORES = np.log([[1.0, 2.0, 3.0, 4.0], [4.0, 4.0, 1.0, 1.0]])


def scores_of(examples: Batch) -> np.ndarray:
    """The scores of four titles for two users."""
    return SCORES[examples.user]


def test_semantic_pays_the_cosine_with_the_target():
    """Length does not matter; itself 1, orthogonal 0, all zeros 0, an empty slot 0."""
    values = semantic(EMBEDDINGS)(np.array([[0, 1, 2, 3, NO_TITLE]]), batch(0))
    np.testing.assert_allclose(values, [[1.0, 0.6, 0.0, 0.0, 0.0]], atol=1e-7)


def test_semantic_knows_no_target_that_is_no_title():
    """A target of NO_TITLE is like nothing; the last row of the table is not meant."""
    values = semantic(EMBEDDINGS[:3])(np.array([[0, 2, NO_TITLE]]), batch(NO_TITLE))
    np.testing.assert_array_equal(values, [[0.0, 0.0, 0.0]])


@given(st.lists(st.lists(st.integers(-1, 3), min_size=3, max_size=3), min_size=1, max_size=4))
def test_semantic_equals_a_loop_over_pairs(rows):
    """The arrays agree with the cosine of one pair at a time."""
    table = np.random.default_rng(0).normal(size=(4, 5))
    targets = [row % 4 for row in range(len(rows))]
    values = semantic(table)(np.array(rows), batch(*targets))
    for row, target, paid in zip(rows, targets, values, strict=True):
        expected = [
            table[t] @ table[target] / np.linalg.norm(table[t]) / np.linalg.norm(table[target])
            if t != NO_TITLE
            else 0.0
            for t in row
        ]
        np.testing.assert_allclose(paid, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ("raw", [[np.log(3), 0.0, 0.0], [0.0, np.log(4), np.log(4)]]),
        ("softmax", [[0.3, 0.1, 0.0], [0.1, 0.4, 0.4]]),
        ("min_max", [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]),
    ],
)
def test_collaborative_pays_the_models_score(scale, expected):
    """As it is, as a probability among all titles, or placed within the group; empty slots 0."""
    titles = np.array([[2, 0, NO_TITLE], [3, 1, 0]])
    values = collaborative(scores_of, scale)(titles, batch(0, 0))
    np.testing.assert_allclose(values, expected, atol=1e-6)


@pytest.mark.parametrize("titles", [[[1, 1]], [[NO_TITLE, NO_TITLE]], [[2, NO_TITLE]]])
def test_a_group_of_equals_has_no_best(titles):
    """min_max pays 0 where nothing is better than anything else."""
    values = collaborative(scores_of, "min_max")(np.array(titles), batch(0))
    np.testing.assert_array_equal(values, [[0.0, 0.0]])


def test_softmax_survives_large_scores():
    """Logits far beyond exp's range give probabilities all the same."""
    reward = collaborative(lambda _: np.array([[5000.0, 5000.0, -5000.0]]), "softmax")
    np.testing.assert_allclose(reward(np.array([[0, 2]]), batch(0)), [[0.5, 0.0]], atol=1e-7)


def test_rewards_with_tables_are_logged_by_name():
    """Terms bear readable names, also inside a sum of sums."""
    reward = weighted_sum((1.0, rere), (0.5, semantic(EMBEDDINGS)), (0.1, collaborative(scores_of)))
    titles = np.array([[0, 1], [1, 2]])
    total, terms = pay(reward, titles, batch(0, 1))
    assert list(terms) == ["hit", "rank", "semantic", "collaborative"]
    expected = terms["hit"] + terms["rank"] + 0.5 * terms["semantic"] + 0.1 * terms["collaborative"]
    np.testing.assert_allclose(total, expected, atol=1e-6)


def test_terms_of_one_name_are_all_logged():
    """Two embeddings are two terms; a name can be given."""
    flat = weighted_sum(
        (1.0, semantic(EMBEDDINGS)),
        (1.0, semantic(EMBEDDINGS)),
        (1.0, semantic(EMBEDDINGS, "text")),
    )
    terms = pay(flat, np.array([[0, 1]]), batch(0))[1]
    assert list(terms) == ["semantic", "semantic_2", "text"]


def test_a_sum_of_sums_multiplies_weights():
    """2 x (hit + rank) is 2 hit + 2 rank."""
    titles = group(4, 2)
    nested = weighted_sum((2.0, rere), (1.0, hit))
    np.testing.assert_allclose(
        nested(titles, batch(0)), 2 * rere(titles, batch(0)) + hit(titles, batch(0)), atol=1e-7
    )


def test_only_hit_and_rank_see_the_rank_only():
    """A reward with a table pays different titles differently: it cannot be looked up by rank."""
    assert sees_rank_only(weighted_sum((1.0, rere), (0.5, rank_literal)))
    for reward in (semantic(EMBEDDINGS), collaborative(scores_of)):
        assert not sees_rank_only(reward)
        assert not sees_rank_only(weighted_sum((1.0, hit), (1.0, reward)))


def test_rewards_with_tables_are_float32_and_pickled():
    """They live in environments, which are sent to other processes."""
    titles = np.array([[0, 1, NO_TITLE]])
    for reward in (semantic(EMBEDDINGS), collaborative(scores_of, "softmax")):
        again = pickle.loads(pickle.dumps(reward))
        assert again(titles, batch(1)).dtype == np.float32
        np.testing.assert_array_equal(again(titles, batch(1)), reward(titles, batch(1)))


def test_bad_tables_are_named():
    """A vector, a value that is not finite and an unknown scale are refused."""
    with pytest.raises(ValueError, match=r"got shape \(3,\)"):
        semantic(np.zeros(3))
    with pytest.raises(ValueError, match="1 values that are not finite"):
        semantic(np.array([[1.0, np.nan]]))
    with pytest.raises(ValueError, match=r"`scale` \(='log'\) must be one of \['raw'"):
        collaborative(scores_of, "log")


def column(titles, batch):
    """One number a group, which NumPy would spread over its titles."""
    return np.ones((len(titles), 1), np.float32)


def words(titles, batch):
    """No numbers."""
    return np.full(titles.shape, "good")


def test_a_reward_is_checked_where_it_is_paid():
    """Its shape and its dtype, by name."""
    titles = np.array([[0, 1, 2]])
    with pytest.raises(ValueError, match=r"'column' returned shape \(1, 1\) for .* \(1, 3\)"):
        pay(column, titles, batch(0))
    with pytest.raises(TypeError, match="'words' returned an array of <U4"):
        pay(words, titles, batch(0))
    with pytest.raises(ValueError, match="'column'"):
        pay(weighted_sum((1.0, hit), (0.5, column)), titles, batch(0))


def test_a_sum_is_paid_by_one_call_of_each_term():
    """The terms are not asked again for the log."""
    calls = []

    def counted(titles, batch):
        calls.append(len(titles))
        return hit(titles, batch)

    total, terms = pay(weighted_sum((2.0, counted), (1.0, rank)), np.array([[0, 1]]), batch(0))
    assert calls == [1]
    assert list(terms) == ["counted", "rank"]
    np.testing.assert_allclose(total, 2 * terms["counted"] + terms["rank"])
