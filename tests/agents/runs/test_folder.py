"""The folder of a run: what is written, and what survives a crash."""

import ast
import json

import pytest

from agents.files import replace_folder, restore_folder
from agents.runs.folder import Progress, RunFolder, Stage


def fill(folder, text):
    """Replace a folder by one that holds `text`."""
    with replace_folder(folder) as new:
        (new / "file").write_text(text)


def fill_half(folder):
    """Be stopped while filling."""
    with replace_folder(folder) as new:
        (new / "half").write_text("half")
        raise KeyboardInterrupt


def test_a_folder_is_replaced_at_once(tmp_path):
    """Nothing of the old one stays, and no scratch folder either."""
    fill(tmp_path / "last", "one")
    fill(tmp_path / "last", "two")
    assert (tmp_path / "last" / "file").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_crash_while_filling_keeps_the_old_folder(tmp_path):
    """The half-filled one is thrown away next time."""
    fill(tmp_path / "last", "one")
    with pytest.raises(KeyboardInterrupt):
        fill_half(tmp_path / "last")
    assert (tmp_path / "last" / "file").read_text() == "one"
    fill(tmp_path / "last", "two")
    assert sorted(path.name for path in (tmp_path / "last").iterdir()) == ["file"]


@pytest.fixture
def run(tmp_path):
    """A new run."""
    return RunFolder.create(tmp_path, "run", {"seed": 0})


def save(run, step):
    """Save the state of a step."""
    progress = Progress(step=step)
    run.save_progress(progress, lambda folder: (folder / "state").write_text(str(step)))


def test_a_crash_between_the_two_renames_loses_one_save_only(run):
    """The old state lies beside its place; reading finds it, and so does saving."""
    run.log({"step": 1})
    save(run, 1)
    run.log({"step": 2})
    run.last.rename(run.last.with_name("last.old"))  # and the new one was not yet renamed
    run.last.with_name("last.new").mkdir()
    progress = run.load_progress()
    assert progress is not None
    assert progress.step == 1
    assert (run.last / "state").read_text() == "1"
    assert run.metrics.read_text() == '{"step": 1}\n'

    run.last.rename(run.last.with_name("last.old"))
    save(run, 2)
    assert run.load_progress().step == 2
    assert [path.name for path in run.checkpoints.iterdir()] == ["last"]


def test_restoring_an_undamaged_folder_does_nothing(tmp_path):
    """Neither where it exists nor where it never did."""
    fill(tmp_path / "last", "one")
    restore_folder(tmp_path / "last")
    restore_folder(tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_what_a_killed_run_logged_later_is_cut_off(run):
    """The log goes on from the saved state, without lines that will come again."""
    run.log({"step": 1})
    save(run, 1)
    run.log({"step": 2})
    assert run.load_progress().step == 1
    run.log({"step": 2})
    lines = run.metrics.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_a_run_killed_before_its_first_save_starts_again(run):
    """With an empty log."""
    run.log({"step": 0})
    assert run.load_progress() is None
    assert run.metrics.read_text() == ""


def test_progress_comes_back_whole(run):
    """Every field of it."""
    progress = Progress(
        stage=Stage.RL, step=7, best_value=0.5, best_step=4, num_worse=1, seconds={"sft": 2.5}
    )
    run.save_progress(progress, lambda folder: None)
    assert run.load_progress() == progress


def test_a_stage_begins_at_zero():
    """Only the seconds are kept."""
    progress = Progress(step=7, best_value=0.5, best_step=4, num_worse=3, seconds={"sft": 2.5})
    progress.next_stage(Stage.RL)
    assert progress == Progress(stage=Stage.RL, seconds={"sft": 2.5})


def test_a_run_is_never_overwritten(run):
    """The message names the way to continue it."""
    with pytest.raises(FileExistsError, match="--resume"):
        RunFolder.create(run.path.parent, "run", {})


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    """The message says what is missing."""
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        RunFolder.open(tmp_path)


def test_an_open_run_knows_its_config(run):
    """What was asked for is read back."""
    assert RunFolder.open(run.path).read_config() == {"seed": 0}


def test_the_log_is_strict_json(run):
    """A NaN is no JSON, and no measure."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.log({"loss": float("nan")})


def test_a_stage_comes_back_as_a_stage(run):
    """And not as its name: it knows its folder."""
    save(run, 1)
    stage = run.load_progress().stage
    assert isinstance(stage, Stage)
    assert run.best(stage) == run.path / "checkpoints" / "sft"


def test_the_latest_policy_is_that_of_the_last_stage(run):
    """SFT's until RL has one."""
    assert run.latest_policy() is None
    for stage, name in ((Stage.SFT, "sft"), (Stage.RL, "rere")):
        run.best(stage).mkdir(parents=True)
        (run.best(stage) / "config.json").touch()
        assert run.latest_policy() == run.checkpoints / name


def test_only_the_folder_knows_its_places(repository):
    """Elsewhere neither a stage's name nor the folder of its checkpoints is written out."""
    wrong = [
        f"{file.relative_to(repository)}:{node.lineno}"
        for file in sorted((repository / "agents").rglob("*.py"))
        if file != repository / "agents" / "runs" / "folder.py"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in ("checkpoints", "sft", "rl")
    ]
    assert not wrong
