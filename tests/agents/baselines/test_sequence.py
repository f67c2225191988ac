"""Sequence models: what they are trained on, what they learn, what they give back."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.baselines.gru4rec import GRU4Rec
from agents.baselines.sasrec import SASRec
from agents.baselines.sequence import FitSettings, sequences
from agents.budget import Budget
from agents.evaluation import evaluate
from rere_env import NO_ITEM, NO_TITLE, Batch, Task
from rere_env.worlds import copy_last, successor

QUICK = FitSettings(epochs=20, batch_size=32, learning_rate=1e-2)
TITLES = ["ant", "bee", "cat", "dog", "cat"]  # items 2 and 4 share the title 2


@pytest.fixture(scope="module")
def toy(dataset_of) -> Task:
    """User 0 bought 0 1 2 3; user 1 bought 0 1 and, in a window that slid, 1 4 0."""
    rows = [((0,), 1), ((0, 1), 2), ((0, 1, 2), 3), ((0,), 1), ((1, 4), 0)]
    return Task.build(dataset_of(TITLES, rows, users=[0, 0, 0, 1, 1]))


@pytest.fixture(scope="module")
def small() -> SASRec:
    """A trained model of the successor world."""
    task = successor().task
    model = SASRec(task, hidden_size=16, num_layers=1, dropout=0.0)
    rows = task.split("train")
    return model.fit(rows, rows, settings=QUICK, progress=False)


def test_growing_histories_are_one_sequence(toy):
    """Ant bee cat dog is read once with three targets; other users and slid windows stay apart."""
    found = sequences(toy, toy.split("train"))
    assert found.titles.tolist() == [[1, 2, 3], [1, 0, 0], [2, 3, 0]]
    assert found.targets.tolist() == [[1, 2, 3], [1, 0, 0], [0, 0, 0]]
    assert found.weights.tolist() == [[1, 1, 1], [1, 0, 0], [0, 1, 0]]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),  # user
            st.lists(st.integers(0, 2), min_size=1, max_size=3),  # history
            st.integers(0, 2),  # target
        ),
        min_size=1,
        max_size=12,
    )
)
def test_sequences_ask_exactly_what_the_examples_ask(toy, rows):
    """(history, target) pairs with their numbers are those of the rows, in any order."""
    history = np.full((len(rows), 3), NO_ITEM, np.int32)
    for row, (_, items, _) in enumerate(rows):
        history[row, : len(items)] = items
    target = np.array([target for _, _, target in rows])
    batch = Batch(
        user=np.array([user for user, _, _ in rows]),
        history=history,
        target=target,
        target_title=toy.catalogue.item_title[target],
    )
    found = sequences(toy, batch)
    asked = [
        (tuple(found.titles[s, : h + 1] - 1), int(found.targets[s, h]))
        for s, h in np.argwhere(found.weights > 0)
        for _ in range(int(found.weights[s, h]))
    ]
    assert sorted(asked) == sorted((tuple(items), target) for _, items, target in rows)


@pytest.mark.parametrize("model_class", [SASRec, GRU4Rec])
@pytest.mark.parametrize("world", [copy_last, successor])
def test_a_model_learns_what_follows(world, model_class):
    """On a world without noise every target is found first."""
    task = world().task
    rows = task.split("train")
    model = model_class(task, hidden_size=32, num_layers=1, dropout=0.2).fit(
        rows, rows, settings=QUICK, progress=False
    )
    done = evaluate(model, task, rows, ks=(1,), progress=False, num_resamples=0)
    assert done.metrics["hit_rate@1"].value == 1


def test_a_score_depends_on_the_history_alone(small):
    """Scores of a row are the same alone, in a batch and under wider padding."""
    rows = small.task.split("test")
    scores = small.scores(rows)
    assert scores.shape == (len(rows), 12)
    assert scores.dtype == np.float32
    one = rows.take(np.array([17]))
    padded = np.pad(one.history, ((0, 0), (0, 2)), constant_values=NO_ITEM)
    wide = Batch(user=one.user, history=padded, target=one.target, target_title=one.target_title)
    np.testing.assert_allclose(small.scores(one)[0], scores[17], atol=1e-5)
    np.testing.assert_allclose(small.scores(wide)[0], scores[17], atol=1e-5)


def test_later_places_are_not_seen(small):
    """The state after a place is that of the history that ends there."""
    titles = torch.tensor([[3, 7, 5]])
    with torch.no_grad():
        whole, part = small(titles), small(torch.tensor([[3, 7, 0]]))
    np.testing.assert_allclose(whole[0, :2], part[0, :2], atol=1e-6)


def test_recommendations_are_ordered_by_score(small):
    """Lists hold every title once, best first, and padding beyond the catalogue."""
    rows = small.task.split("test").take(np.arange(5))
    titles = small.recommend(rows, 13)
    assert np.sort(titles, axis=1).tolist() == [[NO_TITLE, *range(12)]] * 5
    ranked = np.take_along_axis(small.scores(rows), titles[:, :12], axis=1)
    assert (np.diff(ranked, axis=1) <= 0).all()


def test_the_filter_is_kept(small, tmp_path):
    """A title of the history is never recommended where the task hides it."""
    small.save(tmp_path / "model")
    hiding = SASRec.load(tmp_path / "model", small.task.with_exclude("history"))
    rows = hiding.task.split("test")
    shown = hiding.recommend(rows, 12)
    had = hiding.task.catalogue.item_title[rows.history]
    assert not (shown[:, :, None] == had[:, None, :]).any()


def test_a_model_survives_its_folder(small, tmp_path):
    """What is loaded scores what was saved, bit for bit; nothing is pickled."""
    small.save(tmp_path / "model")
    again = SASRec.load(tmp_path / "model", small.task)
    rows = small.task.split("test")
    np.testing.assert_array_equal(again.scores(rows), small.scores(rows))
    names = {file.name for file in (tmp_path / "model").iterdir()}
    assert names == {"manifest.json", "model.json", "model.safetensors"}


def test_training_repeats(small):
    """The same seed gives the same weights, whatever was drawn before; another seed others."""
    torch.rand(3)
    task, rows = small.task, small.task.split("train")
    two = FitSettings(epochs=2, batch_size=32)
    made = [
        SASRec(task, hidden_size=16, seed=seed)
        .fit(rows, rows, seed=seed, settings=two, progress=False)
        .scores(rows)
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def test_a_budget_ends_training(toy):
    """After one optimiser step nothing more is learnt."""
    rows = toy.split("train")
    single = FitSettings(epochs=5, batch_size=1)
    model = SASRec(toy, hidden_size=16).fit(
        rows, rows, settings=single, budget=Budget(steps=1), progress=False
    )
    assert model.num_steps == 1


def test_an_empty_history_is_answered(small):
    """Nothing known: a list all the same, led by what was bought most."""
    rows = small.task.split("test").take(np.array([0]))
    nothing = Batch(
        user=rows.user,
        history=np.full_like(rows.history, NO_ITEM),
        target=rows.target,
        target_title=rows.target_title,
    )
    assert len(set(small.recommend(nothing, 12)[0].tolist())) == 12


def test_what_cannot_be_is_named(small, toy, tmp_path):
    """Rule, value and remedy of each wrong use."""
    none = toy.split("train").take(np.array([], np.int64))
    with pytest.raises(ValueError, match="got 0"):
        SASRec(toy).fit(none, toy.split("valid"))
    with pytest.raises(ValueError, match=r"`hidden_size` \(=5\) must be a multiple"):
        SASRec(toy, hidden_size=5)
    with pytest.raises(FileNotFoundError, match=r"model\.json is missing"):
        SASRec.load(tmp_path, toy)
    small.save(tmp_path / "model")
    with pytest.raises(ValueError, match="ranks another catalogue"):
        SASRec.load(tmp_path / "model", toy)
    form = tmp_path / "model" / "model.json"
    form.write_text(form.read_text().replace('"SASRec"', '"Other"'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"load it with Other\.load"):
        SASRec.load(tmp_path / "model", small.task)
    assert json.loads(form.read_text(encoding="utf-8"))["model"] == "Other"
