"""What could only fail later is refused first, by a message that names the flag."""

import pytest

from agents.cli import main
from agents.experiment.policy import train
from agents.rewards.embeddings import check_encoder
from agents.runs.checks import check_place, check_plugin
from agents.runs.config import TrainConfig
from rere_env.data.known import load_data

BAD_NUMBERS = [
    *[(name, value) for name in ("sft_learning_rate", "rl_learning_rate") for value in (0.0, -1.0)],
    ("rl_learning_rate", float("nan")),
    ("sft_learning_rate", float("inf")),
    ("sft_epochs", -1),
    ("rl_steps", -1),
    ("prompts_per_step", 0),
    ("group_size", 1),
    ("inner_steps", 0),
    ("max_refills", -1),
    ("repair_weight", float("nan")),
    ("kl_weight", -1.0),
    ("kl_weight", float("nan")),
    ("train_seconds", 0.0),
    ("train_steps", 0),
    ("history_length", 0),
    ("max_tokens", 0),
    ("lora_rank", 0),
    ("lora_alpha", 0),
    ("seed", -1),
]


@pytest.mark.parametrize(("name", "value"), BAD_NUMBERS)
def test_a_number_out_of_range_names_its_flag(name, value):
    """Rule, value and remedy."""
    flag = name.replace("_", "-")
    with pytest.raises(ValueError, match=rf"`{name}` \(={value}\) must be .*--{flag}, or leave"):
        TrainConfig(**{name: value})


def test_the_command_says_it_in_one_line(capsys):
    """And writes no folder."""
    assert main(["train", "--lora-alpha", "0"]) == 2
    assert capsys.readouterr().err.startswith("rere: `lora_alpha` (=0) must be at least 1")


def test_the_least_values_are_taken():
    """SFT and RL may be left out; a KL weight of 0 is none."""
    config = TrainConfig(sft_epochs=0, rl_steps=0, kl_weight=0.0, group_size=2, lora_rank=1)
    assert config.numbers().rl_steps == 0


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        " a",
        ".",
        "..",
        "../out",
        "/tmp/out",
        "a/b",
        "a\\b",
        "a" * 300,
        "é" * 150,
        "a\x1b]0;b",
    ],
)
def test_a_name_stays_in_the_runs_folder(tmp_path, name):
    """One folder, printable, of a length that file systems take."""
    with pytest.raises(ValueError, match=r"`name` \(='.*'\) must .*; use letters, digits"):
        train(TrainConfig(), tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_ordinary_names_are_taken(tmp_path):
    """Spaces, dots and other scripts within them."""
    for name in ("a", "mine 2", "v1.0", "spiele-ü", TrainConfig().default_name()):
        check_place(tmp_path / "new" / "deep", name)


def test_the_runs_folder_is_no_file(tmp_path):
    """Nor lies in one."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    for place in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(ValueError, match=r"`runs_dir` .*/file is a file; give another"):
            check_place(place, "a")


def test_code_of_a_run_is_imported_only_if_it_is_named_again(tmp_path):
    """The message shows what to type."""
    check_plugin(tmp_path, "rere", None)
    check_plugin(tmp_path, "mod:make", "mod:make")
    for plugin in (None, "mod:other"):
        with pytest.raises(ValueError, match=rf"rere train --resume {tmp_path} --plugin mod:make$"):
            check_plugin(tmp_path, "mod:make", plugin)
    with pytest.raises(ValueError, match=r"`plugin` \(='mod:make'\) is not what"):
        check_plugin(tmp_path, "rere", "mod:make")


def test_resume_imports_nothing_on_its_own(tmp_path, monkeypatch, capsys):
    """A foreign run's config.json names a module of the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    (tmp_path / "run").mkdir()
    text = '{"algorithm": "evil:make", "train_split": "train"}'
    (tmp_path / "run" / "config.json").write_text(text, encoding="utf-8")
    assert main(["train", "--resume", "run"]) == 2
    assert "--plugin evil:make" in capsys.readouterr().err
    assert main(["train", "--plugin", "evil:make"]) == 2
    with pytest.raises(SystemExit, match="imported"):
        main(["train", "--resume", "run", "--plugin", "evil:make"])


@pytest.mark.parametrize("name", ["nosuch_module:make", "agents.algorithms:nosuch", ":x", "os:"])
def test_an_algorithm_that_is_not_there_is_an_error_of_the_user(name, tmp_path, capsys):
    """One line, before anything is written."""
    assert main(["train", "--algorithm", name, "--runs-dir", str(tmp_path / "runs")]) == 2
    assert f"`algorithm` (='{name}') must be `module:name`" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_an_encoder_that_is_not_there_is_refused_before_training(tmp_path):
    """It used to fail after the whole SFT stage."""
    check_encoder(None)
    with pytest.raises(ValueError, match=r"`sentence_encoder` \(='nosuch'\) is neither"):
        train(TrainConfig(reward="semantic", sentence_encoder="nosuch"), tmp_path, "run")
    assert list(tmp_path.iterdir()) == []


def test_the_built_in_world_has_one_history_length():
    """Another was ignored in silence."""
    with pytest.raises(ValueError, match=r"`history_length` \(=3\) must be 10 on the built-in"):
        load_data("games", 3)
