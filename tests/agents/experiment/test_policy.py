"""Runs that are stopped, changed, damaged or out of room: equal in the end, or one clear line."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from agents.cli import main
from agents.training.learners import ReReLearner, SFTLearner


def train_flags(data, runs, name):
    """A short run on the small data set."""
    flags = ["train", "--data", str(data), "--preset", "smoke", "--model", "scratch:nano"]
    return [*flags, "--device", "cpu", "--rl-steps", "2", "--runs-dir", str(runs), "--name", name]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run that nothing happened to."""
    runs = tmp_path_factory.mktemp("runs")
    assert main(train_flags(data, runs, "whole")) == 0
    return runs / "whole"


@pytest.fixture
def halfway(data, tmp_path, monkeypatch):
    """A run that was killed in RL, after saves of both stages; its data are its own."""
    shutil.copytree(data, tmp_path / "data")

    def dies(learner, step):
        raise KeyboardInterrupt

    monkeypatch.setattr(ReReLearner, "update", dies)
    assert main(train_flags(tmp_path / "data", tmp_path, "run")) == 130
    monkeypatch.undo()
    return tmp_path / "run"


def scores(run):
    """The test split's metrics, without what a clock says."""
    found = json.loads((run / "result.json").read_text())["recommenders"]
    return {
        (name, metric): value["value"]
        for name, metrics in found.items()
        for metric, value in metrics.items()
        if isinstance(value, dict) and "value" in value and "second" not in metric
    }


@pytest.fixture
def equal(whole, logged):
    """Asserts that a run logged, learnt and scored what the whole one did."""

    def check(run):
        assert logged(run) == logged(whole)
        for stage in ("sft", "rere"):
            weights = f"checkpoints/{stage}/model.safetensors"
            assert (run / weights).read_bytes() == (whole / weights).read_bytes()
        assert scores(run) == scores(whole)

    return check


def resumed(run, *flags):
    """Resume a run; return the exit status."""
    return main(["train", "--resume", str(run), *flags])


@pytest.mark.parametrize(
    ("signum", "learner", "step"),
    [
        (signal.SIGTERM, SFTLearner, 1),
        (signal.SIGINT, ReReLearner, 0),
        (signal.SIGHUP, ReReLearner, 1),
    ],
)
def test_a_signal_saves_and_says_how_to_go_on(
    signum, learner, step, data, tmp_path, monkeypatch, capsys, equal
):
    """The step is finished; the rest is what an unbroken run would have done."""
    update = learner.update

    def hears(self, at):
        if at == step:
            os.kill(os.getpid(), signum)
        return update(self, at)

    monkeypatch.setattr(learner, "update", hears)
    assert main(train_flags(data, tmp_path, "run")) == 128 + signum
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"stopped by {signum.name}; saved after step {step + 1} of {learner.name}" in said
    assert f"rere train --resume {tmp_path / 'run'}" in said
    monkeypatch.undo()
    progress = json.loads((tmp_path / "run/checkpoints/last/progress.json").read_text())
    assert progress["step"] == step + 1
    assert resumed(tmp_path / "run") == 0
    equal(tmp_path / "run")


def swap_titles(run):
    """Give two items each other's titles: the vocabulary stays what it is."""
    file = run.parent / "data" / "items.csv"
    header, first, second, *rest = file.read_text().splitlines()
    (a, title_a), (b, title_b) = first.split(",", 1), second.split(",", 1)
    file.write_text("\n".join([header, f"{a},{title_b}", f"{b},{title_a}", *rest]) + "\n")


def cut_train(run):
    """Lose a row of the training split."""
    file = run.parent / "data" / "train.csv"
    file.write_text("\n".join(file.read_text().splitlines()[:-1]) + "\n")


def alter_seed(run):
    """Ask for another seed."""
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"seed": 7}))


def other_version(run):
    """Be begun by another version."""
    begun = json.loads((run / "begun.json").read_text())
    (run / "begun.json").write_text(json.dumps(begun | {"version": "0.0.1"}))


def forget(run):
    """Be begun by a version that wrote no record."""
    (run / "begun.json").unlink()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (swap_titles, "`data` was"),
        (cut_train, "`data` was"),
        (alter_seed, "`seed` was 0 and is 7"),
        (other_version, "`version` was 0.0.1 and is"),
        (forget, "begun.json is missing"),
    ],
)
def test_a_changed_run_goes_on_only_if_a_person_insists(halfway, change, says, capsys):
    """The line names both values and the way out; nothing was touched by then."""
    before = (halfway / "metrics.jsonl").read_bytes()
    change(halfway)
    assert resumed(halfway) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert says in said[0]
    assert (halfway / "metrics.jsonl").read_bytes() == before
    assert resumed(halfway, "--allow-changed") == 0


def test_only_a_resumed_run_can_be_changed(data, tmp_path, capsys):
    """A new one has nothing to differ from."""
    assert main([*train_flags(data, tmp_path, "run"), "--allow-changed"]) == 2
    assert "give --resume too" in capsys.readouterr().err


def flip(file: Path) -> None:
    """Change one bit in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["state/model.safetensors", "progress.json"])
def test_a_damaged_state_costs_one_save(halfway, name, capsys, equal):
    """The one before is used, and said to be."""
    flip(halfway / "checkpoints" / "last" / name)
    assert resumed(halfway) == 0
    assert "the state before it is used" in capsys.readouterr().err
    equal(halfway)


@pytest.mark.parametrize("damage", [flip, Path.unlink])
@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "begun.json",
        "metrics.jsonl",
        "checkpoints/sft/model.safetensors",
        "checkpoints/sft/rere.json",
        "checkpoints/rere/tokenizer.json",
    ],
)
def test_other_damage_is_one_line_with_the_file(halfway, damage, name, capsys):
    """Before anything is trained."""
    damage(halfway / name)
    assert resumed(halfway) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert name.rpartition("/")[2] in said[0]


@pytest.mark.parametrize("command", [["evaluate"], ["recommend", "--history", "i0 i1"]])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "rere.json"])
def test_a_damaged_policy_is_not_served(whole, tmp_path, command, name, capsys):
    """Nor is that of SFT in its place."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    (run / "checkpoints" / "rere" / name).unlink()
    assert main([command[0], str(run), *command[1:], "--device", "cpu"]) == 2
    [said] = capsys.readouterr().err.splitlines()
    assert f"{run / 'checkpoints' / 'rere' / name} is missing; put back" in said


def test_a_policy_that_was_being_replaced_is_not_another_stages(whole, tmp_path, capsys):
    """Killed between the two renames."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    best = run / "checkpoints" / "rere"
    arguments = ["--history", "i0 i1", "--json", "--device", "cpu"]
    assert main(["recommend", str(run), *arguments]) == 0
    expected = capsys.readouterr().out
    best.rename(best.with_name("rere.old"))
    assert main(["recommend", str(run), *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.out == expected
    assert "rere is missing; the best policy before it is used" in printed.err


@pytest.mark.parametrize(
    ("code", "calls"), [(errno.EROFS, 1), (errno.ENOSPC, 40), (errno.ENOSPC, 80)]
)
def test_a_disk_that_fails_ends_in_one_line(
    code, calls, data, tmp_path, monkeypatch, capsys, equal
):
    """It names the folder and what to do; from what was saved before the run goes on."""
    fsync, done = os.fsync, []

    def fails(descriptor):
        done.append(descriptor)
        if len(done) >= calls:
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr("agents.files.os.fsync", fails)
    assert main(train_flags(data, tmp_path, "run")) == 2
    monkeypatch.undo()
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"{tmp_path / 'run'} cannot be written" in said
    assert "its disk" in said
    if calls == 1:  # not even begun
        assert main(train_flags(data, tmp_path, "run")) == 0
    else:
        assert resumed(tmp_path / "run") == 0
    equal(tmp_path / "run")


def test_a_signal_in_the_final_test_ends_at_once(data, tmp_path, monkeypatch, capsys, equal):
    """Nothing is to be saved there."""

    def hears(*args, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("went on")

    monkeypatch.setattr("agents.experiment.final.evaluate", hears)
    assert main(train_flags(data, tmp_path, "run")) == 143
    assert (
        f"SIGTERM; go on with `rere train --resume {tmp_path / 'run'}`" in capsys.readouterr().err
    )
    monkeypatch.undo()
    assert resumed(tmp_path / "run") == 0
    equal(tmp_path / "run")


def test_an_agent_keeps_nothing_to_save(tmp_path, capsys):
    """The flag would be ignored."""
    flags = ["--algorithm", "sb3_dqn", "--save-every", "5m", "--runs-dir", str(tmp_path)]
    assert main(["train", "--preset", "smoke", *flags]) == 2
    assert "leave it out" in capsys.readouterr().err


def test_an_error_of_the_program_is_no_error_of_the_disk(data, tmp_path, monkeypatch):
    """It surfaces as it is."""

    def broken(self, at):
        raise RuntimeError("a mistake")

    monkeypatch.setattr(SFTLearner, "update", broken)
    with pytest.raises(RuntimeError, match="a mistake"):
        main(train_flags(data, tmp_path, "run"))
