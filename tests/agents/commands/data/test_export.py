"""`rere data export`: from the command to a Minari data set and back."""

import sys
from pathlib import Path

import numpy as np
import pytest
from gymnasium.wrappers import OrderEnforcing

from agents.baselines import CoOccurrence, Popularity
from agents.cli import main
from rere_env import ReReEnv, games_dataset, load_task
from rere_env.games import oracle

minari = pytest.importorskip("minari")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Minari keeps data sets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path


def export(name: str, *flags: str) -> "minari.MinariDataset":
    """Run the command on a few examples of the built-in world."""
    arguments = ["data", "export", "--minari", name, "--num-episodes", "6", "--seed", "3", *flags]
    assert main(arguments) == 0
    return minari.load_dataset(name)


def facts(dataset: "minari.MinariDataset") -> list[dict]:
    """What each episode says of itself."""
    return list(dataset.storage.get_episode_metadata(range(len(dataset))))


def test_the_target_is_written_for_some_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """Each episode is the tokens of its example's target, and pays 1."""
    dataset = export("rere/target-v0")
    task = load_task()
    examples = np.sort(np.random.default_rng(3).choice(len(task.split("train")), 6, replace=False))
    assert len(dataset) == 6
    for episode, fact, example in zip(dataset, facts(dataset), examples, strict=True):
        target = task.split("train").target_title[example]
        assert fact["options"] == {"example": example}
        assert episode.actions.tolist() == task.title_tokens[target].tolist()
        assert episode.rewards.sum() == 1
        assert episode.infos["action_mask"].shape == (len(episode) + 1, task.trie.num_tokens)
    assert "6 episodes" in capsys.readouterr().out


def test_an_exported_episode_replays(capsys: pytest.CaptureFixture[str]) -> None:
    """The environment it names gives the same observations, rewards and masks."""
    flags = ["--slate-size", "3", "--expert", "oracle", "--split", "test", "--tokens", "model"]
    dataset = export("rere/oracle-v0", *flags, "--reward", "hit")
    env = dataset.recover_environment()
    assert isinstance(env, OrderEnforcing)
    for episode, fact in zip(dataset, facts(dataset), strict=True):
        observation, info = env.reset(options=fact["options"])
        for step, action in enumerate(episode.actions):
            for name, column in episode.observations.items():
                np.testing.assert_array_equal(column[step], observation[name])
            np.testing.assert_array_equal(episode.infos["action_mask"][step], info["action_mask"])
            observation, reward, *_, info = env.step(action)
            assert reward == episode.rewards[step]
        assert info["target_rank"] == fact["target_rank"]


@pytest.mark.parametrize("name", ["popularity", "co_occurrence", "oracle"])
def test_a_recommender_writes_its_slate(name: str) -> None:
    """The slate of every episode is what the recommender says, in its order."""
    task = load_task()
    train = task.split("train")
    expert = {
        "popularity": lambda: Popularity(task, train),
        "co_occurrence": lambda: CoOccurrence(task, train),
        "oracle": oracle,
    }[name]()
    dataset = export(f"rere/{name}-v0", "--expert", name, "--slate-size", "4", "--split", "valid")
    for fact in facts(dataset):
        rows = np.array([fact["options"]["example"]])
        said = expert.recommend(task.split("valid").take(rows), 4)[0]
        assert fact["slate"].tolist() == said.tolist()


def test_a_policy_is_an_expert() -> None:
    """Whatever `rere evaluate` can load writes distinct titles."""
    flags = ["--expert", "scratch:nano", "--slate-size", "2", "--beam", "3", "--device", "cpu"]
    for fact in facts(export("rere/policy-v0", *flags)):
        assert len(set(fact["slate"].tolist())) == 2


def test_masks_can_be_ragged_or_absent() -> None:
    """The same legal actions, stored alone; or none."""
    dense, ragged = export("rere/a-v0"), export("rere/b-v0", "--masks", "csr")
    for one, other in zip(dense, ragged, strict=True):
        rows, tokens = np.nonzero(one.infos["action_mask"])
        assert other.infos["candidates"]["tokens"].tolist() == tokens.tolist()
        assert np.diff(other.infos["candidates"]["indptr"]).tolist() == np.bincount(rows).tolist()
    assert export("rere/c-v0", "--masks", "none")[0].infos == {}


def test_the_data_set_names_what_it_was_made_of() -> None:
    """Hashes, expert, seed, versions, code; and the test split for evaluation."""
    dataset = export("rere/named-v0", "--author", "somebody")
    metadata = dataset.storage.metadata
    data = games_dataset()
    assert metadata["data_hash"] == data.content_hash
    assert metadata["catalogue_hash"] == data.catalogue.content_hash()
    assert (metadata["expert"], metadata["seed"], metadata["split"]) == ("target", 3, "train")
    assert metadata["versions"]["numpy"] == np.__version__
    assert metadata["code_permalink"].startswith("https://github.com/rere-env/rere-env/tree/")
    assert "'games'" in metadata["description"]
    assert dataset.recover_environment().spec.kwargs["split"] == "train"
    env = dataset.recover_environment(eval_env=True).unwrapped
    assert isinstance(env, ReReEnv)
    assert env.reset(seed=0)[1]["example"] == 0  # in order: an evaluation split


def test_a_folder_of_data_is_found_again(folder: Path) -> None:
    """The spec keeps its absolute path."""
    data = folder / "mine"
    data.mkdir()
    (data / "items.csv").write_text("item_id,title\na,Red Fox\nb,Red Owl\nc,Elk\n", "utf-8")
    rows = "user_id,history,item_id,timestamp\n1,a b,c,1\n2,c,a,2\n"
    for split in ("train", "valid", "test"):
        (data / f"{split}.csv").write_text(rows, "utf-8")
    assert main(["data", "export", "--minari", "mine-v0", "--data", str(data)]) == 0
    dataset = minari.load_dataset("mine-v0")
    assert len(dataset) == 2
    assert dataset.env_spec.kwargs["data"] == str(data)
    assert dataset.recover_environment().unwrapped.task.catalogue.num_titles == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--minari", "rere/x"], "must look like"),
        (["--minari", "x-v0", "--num-episodes", "99999999"], "`num_episodes`"),
        (["--minari", "x-v0", "--expert", "popularty"], "did you mean popularity?"),
        (["--minari", "x-v0", "--split", "nosuch"], "must be one of"),
        (["--minari", "x-v0", "--data", "no/such/folder"], "is not in"),
    ],
)
def test_bad_flags_are_clear_errors(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2 and a line that says how to mend it."""
    assert main(["data", "export", *flags]) == 2
    assert message in capsys.readouterr().err


def test_an_oracle_of_what_nobody_knows_is_refused(data: Path, capsys) -> None:
    """The message says who can write instead."""
    flags = ["--minari", "x-v0", "--expert", "oracle", "--data", str(data)]
    assert main(["data", "export", *flags]) == 2
    assert "nobody knows that of 'walk'; use target" in capsys.readouterr().err


def test_a_data_set_is_replaced_only_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the flag."""
    export("rere/once-v0")
    assert main(["data", "export", "--minari", "rere/once-v0", "--num-episodes", "2"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    export("rere/once-v0", "--overwrite", "--masks", "none")


def test_a_missing_minari_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, no traceback."""
    monkeypatch.setitem(sys.modules, "minari", None)
    assert main(["data", "export", "--minari", "x-v0", "--num-episodes", "2"]) == 1
    assert "pip install 'rere-env[offline]'" in capsys.readouterr().err


def test_large_masks_are_announced(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    """Before the work begins, with the remedy."""
    monkeypatch.setattr("agents.commands.data.export.GIB", 1_000)
    export("rere/large-v0")
    assert "--masks csr" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    """Experts and examples are listed."""
    with pytest.raises(SystemExit):
        main(["data", "export", "--help"])
    shown = capsys.readouterr().out
    assert "co_occurrence" in shown
    assert "--minari" in shown
