import numpy as np
import pytest

from agents.baselines import CoOccurrence, Filtered, Popularity
from agents.baselines.popularity import interaction_counts
from agents.baselines.ranking import best_item_scores, top_titles
from agents.evaluation import evaluate
from rere_env import NO_TITLE, Task, load_task

TITLES = ["ant", "bee", "cat", "dog", "cat"]  # items 2 and 4 share the title 2


@pytest.fixture(scope="module")
def toy(dataset_of) -> Task:
    """User 0 bought 0 1 2 3, user 1 bought 0 1 4, user 2 bought 3 1."""
    rows = [
        ((0,), 1),
        ((0, 1), 2),
        ((0, 1, 2), 3),
        ((0,), 1),
        ((0, 1), 4),
        ((3,), 1),
    ]
    return Task.build(dataset_of(TITLES, rows, users=[0, 0, 0, 1, 1, 2]))


def test_every_purchase_is_counted_once(toy):
    """Targets, and of each user what came before the first: 9 purchases in all."""
    assert interaction_counts(toy.split("train"), 5).tolist() == [2, 3, 1, 2, 1]


def test_counting_needs_no_order_of_rows(toy):
    """The earliest example of a user is the one with the shortest history, wherever it stands."""
    shuffled = toy.split("train").take(np.array([2, 5, 4, 1, 3, 0]))
    assert interaction_counts(shuffled, 5).tolist() == [2, 3, 1, 2, 1]


def test_popularity_ranks_by_the_best_item(toy):
    """Bee 3, ant 2, dog 2 (equals by id), cat 1 (its best item, not the sum); then nothing."""
    titles = Popularity(toy, toy.split("train")).recommend(toy.split("test"), 6)
    assert titles.tolist() == [[1, 0, 3, 2, NO_TITLE, NO_TITLE]] * 6


def test_co_occurrence_counts_decayed_pairs(toy):
    """With decay 1/2, one direction, no damping, the scores can be written down."""
    co = CoOccurrence(toy, toy.split("train"), decay=0.5, backward=0.0, damping=0.0)
    rows = toy.split("test").take(np.array([1]))  # history 0, 1
    prior = np.array([2, 3, 1, 2, 1]) / 9
    after_0 = np.array([0, 2, 0.5, 0.25, 0.5])
    after_1 = np.array([0, 0, 1, 0.5, 1])
    assert co.item_scores(rows)[0] == pytest.approx(0.5 * after_0 + after_1 + prior)


def test_co_occurrence_counts_backward_and_damps(toy):
    """Backward pairs count by their weight; counts are divided by a power of both popularities."""
    co = CoOccurrence(toy, toy.split("train"), decay=0.5, backward=0.5, damping=0.5)
    rows = toy.split("test").take(np.array([5]))  # history 3
    prior = np.array([2, 3, 1, 2, 1]) / 9
    counts = np.array([0.5 * 0.25, 1 + 0.5 * 0.5, 0.5 * 1, 0, 0])
    damped = counts / np.sqrt([2 * 2, 2 * 3, 2 * 1, 1, 1])
    assert co.item_scores(rows)[0] == pytest.approx(damped + prior)


def test_what_never_co_occurred_is_ranked_by_popularity(dataset_of):
    """A history that says nothing falls back on the most sold titles."""
    rows = [((0,), 1), ((2,), 1), ((2,), 3)]
    task = Task.build(dataset_of(["ant", "bee", "cat", "dog", "eel"], rows))
    unknown = task.split("test").take(np.array([0]))
    unknown.history[0, 0] = 4
    titles = CoOccurrence(task, task.split("train")).recommend(unknown, 5)
    assert titles.tolist() == [[1, 2, 0, 3, 4]]


def test_an_excluded_history_is_never_recommended(toy):
    """A title is hidden if any of its items was seen, and padding takes its place at the end."""
    task = toy.with_exclude("history")
    rows = task.split("test").take(np.array([2, 5]))  # ant, bee, cat; and dog
    co = CoOccurrence(task, task.split("train")).recommend(rows, 4)
    assert co.tolist() == [[3, NO_TITLE, NO_TITLE, NO_TITLE], [1, 2, 0, NO_TITLE]]
    popular = Popularity(task, task.split("train")).recommend(rows, 4)
    assert popular.tolist() == [[3, NO_TITLE, NO_TITLE, NO_TITLE], [1, 0, 2, NO_TITLE]]


def test_a_recommender_that_knows_no_filter_is_filtered(toy):
    """`Filtered` asks for longer lists and keeps the order of what may be shown."""

    class Always:
        def recommend(self, examples, k):
            return np.tile(np.array([2, 0, 3, 1])[:k], (len(examples), 1))

    rows = toy.split("test").take(np.array([1]))  # history ant, bee
    assert Filtered(Always(), toy).recommend(rows, 2).tolist() == [[2, 0]]
    hiding = Filtered(Always(), toy.with_exclude("history"))
    assert hiding.recommend(rows, 2).tolist() == [[2, 3]]


def test_lists_hold_every_title_once(toy):
    """A list as long as the catalogue is a permutation of it."""
    for make in (Popularity, CoOccurrence):
        titles = make(toy, toy.split("train")).recommend(toy.split("test"), 4)
        assert np.sort(titles, axis=1).tolist() == [[0, 1, 2, 3]] * 6


def test_scoring_in_blocks_changes_nothing(toy, monkeypatch):
    """The memory bound is no part of the result."""
    co = CoOccurrence(toy, toy.split("train"))
    whole = co.recommend(toy.split("test"), 4)
    monkeypatch.setattr("agents.baselines.co_occurrence.MAX_SCORES", 10)
    assert (co.recommend(toy.split("test"), 4) == whole).all()


def test_top_titles_equals_a_sort():
    """Partial sorting gives what sorting everything by (score, id) gives, ties and all."""
    scores = np.random.default_rng(0).integers(5, size=(50, 12)).astype(float)
    for k in (1, 5, 12):
        slow = [sorted(range(12), key=lambda t: (-row[t], t))[:k] for row in scores]
        assert top_titles(scores, k).tolist() == slow


def test_a_title_is_as_good_as_its_best_item():
    """Titles of several items take the largest score."""
    best = best_item_scores(np.array([[0.1, 0.9, 0.4, 0.5]]), np.array([0, 1, 0, 2]))
    assert best.tolist() == [[0.4, 0.9, 0.5]]


@pytest.mark.parametrize("settings", [{"decay": 0.0}, {"decay": 1.5}, {"backward": -1.0}])
def test_impossible_settings_are_refused(toy, settings):
    """The error names the setting and its value."""
    with pytest.raises(ValueError, match=next(iter(settings))):
        CoOccurrence(toy, toy.split("train"), **settings)


@pytest.mark.parametrize(
    ("split", "hit_rate", "ndcg"), [("train", 0.085, 0.065), ("train_plus", 0.104, 0.076)]
)
def test_co_occurrence_reaches_the_known_level_on_real_data(shared_data, split, hit_rate, ndcg):
    """An untuned co-occurrence is known to reach these figures on the industrial test rows."""
    task = load_task(shared_data / "industrial")
    scores = {
        name: evaluate(
            make(task, task.split(split)), task, task.split("test"), progress=False, num_resamples=0
        ).metrics
        for name, make in (("popularity", Popularity), ("co_occurrence", CoOccurrence))
    }
    assert scores["popularity"]["hit_rate@10"].value == pytest.approx(0.063, abs=0.004)
    assert scores["co_occurrence"]["hit_rate@10"].value >= hit_rate
    assert scores["co_occurrence"]["ndcg@10"].value >= ndcg
