"""Every id through Gymnasium's front door."""

import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from rere_env import ReReEnv, ReReVectorEnv

REAL = [f"ReRe-{name}-v0" for name in ("Toys", "Industrial", "Office", "VideoGames", "Yelp")]
GAMES = "ReRe-Games-v0"
TINY = {"slate_size": 3}


@pytest.mark.parametrize("env_id", [GAMES, *REAL])
def test_both_checkers_pass_for_every_id(env_id, data_root):
    """Made by id, with the picture, warnings are errors."""
    env = gym.make(env_id, render_mode="ansi", **TINY).unwrapped
    check_env(env)
    sb3_check_env(env)
    env.close()


@pytest.mark.parametrize("env_id", [GAMES, *REAL])
def test_make_vec_picks_the_native_environment(env_id, data_root):
    """No mode needs to be named, and the autoreset mode is an enum on the instance."""
    envs = gym.make_vec(env_id, 3, autoreset_mode="SameStep", **TINY)
    assert isinstance(envs, ReReVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observation, infos = envs.reset(seed=0)
    assert envs.observation_space.contains(observation)
    assert infos["action_mask"].shape == (3, envs.single_action_space.n)


@pytest.mark.parametrize("env_id", [GAMES, *REAL])
def test_a_spec_survives_json(env_id, data_root):
    """String entry points, plain keyword arguments, no time limit: the same environment again."""
    spec = gym.spec(env_id)
    assert isinstance(spec.entry_point, str)
    assert isinstance(spec.vector_entry_point, str)
    assert spec.max_episode_steps is None
    env = gym.make(env_id, split="test", reward="hit", shard=(0, 2), **TINY)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    first, second = env.reset(seed=0), again.reset(seed=0)
    for name in first[0]:
        np.testing.assert_array_equal(first[0][name], second[0][name])
    assert isinstance(again.unwrapped, ReReEnv)


def test_a_vector_spec_survives_json(data_root):
    """Every keyword argument of the vector environment has a JSON form."""
    envs = gym.make_vec("ReRe-Toys-v0", 2, autoreset_mode="NextStep", **TINY)
    assert '"autoreset_mode": "NextStep"' in envs.spec.to_json()


def test_asking_for_a_spec_copies_no_data(data_root):
    """A task as a keyword argument is deep-copied in no time: it returns itself."""
    task = ReReEnv(data="toys", **TINY).task
    env = gym.make("ReRe-Games-v0", task=task, **TINY)
    assert env.spec.kwargs["task"] is task


def test_gymnasium_can_import_us_by_itself(data_root):
    """`gym.make("rere_env:ReRe-...")` needs no import beforehand."""
    code = (
        "import gymnasium as gym; env = gym.make('rere_env:ReRe-Toys-v0', slate_size=2); "
        "print(env.reset(seed=0)[0]['slate'])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path.cwd()
    )
    assert process.stdout == "[0 0]\n", process.stderr


def test_a_missing_data_set_says_what_to_do(data_root):
    """The place that was searched and the command that fills it."""
    (data_root / "toys").rename(data_root / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"'toys' is not in .*rere data build"):
        gym.make("ReRe-Toys-v0")


# Python 3.12 and later warn about any fork of a process with threads (torch's, elsewhere).
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_environments_go_to_other_processes(context, data_root):
    """Async vectors pickle the constructor and, with spawn, import everything anew."""
    envs = gym.vector.AsyncVectorEnv(
        [lambda i=i: gym.make("rere_env:ReRe-Toys-v0", slate_size=2) for i in range(2)],
        context=context,
    )
    native = gym.make_vec("ReRe-Toys-v0", 2, slate_size=2)
    ours, theirs = native.reset(seed=0), envs.reset(seed=0)
    np.testing.assert_array_equal(ours[0]["history"], theirs[0]["history"])
    envs.close()


def test_the_built_in_world_is_made_in_under_a_second():
    """In a fresh process, after the imports; CPU time, since tests share the machine."""
    code = (
        "import time, gymnasium, rere_env.envs; start = time.process_time(); "
        "gymnasium.make('ReRe-Games-v0').reset(seed=0); print(time.process_time() - start)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert float(process.stdout) < 1.0


def test_making_a_known_environment_again_is_quick(data_root):
    """The task is loaded once: a vector of many single environments does not read files N times."""
    gym.make("ReRe-Toys-v0", **TINY)
    start = time.perf_counter()
    for _ in range(10):
        gym.make("ReRe-Toys-v0", **TINY)
    assert time.perf_counter() - start < 1.0


def test_the_built_in_world_can_be_played():
    """A whole masked episode of the default slate."""
    env = gym.make(GAMES)
    _, info = env.reset(seed=0)
    over = False
    while not over:
        _, _, over, _, info = env.step(env.action_space.sample(info["action_mask"]))
    assert len(set(info["slate"].tolist())) == 16
    assert not info["illegal"]


def test_a_hugging_face_tokenizer_is_named_by_its_folder(data_root, tmp_path):
    """A path survives JSON, and the actions are then the tokenizer's own ids."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    raw = tokenizers.ByteLevelBPETokenizer()
    raw.train_from_iterator(["Star Quest", "Moon Racer"], vocab_size=270, show_progress=False)
    raw.add_special_tokens(["<eos>"])
    folder = str(tmp_path / "tokenizer")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw._tokenizer, eos_token="<eos>"
    ).save_pretrained(folder)
    env = gym.make("ReRe-Toys-v0", tokenizer=folder, token_ids="model", **TINY)
    env = gym.make(EnvSpec.from_json(env.spec.to_json()))
    task = env.unwrapped.task
    assert env.action_space.n == task.tokenizer.vocab_size
    _, info = env.reset(seed=0)
    over = False
    while not over:
        _, _, over, _, info = env.step(env.action_space.sample(info["action_mask"]))
    assert not info["illegal"]
    assert len(set(info["slate"].tolist())) == 3
