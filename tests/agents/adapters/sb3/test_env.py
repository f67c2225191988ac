"""Our `VecEnv` equals Stable-Baselines3's `DummyVecEnv` of single environments, row by row."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from agents.adapters.sb3 import MaskablePPO, ReReVecEnv, make_vec_env
from rere_env import ReReEnv, ReReVectorEnv
from rere_env.worlds import fifty_items, successor
from rere_env.wrappers import DecisionActions, VectorDecisionActions

N = 4
TASK = successor().task


def singles(split, decisions, options):
    """N of `gym.make`, in the shards that the rows of a native environment serve."""

    def make(row):
        shard = (0, 1) if split == "train" else (row, N)
        env = gym.make("ReRe-Games-v0", task=TASK, split=split, shard=shard, **options)
        return DecisionActions(env) if decisions else env

    return DummyVecEnv([lambda row=row: make(row) for row in range(N)])


def assert_equal_info(ours, theirs):
    """Equal keys and values, also in dicts inside."""
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        if isinstance(value, dict):
            assert_equal_info(ours[key], value)
        else:
            np.testing.assert_array_equal(ours[key], value, err_msg=key)


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize(
    ("decisions", "options"),
    [
        (False, {"slate_size": 1, "mask": "lazy"}),
        (False, {"slate_size": 3, "mask": "info"}),
        (False, {"slate_size": 2, "mask": "observation", "on_illegal": "noop", "max_tokens": 7}),
        (True, {"slate_size": 2, "mask": "lazy"}),
    ],
    ids=["tokens", "slates", "truncated", "decisions"],
)
def test_equals_dummy_vec_env(split, decisions, options):
    """Same seeds and actions, some of them illegal: same observations, rewards, ends and infos."""
    theirs = singles(split, decisions, options)
    ours = make_vec_env(N, TASK, split=split, decisions=decisions, **options)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    rng = np.random.default_rng(0)
    assert ours.seed(7) == theirs.seed(7)
    seen, expected = ours.reset(), theirs.reset()
    ends = 0
    for _ in range(60):
        assert_equal_info(seen, expected)
        for row in range(N):
            assert_equal_info(ours.reset_infos[row], theirs.reset_infos[row])
        masks = np.stack(theirs.env_method("action_masks"))
        legal = np.where(masks, rng.random(masks.shape), -1.0).argmax(1)
        actions = np.where(rng.random(N) < 0.9, legal, rng.integers(masks.shape[1], size=N))
        seen, rewards, dones, infos = ours.step(actions)
        expected, their_rewards, their_dones, their_infos = theirs.step(actions)
        np.testing.assert_array_equal(rewards, their_rewards)
        np.testing.assert_array_equal(dones, their_dones)
        assert rewards.dtype == np.float32
        for row in range(N):
            if dones[row]:
                assert_equal_info(infos[row], their_infos[row])
            else:
                assert infos[row].get("illegal", False) == their_infos[row]["illegal"]
        ends += dones.sum()
    assert ends > N


def test_truncation_is_not_termination():
    """A row that runs out of tokens says so, and shows where it stood."""
    env = make_vec_env(1, TASK, slate_size=1, on_illegal="noop", max_tokens=2)
    env.reset()
    illegal = np.array([int(np.flatnonzero(~get_action_masks(env)[0])[0])])
    _, _, dones, infos = env.step(illegal)
    assert not dones[0]
    assert infos[0] == {"illegal": True}
    _, _, dones, infos = env.step(illegal)
    assert dones[0]
    assert infos[0]["TimeLimit.truncated"] is True
    assert infos[0]["is_success"] is False
    np.testing.assert_array_equal(infos[0]["terminal_observation"]["prefix"], 0)


def test_masks_are_those_of_the_environment():
    """MaskablePPO finds them, for all rows or some."""
    env = make_vec_env(N, TASK, slate_size=1)
    env.reset()
    assert is_masking_supported(env)
    np.testing.assert_array_equal(get_action_masks(env), env.env.action_masks())
    some = env.env_method("action_masks", indices=[2, 0])
    np.testing.assert_array_equal(some, env.env.action_masks()[[2, 0]])


def test_decisions_are_all_legal():
    """The masks are those of the view, not of the tokens behind it."""
    env = make_vec_env(N, TASK, slate_size=1, decisions=True)
    env.reset()
    assert get_action_masks(env).shape == (N, env.action_space.n)
    assert get_action_masks(env).all()


def test_options_choose_the_examples():
    """Options are used by the next reset, once."""
    env = make_vec_env(N, TASK, slate_size=1)
    env.seed(0)
    env.set_options([{"example": row + 5} for row in range(N)])
    env.reset()
    assert [info["example"] for info in env.reset_infos] == [5, 6, 7, 8]
    env.set_options({"example": 3})
    env.reset()
    assert [info["example"] for info in env.reset_infos] == [3] * N
    env.seed(0)
    env.reset()
    assert [info["example"] for info in env.reset_infos] != [3] * N


def test_options_for_some_rows_are_refused():
    """One environment resets all its rows in one way."""
    env = make_vec_env(2, TASK, slate_size=1)
    env.set_options([{"example": 1}, {}])
    with pytest.raises(ValueError, match="every row"):
        env.reset()


def test_groups_share_seeds_and_users():
    """Group g of G rows has seed + g, as in the native environment."""
    env = make_vec_env(4, TASK, group_size=2)
    env.seed(3)
    observations = env.reset()
    native = ReReVectorEnv(4, TASK, group_size=2)
    expected, _ = native.reset(seed=3)
    np.testing.assert_array_equal(observations["history"], expected["history"])


def test_only_native_environments_are_taken():
    """Other vector environments have a home of their own."""
    env = SyncVectorEnv([lambda: ReReEnv(TASK, slate_size=1)])
    with pytest.raises(TypeError, match="DummyVecEnv"):
        ReReVecEnv(env)


def test_only_same_step_is_taken():
    """Stable-Baselines3 wants the next episode's observation with the last reward."""
    with pytest.raises(ValueError, match="SameStep"):
        ReReVecEnv(VectorDecisionActions(ReReVectorEnv(2, TASK, slate_size=1)))


def test_attributes_belong_to_all_rows():
    """They can be read for some rows, but set for all of them only."""
    env = make_vec_env(3, TASK, slate_size=1, decisions=True)
    assert env.get_attr("num_envs", indices=[0, 2]) == [3, 3]
    assert env.get_attr("task", indices=0) == [TASK]
    assert not env.has_attr("no_such_thing")
    env.set_attr("mark", 1)
    assert env.get_attr("mark") == [1, 1, 1]
    with pytest.raises(ValueError, match="every row"):
        env.set_attr("mark", 2, indices=[0])
    assert env.env_is_wrapped(gym.Wrapper) == [False] * 3


def test_methods_that_are_not_by_row_are_refused():
    """`candidates` is ragged, for example."""
    env = make_vec_env(2, TASK, slate_size=1)
    with pytest.raises(AttributeError, match="action_masks"):
        env.env_method("candidates")


def test_pictures_are_tiled():
    """`render` shows all rows."""
    env = make_vec_env(2, TASK, slate_size=1, render_mode="rgb_array")
    env.reset()
    one = env.get_images()[0]
    assert env.render("rgb_array").shape[1] >= one.shape[1]
    assert make_vec_env(2, TASK, slate_size=1).get_images() == [None, None]


def test_masked_evaluation_counts_episodes():
    """sb3-contrib's evaluation plays whole and legal episodes, under a `VecMonitor`."""
    agent = MaskablePPO(num_envs=8, batch_size=64)
    env = VecMonitor(make_vec_env(8, fifty_items().task, split="valid", slate_size=1))
    model = agent.make_model(env, seed=0)
    illegal = []
    rewards, lengths = evaluate_policy(
        model,
        env,
        n_eval_episodes=20,
        deterministic=False,
        return_episode_rewards=True,
        callback=lambda found, _: illegal.append(found["info"].get("illegal", False)),
    )
    assert len(rewards) == len(lengths) == 20
    assert set(rewards) <= {0.0, 1.0}
    assert not any(illegal)
