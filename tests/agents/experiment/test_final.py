"""The end of a run: who is scored, and what is written."""

import json
from dataclasses import replace

import numpy as np
import pytest

from agents.baselines import Popularity
from agents.comparison.cell import Plan, evaluate_row
from agents.experiment.final import finish
from agents.runs.config import TrainConfig
from agents.runs.folder import Progress, RunFolder, Stage
from rere_env.data import games_dataset
from rere_env.worlds import noisy_successor


class Uniform:
    """An oracle of a world in which everything is as likely as anything."""

    def __init__(self, num_titles):
        """Of so many titles."""
        self.num_titles = num_titles

    def recommend(self, examples, k):
        """The first k titles."""
        titles = np.full((len(examples), k), -1)
        titles[:, : self.num_titles] = np.arange(min(k, self.num_titles))
        return titles

    def probabilities(self, examples):
        """Equal ones."""
        return np.full((len(examples), self.num_titles), 1 / self.num_titles)


@pytest.fixture
def task():
    """A second world whose law is known."""
    task = noisy_successor().task
    return replace(task, dataset=replace(task.dataset, oracle=Uniform(task.catalogue.num_titles)))


def test_the_law_of_any_world_is_the_bound_of_its_results(task, tmp_path):
    """What is asked is whether a law is known, not whose data it is."""
    run = RunFolder.create(tmp_path, "run", {})
    finish(
        run,
        task,
        {},
        train_examples=task.split("train"),
        config=TrainConfig(data="some folder"),
        progress=Progress(stage=Stage.DONE),
        num_truncated={},
    )
    result = json.loads(run.result.read_text(encoding="utf-8"))
    assert list(result["recommenders"]) == ["popularity", "co_occurrence", "oracle"]
    hit_rate = result["recommenders"]["oracle"]["expected_hit_rate@3"]["value"]
    assert hit_rate == pytest.approx(3 / task.catalogue.num_titles)


def test_a_comparison_knows_it_too(task):
    """Expected metrics come with the data set, whatever the plan calls it."""
    popularity = Popularity(task, task.split("train"))
    done = evaluate_row(popularity, task, Plan(start="", data="some folder"))
    assert done.metrics["expected_hit_rate@10"].value == pytest.approx(10 / 12)


def test_the_built_in_world_is_known():
    """Its oracle ranks by the law; nobody knows that of a folder."""
    dataset = games_dataset()
    rows = dataset.splits["test"].take(slice(3))
    np.testing.assert_allclose(dataset.oracle.probabilities(rows).sum(axis=1), 1)
    assert noisy_successor().task.dataset.oracle is None
