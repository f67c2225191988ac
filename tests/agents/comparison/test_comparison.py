"""A comparison from cells to table, on numbers made by hand and for real in small."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from agents.baselines import Popularity
from agents.cli import main
from agents.comparison.cell import Plan, evaluate_row, run_cell, write_row
from agents.comparison.run import run_cells
from agents.comparison.table import collect, markdown
from agents.files import write_json
from agents.training.budgeted import PolicyAlgorithm
from agents.training.validation import validation_rows
from rere_env.data.known import load_data
from rere_env.worlds import noisy_successor


class Done:
    """What an evaluation hands over."""

    illegal_rate = duplicate_rate = 0.0

    def __init__(self, ndcg, targets=(0, 1, 2, 3), users=(7, 7, 7, 9)):
        """Values by example."""
        self.rows = {"ndcg@10": np.array(ndcg, float)}
        self.target_title = np.array(targets)
        self.user = np.array(users)


def cell(kind="policy"):
    """What is known of a cell."""
    return {"algorithm": {"kind": kind, "paper": "p"}, "seconds": {}}


PLAN = {"seconds": 9.0, "data": "games", "split": "valid", "learning_rate": 2e-5}


@pytest.fixture
def folder(tmp_path):
    """Two seeds of one algorithm, one of an agent, SFT and the oracle."""
    write_json(tmp_path / "plan.json", PLAN)
    write_row(tmp_path, "sft", None, Done([0.1, 0.2, 0.3, 0.4]), {})
    write_row(tmp_path, "oracle", None, Done([0.5, 0.5, 0.5, 0.5]), {})
    write_row(tmp_path, "rere", 0, Done([0.2, 0.3, 0.4, 0.5]), cell())
    write_row(tmp_path, "rere", 1, Done([0.3, 0.4, 0.5, 0.6]), cell())
    write_row(tmp_path, "mine:my-agent", 0, Done([0.0, 0.0, 0.0, 0.2]), cell("agent"))
    return tmp_path


def test_rows_are_means_over_seeds_best_first(folder):
    """By hand: .35 and .45 for rere, .25 for SFT, .5 for the oracle."""
    rows = collect(folder)["rows"]
    assert list(rows) == ["oracle", "rere", "sft", "my-agent"]
    assert rows["rere"]["metrics"]["ndcg@10"] == pytest.approx(
        {"mean": 0.4, "low": 0.35, "high": 0.45}
    )
    assert rows["rere"]["num_seeds"] == 2
    assert rows["rere"]["minus_sft"]["value"] == pytest.approx(0.15)
    assert rows["rere"]["minus_sft"]["low"] == pytest.approx(0.15)  # the same in every example
    assert rows["rere"]["share_of_oracle"] == pytest.approx(0.8)
    assert rows["my-agent"]["from_nothing"]
    assert "minus_sft" not in rows["sft"]


def test_differences_resample_users(folder):
    """My agent is .1, .2 and .3 below for one user and .2 for the other: both .2 in the mean."""
    result = collect(folder)
    assert (result["num_examples"], result["num_users"]) == (4, 2)
    interval = result["difference_statistics"]["interval"]
    assert (interval["unit"], interval["num_resamples"]) == ("user", 10_000)
    found = result["rows"]["my-agent"]["minus_sft"]
    assert (found["low"], found["high"]) == pytest.approx((-0.2, -0.2))


def test_holm_corrects_for_all_rows_of_the_table(folder):
    """Three differences, each as sure as 10,000 draws can say: 3 x 2 / 10,001."""
    rows = collect(folder)["rows"]
    found = [rows[name]["minus_sft"] for name in ("oracle", "rere", "my-agent")]
    assert [row["p_value"] for row in found] == pytest.approx([2 / 10_001] * 3)
    assert [row["p_value_holm"] for row in found] == pytest.approx([6 / 10_001] * 3)


def test_a_single_user_has_no_interval(tmp_path):
    """The difference stands alone, in JSON and in the table."""
    write_json(tmp_path / "plan.json", PLAN)
    write_row(tmp_path, "sft", None, Done([0.1] * 4, users=[1] * 4), {})
    write_row(tmp_path, "rere", 0, Done([0.3] * 4, users=[1] * 4), cell())
    result = collect(tmp_path)
    found = result["rows"]["rere"]["minus_sft"]
    assert [found[key] for key in ("low", "high", "p_value", "p_value_holm")] == [None] * 4
    assert "| rere | 1 | 0.3000 | +0.2000 |  |  |" in markdown(result, "rere compare")


def test_cells_without_users_have_to_be_run_again(folder):
    """Those of older versions; the message names file and remedy."""
    with np.load(folder / "rere-1.npz") as rows:
        old = {name: rows[name] for name in rows.files if name != "user"}
    np.savez_compressed(folder / "rere-1.npz", **old)
    with pytest.raises(ValueError, match=r"rere-1\.npz must name the user .* new folder"):
        collect(folder)


def test_the_table_says_what_it_is(folder):
    """Command, time, marks and intervals."""
    text = markdown(collect(folder), "rere compare")
    assert "`rere compare`" in text
    assert "9 seconds of one core each, valid split of `games`" in text
    assert "learning rate of 2e-05" in text
    assert "| my-agent* | 1 |" in text
    assert "over 4 rows of 2 users" in text
    assert "bootstrap over users (10,000 resamples)" in text
    row = "| rere | 2 | 0.4000 (0.3500-0.4500) | +0.1500 (+0.1500, +0.1500) | 0.0006 | 80.0% |"
    assert row in text


def test_other_examples_are_no_comparison(folder):
    """A cell of another test split, or of other users, is named."""
    for others in ({"targets": (3, 2, 1, 0)}, {"users": (7, 7, 9, 9)}):
        write_row(folder, "gspo", 0, Done([0.1] * 4, **others), cell())
        with pytest.raises(ValueError, match="gspo was evaluated on other examples"):
            collect(folder)


def test_another_plan_needs_another_folder(folder):
    """Cells of different budgets do not mix."""
    with pytest.raises(ValueError, match="another plan"):
        run_cells(Plan(start="x"), ["rere"], 1, folder, 1)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_plan_says_which_rows_are_evaluated(split):
    """The first five of its split."""
    task = noisy_successor().task
    train = task.split("train")
    splits = {"train": train, "valid": train.take(slice(60)), "test": train.take(slice(-60, None))}
    task = replace(task, dataset=replace(task.dataset, splits=splits))
    assert splits["valid"].target_title[:5].tolist() != splits["test"].target_title[:5].tolist()
    plan = Plan(start="", data="a folder", split=split, test_rows=5)
    done = evaluate_row(Popularity(task, task.split("train")), task, plan)
    assert done.target_title.tolist() == task.split(split).target_title[:5].tolist()


def test_a_rate_of_nothing_is_an_error():
    """It would train nothing, for as long as it takes."""
    with pytest.raises(ValueError, match="learning_rate"):
        Plan(start="", learning_rate=0.0)


def test_unknown_algorithms_fail_before_anything_runs(tmp_path):
    """Nothing is written."""
    with pytest.raises(ValueError, match="nothing"):
        run_cells(Plan(start="x"), ["nothing"], 1, tmp_path / "new", 1)
    assert not (tmp_path / "new").exists()


def test_names_and_seeds_come_from_what_a_cell_says(folder):
    """Not from what its file is called."""
    before = collect(folder)
    for suffix in (".json", ".npz"):
        (folder / f"rere-1{suffix}").rename(folder / f"a-copy{suffix}")
    assert collect(folder) == before
    assert before["rows"]["my-agent"]["name"] == "mine:my-agent"


def test_a_cell_that_is_nobodys_is_refused(folder):
    """An older version wrote no name."""
    write_json(folder / "rere-0.json", {"metrics": {}})
    with pytest.raises(ValueError, match=r"rere-0\.json must say by `name` whose cell it is"):
        collect(folder)


OWN = '''
class Algo:
    """Learns nothing."""

    def train(self, task, budget, *, seed): ...


class sft(Algo):
    """Is called what a row is called already."""
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Two modules that hold the same names."""
    for name in ("own_a", "own_b"):
        (tmp_path / f"{name}.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "cells"


@pytest.mark.parametrize(
    "algorithms",
    [["own_a:Algo", "own_b:Algo"], ["own_a:Algo", "own_a:Algo"], ["rere", "own_a:sft"]],
)
def test_two_of_one_name_are_refused_before_anything_runs(own, algorithms):
    """They would share their files, and the second would count as done."""
    with pytest.raises(ValueError, match="must have names that differ without their modules"):
        run_cells(Plan(start="x"), algorithms, 1, own, 1)
    assert not own.exists()


def test_the_cell_of_another_is_not_mistaken_for_ones_own(own):
    """Two commands on one folder, one name, two modules."""
    plan = Plan(start="x")
    own.mkdir()
    write_json(own / "plan.json", asdict(plan))
    write_row(own, "own_a:Algo", 0, Done([0.1] * 4), cell("agent"))
    with pytest.raises(ValueError, match="must be of the algorithm 'own_b:Algo', but is of 'own_a"):
        run_cells(plan, ["own_b:Algo"], 1, own, 1)
    assert sorted(file.name for file in own.iterdir()) == ["Algo-0.json", "Algo-0.npz", "plan.json"]


def test_a_policy_is_trained_from_the_start_by_the_fixed_rows(data, tmp_path, monkeypatch):
    """By the same road as an agent, and chosen by the rows that `rere train` chooses by."""
    chosen_by = []

    def train(algorithm, task, budget, *, seed):
        chosen_by.append(validation_rows(task, algorithm.valid_rows).target.tolist())
        assert algorithm.model == "a start"
        assert (algorithm.learning_rate, algorithm.prompts_per_step) == (1e-3, 4)
        assert algorithm.config.group_size == 21  # of 100: no more titles are for sale
        return Popularity(task, task.split("train"))

    monkeypatch.setattr(PolicyAlgorithm, "train", train)
    plan = Plan(start="a start", data=str(data), learning_rate=1e-3, prompts_per_step=4)
    run_cell(replace(plan, group_size=100, valid_rows=6), "gspo", 0, tmp_path)
    valid = load_data(str(data)).splits["valid"]
    rows = np.sort(np.random.default_rng(0).choice(len(valid), 6, replace=False))
    assert chosen_by == [valid.target[rows].tolist()]
    assert (tmp_path / "gspo-0.json").is_file()


@pytest.mark.slow
def test_compare_runs_resumes_and_prints(data, tmp_path, capsys):
    """One policy and one agent of one's own, for a second each, from a run's SFT."""
    runs = tmp_path / "runs"
    train = ["train", "--preset", "smoke", "--model", "scratch:nano", "--device", "cpu"]
    train += ["--data", str(data), "--rl-steps", "1", "--group-size", "6"]
    assert main([*train, "--runs-dir", str(runs), "--name", "start"]) == 0
    compare = ["compare", "--start", str(runs / "start"), "--seconds", "1", "--seeds", "1"]
    compare += ["--data", str(data), "--folder", str(tmp_path / "cells"), "--workers", "2"]
    compare += ["--algorithms", "gspo", "examples.your_algorithm:MonteCarlo"]
    assert main(compare) == 0
    printed = capsys.readouterr().out
    assert "| gspo | 1 |" in printed
    result = json.loads((tmp_path / "cells" / "algorithms.json").read_text(encoding="utf-8"))
    assert set(result["rows"]) == {"gspo", "MonteCarlo", "sft", "popularity", "co_occurrence"}
    assert all(row["illegal_rate"] == 0 for row in result["rows"].values())
    cells = sorted((tmp_path / "cells").glob("*-0.json"))
    assert len(cells) == 2
    before = [file.stat().st_mtime_ns for file in cells]
    assert main(compare) == 0  # nothing is left to do
    assert [file.stat().st_mtime_ns for file in cells] == before
