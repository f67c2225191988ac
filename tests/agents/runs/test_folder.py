"""The folder of a run: what is written, and what survives a crash."""

import ast
import errno
import json

import pytest

from agents.files import (
    MANIFEST,
    DamagedError,
    older,
    replace_folder,
)
from agents.runs.config import TrainConfig
from agents.runs.folder import Progress, RunFolder, Stage


@pytest.fixture
def run(tmp_path):
    """A new run."""
    return RunFolder.create(tmp_path, "run", {"seed": 0})


def save(run, step):
    """Save the state of a step."""
    progress = Progress(step=step)
    run.save_progress(progress, lambda folder: (folder / "state").write_text(str(step)))


def test_a_crash_between_the_two_renames_loses_one_save_only(run, capsys):
    """The old state lies beside its place; reading uses it, and saving keeps it."""
    run.log({"step": 1})
    save(run, 1)
    run.log({"step": 2})
    run.last.rename(older(run.last))  # and the new one was not yet renamed
    run.last.with_name("last.new").mkdir()
    assert run.load_progress().step == 1
    assert "was being replaced" in capsys.readouterr().err
    assert (run.state / "state").read_text() == "1"
    assert run.metrics.read_text() == '{"step": 1}\n'

    save(run, 2)
    assert run.load_progress().step == 2
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["last", "last.old"]


def flip(file):
    """Change the last bit of a byte in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def halve(file):
    """Cut a file."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def zero(file):
    """Write zeros over a file."""
    file.write_bytes(bytes(file.stat().st_size))


def delete(file):
    """Delete a file."""
    file.unlink()


DAMAGES = [flip, halve, zero, delete]
each_damage = pytest.mark.parametrize("damage", DAMAGES)


def begun_run(folder, num_saves=2):
    """A run that knows what it was begun with, saved at steps 1, 2, ..."""
    run = RunFolder.create(folder, "run", {"seed": 0}, {"version": "0"})
    for step in range(1, num_saves + 1):
        run.log({"step": step})
        save(run, step)
    return run


@each_damage
@pytest.mark.parametrize("name", ["state", "progress.json", MANIFEST])
def test_a_damaged_state_falls_back_to_the_one_before(damage, name, tmp_path, capsys):
    """Loudly; the log is cut to it, and the next save does not push it out."""
    run = begun_run(tmp_path)
    damage(run.last / name)
    assert run.load_progress().step == 1
    assert run.state == older(run.last)
    assert f"{run.last}/" in capsys.readouterr().err
    assert run.metrics.read_text() == '{"step": 1}\n'
    save(run, 2)
    assert (older(run.last) / "state").read_text() == "1"
    assert run.load_progress().step == 2


@each_damage
def test_two_damaged_states_are_an_error(damage, tmp_path):
    """It names both files and what to do."""
    run = begun_run(tmp_path)
    for folder in (run.last, older(run.last)):
        damage(folder / "state")
    with pytest.raises(DamagedError, match=r"last.state .*last\.old.state .*begins anew"):
        run.load_progress()


@each_damage
def test_a_damaged_log_is_an_error_unless_allowed(damage, tmp_path):
    """Its beginning is common to both states."""
    run = begun_run(tmp_path)
    lines = run.metrics.read_bytes().splitlines(keepends=True)
    run.metrics.write_bytes(lines[0])
    damage(run.metrics)
    with pytest.raises(DamagedError, match=r"metrics\.jsonl .*--allow-changed"):
        run.load_progress()
    assert run.load_progress(allow_changed=True).step == 2


def test_a_log_that_lost_its_end_goes_back_to_the_state_before(tmp_path):
    """Which holds as much as is left."""
    run = begun_run(tmp_path)
    run.metrics.write_bytes(run.metrics.read_bytes().splitlines(keepends=True)[0])
    assert run.load_progress().step == 1


def test_a_folder_of_an_older_version_has_no_manifest(run):
    """It is read as it is, where the run does not say that it had one."""
    save(run, 1)
    (run.last / MANIFEST).unlink()
    assert run.load_progress().step == 1


def test_a_full_disk_keeps_the_state_and_gives_the_room_back(tmp_path):
    """The half-written folder is removed."""
    run = begun_run(tmp_path, num_saves=1)

    def full(folder):
        (folder / "half").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        run.save_progress(Progress(step=2), full)
    assert [path.name for path in run.checkpoints.iterdir()] == ["last"]
    assert run.load_progress().step == 1


def save_policy(run, stage, text):
    """Keep a policy."""
    with replace_folder(run.best(stage)) as new:
        (new / "config.json").write_text(text)


def test_a_policy_that_was_being_replaced_is_served_by_the_one_before(tmp_path, capsys):
    """And not by that of another stage."""
    run = begun_run(tmp_path)
    save_policy(run, Stage.SFT, "sft")
    save_policy(run, Stage.RL, "rl")
    run.best(Stage.RL).rename(older(run.best(Stage.RL)))
    assert (run.latest_policy() / "config.json").read_text() == "rl"
    assert "the best policy before it is used" in capsys.readouterr().err
    save(run, 3)
    assert run.latest_policy() == run.best(Stage.RL)
    assert not older(run.best(Stage.RL)).exists()


@each_damage
@pytest.mark.parametrize("name", ["config.json", MANIFEST])
def test_a_damaged_policy_is_an_error(damage, name, tmp_path):
    """That of SFT is not served instead."""
    run = begun_run(tmp_path)
    for stage in (Stage.SFT, Stage.RL):
        save_policy(run, stage, "a policy")
    damage(run.best(Stage.RL) / name)
    with pytest.raises(DamagedError, match=r"rere.* is .*put back a copy"):
        run.latest_policy()


@pytest.mark.parametrize("stage", [Stage.RL, Stage.DONE])
def test_a_policy_that_must_be_there_is_missed(stage, tmp_path):
    """A run that has come so far has one of RL."""
    run = begun_run(tmp_path)
    save_policy(run, Stage.SFT, "sft")
    run.save_progress(Progress(stage=stage, best_value=0.5), lambda folder: None)
    with pytest.raises(DamagedError, match=r"rere is missing"):
        run.latest_policy()


def test_progress_knows_which_policies_there_are():
    """A stage leaves its first one before its first step."""
    assert Progress().stages_with_policy() == []
    assert Progress(best_value=0.0).stages_with_policy() == [Stage.SFT]
    assert Progress(stage=Stage.RL).stages_with_policy() == [Stage.SFT]
    assert Progress(stage=Stage.DONE).stages_with_policy() == [Stage.SFT, Stage.RL]


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
    assert RunFolder.open(run.path).read_config() == TrainConfig(seed=0)


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


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints", "result.json"])
def test_what_is_left_of_a_run_is_not_mixed_with_a_new_one(tmp_path, name):
    """Its config.json is gone, so nothing says whose it is."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).mkdir()
    with pytest.raises(FileExistsError, match=rf"holds {name} of a run whose config.json is gone"):
        RunFolder.create(tmp_path, "mine", {})
