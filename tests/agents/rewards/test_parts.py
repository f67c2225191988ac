"""Rewards that a run makes for itself, chosen by flags, end to end."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from agents.baselines.sasrec import SASRec
from agents.cli import main
from agents.policy import load_backbone, train_tokenizer
from agents.rewards.embeddings import token_embeddings
from agents.rewards.parts import RewardParts
from agents.training.learners import ReReLearner
from rere_env.worlds import successor


@pytest.fixture(scope="module")
def encoder(walk_titles: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random sentence encoder."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = train_tokenizer(walk_titles, 100)
    tokenizer.save_pretrained(folder)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = BertConfig(vocab_size=len(tokenizer), intermediate_size=24, **shape)
        BertModel(config).save_pretrained(folder)
    return folder


def train(data: Path, runs: Path, name: str, *extra: str) -> int:
    """Run RL for two steps from a random policy."""
    flags = ["train", "--data", str(data), "--preset", "smoke", "--model", "scratch:nano"]
    flags += ["--device", "cpu", "--sft-epochs", "0", "--rl-steps", "2"]
    return main([*flags, "--runs-dir", str(runs), "--name", name, *extra])


def test_a_run_is_paid_by_a_sequence_model(
    data: Path, logged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its SASRec is trained once and kept: stopped and resumed, the run is the unbroken one."""
    update = ReReLearner.update

    def dies(self, at: int) -> dict[str, float]:
        if at == 1:
            raise KeyboardInterrupt
        return update(self, at)

    reward = ("--reward", "rere+0.1*collaborative")
    assert train(data, tmp_path, "whole", *reward) == 0
    monkeypatch.setattr(ReReLearner, "update", dies)
    assert train(data, tmp_path, "stopped", *reward) == 130
    monkeypatch.undo()
    kept = tmp_path / "stopped" / "rewards" / "sasrec" / "model.safetensors"
    written = kept.stat().st_mtime_ns
    content = kept.read_bytes()
    kept.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert main(["train", "--resume", str(tmp_path / "stopped")]) == 2  # it is not what was paid by
    kept.write_bytes(content)
    os.utime(kept, ns=(written, written))
    assert main(["train", "--resume", str(tmp_path / "stopped")]) == 0
    assert kept.stat().st_mtime_ns == written
    steps = [line for line in logged(tmp_path / "whole") if "rollout/reward" in line]
    assert len(steps) == 2
    for step in steps:
        parts = step["reward/hit"] + step["reward/rank"] + 0.1 * step["reward/collaborative"]
        assert step["rollout/reward"] == pytest.approx(parts, abs=1e-4)
    assert logged(tmp_path / "stopped") == logged(tmp_path / "whole")


@pytest.mark.parametrize("named", [False, True])
def test_a_run_is_paid_by_what_titles_mean(
    data: Path, logged, encoder: Path, tmp_path: Path, named: bool
) -> None:
    """By the policy's own embeddings, or by those of an encoder; no sequence model is trained."""
    extra = ("--sentence-encoder", str(encoder)) if named else ()
    assert train(data, tmp_path, "run", "--reward", "rere+0.5*semantic", *extra) == 0
    steps = [line for line in logged(tmp_path / "run") if "rollout/reward" in line]
    for step in steps:
        parts = step["reward/hit"] + step["reward/rank"] + 0.5 * step["reward/semantic"]
        assert step["rollout/reward"] == pytest.approx(parts, abs=1e-4)
    assert not (tmp_path / "run" / "rewards").exists()


def test_an_unknown_reward_stops_a_run_before_it_begins(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error lists the names, and nothing is written."""
    assert train(data, tmp_path, "typo", "--reward", "hit+semantics") == 2
    assert "'semantics' must be one of" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


def test_parts_are_those_of_the_policy_and_the_folder(tmp_path: Path) -> None:
    """Meaning comes from the policy's table; a model that lies in the folder is not trained."""
    dataset = successor().task.dataset
    backbone = load_backbone("scratch:nano", dataset.catalogue.titles)
    task = backbone.task(dataset)
    rows = task.split("train")
    untrained = SASRec(task, hidden_size=8)
    untrained.save(tmp_path / "sasrec")
    parts = RewardParts(
        task=task, backbone=backbone, examples=rows, folder=tmp_path, progress=False
    )
    expected = token_embeddings(backbone.model, backbone.tokenizer, task.catalogue.titles)
    np.testing.assert_array_equal(parts.embeddings(), expected)
    titles = np.arange(12)[None]
    paid = parts.make("collaborative")(titles, rows.take(np.array([0])))
    np.testing.assert_array_equal(paid[0], untrained.scores(rows.take(np.array([0])))[0])
