"""Mask dialects: a pair of observation and mask, as each library wants it."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import FlattenObservation, RecordEpisodeStatistics, TimeLimit
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.data import Batch
from tianshou.env import DummyVectorEnv

from rere_env import DecisionActions, MaskInObservation, ReReEnv, TianshouMask

# Gymnasium says this of every wrapped environment.
wrapped = pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")


@pytest.mark.parametrize("mask", ["info", "observation", "lazy"])
@pytest.mark.parametrize(
    ("view", "names", "dtype"),
    [
        (MaskInObservation, ["action_mask", "observation"], np.int8),
        (TianshouMask, ["mask", "obs"], np.bool_),
    ],
)
def test_the_observation_is_a_pair(tiny_task, mask, view, names, dtype):
    """Exactly two keys, wherever the environment's own mask went; the mask is the true one."""
    env = view(ReReEnv(tiny_task, slate_size=2, mask=mask))
    rng = np.random.default_rng(0)
    observation, _ = env.reset(seed=0)
    over = False
    while not over:
        assert sorted(observation) == names
        assert env.observation_space.contains(observation)
        own, shown = observation[names[1]], observation[names[0]]
        assert sorted(own) == ["history", "prefix", "slate"]
        assert shown.dtype == dtype
        tokens = env.unwrapped.candidates().tokens
        np.testing.assert_array_equal(np.flatnonzero(shown), np.sort(tokens))
        observation, _, over, _, _ = env.step(rng.choice(tokens))
    assert np.flatnonzero(observation[names[0]]).tolist() == [0]


def test_the_mask_is_that_of_the_actions(tiny_task):
    """Around decisions it has one entry a decision, all legal; around model ids one a model id."""
    decisions = MaskInObservation(DecisionActions(ReReEnv(tiny_task, slate_size=2)))
    assert decisions.reset(seed=0)[0]["action_mask"].tolist() == [1, 1, 1, 1]
    model = MaskInObservation(ReReEnv(tiny_task, slate_size=2, token_ids="model"))
    observation, info = model.reset(seed=0)
    np.testing.assert_array_equal(observation["action_mask"], info["action_mask"])
    assert (
        model.action_space.sample(observation["action_mask"]) in model.unwrapped.candidates().tokens
    )


@wrapped
@pytest.mark.parametrize("view", [MaskInObservation, TianshouMask])
def test_both_checkers_pass(tiny_task, view):
    """SB3 knows no nested dicts, so it gets a flat observation inside the pair."""
    check_env(view(ReReEnv(tiny_task, slate_size=3)), skip_render_check=True)
    flat = view(FlattenObservation(ReReEnv(tiny_task, slate_size=3)))
    check_env(flat, skip_render_check=True)
    sb3_check_env(flat)


@pytest.mark.parametrize("view", [MaskInObservation, TianshouMask])
def test_pickles_specs_and_other_wrappers(view):
    """A copy goes on alike; the spec makes the same stack again; the whole is still flattened."""
    env = view(RecordEpisodeStatistics(TimeLimit(gym.make("ReRe-Games-v0", slate_size=1), 3)))
    env.reset(seed=0)
    other = pickle.loads(pickle.dumps(env))
    action = int(env.unwrapped.candidates().tokens[0])
    ours, theirs = (FlattenObservation(each).step(action)[0] for each in (env, other))
    np.testing.assert_array_equal(ours, theirs)
    again = gym.make(EnvSpec.from_json(view(gym.make("ReRe-Games-v0")).spec.to_json()))
    assert isinstance(again, view)


def test_tianshou_honours_the_mask(tiny_task):
    """An untrained Q-network, greedy or exploring, writes no illegal token."""
    env = TianshouMask(FlattenObservation(ReReEnv(tiny_task, slate_size=3, mask="lazy")))

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(10, 12)

        def forward(self, obs, state=None, info=None):
            flat = obs.obs if hasattr(obs, "obs") else obs
            return self.linear(torch.as_tensor(flat, dtype=torch.float32)), state

    policy = DiscreteQLearningPolicy(
        model=Network(),
        action_space=env.action_space,
        observation_space=env.observation_space,
        eps_inference=0.5,
    )
    envs = DummyVectorEnv([lambda: env])
    observation, _ = envs.reset(seed=0)
    for _ in range(200):  # what a Collector does, without the compilation of its buffer
        batch = Batch(obs=observation, info={})
        action = policy.add_exploration_noise(policy(batch).act, batch)
        observation, _, over, _, info = envs.step(action)
        assert not info[0]["illegal"]
        if over[0]:
            observation, _ = envs.reset()


def test_a_mask_needs_discrete_actions():
    """The error shows the space."""
    with pytest.raises(TypeError, match=r"a mask needs Discrete actions; got Box"):
        MaskInObservation(gym.make("Pendulum-v1"))
