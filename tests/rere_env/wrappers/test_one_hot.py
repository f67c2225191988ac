"""`OneHotObservation`: ids as ones and zeros, for tiny catalogues only."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import FlattenObservation, NormalizeObservation, TimeLimit
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from rere_env import (
    DecisionActions,
    MaskInObservation,
    OneHotObservation,
    ReReEnv,
    ReReVectorEnv,
    VectorOneHotObservation,
)


def test_each_place_is_a_one_among_zeros(task_of):
    """Two titles of two words each: history 3 x 2, slate 2 x 2, prefix 2 x 4. By hand."""
    env = OneHotObservation(ReReEnv(task_of(["a b", "c d"], [((1, 0), 1)]), slate_size=2))
    assert env.observation_space == gym.spaces.Box(0.0, 1.0, (18,), np.float32)
    observation, _ = env.reset(seed=0)
    history = [0, 1, 1, 0, 0, 0]
    assert observation.tolist() == [*history, *[0] * 12]
    for token in (3, 4, 0, 1):
        observation = env.step(token)[0]
    assert observation.tolist() == [*history, *[0, 1, 0, 0], *[1, 0, 0, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("mask", ["info", "observation", "lazy"])
def test_nothing_is_lost(tiny_task, mask):
    """The ids can be read back from the ones; the mask is not among them."""
    plain, env = (ReReEnv(tiny_task, slate_size=3, mask=mask) for _ in range(2))
    env = OneHotObservation(env)
    rng = np.random.default_rng(0)
    seen, hot = plain.reset(seed=0)[0], env.reset(seed=0)[0]
    over = False
    while not over:
        first = 0
        for key, length, num_ids in (("history", 3, 8), ("slate", 3, 8), ("prefix", 4, 11)):
            places = hot[first : first + length * num_ids].reshape(length, num_ids)
            first += length * num_ids
            ids = np.where(places.any(axis=1), places.argmax(axis=1) + 1, 0)
            np.testing.assert_array_equal(ids, seen[key])
            assert places.sum(axis=1).max(initial=0) <= 1
        assert first == len(hot)
        action = plain.candidates().sample(rng)[0]
        (seen, _, over, _, _), (hot, *_) = plain.step(action), env.step(action)


# Gymnasium says this of every wrapped environment.
@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_both_checkers_pass_and_other_wrappers_compose(tiny_task):
    """A flat float Box goes through everything."""
    for env in (
        ReReEnv(tiny_task, slate_size=2),
        DecisionActions(ReReEnv(tiny_task, slate_size=2)),
    ):
        hot = pickle.loads(pickle.dumps(OneHotObservation(env)))
        check_env(hot, skip_render_check=True)
        sb3_check_env(hot)
        sb3_check_env(MaskInObservation(hot))
        sb3_check_env(TimeLimit(NormalizeObservation(hot), 3))


def test_the_limit_is_part_of_the_spec():
    """A wrapped environment can be made again from JSON."""
    env = OneHotObservation(gym.make("ReRe-Games-v0", slate_size=1), max_size=50_000)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert isinstance(again, OneHotObservation)
    assert again.observation_space == env.observation_space


@pytest.mark.parametrize("vector", [False, True])
def test_a_large_catalogue_is_refused(vector):
    """The sizes and the ways out."""
    env, view = gym.make("ReRe-Games-v0", slate_size=1), OneHotObservation
    if vector:
        env, view = ReReVectorEnv(2, slate_size=1), VectorOneHotObservation
    message = (
        r"at most `max_size` \(=10000\) floats, but this one would have 35365 "
        r"\(history 10 x 2999 \+ slate 1 x 2999 \+ prefix 9 x 264\); embed the ids"
    )
    with pytest.raises(ValueError, match=message):
        view(env)


def test_flat_observations_are_refused(tiny_task):
    """The ids must still be under their keys."""
    with pytest.raises(TypeError, match=r"`OneHotObservation` reads .*; got Box.*Put the wrapper"):
        OneHotObservation(FlattenObservation(ReReEnv(tiny_task, slate_size=1)))
