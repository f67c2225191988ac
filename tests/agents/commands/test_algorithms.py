"""`rere algorithms`, and `rere train --algorithm` of either kind, run for real in small."""

import json

import pytest

from agents.cli import main
from agents.registry import algorithms
from agents.runs.folder import RunFolder

SMOKE = ["train", "--preset", "smoke", "--model", "scratch:nano", "--device", "cpu"]


def test_the_list_names_algorithm_paper_and_extra(capsys):
    """One line each."""
    assert main(["algorithms"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(algorithms())
    assert any("arXiv 2510.12211" in line and line.startswith("rere ") for line in lines)
    assert any("rere-env[tianshou]" in line for line in lines)


def test_the_list_as_json(capsys):
    """For programs."""
    assert main(["algorithms", "--json"]) == 0
    known = {info["name"]: info for info in json.loads(capsys.readouterr().out)}
    assert known["gspo"]["kind"] == "policy"
    assert known["sb3_dqn"]["extra"] == "sb3"


def test_a_policy_is_trained_by_flags(data, tmp_path):
    """The row of the table bears the algorithm's name, and the log its measures."""
    flags = ["--algorithm", "gspo", "--sampler", "sample", "--advantage", "leave_one_out"]
    flags += ["--rl-steps", "2", "--reward", "hit+0.5*rank", "--inner-steps", "3"]
    flags += ["--data", str(data), "--group-size", "6"]
    assert main([*SMOKE, *flags, "--runs-dir", str(tmp_path), "--name", "run"]) == 0
    run = RunFolder.open(tmp_path / "run")
    result = json.loads(run.result.read_text(encoding="utf-8"))
    assert {"popularity", "sft", "gspo"} <= set(result["recommenders"])
    lines = [json.loads(line) for line in run.metrics.read_text(encoding="utf-8").splitlines()]
    learnt = [line for line in lines if line["stage"] == "rl" and "loss/policy" in line]
    assert learnt
    assert {"ratio/excess", "ratio/clipped_fraction", "policy/entropy"} <= set(learnt[0])
    assert {"reward/hit", "reward/rank"} <= set(learnt[0])


def test_an_agent_is_trained_and_scored_beside_the_baselines(tmp_path, capsys):
    """One's own, by module and name, with a report."""
    flags = ["--algorithm", "examples.your_algorithm:MonteCarlo", "--train-seconds", "1"]
    runs = ["--runs-dir", str(tmp_path), "--name", "own"]
    assert main(["train", "--preset", "smoke", *flags, *runs]) == 0
    result = json.loads((tmp_path / "own" / "result.json").read_text(encoding="utf-8"))
    assert {"popularity", "co_occurrence", "MonteCarlo", "oracle"} <= set(result["recommenders"])
    assert result["recommenders"]["MonteCarlo"]["illegal_rate"] == 0
    assert (tmp_path / "own" / "report.html").stat().st_size > 0
    assert "MonteCarlo" in capsys.readouterr().out
    again = ["train", "--resume", str(tmp_path / "own")]
    assert main(again) == 2
    assert "--plugin examples.your_algorithm:MonteCarlo" in capsys.readouterr().err
    assert main([*again, "--plugin", "examples.your_algorithm:MonteCarlo"]) == 2
    assert "keeps no checkpoints" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "own")]) == 2
    assert "holds no language model" in capsys.readouterr().err


@pytest.mark.slow
def test_an_agent_of_a_library_is_kept(tmp_path):
    """Its weights lie in the run as safetensors."""
    flags = ["--algorithm", "sb3_maskable_ppo", "--train-steps", "4096"]
    runs = ["--runs-dir", str(tmp_path), "--name", "ppo"]
    assert main(["train", "--preset", "smoke", *flags, *runs]) == 0
    assert list((tmp_path / "ppo" / "agent").glob("*.safetensors"))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--algorithm", "nothing"], "rere algorithms"),
        (["--algorithm", "dpo", "--kl-weight", "0.1"], "no option of 'dpo'"),
        (["--algorithm", "sb3_ppo", "--rl-steps", "3"], "is about language models"),
        (["--algorithm", "sb3_ppo", "--model", "scratch:nano"], "is about language models"),
        (["--algorithm", "sb3_ppo", "--device", "cuda"], "a device of its own"),
        (["--algorithm", "rere", "--train-seconds", "3"], "--rl-steps"),
    ],
)
def test_choices_that_would_be_ignored_are_refused(tmp_path, capsys, flags, says):
    """Before anything is written."""
    assert main(["train", *flags, "--runs-dir", str(tmp_path), "--name", "x"]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
