"""The conformance check of algorithms: what is right passes, and each broken rule is named."""

import random

import numpy as np
import pytest
import torch

from agents.budget import Budget
from agents.testing import algorithms as testing
from agents.testing import check_algorithm
from rere_env import NO_TITLE, ReReVectorEnv
from rere_env.worlds import copy_last, fifty_items

ROWS = 16


class LuckyTitles:
    """Acts by chance within its budget; recommends what has hit, most often first."""

    def train(self, task, budget, *, seed):
        """Count the hits of random titles by the last title of the history."""
        rng, meter, steps = self.generator(seed), budget.start(), 0
        size = task.catalogue.num_titles
        hits = np.zeros((size, size))
        env = ReReVectorEnv(ROWS, task, slate_size=1, mask="lazy", autoreset_mode="SameStep")
        observation, _ = env.reset(seed=seed)
        while not self.over(meter, steps):
            last = observation["history"][:, -1] - 1
            observation, _, _, _, infos = env.step(env.candidates().sample(rng))
            steps += ROWS
            final = infos.get("final_info", {"target_rank": np.zeros(ROWS, int)})
            hit = np.flatnonzero(final["target_rank"])
            np.add.at(hits, (last[hit], final["target"][hit] if len(hit) else hit), 1)
        return Table(task, hits)

    def generator(self, seed):
        """Return the source of all chance."""
        return np.random.default_rng(seed)

    def over(self, meter, steps):
        """Say when to stop."""
        return meter.over(steps)


class Table:
    def __init__(self, task, hits):
        self.task, self.hits = task, hits

    def recommend(self, examples, k):
        """Return the titles that hit most often, equals by id."""
        order = np.argsort(-self.hits, axis=1, kind="stable")
        titles = np.full((len(examples), k), NO_TITLE)
        titles[:, : order.shape[1]] = order[examples.history[:, -1], :k]
        return titles


def test_a_good_algorithm_passes():
    """As an object or by its name, on another task, under a larger budget."""
    check_algorithm(LuckyTitles(), seconds=0.1)
    check_algorithm(LuckyTitles(), fifty_items().task, budget=Budget(steps=4096), seconds=0.1)


def test_an_algorithm_is_found_by_its_name():
    """`module:name` is what `--algorithm` takes."""
    check_algorithm(f"{LuckyTitles.__module__}:LuckyTitles", seconds=0.1)


class SeesGlobals(LuckyTitles):
    """Draws from a global generator."""

    def __init__(self, draw):
        self.draw = draw

    def generator(self, seed):
        """Return what the global generator says."""
        return np.random.default_rng(int(self.draw() * 1000))


@pytest.mark.parametrize(
    "draw",
    [random.random, lambda: np.random.random(), lambda: torch.rand(()).item()],  # noqa: NPY002
    ids=["random", "numpy", "torch"],
)
def test_global_generators_are_not_a_seed(draw):
    """Whoever draws from one of them does not learn the same again."""
    with pytest.raises(AssertionError, match="must learn the same from the same seed"):
        check_algorithm(SeesGlobals(draw), budget=Budget(steps=128))


def test_global_generators_are_left_as_they_were():
    """Whatever the check does to them, the caller's go on."""

    def drawn():
        python, numpy, torchs = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
        return python, numpy[1].tolist(), torchs.tolist()

    before = drawn()
    check_algorithm(LuckyTitles(), seconds=0.1)
    assert drawn() == before


class Overspends(LuckyTitles):
    """Trains for as long as it likes."""

    def __init__(self, *, steps=0, seconds=0.0):
        self.steps, self.seconds = steps, seconds

    def over(self, meter, steps):
        """Go on beyond the budget of steps, or of seconds."""
        if meter.budget.steps is None:
            return meter.seconds >= self.seconds
        return steps >= self.steps


def test_a_budget_of_steps_is_kept():
    """Scored slates give away whoever goes on."""
    with pytest.raises(AssertionError, match=r"budget of 64 steps, but \d+ slates were scored"):
        check_algorithm(Overspends(steps=8000), budget=Budget(steps=64), seconds=0.1)


def test_a_budget_of_seconds_is_kept(monkeypatch):
    """Processor time gives away whoever goes on."""
    monkeypatch.setattr(testing, "SLACK_SECONDS", 0.1)
    with pytest.raises(AssertionError, match=r"budget of 0\.1 s, but took 0\.\d s"):
        check_algorithm(Overspends(steps=64, seconds=0.4), seconds=0.1)


class Spoils(LuckyTitles):
    def train(self, task, budget, *, seed):
        """Write into the examples."""
        task.split("train").target[0] += 1
        return super().train(task, budget, seed=seed)


def test_the_task_is_left_as_it_is():
    """What was changed is named."""
    with pytest.raises(AssertionError, match='has changed `target` of split\\("train"\\)'):
        check_algorithm(Spoils(), copy_last().task, seconds=0.1)


class Peeks(LuckyTitles):
    def train(self, task, budget, *, seed):
        """Look at the answers."""
        task.split("test")
        return super().train(task, budget, seed=seed)


def test_the_split_of_the_questions_is_out_of_reach():
    """The task of the training lacks it."""
    with pytest.raises(ValueError, match=r"`split` \(='test'\) must be one of"):
        check_algorithm(Peeks(), seconds=0.1)


class Repeats(LuckyTitles):
    def train(self, task, budget, *, seed):
        """Return a recommender of one title."""
        table = super().train(task, budget, seed=seed)
        table.recommend = lambda examples, k: np.zeros((len(examples), k), int)
        return table


def test_what_it_returns_is_checked_too():
    """A bad list is an error of the recommender's check."""
    with pytest.raises(AssertionError, match="distinct titles in each list"):
        check_algorithm(Repeats(), seconds=0.1)


@pytest.mark.parametrize("made", [LuckyTitles, object(), "collections:Counter"])
def test_what_cannot_train_is_no_algorithm(made):
    """A class is not an object, and a counter cannot train."""
    with pytest.raises(TypeError, match=r"`train\(task, budget, \*, seed\)`"):
        check_algorithm(made)


def test_equal_runs_need_a_budget_of_steps():
    """A budget of seconds would end them at different steps."""
    with pytest.raises(ValueError, match="must be of `steps` alone"):
        check_algorithm(LuckyTitles(), budget=Budget(seconds=1.0))
