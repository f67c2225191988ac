"""Every command of `rere`, run for real on a small data set."""

import errno
import inspect
import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
from transformers import AutoModelForCausalLM

from agents.cli import main
from agents.commands import Command
from agents.commands.bench.env import Env
from agents.commands.bench.rollout import Rollout
from agents.commands.bench.search import Search
from agents.commands.bench.step import Step
from agents.commands.bench.update import Update
from agents.commands.data.build import Build
from agents.commands.data.check import Check
from agents.commands.data.export import Export
from agents.commands.data.get import Get
from agents.training.learners import ReReLearner, SFTLearner


def train_flags(data: Path, runs: Path, name: str) -> list[str]:
    """A short run on the small data set."""
    flags = ["train", "--data", str(data), "--preset", "smoke", "--model", "scratch:nano"]
    return [*flags, "--device", "cpu", "--rl-steps", "2", "--runs-dir", str(runs), "--name", name]


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that `rere train` leaves."""
    runs = tmp_path_factory.mktemp("runs")
    assert main(train_flags(data, runs, "walk")) == 0
    return runs / "walk"


def test_train_leaves_all_it_promises(run: Path) -> None:
    """A run leaves config, metrics, events, checkpoints, result and report."""
    for name in ("config.json", "metrics.jsonl", "result.json", "report.html"):
        assert (run / name).stat().st_size > 0, name
    assert list((run / "tensorboard").rglob("events.*"))
    for stage in ("sft", "rere"):
        assert (run / "checkpoints" / stage / "model.safetensors").is_file()


def test_result_scores_every_recommender(run: Path) -> None:
    """result.json holds value and interval of each metric for each recommender."""
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert {"popularity", "co_occurrence", "sft", "rere"} <= set(result["recommenders"])
    for scores in result["recommenders"].values():
        ndcg = scores["ndcg@10"]
        assert ndcg["low"] <= ndcg["value"] <= ndcg["high"]
    for policy in ("sft", "rere"):
        assert result["recommenders"][policy]["illegal_rate"] == 0
        assert result["recommenders"][policy]["duplicate_rate"] == 0
    assert {"versions", "seed", "data", "catalogue_hash", "git_commit", "seconds"} <= set(result)


def test_metrics_have_both_stages(run: Path) -> None:
    """metrics.jsonl is one strict JSON object a line, of SFT and of RL."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["stage"] for line in lines} == {"sft", "rl"}


def test_evaluate_repeats_the_result(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`rere evaluate RUN --json` gives what the run's result says of its policy."""
    assert main(["evaluate", str(run), "--json", "--device", "cpu"]) == 0
    printed = json.loads(capsys.readouterr().out)
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    rere = result["recommenders"]["rere"]
    assert printed["ndcg@10"]["value"] == pytest.approx(rere["ndcg@10"]["value"], abs=1e-9)


@pytest.mark.parametrize("flags", [["--search", "radix"], ["--search", "exact"], ["--exact"]])
def test_evaluate_searches_as_it_is_told(run: Path, flags, capsys) -> None:
    """A beam wider than the catalogue of 21 titles: every search gives the same metrics."""
    found = []
    for chosen in ([], flags):
        assert main(["evaluate", str(run), "--json", "--device", "cpu", *chosen]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["ndcg@10"]["value"] == pytest.approx(found[1]["ndcg@10"]["value"])


def test_evaluate_shows_how_often_a_policy_leaves_the_catalogue(run: Path, capsys) -> None:
    """Beams that nothing keeps to it; the share of them that are no titles."""
    flags = ["--search", "unconstrained", "--beam", "5", "--json", "--device", "cpu"]
    assert main(["evaluate", str(run), *flags]) == 0
    assert 0 < json.loads(capsys.readouterr().out)["illegal_rate"] <= 1


def test_evaluate_takes_a_model_folder(run: Path, data: Path, capsys) -> None:
    """A checkpoint folder is a model like any other."""
    folder = str(run / "checkpoints" / "sft")
    assert main(["evaluate", folder, "--data", str(data), "--beam", "5", "--device", "cpu"]) == 0
    assert "ndcg" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [["--history", "i0 i1"], ["--titles", "red A", "red B"]])
def test_recommend_prints_titles_with_probabilities(
    run: Path, flags: list[str], walk_titles, capsys: pytest.CaptureFixture[str]
) -> None:
    """`rere recommend` gives k catalogue titles, most probable first."""
    assert main(["recommend", str(run), *flags, "-k", "3", "--json", "--device", "cpu"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["history"] == ["red A", "red B"]
    rows = printed["recommendations"]
    assert len(rows) == 3
    assert {row["title"] for row in rows} <= set(walk_titles)
    probabilities = [row["probability"] for row in rows]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) <= 1


def test_recommend_says_that_it_reads_the_last_items_only(run: Path, capsys) -> None:
    """A longer history is cut to its last H items, loudly."""
    history = " ".join(f"i{i}" for i in range(12))
    assert main(["recommend", str(run), "--history", history, "--device", "cpu"]) == 0
    assert "reads the last 10" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recommend", "RUN", "--history", "nosuch"], "not in the catalogue"),
        (["recommend", "RUN", "--titles", "red AA"], "did you mean"),
        (["recommend", "RUN"], "either --history"),
        (["recommend", "RUN", "--history", "i0", "-k", "0"], "at least 1"),
        (["evaluate", "RUN", "--split", "nosuch"], "must be one of"),
        (["evaluate", "no/such/model"], "neither"),
        (["train", "--data", "no/such/folder"], "no/such/folder"),
        (["train", "--model", "scratch:huge"], "scratch:tiny"),
        (["train", "--resume", "no/such/run"], "not a run"),
        (["data", "build", "no/such/folder", "out"], "no/such/folder"),
    ],
)
def test_bad_input_is_a_clear_error(
    run: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a user can mend ends with status 2 and one line that says how."""
    arguments = [str(run) if a == "RUN" else a for a in arguments]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("learner", "step"), [(SFTLearner, 1), (ReReLearner, 1)])
def test_a_stopped_run_resumes_bit_for_bit(
    run: Path,
    data: Path,
    logged,
    monkeypatch: pytest.MonkeyPatch,
    learner: type,
    step: int,
) -> None:
    """Killed in either stage and resumed, a run logs and scores what an unbroken one does."""
    update = learner.update

    def dies(self, at: int) -> dict[str, float]:
        if at == step:
            raise KeyboardInterrupt
        return update(self, at)

    stopped = run.parent / f"stopped-{learner.__name__}"
    monkeypatch.setattr(learner, "update", dies)
    assert main(train_flags(data, run.parent, stopped.name)) == 130
    monkeypatch.undo()
    assert main(["train", "--resume", str(stopped)]) == 0
    assert logged(stopped) == logged(run)
    for stage in ("sft", "rere"):
        weights = f"checkpoints/{stage}/model.safetensors"
        assert (stopped / weights).read_bytes() == (run / weights).read_bytes()


def test_an_adapter_is_trained_resumed_and_merged(
    data: Path, logged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped LoRA run resumes bit for bit, and leaves a model like any other."""
    update = ReReLearner.update

    def dies(self, at: int) -> dict[str, float]:
        if at == 1:
            raise KeyboardInterrupt
        return update(self, at)

    extra = ["--sft-epochs", "0", "--peft", "lora", "--gradient-checkpointing"]
    extra += ["--rl-learning-rate", "0.1"]  # enough to change what is recommended
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert main([*train_flags(data, tmp_path, "whole"), *extra]) == 0
    monkeypatch.setattr(ReReLearner, "update", dies)
    assert main([*train_flags(data, tmp_path, "stopped"), *extra]) == 130
    monkeypatch.undo()
    assert main(["train", "--resume", str(stopped)]) == 0
    assert logged(stopped) == logged(whole)
    weights = "checkpoints/rere/model.safetensors"
    assert (stopped / weights).read_bytes() == (whole / weights).read_bytes()
    plain = AutoModelForCausalLM.from_pretrained(whole / "checkpoints" / "rere")
    assert not any("lora" in name for name, _ in plain.named_parameters())


def test_prompts_too_long_for_the_model_stop_the_run_or_are_cut_and_counted(
    data: Path, run: Path, logged, tmp_path: Path, capsys
) -> None:
    """A model of 12 positions: before training the error names the row, a cut is in the result."""
    short = tmp_path / "short"
    shutil.copytree(run / "checkpoints" / "sft", short)
    config = json.loads((short / "config.json").read_text(encoding="utf-8"))
    config["max_position_embeddings"] = 12  # the five items of a history need 16
    (short / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (short / "manifest.json").unlink()  # what says that it was not changed
    flags = [*train_flags(data, tmp_path, "cut"), "--model", str(short), "--sft-epochs", "0"]
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert "split 'train', row" in error
    assert "--on-long-prompt truncate" in error
    assert not (tmp_path / "cut").exists()
    assert main([*flags, "--on-long-prompt", "truncate"]) == 0
    result = json.loads((tmp_path / "cut" / "result.json").read_text(encoding="utf-8"))
    assert result["truncated_prompts"]["test"] > 0
    steps = [line for line in logged(tmp_path / "cut") if "rollout/reward" in line]
    assert sum(line["prompts/truncated"] for line in steps) > 0


def test_a_run_can_hide_the_history(data: Path, tmp_path: Path, capsys) -> None:
    """No list of any recommender shows a title of the history; hidden targets are counted."""
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    for split in ("train", "test"):  # one row whose target is a repeat
        with (folder / f"{split}.csv").open("a", encoding="utf-8") as file:
            file.write("u0,i3 i4,i3,1000\n")
    flags = train_flags(folder, tmp_path, "hiding")
    assert main([*flags, "--exclude", "history", "--sft-epochs", "1"]) == 0
    result = json.loads((tmp_path / "hiding" / "result.json").read_text(encoding="utf-8"))
    for name, scores in result["recommenders"].items():
        assert scores["illegal_rate"] == 0, name
        assert scores["hidden_targets"] == 1, name
    assert result["hidden_train_targets"] == 1
    capsys.readouterr()
    assert (
        main(["recommend", str(tmp_path / "hiding"), "--titles", "red A", "-k", "20", "--json"])
        == 0
    )
    shown = json.loads(capsys.readouterr().out)["recommendations"]
    assert len(shown) == 20
    assert "red A" not in {row["title"] for row in shown}


def test_a_run_is_never_overwritten(run: Path, data: Path, capsys) -> None:
    """A second run of the same name is refused and told how to continue the first."""
    assert main(train_flags(data, run.parent, run.name)) == 2
    assert "--resume" in capsys.readouterr().err


def test_data_check_prints_the_counts(data: Path, walk_titles, capsys) -> None:
    """`rere data check DIR` reads a data set as training would."""
    assert main(["data", "check", str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["items"] == len(walk_titles)


def test_bench_rollout_reports_both_sides(run: Path, tmp_path: Path, capsys) -> None:
    """`rere bench rollout --json` gives titles per second of token loop and tree search."""
    flags = ["--model", str(run), "--num-users", "4", "--slate-size", "3", "--repeats", "1"]
    flags += ["--json", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(["bench", "rollout", *flags]) == 0
    printed = json.loads(capsys.readouterr().out)
    written = (tmp_path / "out" / "rollout.json").read_text(encoding="utf-8")
    assert json.loads(written) == printed
    assert "| slate |" in (tmp_path / "out" / "rollout.md").read_text(encoding="utf-8")
    assert set(printed["ratios"]) == {"one_title", "slate"}
    assert all(rate > 0 for rate in printed["titles_per_second"].values())


@pytest.mark.parametrize(
    "command",
    [[], ["train"], ["evaluate"], ["recommend"], ["play"], ["data", "build"], ["bench", "env"]],
)
def test_help_teaches(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Every command has a --help that says what it does."""
    with pytest.raises(SystemExit) as exit_:
        main([*command, "--help"])
    assert exit_.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 8


WITHOUT_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, NoTorch())
from agents.cli import main
from agents.commands import Command
from agents.commands.data.build import Build
from agents.commands.data.check import Check
from agents.commands.data.export import Export
from agents.commands.data.get import Get
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (["evaluate", "runs/mine"], 1, "rere needs torch: pip install 'rere-env[llm]'\n"),
        (["play", "--help"], 0, ""),
    ],
)
def test_only_what_needs_torch_asks_for_it(arguments: list[str], status: int, error: str) -> None:
    """A command that lacks its library names the extra, without a traceback; others run."""
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stderr) == (status, error)


BROKEN = """
import sys
from agents.cli import main
from agents.commands.play import Play

def broken(self):
    raise ZeroDivisionError("a mistake\\nof ours")

Play.run = broken
sys.argv[1:1] = ["play"]
sys.exit(main())
"""


def test_an_error_that_nobody_expected_is_one_line_of_the_process() -> None:
    """It names the type and the way to the traceback."""
    done = subprocess.run(
        [sys.executable, "-c", BROKEN], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("rere: unexpected ZeroDivisionError: a mistake of ours; add --debug")
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, "--debug"], capture_output=True, text=True, check=False
    )
    assert "Traceback" in done.stderr


def test_a_caller_gets_an_error_that_nobody_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test must see the mistake, not a line about it."""

    def broken(self) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("agents.commands.play.Play.run", broken)
    with pytest.raises(ZeroDivisionError):
        main(["play"])


def test_a_disk_that_cannot_be_written_is_one_line(monkeypatch, capsys) -> None:
    """Also where no run is in the way."""

    def full(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/data/items.csv")

    monkeypatch.setattr("agents.commands.play.Play.run", full)
    assert main(["play"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "/data/items.csv" in line
    assert "on a disk with room" in line


def test_debug_shows_an_expected_error_too(run: Path) -> None:
    """With its traceback, whatever the command."""
    with pytest.raises(ValueError, match="at least 1"):
        main(["--debug", "recommend", str(run), "--history", "i0", "-k", "0"])


COMMANDS = [get_args(choice)[0] for choice in get_args(Command)]
COMMANDS += [Get, Build, Check, Export, Env, Rollout, Search, Step, Update]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_flag_is_explained(command) -> None:
    """`--help` takes its words from the docstrings: a field without any would stand there mute."""
    said = "\n".join(inspect.getdoc(kind) or "" for kind in command.__mro__)
    assert not [field.name for field in fields(command) if f"\n    {field.name}: " not in said]
