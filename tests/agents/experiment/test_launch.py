"""How a run is launched: what is refused, what is said; two processes are as good as one."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from agents.experiment.launch import (
    check_alone,
    check_launch,
    make_accelerator,
    warn_of_missing_processes,
)
from agents.experiment.policy import train
from agents.runs.config import TrainConfig

TRAIN = ("-m", "agents.cli", "train", "--preset", "smoke")
SMALL = ("--sft-epochs", "2", "--rl-steps", "4")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
ACCELERATE = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2")


@pytest.mark.parametrize(
    ("variable", "name"),
    [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")],
)
def test_a_model_split_over_processes_is_refused(variable, name, monkeypatch, tmp_path, data):
    """Before anything is written; the error says what to use."""
    check_launch()
    monkeypatch.setenv(variable, "false")
    check_launch()
    monkeypatch.setenv(variable, "true")
    with pytest.raises(ValueError, match=rf"`{variable}` \(=true\) asks for {name}, .*torchrun"):
        train(TrainConfig(data=str(data), preset="smoke", device="cpu"), tmp_path / "runs", "run")
    assert not (tmp_path / "runs").exists()


def test_what_trains_in_one_process_is_refused_in_several(monkeypatch):
    """Each would write the same run."""
    monkeypatch.setenv("WORLD_SIZE", "1")
    check_alone("sb3_ppo")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"`algorithm` \(='sb3_ppo'\) trains in one process"):
        check_alone("sb3_ppo")


@pytest.mark.parametrize(
    ("changes", "is_said"),
    [({}, True), ({"WORLD_SIZE": "2"}, False), ({"MASTER_ADDR": None}, False)],
)
def test_processes_that_were_asked_for_and_are_missing_are_said(
    changes, is_said, monkeypatch, capsys
):
    """Only if `accelerate launch` was asked for several."""
    launched = {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_MIXED_PRECISION": "no", "WORLD_SIZE": None}
    for variable, value in (launched | changes).items():
        if value is None:
            monkeypatch.delenv(variable, raising=False)
        else:
            monkeypatch.setenv(variable, value)
    warn_of_missing_processes(SimpleNamespace(num_processes=1))
    assert ("started one" in capsys.readouterr().err) == is_said


def launched(launcher, data, runs_dir, name):
    """Train by a launcher; return what it said, what was logged and the tables."""
    flags = ("--data", str(data), "--runs-dir", str(runs_dir), "--name", name)
    done = subprocess.run(
        [sys.executable, *launcher, *TRAIN, *SMALL, *flags],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = (runs_dir / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    result = json.loads((runs_dir / name / "result.json").read_text(encoding="utf-8"))
    return done.stderr, [json.loads(line) for line in lines], result["recommenders"]


@pytest.mark.slow
def test_two_processes_train_and_test_like_one(data, tmp_path):
    """By torchrun: every logged measure, and what is measured on the test split."""
    said, logged, table = launched(TORCHRUN, data, tmp_path, "two")
    assert "started one" not in said
    _, expected_log, expected = launched((), data, tmp_path, "one")
    for ours, theirs in zip(logged, expected_log, strict=True):
        assert ours.keys() == theirs.keys()
        for measure in theirs.keys() - {"seconds", "stage"}:
            assert ours[measure] == pytest.approx(theirs[measure], rel=1e-4, abs=1e-6), measure
    for name in ("sft", "rere"):
        for measure in ("ndcg@10", "hit_rate@1", "hit_rate@10", "mrr"):
            value = table[name][measure]["value"]
            assert value == pytest.approx(expected[name][measure]["value"], abs=1e-9), measure


@pytest.mark.slow
def test_accelerate_launch_on_the_cpu_says_that_it_starts_one_process(data, tmp_path):
    """It needs mpirun for more, and does not say so itself."""
    said, _, _ = launched(ACCELERATE, data, tmp_path, "run")
    assert "asked for several processes and started one" in said


def test_processes_that_do_not_know_of_each_other_are_refused(monkeypatch):
    """Each would write the same run."""
    alone = SimpleNamespace(num_processes=1)
    monkeypatch.setattr("agents.experiment.launch.Accelerator", lambda **_: alone)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"`WORLD_SIZE` is 2, and 1 of these processes know of"):
        make_accelerator(TrainConfig())
