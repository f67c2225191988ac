"""The transition function against plain Python, over random catalogues."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rere_env import NO_TITLE, Dynamics, Rules, hit

WORDS = ["a", "b", "c", '"', "\t", "é", "日本"]
catalogues = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=4)
    .map(" ".join)
    .filter(lambda title: title.strip() != ""),
    min_size=1,
    max_size=12,
)


def rows_of(task, num_rows=1, **rules):
    """Dynamics and rows that have begun example 0."""
    dynamics = Dynamics(task, "train", Rules(**rules))
    rows = dynamics.new_rows(num_rows)
    dynamics.start(rows, np.zeros(num_rows, np.int64))
    return dynamics, rows


def write(dynamics, rows, title, row=0):
    """Write one title, token by token; return the last transition."""
    for token in dynamics.task.title_tokens[title]:
        moved = dynamics.step(rows, np.array([token]), np.array([row]))
        assert not moved.illegal.any()
    return moved


def legal_tokens(dynamics, rows, row=0):
    """The legal tokens of one row, as a set."""
    return set(dynamics.allowed(rows, np.array([row])).tokens.tolist())


def expected_tokens(task, slate, prefix):
    """The oracle: tokens that lead on to a title outside the slate."""
    result = set()
    for title in range(task.catalogue.num_titles):
        tokens = task.title_tokens[title].tolist()
        if title not in slate and tokens[: len(prefix)] == prefix:
            result.add(tokens[len(prefix)])
    return result


@given(catalogues, st.integers(0, 2**32 - 1), st.data())
def test_exactly_the_titles_outside_the_slate_can_be_written(task_of, titles, seed, data):
    """At every step `allowed` equals a search through all titles, and `step` agrees with it."""
    task = task_of(titles, [((0,), 0)])
    size = data.draw(st.integers(1, task.catalogue.num_titles))
    dynamics, rows = rows_of(task, num_rows=3, slate_size=size, on_illegal="noop")
    rng = np.random.default_rng(seed)
    written: list[list[int]] = [[], [], []]
    prefixes: list[list[int]] = [[], [], []]
    while not rows.finished.all():
        live = np.flatnonzero(~rows.finished)
        allowed = dynamics.allowed(rows)
        np.testing.assert_array_equal(
            np.flatnonzero(dynamics.mask(rows).ravel()) % task.trie.num_tokens, allowed.tokens
        )
        for row in range(3):
            tokens = allowed.tokens[allowed.indptr[row] : allowed.indptr[row + 1]].tolist()
            expected = expected_tokens(task, written[row], prefixes[row])
            assert tokens == (sorted(expected) if row in live else [0])
        tokens = rng.integers(-1, task.trie.num_tokens + 1, size=3)
        tokens = np.where(rng.random(3) < 0.7, allowed.sample(rng), tokens)
        legal = [
            token in expected_tokens(task, written[row], prefixes[row])
            for row, token in zip(live, tokens[live], strict=True)
        ]
        moved = dynamics.step(rows, tokens[live], live)
        assert (~moved.illegal).tolist() == legal
        for row, fine in zip(live.tolist(), legal, strict=True):
            if fine and tokens[row] == 0:
                ids = task.title_tokens.to_model_ids(np.array(prefixes[row]))
                title = task.catalogue.titles.index(task.tokenizer.decode_completion(ids.tolist()))
                written[row].append(title)
                prefixes[row] = []
            elif fine:
                prefixes[row].append(int(tokens[row]))
            assert (rows.slate[row] - 1)[: rows.slot[row]].tolist() == written[row]
            assert rows.prefix[row][: rows.depth[row]].tolist() == prefixes[row]
    if (rows.num_tokens < dynamics.max_tokens).all():
        assert all(len(set(slate)) == size for slate in written)


def test_a_title_that_is_a_prefix_of_another_hides_only_itself(tiny_task):
    """After "Star Quest", EOS below it is hidden and "Star Quest II" still legal."""
    dynamics, rows = rows_of(tiny_task, slate_size=3)
    write(dynamics, rows, 0)
    for token in tiny_task.title_tokens[0][:-1]:
        dynamics.step(rows, np.array([token]))
    assert legal_tokens(dynamics, rows) == {int(tiny_task.title_tokens[1][2])}


def test_the_whole_catalogue_can_be_a_slate(tiny_task):
    """K = number of titles is legal: the last title is forced, and no mask is ever empty."""
    dynamics, rows = rows_of(tiny_task, slate_size=8)
    rng = np.random.default_rng(0)
    while not rows.finished[0]:
        assert len(legal_tokens(dynamics, rows)) > 0
        dynamics.step(rows, dynamics.allowed(rows).sample(rng))
    assert sorted(rows.slate[0].tolist()) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_one_item_is_a_catalogue(task_of):
    """One title with slate_size=1 is a legal, if dull, world."""
    dynamics, rows = rows_of(task_of(["Pong"], [((0,), 0)]), slate_size=1)
    moved = write(dynamics, rows, 0)
    assert moved.reward.tolist() == [1.0]


def test_a_finished_row_allows_exactly_eos(tiny_task):
    """Whatever ended it."""
    dynamics, rows = rows_of(tiny_task, slate_size=1)
    dynamics.step(rows, np.array([-1]))
    assert rows.finished.tolist() == [True]
    assert legal_tokens(dynamics, rows) == {0}
    assert dynamics.mask(rows).sum() == 1


def test_rows_that_have_not_begun_allow_exactly_eos(tiny_task):
    """No mask is empty, not even before the first reset."""
    dynamics = Dynamics(tiny_task, "train", Rules(slate_size=2))
    assert legal_tokens(dynamics, dynamics.new_rows(2), 1) == {0}


def test_the_end_scores_the_whole_slate(tiny_task):
    """Target "Star Farm" (title 2) at rank 2 of 3: w_2 / W."""
    dynamics, rows = rows_of(tiny_task, slate_size=3)
    assert write(dynamics, rows, 5).reward.tolist() == [0.0]
    write(dynamics, rows, 2)
    moved = write(dynamics, rows, 7)
    outcome = moved.outcome
    assert moved.terminated.tolist() == [True]
    assert moved.reward[0] == pytest.approx(0.6309 / 2.1309, abs=1e-4)
    assert outcome.slate.tolist() == [[5, 2, 7]]
    np.testing.assert_allclose(outcome.item_rewards, [[-0.469, 1, -0.235]], atol=1e-3)
    assert outcome.target.tolist() == [2]
    assert outcome.target_rank.tolist() == [2]
    assert outcome.hit.tolist() == [True]
    assert outcome.reward_terms["hit"].tolist() == [1.0]
    assert outcome.reward_terms["rank"][0] == pytest.approx(-0.704, abs=1e-3)


def test_an_illegal_end_returns_its_reward_alone(tiny_task):
    """Even with the target in the slate: item rewards zero, no hit."""
    dynamics, rows = rows_of(tiny_task, slate_size=3, illegal_reward=-2.0)
    write(dynamics, rows, 2)
    moved = dynamics.step(rows, np.array([0]))
    assert moved.illegal.tolist() == moved.terminated.tolist() == [True]
    assert moved.reward.tolist() == [-2.0]
    assert moved.outcome.slate.tolist() == [[2, NO_TITLE, NO_TITLE]]
    assert moved.outcome.item_rewards.tolist() == [[0.0, 0.0, 0.0]]
    assert moved.outcome.reward_terms["hit"].tolist() == [0.0]
    assert moved.outcome.target_rank.tolist() == [0]


def test_a_noop_costs_and_changes_nothing(tiny_task):
    """The prefix stays, the penalty is paid, the episode goes on."""
    dynamics, rows = rows_of(tiny_task, slate_size=2, on_illegal="noop")
    token = int(tiny_task.title_tokens[0][0])
    dynamics.step(rows, np.array([token]))
    before = rows.state()
    moved = dynamics.step(rows, np.array([10**9]))
    assert moved.reward.tolist() == [-1.0]
    assert moved.terminated.tolist() == moved.truncated.tolist() == [False]
    for name, column in rows.state().items():
        if name != "num_tokens":
            np.testing.assert_array_equal(column, before[name])


def test_noop_episodes_end_after_twice_the_longest_slate(tiny_task):
    """Default budget: 2 x slate_size x longest title (4 words and EOS)."""
    dynamics, rows = rows_of(tiny_task, slate_size=2, on_illegal="noop")
    assert dynamics.max_tokens == 2 * 2 * 5
    for _ in range(19):
        assert not dynamics.step(rows, np.array([-1])).truncated[0]
    assert dynamics.step(rows, np.array([-1])).truncated[0]


def test_a_budget_truncates_and_unwritten_slots_are_misses(tiny_task):
    """The target at rank 1, then time runs out: the empty slot pays its penalty."""
    dynamics, rows = rows_of(tiny_task, slate_size=2, max_tokens=3)
    moved = write(dynamics, rows, 2)
    assert moved.truncated.tolist() == [True]
    assert moved.terminated.tolist() == [False]
    assert moved.outcome.slate.tolist() == [[2, NO_TITLE]]
    assert moved.reward[0] == pytest.approx(1 / 1.6309, abs=1e-4)
    assert moved.outcome.hit.tolist() == [True]


def test_a_full_slate_on_the_last_token_is_terminated_not_truncated(tiny_task):
    """The two flags never both say the same end."""
    dynamics, rows = rows_of(tiny_task, slate_size=1, max_tokens=2)
    moved = write(dynamics, rows, 6)
    assert moved.terminated.tolist() == [True]
    assert moved.truncated.tolist() == [False]


def test_raise_names_the_action_and_changes_nothing(tiny_task):
    """For debugging: the legal tokens are listed and every row is as it was."""
    dynamics, rows = rows_of(tiny_task, num_rows=2, slate_size=2, on_illegal="raise")
    before = rows.state()
    legal = int(tiny_task.title_tokens[0][0])
    with pytest.raises(ValueError, match="action 77 in row 1 continues no title"):
        dynamics.step(rows, np.array([legal, 77]))
    for name, column in rows.state().items():
        np.testing.assert_array_equal(column, before[name])


def test_rows_do_not_see_each_other(tiny_task):
    """Stepping a subset equals stepping those rows alone."""
    dynamics = Dynamics(tiny_task, "train", Rules(slate_size=2))
    rows, alone = dynamics.new_rows(3), dynamics.new_rows(1)
    dynamics.start(rows, np.array([4, 5, 6]))
    dynamics.start(alone, np.array([5]))
    before = rows.state()
    write(dynamics, rows, 3, row=1)
    write(dynamics, alone, 3)
    for name, column in rows.state().items():
        np.testing.assert_array_equal(column[1], getattr(alone, name)[0])
        np.testing.assert_array_equal(column[[0, 2]], before[name][[0, 2]])


def test_remaining_counts_the_titles_below_each_token(tiny_task):
    """At the root: Star 3, Moon 2, Dog 1, Pinball 2; minus what is in the slate."""
    dynamics, rows = rows_of(tiny_task, slate_size=3)
    words = {w: int(tiny_task.title_tokens[t][0]) for w, t in
             {"Star": 0, "Moon": 3, "Dog": 5, "Pinball": 6}.items()}  # fmt: skip

    def counts():
        return dict(zip(*map(list, dynamics.remaining(rows, 0)), strict=True))

    assert counts() == {words["Star"]: 3, words["Moon"]: 2, words["Dog"]: 1, words["Pinball"]: 2}
    write(dynamics, rows, 5)
    write(dynamics, rows, 1)
    assert counts() == {words["Star"]: 2, words["Moon"]: 2, words["Pinball"]: 2}


def test_equal_histories_keep_their_own_targets(task_of):
    """The target travels with the example."""
    dynamics = Dynamics(task_of(rows=[((0, 1), 2), ((0, 1), 3)]), "train", Rules(slate_size=1))
    rows = dynamics.new_rows(2)
    dynamics.start(rows, np.array([0, 1]))
    np.testing.assert_array_equal(rows.history[0], rows.history[1])
    assert write(dynamics, rows, 2, row=0).reward.tolist() == [1.0]
    assert write(dynamics, rows, 2, row=1).reward.tolist() == [0.0]


def test_items_that_share_a_title_are_one_target(task_of):
    """A hit on the title is a hit on either item."""
    task = task_of(["A", "B", "A"], [((1,), 2)])
    dynamics, rows = rows_of(task, slate_size=1)
    assert write(dynamics, rows, 0).reward.tolist() == [1.0]


def test_a_reward_of_the_wrong_shape_is_an_error(tiny_task):
    """Broadcasting would hide it."""
    dynamics, rows = rows_of(tiny_task.with_reward(lambda titles, batch: 1.0), slate_size=1)
    with pytest.raises(ValueError, match=r"returned shape \(\) for titles of shape \(1, 1\)"):
        write(dynamics, rows, 0)


def test_a_plain_function_is_its_own_reward_term(tiny_task):
    """`reward_terms` has the name of the function."""
    dynamics, rows = rows_of(tiny_task.with_reward(hit), slate_size=1)
    assert write(dynamics, rows, 2).outcome.reward_terms == {"hit": [1.0]}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"slate_size": 0}, r"`slate_size` \(=0\) must be at least 1"),
        ({"slate_size": 9}, r"`slate_size` \(=9\) must be at most .* \(8\) .* `slate_size=8`"),
        ({"on_illegal": "ignore"}, r"`on_illegal` \(='ignore'\) must be one of"),
        ({"max_tokens": 0}, r"`max_tokens` \(=0\) must be at least 1"),
    ],
)
def test_bad_rules_are_errors(tiny_task, rules, message):
    """Rule, value and remedy."""
    with pytest.raises(ValueError, match=message):
        rows_of(tiny_task, **rules)


def test_a_state_of_another_shape_is_refused(tiny_task):
    """A state belongs to an environment made with the same arguments."""
    state = rows_of(tiny_task, slate_size=2)[1].state()
    with pytest.raises(
        ValueError, match=r"'slate' has shape \(1, 2\), this environment's \(1, 3\)"
    ):
        rows_of(tiny_task, slate_size=3)[1].restore(state)
