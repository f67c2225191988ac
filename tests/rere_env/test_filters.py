"""Hidden titles: one meaning for masks, samplers and recommenders."""

import json
import tracemalloc

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rere_env import Dynamics, ReReEnv, ReReVectorEnv, Rules
from rere_env.filters import Combined, Hidden, HideHistory, HideItems, OutOfStock, find_filter

# Items 0..3 are "A B", "A C", "A B" (again) and "D": titles 0, 1, 0, 2.
TITLES = ["A B", "A C", "A B", "D"]


@pytest.fixture
def shared_task(task_of):
    """Four items under three titles; user 0 had item 2, user 1 nothing."""
    return task_of(TITLES, [((2,), 1), ((), 0)])


def hidden_from(task, exclude):
    """The hidden titles of every training example, as lists."""
    hidden = task.with_exclude(exclude).hidden(task.split("train"))
    return [hidden.of(row).tolist() for row in range(len(task.split("train")))]


def test_history_hides_a_title_if_any_of_its_items_was_seen(shared_task):
    """Item 2 stands under the title of item 0."""
    assert hidden_from(shared_task, "history") == [[0], []]


def test_stock_hides_a_title_only_if_no_item_of_it_is_left(shared_task):
    """One of two items sold out leaves the title; both sold out hide it from everybody."""
    assert hidden_from(shared_task, ["i0"]) == [[], []]
    assert hidden_from(shared_task, ["i0", "i2"]) == [[0], [0]]


def test_any_items_can_be_hidden_from_any_example(shared_task):
    """A function names them; duplicates count once."""
    hide = HideItems(lambda batch: [np.array([3, 3, 0]), np.array([], np.int64)])
    assert hidden_from(shared_task, hide) == [[0, 2], []]


def test_filters_add_up(shared_task):
    """`Combined` hides what any of them hides."""
    assert hidden_from(shared_task, Combined(HideHistory(), OutOfStock(["i3"]))) == [[0, 2], [2]]


@pytest.mark.parametrize(
    ("exclude", "error", "message"),
    [
        ("seen", ValueError, r"`exclude` \(='seen'\) must be None, 'history'"),
        (["i9"], KeyError, "'i9' is not in the catalogue"),
        (HideItems(lambda batch: []), ValueError, "got 0 arrays of item ids for 2 examples"),
        (HideItems(lambda batch: [[7], []]), ValueError, "catalogue has 0..3"),
    ],
)
def test_bad_filters_are_errors(shared_task, exclude, error, message):
    """Rule, value and remedy."""
    with pytest.raises(error, match=message):
        ReReEnv(shared_task, slate_size=1, exclude=exclude)


def test_a_filter_that_leaves_too_few_titles_names_both_numbers(shared_task):
    """Found at construction, not in the middle of a slate."""
    with pytest.raises(ValueError, match=r"leaves 2 titles for example 0.*`slate_size` \(=3\)"):
        ReReEnv(shared_task, slate_size=3, exclude="history")
    with pytest.raises(ValueError, match=r"leaves 0 titles for example 0.*hide fewer"):
        ReReEnv(shared_task, slate_size=1, exclude=["i0", "i1", "i2", "i3"])


def test_a_hidden_target_is_said(task_of):
    """The episode runs on, and can never hit."""
    task = task_of(TITLES, [((2,), 0), ((), 1)])
    env = ReReEnv(task, slate_size=2, exclude="history", split="test")
    assert env.reset(seed=0)[1]["target_reachable"] is False
    assert env.reset()[1]["target_reachable"] is True
    vector = ReReVectorEnv(2, task, slate_size=2, exclude="history", split="test")
    assert vector.reset(seed=0)[1]["target_reachable"].tolist() == [False, True]


def test_a_name_or_a_stock_list_survives_json(data_root):
    """Only functions do not."""
    for exclude in ("history", ["i0", "i1"]):
        env = gym.make("ReRe-Toys-v0", slate_size=1, exclude=exclude)
        spec = gym.envs.registration.EnvSpec.from_json(env.spec.to_json())
        assert json.loads(env.spec.to_json())["kwargs"]["exclude"] == exclude
        assert gym.make(spec).reset(seed=1)[1]["example"] == env.reset(seed=1)[1]["example"]


def test_the_filter_of_the_task_is_the_default(shared_task):
    """`exclude=` of an environment replaces it."""
    task = shared_task.with_exclude("history")
    assert ReReEnv(task, slate_size=1).task.exclude is task.exclude
    assert isinstance(ReReEnv(task, slate_size=1, exclude=["i3"]).task.exclude, OutOfStock)
    assert find_filter(None) is None


WORDS = ["a", "b", "c", "d"]
catalogues = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join),
    min_size=2,
    max_size=12,
)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@given(catalogues, st.data())
def test_exactly_the_shown_titles_can_be_written(task_of, backend, titles, data):
    """`allowed`, `step` and `remaining` against a search through all titles, with every filter."""
    items = st.lists(st.integers(0, len(titles) - 1), max_size=4)
    own = [data.draw(items), data.draw(items)]
    stock = data.draw(items)
    plain = task_of(titles, [((0,), 0), ((1,), 1)])
    keys = [f"i{item}" for item in stock]
    exclude = Combined(OutOfStock(keys), HideItems(lambda batch: [np.array(o) for o in own]))
    title_of = plain.catalogue.item_title
    gone = {t for t in title_of.tolist() if all(i in stock for i in np.flatnonzero(title_of == t))}
    hidden = [gone | set(title_of[np.array(o, int)].tolist()) for o in own]
    fewest = plain.catalogue.num_titles - max(map(len, hidden))
    if fewest == 0:
        return
    size = data.draw(st.integers(1, fewest))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    dynamics = Dynamics(
        plain.with_exclude(exclude),
        "train",
        Rules(slate_size=size, on_illegal="noop"),
        backend=backend,
    )
    rows = dynamics.new_rows(2)
    dynamics.start(rows, np.array([0, 1]))
    written: list[set[int]] = [set(), set()]
    prefix: list[list[int]] = [[], []]
    while not rows.finished.all():
        allowed = dynamics.allowed(rows)
        tokens = np.where(rng.random(2) < 0.8, allowed.sample(rng), rng.integers(-1, 6, 2))
        legal = []
        for row in range(2):
            counts = _titles_below(plain, hidden[row] | written[row], prefix[row])
            shown = allowed.tokens[allowed.indptr[row] : allowed.indptr[row + 1]].tolist()
            if rows.finished[row]:
                assert shown == [0]
                legal.append(True)
                continue
            assert dict(zip(*map(list, dynamics.remaining(rows, row)), strict=True)) == counts
            assert shown == sorted(counts)
            legal.append(int(tokens[row]) in counts)
        live = ~rows.finished
        moved = dynamics.step(rows, tokens)
        assert (~moved.illegal).tolist() == legal
        for row in np.flatnonzero(live & np.array(legal)).tolist():
            if tokens[row] == 0:
                written[row].add(int(rows.slate[row, rows.slot[row] - 1]) - 1)
                prefix[row] = []
            else:
                prefix[row].append(int(tokens[row]))


def _titles_below(task, hidden, prefix):
    """The oracle: next token -> titles left below it."""
    counts: dict[int, int] = {}
    for title in set(range(task.catalogue.num_titles)) - hidden:
        tokens = task.title_tokens[title].tolist()
        if tokens[: len(prefix)] == prefix:
            counts[tokens[len(prefix)]] = counts.get(tokens[len(prefix)], 0) + 1
    return counts


@given(
    lists=st.lists(st.lists(st.integers(0, 30), max_size=5), min_size=1, max_size=6),
    data=st.data(),
)
def test_hidden_titles_are_the_sets_they_were_made_of(lists, data):
    """Taken in any order, with repeats, and joined."""
    hidden = Hidden.from_lists(lists)
    assert [hidden.of(row).tolist() for row in range(len(lists))] == [sorted(set(t)) for t in lists]
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8))
    taken = hidden.take(rows)
    assert [taken.of(i).tolist() for i in range(len(rows))] == [sorted(set(lists[r])) for r in rows]
    both = Hidden.joined([taken, hidden])
    assert both.num_rows == len(rows) + len(lists)
    assert both.of(len(rows)).tolist() == sorted(set(lists[0]))


@given(
    lists=st.lists(st.lists(st.integers(0, 30), max_size=5), min_size=1, max_size=6),
    gone=st.lists(st.integers(0, 30), max_size=8),
    data=st.data(),
)
def test_what_is_hidden_from_everybody_is_kept_once(lists, gone, data):
    """Every answer is that of the lists with everybody's titles in each of them."""
    hidden = Hidden.from_lists(lists, everybody=gone)
    spread = Hidden.from_lists([[*own, *gone] for own in lists])
    assert hidden.everybody.tolist() == sorted(set(gone))
    assert not set(hidden.titles.tolist()) & set(gone)
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8))
    titles = np.array(data.draw(st.lists(st.integers(-2, 33), min_size=3, max_size=3)))
    for one, other in (
        (hidden, spread),
        (hidden.take(rows), spread.take(rows)),
        (Hidden.joined([hidden, hidden]), Hidden.joined([spread, spread])),
        (Hidden.joined([hidden, spread]), Hidden.joined([spread, hidden])),
    ):
        assert one.counts.tolist() == other.counts.tolist()
        for row in range(one.num_rows):
            assert one.of(row).tolist() == other.of(row).tolist()
        asked = np.tile(titles, (one.num_rows, 1))
        assert one.marks(asked, 31).tolist() == other.marks(asked, 31).tolist()


def test_stock_costs_what_is_gone_and_not_that_for_each_example(task_of):
    """2,000 examples and 10,000 titles out of stock: 20,000,000 pairs would be 160 MB each copy."""
    task = task_of([f"t{n}" for n in range(20_000)], [((n,), n + 1) for n in range(2_000)])
    exclude = Combined(HideHistory(), OutOfStock([f"i{n}" for n in range(0, 20_000, 2)]))
    examples = task.split("train")
    tracemalloc.start()
    hidden = task.with_exclude(exclude).hidden(examples)
    hides = task.with_exclude(exclude).hides_target(examples)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert hidden.counts.tolist() == [10_000 + n % 2 for n in range(2_000)]
    assert hides.tolist() == [n % 2 == 1 for n in range(2_000)]
    assert peak < 16_000_000
