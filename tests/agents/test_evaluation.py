import math
from dataclasses import replace

import numpy as np
import pytest

from agents.evaluation import Metric, compare, evaluate
from rere_env import NO_TITLE, Task

QUIET = {"progress": False, "num_resamples": 50}


class Fixed:
    """Returns given lists, looked up by the first item of a row's history."""

    def __init__(self, titles):
        self.titles = np.asarray(titles)

    def recommend(self, examples, k):
        """Return the rows, cut or padded to k."""
        rows = self.titles[examples.history[:, 0]][:, :k]
        return np.pad(rows, ((0, 0), (0, k - rows.shape[1])), constant_values=NO_TITLE)


@pytest.fixture(scope="module")
def task(dataset_of) -> Task:
    """Four titles of five items (2 and 4 share one), four examples of four users."""
    rows = [((0,), 1), ((1,), 2), ((2,), 3), ((3,), 4)]
    return Task.build(dataset_of(["ant", "bee", "cat", "dog", "cat"], rows))


@pytest.fixture(scope="module")
def examples(task):
    """Targets: titles 1, 2, 3, 2."""
    return task.split("test")


LISTS = [[1, 0, 2, 3], [0, 2, 1, 3], [0, 1, 2, 3], [2, 0, 1, 3]]  # ranks 1, 2, 4, 1


def values(done):
    """Metric values by name."""
    return {name: metric.value for name, metric in done.metrics.items()}


def test_every_metric_by_hand(task, examples):
    """Four lists with ranks 1, 2, 4, 1 give these numbers."""
    done = evaluate(Fixed(LISTS), task, examples, ks=(1, 3, 4), **QUIET)
    expected = {
        "hit_rate@1": 0.5,
        "hit_rate@3": 0.75,
        "hit_rate@4": 1.0,
        "ndcg@1": 0.5,
        "ndcg@3": (2 + 1 / math.log2(3)) / 4,
        "ndcg@4": (2 + 1 / math.log2(3) + 1 / math.log2(5)) / 4,
        "mrr": (1 + 0.5 + 0.25 + 1) / 4,
        "item_hit_rate@1": (1 + 0 + 0 + 0.5) / 4,
        "item_hit_rate@3": (1 + 1 + 0 + 1) / 4,
        "item_ndcg@1": (1 + 0 + 0 + 0.5) / 4,
        "coverage@1": 0.75,
        "coverage@3": 0.75,
        "distinct_titles@4": 4,
    }
    assert {name: values(done)[name] for name in expected} == pytest.approx(expected)
    assert done.ranks.tolist() == [1, 2, 4, 1]
    assert done.titles.tolist() == LISTS
    assert (done.illegal_rate, done.duplicate_rate) == (0, 0)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_batch_size_changes_nothing(task, examples, batch_size):
    """Values, intervals and rows are equal to the last bit, whatever the batches."""
    known = np.random.default_rng(0).dirichlet(np.ones(4), 4)
    by_user = {"probabilities": lambda batch: known[batch.user]}
    once = evaluate(Fixed(LISTS), task, examples, ks=(1, 3), **by_user, **QUIET)
    again = evaluate(
        Fixed(LISTS), task, examples, ks=(1, 3), batch_size=batch_size, **by_user, **QUIET
    )
    assert once.metrics == again.metrics
    assert all((once.rows[name] == again.rows[name]).all() for name in once.rows)


def test_ranks_beyond_the_catalogue_are_legal(task, examples):
    """A list of 50 from four titles is padded; padding is neither illegal nor a duplicate."""
    done = evaluate(Fixed(LISTS), task, examples, ks=(10, 50), **QUIET)
    assert done.titles.shape == (4, 50)
    assert values(done)["hit_rate@50"] == 1
    assert values(done)["coverage@50"] == 1
    assert (done.illegal_rate, done.duplicate_rate) == (0, 0)


def test_a_hidden_title_never_hits_and_is_illegal(task, examples):
    """Bee is sold out: who lists it is at fault, and as a target it is everybody's miss."""
    done = evaluate(Fixed(LISTS), task.with_exclude(["i1"]), examples, ks=(1, 3), **QUIET)
    assert done.ranks.tolist() == [0, 2, 0, 1]
    assert done.hidden_targets == 1
    assert done.titles.tolist() == [row[:3] for row in LISTS]
    assert done.illegal_rate == pytest.approx(4 / 12)  # every list shows it
    assert done.duplicate_rate == 0


def test_what_a_filter_leaves_no_title_for_is_no_fault(task, examples):
    """Three titles may be shown: the fourth slot is excused."""
    shown = [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    done = evaluate(Fixed(shown), task.with_exclude("history"), examples, ks=(4,), **QUIET)
    assert done.illegal_rate == 0


def test_faults_are_counted_and_not_repaired(task, examples):
    """Copies, foreign ids and holes stay where they are, and what follows does not move up."""
    lists = [[0, 0, 1, 2], [9, 2, 1, 3], [NO_TITLE, 3, 0, 1], [2, 0, 1, 3]]
    done = evaluate(Fixed(lists), task, examples, ks=(1, 4), **QUIET)
    assert done.ranks.tolist() == [3, 2, 2, 1]
    assert done.duplicate_rate == pytest.approx(1 / 15)
    assert done.illegal_rate == pytest.approx(2 / 16)
    assert values(done)["hit_rate@1"] == 0.25


def test_expected_metrics_need_probabilities(task, examples):
    """They are there exactly where the true distribution is known."""
    uniform = evaluate(
        Fixed(LISTS),
        task,
        examples,
        ks=(1, 2),
        probabilities=lambda batch: np.full((len(batch), 4), 0.25),
        **QUIET,
    )
    assert values(uniform)["expected_hit_rate@2"] == pytest.approx(0.5)
    assert values(uniform)["expected_ndcg@2"] == pytest.approx(0.25 * (1 + 1 / math.log2(3)))
    without = evaluate(Fixed(LISTS), task, examples, ks=(1, 2), **QUIET)
    assert not any(name.startswith("expected") for name in without.metrics)


def test_intervals_hold_their_values(task, examples):
    """Low <= value <= high; without resamples there is no interval; counts never have one."""
    done = evaluate(Fixed(LISTS), task, examples, ks=(1, 3), **QUIET)
    for name, metric in done.metrics.items():
        if name.startswith(("coverage", "distinct")):
            assert metric.low is None
        else:
            assert metric.low <= metric.value <= metric.high
    bare = evaluate(Fixed(LISTS), task, examples, ks=(1, 3), progress=False, num_resamples=0)
    assert bare.metrics["ndcg@3"].low is None
    assert values(bare) == values(done)


def test_rows_that_agree_have_an_interval_that_holds_their_value(task, examples):
    """Four times 1 / log2(3): the resampled means may round otherwise, the interval may not."""
    lists = [[0, 1], [0, 2], [0, 3], [0, 2]]
    metric = evaluate(Fixed(lists), task, examples, ks=(2,), **QUIET).metrics["ndcg@2"]
    assert metric.low <= metric.value <= metric.high
    assert metric.low == pytest.approx(metric.high)


def test_a_comparison_is_paired(task, examples):
    """A list that is one step better in every row is better beyond doubt."""
    better = evaluate(Fixed([[1], [2], [3], [2]]), task, examples, ks=(1, 2), **QUIET)
    worse = evaluate(Fixed([[0, 1], [0, 2], [0, 3], [0, 2]]), task, examples, ks=(1, 2), **QUIET)
    difference = compare(better, worse, "ndcg@2")
    expected = 1 - 1 / math.log2(3)
    assert (difference.value, difference.low, difference.high) == pytest.approx((expected,) * 3)


def of_users(examples, users):
    """The same rows, told by others."""
    return replace(examples, user=np.array(users))


def test_intervals_resample_users(task, examples):
    """Ranks 1, 2, 4, 1: user 5 hits at once in both rows, user 2 in none."""
    two = of_users(examples, [5, 2, 2, 5])
    done = evaluate(Fixed(LISTS), task, two, ks=(1,), progress=False)
    assert done.metrics["hit_rate@1"] == Metric(value=0.5, low=0.0, high=1.0)
    assert (done.num_users, done.num_resamples) == (2, 10_000)


def test_expected_metrics_resample_users_too(task, examples):
    """Their rows are drawn with those of all others."""
    known = np.array([[0.9, 0.1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0.9, 0.1, 0, 0]])
    done = evaluate(
        Fixed([[0], [0], [0], [0]]),
        task,
        of_users(examples, [5, 2, 2, 5]),
        ks=(1,),
        probabilities=lambda batch: known[batch.history[:, 0]],
        progress=False,
    )
    found = done.metrics["expected_hit_rate@1"]
    assert (found.value, found.low, found.high) == pytest.approx((0.45, 0, 0.9))


def test_a_comparison_resamples_users(task, examples):
    """One user gains in both rows, one in none: drawn twice, the second leaves no gain."""
    two = of_users(examples, [5, 2, 2, 5])
    better = evaluate(Fixed([[1], [0], [0], [2]]), task, two, ks=(1,), **QUIET)
    worse = evaluate(Fixed([[0], [0], [0], [0]]), task, two, ks=(1,), **QUIET)
    found = compare(better, worse, "hit_rate@1")
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)
    assert found.p_value == pytest.approx(0.5, abs=0.03)  # twice the quarter of such draws


def test_a_single_user_has_no_interval(task, examples):
    """The values stand; nothing says how they would be for others."""
    one = of_users(examples, [3, 3, 3, 3])
    done = evaluate(Fixed(LISTS), task, one, ks=(1, 3), **QUIET)
    many = evaluate(Fixed(LISTS), task, examples, ks=(1, 3), **QUIET)
    assert values(done) == values(many)
    assert {metric.low for metric in done.metrics.values()} == {None}
    assert (done.as_dict()["num_users"], done.as_dict()["interval"]) == (1, None)
    found = compare(done, done, "ndcg@3")
    assert (found.value, found.low, found.high, found.p_value) == (0, None, None, None)


def test_a_comparison_needs_the_same_examples(task, examples):
    """Other targets, other users, or a metric without rows, are refused."""
    a = evaluate(Fixed(LISTS), task, examples, ks=(1,), **QUIET)
    b = evaluate(Fixed(LISTS), task, examples.take(slice(3)), ks=(1,), **QUIET)
    with pytest.raises(ValueError, match="same examples"):
        compare(a, b, "ndcg@1")
    others = evaluate(Fixed(LISTS), task, of_users(examples, [0, 0, 1, 2]), ks=(1,), **QUIET)
    with pytest.raises(ValueError, match="same examples"):
        compare(a, others, "ndcg@1")
    with pytest.raises(ValueError, match="coverage@1"):
        compare(a, a, "coverage@1")


class Wrong:
    """Answers with whatever it was given."""

    def __init__(self, answer):
        self.answer = answer

    def recommend(self, examples, k):
        """Return it."""
        return self.answer


@pytest.mark.parametrize(
    "answer", [np.zeros((4, 2), int), np.zeros((3, 3), int), np.zeros((4, 3)), np.zeros(4, int)]
)
def test_an_answer_of_the_wrong_shape_or_type_is_an_error(task, examples, answer):
    """What cannot be scored is not scored; the error names the recommender and both shapes."""
    with pytest.raises(ValueError, match=r"Wrong.recommend .* \(4, 3\)"):
        evaluate(Wrong(answer), task, examples, ks=(3,), **QUIET)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"ks": ()}, "ks"), ({"ks": (0, 5)}, "ks"), ({"batch_size": 0}, "batch_size")],
)
def test_impossible_arguments_are_refused(task, examples, change, message):
    """Rule, value and remedy."""
    with pytest.raises(ValueError, match=message):
        evaluate(Fixed(LISTS), task, examples, **QUIET, **change)


def test_nothing_to_evaluate_is_an_error(task, examples):
    """An empty split has no score."""
    with pytest.raises(ValueError, match="empty"):
        evaluate(Fixed(LISTS), task, examples.take(slice(0)), **QUIET)


def test_the_progress_bar_changes_nothing(task, examples, capsys):
    """The bar is drawn on stderr only."""
    done = evaluate(Fixed(LISTS), task, examples, ks=(1,), num_resamples=50)
    assert done.metrics == evaluate(Fixed(LISTS), task, examples, ks=(1,), **QUIET).metrics
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "evaluate" in captured.err


def test_as_dict_is_what_result_json_holds(task, examples):
    """Metrics as {value, low, high}, rates as plain numbers."""
    done = evaluate(Fixed(LISTS), task, examples, ks=(1,), **QUIET)
    row = replace(done, illegal_rate=0.25).as_dict()
    assert row["ndcg@1"]["value"] == 0.5
    assert set(row["ndcg@1"]) == {"value", "low", "high"}
    assert (row["illegal_rate"], row["duplicate_rate"], row["num_examples"]) == (0.25, 0.0, 4)
    assert row["num_users"] == 4
    assert row["interval"] == {
        "method": "percentile bootstrap",
        "unit": "user",
        "num_resamples": 50,
        "level": 0.95,
    }


class Searching(Fixed):
    """Finds some lists, and knows better ones."""

    def exact(self):
        """Return the recommender that scores every title."""
        return Fixed(LISTS)


def test_exact_evaluation_ranks_by_all_scores(task, examples):
    """The lists of `exact()` are scored, not those that a search finds."""
    worst = [row[::-1] for row in LISTS]
    done = evaluate(Searching(worst), task, examples, ks=(1, 4), exact=True, **QUIET)
    assert done.titles.tolist() == LISTS
    assert evaluate(Searching(worst), task, examples, ks=(1, 4), **QUIET).titles.tolist() == worst


def test_only_what_scores_every_title_can_be_evaluated_exactly(task, examples):
    """The message names the recommender."""
    with pytest.raises(ValueError, match=r"`exact` needs a recommender .* a Fixed cannot"):
        evaluate(Fixed(LISTS), task, examples, ks=(1,), exact=True, **QUIET)
