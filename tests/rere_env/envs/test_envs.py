"""Gymnasium's own tools over both environments, without a workaround; warnings are errors."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_match import check_environments_match
from gymnasium.utils.performance import benchmark_init, benchmark_step, benchmark_vector_step
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import vector as vector_wrappers

from rere_env import ReReEnv, ReReVectorEnv

MODES = [mode.value for mode in AutoresetMode]


def play(env, num_steps=12):
    """Random legal steps of one environment, through all wrappers; how many episodes ended."""
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    ended = 0
    for _ in range(num_steps):
        action = rng.choice(np.flatnonzero(env.get_wrapper_attr("action_masks")()))
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            ended += 1
            env.reset()
    return ended


@pytest.mark.parametrize(
    "wrap",
    [
        gym.wrappers.NormalizeReward,
        gym.wrappers.Autoreset,
        lambda env: gym.wrappers.TransformReward(env, lambda reward: 2 * reward),
        lambda env: gym.wrappers.FilterObservation(env, ["history", "prefix"]),
        lambda env: gym.wrappers.RecordEpisodeStatistics(gym.wrappers.OrderEnforcing(env)),
    ],
)
def test_single_wrappers_sit_on_top(tiny_task, wrap):
    """Each runs episodes and finds `action_masks` through itself."""
    assert play(wrap(ReReEnv(tiny_task, slate_size=2)), num_steps=40) > 0


def test_two_made_alike_match(tiny_task):
    """Gymnasium's own comparison of two environments, step by step."""
    envs = [ReReEnv(tiny_task, slate_size=2) for _ in range(2)]
    check_environments_match(*envs, num_steps=40, seed=1)


def test_gymnasium_can_time_us(tiny_task):
    """Its benchmarks sample unmasked actions and never reset by hand."""
    options = {"slate_size": 2, "mask": "lazy"}
    assert benchmark_step(ReReEnv(tiny_task, **options), target_duration=0.05, seed=0) > 0
    assert benchmark_init(lambda: ReReEnv(tiny_task, **options), target_duration=0.05, seed=0) > 0
    envs = ReReVectorEnv(4, tiny_task, **options)
    assert benchmark_vector_step(envs, target_duration=0.05, seed=0) > 0


@pytest.mark.parametrize("mode", MODES)
def test_vector_wrappers_sit_on_top(tiny_task, mode):
    """Statistics, normalised rewards and lists of dicts, in every autoreset mode."""
    env = ReReVectorEnv(4, tiny_task, slate_size=2, autoreset_mode=mode)
    env = vector_wrappers.RecordEpisodeStatistics(env)
    env = vector_wrappers.NormalizeReward(env)
    env = vector_wrappers.DictInfoToList(env)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    lengths = []
    for _ in range(40):
        actions = env.unwrapped.candidates().sample(rng)
        _, _, terminated, truncated, infos = env.step(actions)
        over = terminated | truncated
        for row in np.flatnonzero(over):
            info = infos[row]
            lengths.append(int(info["episode"]["l"]))
            last = info["final_info"] if mode == "SameStep" else info
            assert len(last["slate"]) == 2
            assert {"hit", "is_success", "target_rank"} <= last.keys()
        if mode == "Disabled" and over.any():
            env.reset(options={"reset_mask": over})
    assert min(lengths) >= 4  # two titles of at least two tokens


def test_vector_observations_can_be_flattened(tiny_task):
    """The dict of id boxes becomes one row of ids."""
    env = vector_wrappers.FlattenObservation(ReReVectorEnv(3, tiny_task, slate_size=2))
    observation, _ = env.reset(seed=0)
    assert observation.shape == (3, 3 + 2 + 4)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize(
    "options", [{"exclude": "history"}, {"group_size": 2}, {"backend": "numba"}], ids=str
)
def test_a_copy_mid_episode_goes_on_alike(tiny_task, copier, options):
    """Filters, groups and compiled moves travel too."""
    options = {"slate_size": 1, **options}
    env = ReReVectorEnv(4, tiny_task, **options)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(3):
        env.step(env.candidates().sample(rng))
    other = copier(env)
    for _ in range(10):
        actions = env.candidates().sample(rng)
        ours, theirs = env.step(actions), other.step(actions)
        np.testing.assert_array_equal(ours[1], theirs[1])
        for name in ours[0]:
            np.testing.assert_array_equal(ours[0][name], theirs[0][name])
