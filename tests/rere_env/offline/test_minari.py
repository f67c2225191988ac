"""Episodes through Minari and back."""

import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from rere_env import ReReVectorEnv
from rere_env.offline import TargetExpert, expert_episodes
from rere_env.offline.minari import DENSE_LIMIT, DataCard, choose_masks, write_minari

minari = pytest.importorskip("minari")

ID = "rere/tiny-target-v0"


class Everything:
    """Recommends the titles in the order of their ids."""

    def recommend(self, examples, k):
        """Return titles 0, 1, ..., k - 1."""
        return np.tile(np.arange(k), (len(examples), 1))


@pytest.fixture
def env(data_root, tmp_path, monkeypatch):
    """A small environment by name, and a folder for Minari."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return gym.make("ReRe-Toys-v0", slate_size=2)


def play(env, rows=(0, 3, 6)):
    """Episodes of the target expert."""
    spec = env.spec.kwargs
    envs = ReReVectorEnv(
        2,
        env.unwrapped.task,
        slate_size=spec["slate_size"],
        token_ids=spec.get("token_ids", "local"),
        mask="lazy",
        autoreset_mode="Disabled",
    )
    return expert_episodes(envs, TargetExpert(Everything()), np.array(rows))


CARD = DataCard(expert="target", description="small")


def write(env, **arguments):
    """Write the episodes of the target expert."""
    return write_minari(ID, play(env), env, CARD, **arguments)


def masks_of(episode, num_actions):
    """The dense masks of a stored episode, whatever their format."""
    if "action_mask" in episode.infos:
        return episode.infos["action_mask"]
    candidates = episode.infos["candidates"]
    masks = np.zeros((len(episode) + 1, num_actions), np.int8)
    for step in range(len(masks)):
        start, end = candidates["indptr"][step : step + 2]
        masks[step, candidates["tokens"][start:end]] = 1
    return masks


@pytest.mark.parametrize("token_ids", ["local", "model"])
@pytest.mark.parametrize("masks", ["dense", "csr"])
def test_a_data_set_replays_in_the_environment_it_names(env, masks, token_ids):
    """Loaded anew, its actions give the same observations, rewards, ends and masks."""
    env = gym.make("ReRe-Toys-v0", slate_size=2, token_ids=token_ids)
    write(env, masks=masks)
    loaded = minari.load_dataset(ID)
    again = loaded.recover_environment()
    starts = loaded.storage.get_episode_metadata(range(len(loaded)))
    for episode, start in zip(loaded, starts, strict=True):
        observation, info = again.reset(options=start["options"])
        legal = masks_of(episode, again.action_space.n)
        for step, action in enumerate(episode.actions):
            for name, column in episode.observations.items():
                np.testing.assert_array_equal(column[step], observation[name])
            np.testing.assert_array_equal(legal[step], info["action_mask"])
            observation, *result, info = again.step(action)
            assert result == [
                episode.rewards[step],
                episode.terminations[step],
                episode.truncations[step],
            ]
        assert result[1]
        np.testing.assert_array_equal(episode.observations["slate"][-1], observation["slate"])
        np.testing.assert_array_equal(legal[-1], info["action_mask"])
        for key in ("target", "target_rank", "hit", "slate", "item_rewards"):
            np.testing.assert_array_equal(start[key], info[key])
        assert start["reward_terms"] == info["reward_terms"]


def test_what_is_stored_says_where_it_is_from(env):
    """Steps and episodes are counted, spaces and metadata kept."""
    card = replace(
        CARD, author="somebody", code_permalink="https://example.org", metadata={"data_hash": "abc"}
    )
    written = write_minari(ID, play(env), env, card)
    loaded = minari.load_dataset(ID)
    assert loaded.total_episodes == written.total_episodes == 3
    assert loaded.total_steps == sum(len(episode) for episode in play(env))
    assert loaded.observation_space == env.observation_space
    assert loaded.action_space == env.action_space
    metadata = loaded.storage.metadata
    assert metadata["algorithm_name"] == "target"
    assert metadata["author"] == {"somebody"}
    assert metadata["data_hash"] == "abc"
    assert metadata["mask_format"] == "dense"


def test_masks_can_be_left_out(env):
    """Then the infos are empty."""
    assert all(episode.infos == {} for episode in write(env, masks="none"))


def test_auto_masks_are_dense_up_to_a_size():
    """The rule."""
    assert choose_masks("auto", DENSE_LIMIT) == "dense"
    assert choose_masks("auto", DENSE_LIMIT + 1) == "csr"
    assert choose_masks("dense", DENSE_LIMIT + 1) == "dense"
    with pytest.raises(ValueError, match="`masks`"):
        choose_masks("sparse", 1)


def test_a_data_set_is_not_overwritten_by_accident(env):
    """The id is refused until it is asked for."""
    write(env)
    with pytest.raises(FileExistsError, match=rf"'{ID}' exists .*--overwrite"):
        write(env)
    assert write(env, masks="none", overwrite=True).storage.metadata["mask_format"] == "none"


def test_a_broken_export_leaves_what_was_there(env, tmp_path):
    """The old data set comes back; without one nothing remains."""

    def broken():
        yield from play(env)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_minari(ID, broken(), env, CARD)
    assert [path.name for path in (tmp_path / "minari" / "rere").iterdir()] == [
        "namespace_metadata.json"
    ]
    write(env)
    with pytest.raises(RuntimeError, match="stopped"):
        write_minari(ID, broken(), env, CARD, overwrite=True)
    assert minari.load_dataset(ID).total_episodes == 3
    assert list(minari.list_local_datasets()) == [ID]


@pytest.mark.parametrize("dataset_id", ["rere/tiny", "no spaces-v0", ""])
def test_a_malformed_id_is_refused(env, dataset_id):
    """The message shows a good one, and nothing is written."""
    with pytest.raises(ValueError, match="must look like 'rere/games-target-v0'"):
        write_minari(dataset_id, [], env, CARD)


def test_a_missing_minari_names_the_extra(env, monkeypatch):
    """It is an optional dependency."""
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ImportError, match=r"rere-env\[offline\]"):
        write(env)
