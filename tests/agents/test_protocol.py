"""Who may read which split, and when: no answer of the test split is read before the last step.

Every split has targets of its own, so that whatever learns from a wrong one is seen to.
"""

import json
import subprocess
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from agents import registry
from agents.comparison import cell, run
from agents.comparison.cell import Plan, cell_file, run_cell
from agents.comparison.run import run_cells
from agents.experiment import agent, policy
from agents.registry import register_algorithm
from agents.runs.config import TrainConfig
from rere_env import Batch, Dataset
from rere_env.types import NO_ITEM, NO_TITLE, Example

NUM_TITLES = 12
"""Of each split."""

NUM_ROWS = 130
"""Of each split; more than any round number that a mutant would cut them at."""

NUM_USERS = 5
"""Few, so that targets are most of what is counted: a history counts once a user."""

SPLITS = ("train", "valid", "test", "other")


class Sealed(Batch):
    """Examples whose answers must not be read before `open` says so; histories may be."""

    __slots__ = ("_is_open", "_name", "_source")

    def __init__(self, source, name, is_open):
        """Seal a split."""
        for key, value in (("_source", source), ("_name", name), ("_is_open", is_open)):
            object.__setattr__(self, key, value)

    user = property(lambda self: self._source.user)
    history = property(lambda self: self._source.history)
    target = property(lambda self: self._answers().target)
    target_title = property(lambda self: self._answers().target_title)

    def _answers(self):
        if not self._is_open():
            pytest.fail(f"the answers of {self._name!r} were read too early")
        return self._source

    def __len__(self):
        return len(self._source)

    def __getitem__(self, row):
        if self._is_open():
            return self._source[row]
        history = self._source[row].history
        return Example(user=row, history=history, target=NO_ITEM, target_title=NO_TITLE)


def block(split):
    """The titles that are targets of a split; each has one item, of the same id."""
    first = SPLITS.index(split) * NUM_TITLES
    return range(first, first + NUM_TITLES)


@pytest.fixture
def dataset(dataset_of) -> Dataset:
    """Four splits of 130 rows with disjoint targets; all histories are of training items."""
    titles = [f"{word} {n}" for word in ("red", "blue", "green", "dark") for n in range(NUM_TITLES)]
    rng = np.random.default_rng(0)
    splits = {}
    for split in SPLITS:
        rows = [
            (tuple(rng.choice(NUM_TITLES, 3, replace=False).tolist()), block(split)[n % NUM_TITLES])
            for n in range(NUM_ROWS)
        ]
        made = dataset_of(titles, rows, [n % NUM_USERS for n in range(NUM_ROWS)])
        splits[split] = made.splits["train"]
    return replace(made, splits=splits)


@pytest.fixture
def sealed(dataset):
    """The same, whose test split opens when `opened` is set; others may be closed for good."""

    def make(*names):
        state = SimpleNamespace(opened=False)
        closed = {name: Sealed(dataset.splits[name], name, lambda: False) for name in names}
        closed["test"] = Sealed(dataset.splits["test"], "test", lambda: state.opened)
        state.dataset = replace(dataset, splits={**dataset.splits, **closed})
        return state

    return make


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Run the main job on a data set whose test split opens at `finish`; return result.json."""

    def call(state, **config):
        for module in (policy, agent):
            finish = module.finish

            def open_and_finish(*args, finish=finish, **kwargs):
                state.opened = True
                finish(*args, **kwargs)

            monkeypatch.setattr(module, "finish", open_and_finish)
        monkeypatch.setattr(policy, "load_data", lambda *_: state.dataset)
        path = policy.train(TrainConfig(data="tiny", device="cpu", **config), tmp_path, "run")
        assert state.opened
        return json.loads((path / "result.json").read_text(encoding="utf-8"))

    return call


SHORT = {"model": "scratch:nano", "sft_epochs": 1, "rl_steps": 1, "group_size": 4}


def test_a_policy_reads_the_test_split_last_and_whole(sealed, train):
    """Selection by validation, counts by training, scores by all of the test rows."""
    result = train(sealed(), **SHORT)
    for name in ("popularity", "co_occurrence"):
        assert result["recommenders"][name]["hit_rate@10"]["value"] == 0
    assert {done["num_examples"] for done in result["recommenders"].values()} == {NUM_ROWS}


def test_a_policy_learns_from_the_split_that_was_asked_for(sealed, train):
    """`train` is never touched, by no stage and by no baseline."""
    result = train(sealed("train"), train_split="other", **SHORT)
    assert result["recommenders"]["rere"]["num_examples"] == NUM_ROWS


class Looks:
    """An agent that remembers what it was given, and recommends what its seed says."""

    seen: ClassVar[list] = []

    def train(self, task, budget, *, seed):
        """Look at the training examples."""
        self.seen.append((seed, set(task.split("train").target_title.tolist())))
        return Shuffled(seed)


class Shuffled:
    """Random titles."""

    def __init__(self, seed):
        """Of this seed."""
        self._rng = np.random.default_rng(seed)

    def recommend(self, examples, k):
        """The same permutation for everybody."""
        order = np.full(max(k, NUM_TITLES * len(SPLITS)), NO_TITLE)
        order[: NUM_TITLES * len(SPLITS)] = self._rng.permutation(NUM_TITLES * len(SPLITS))
        return np.repeat(order[None, :k], len(examples), axis=0)


@pytest.fixture
def looks(monkeypatch):
    """An agent by the name of `looks`; what it has seen."""
    monkeypatch.setattr(registry, "_REGISTERED", {})
    monkeypatch.setattr(Looks, "seen", [])
    monkeypatch.setattr(registry, "_import", lambda entry: Looks)
    register_algorithm("looks", summary="for these tests")(Looks)
    return Looks.seen


@pytest.mark.parametrize("split", ["train", "other"])
def test_an_agent_learns_from_the_split_that_was_asked_for(sealed, train, looks, split):
    """And its test rows are all of them, opened last."""
    closed = {"train": "other", "other": "train"}[split]
    result = train(sealed(closed), algorithm="looks", train_split=split, train_steps=1, seed=5)
    assert looks == [(5, set(block(split)))]
    assert result["recommenders"]["popularity"]["hit_rate@10"]["value"] == 0
    assert result["recommenders"]["looks"]["num_examples"] == NUM_ROWS


@pytest.fixture
def start(dataset, tmp_path):
    """An untrained policy as the folder that a comparison starts from."""
    folder = tmp_path / "start"
    policy.load_backbone("scratch:nano", dataset.catalogue.titles).save(folder)
    return str(folder)


@pytest.fixture
def compare_cell(monkeypatch, start, tmp_path):
    """Run one cell on a data set whose test split opens at its evaluation; return its rows."""

    def call(state, algorithm, seed, **plan):
        evaluate_row = cell.evaluate_row

        def open_and_evaluate(*args):
            state.opened = True
            return evaluate_row(*args)

        folder = tmp_path / "cells"
        with monkeypatch.context() as patch:
            patch.setattr(cell, "evaluate_row", open_and_evaluate)
            patch.setattr(cell, "load_data", lambda *_: state.dataset)
            run_cell(Plan(start=start, data="tiny", seconds=0.2, **plan), algorithm, seed, folder)
        return np.load(cell_file(folder, algorithm, seed).with_suffix(".npz"))

    return call


def test_a_cell_reads_the_test_split_last_and_whole(sealed, compare_cell):
    """A policy of `rere compare` is chosen by validation rows."""
    rows = compare_cell(sealed(), "rere", 0, group_size=4, prompts_per_step=4, learning_rate=1e-2)
    assert set(rows["target_title"].tolist()) == set(block("test"))
    assert len(rows["target_title"]) == NUM_ROWS


def test_the_seed_of_a_cell_reaches_its_algorithm(sealed, compare_cell, looks):
    """Another seed, another result."""
    found = [compare_cell(sealed(), "looks", seed)["ndcg@10"].tolist() for seed in (3, 4)]
    assert [seed for seed, _ in looks] == [3, 4]
    assert found[0] != found[1]


def test_every_seed_is_a_process_of_its_own(monkeypatch, start, dataset, tmp_path):
    """Seeds 0, 1 and 2 are on the command lines, once each."""
    seeds = []

    def pretend(command, **_):
        if "agents.comparison.cell" in command:
            seeds.append(command[-2])
        return SimpleNamespace(returncode=0, stdout="")

    monkeypatch.setattr(run, "load_data", lambda *_: dataset)
    monkeypatch.setattr(subprocess, "run", pretend)
    run_cells(Plan(start=start, data="tiny"), ["rere"], 3, tmp_path / "cells", 1)
    assert sorted(seeds) == ["0", "1", "2"]


def test_the_baselines_of_a_comparison_count_the_training_split(
    start, dataset, tmp_path, monkeypatch
):
    """They never see a target of the test split."""
    monkeypatch.setattr(run, "load_data", lambda *_: dataset)
    run_cells(Plan(start=start, data="tiny"), [], 0, tmp_path / "cells", 1)
    for name in ("popularity", "co_occurrence"):
        rows = np.load(tmp_path / "cells" / f"{name}.npz")
        assert rows["hit_rate@10"].tolist() == [0] * NUM_ROWS
