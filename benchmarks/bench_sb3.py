"""MaskablePPO's steps per second through our `VecEnv`, beside `DummyVecEnv` of single environments.

    python -m pytest benchmarks/bench_sb3.py --benchmark-only

Equality is asserted first. Both sides train the same agent on the same seeds, in turn, round by
round; the time is CPU time of one thread. The ratio is saved as `ratio` in the JSON
(`--benchmark-json`).
"""

import time
from collections.abc import Callable

import numpy as np
import pytest
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common import env_util
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from agents.adapters.sb3 import MaskablePPO, make_vec_env
from agents.bench.timing import interleave, ratio
from rere_env import Task
from rere_env.worlds import fifty_items

SEED = 0
ROUNDS = 5
AT_LEAST = 2.5


@pytest.fixture(scope="module")
def task() -> Task:
    """Fifty titles: the networks are small, so that the environment shows."""
    return fifty_items().task


def ours(task: Task, num_envs: int) -> VecEnv:
    """The native vector environment, and what counts its episodes."""
    return VecMonitor(make_vec_env(num_envs, task, slate_size=1))


def dummy(task: Task, num_envs: int) -> VecEnv:
    """What `stable_baselines3.common.env_util.make_vec_env` makes: `Monitor` over `gym.make`."""
    return env_util.make_vec_env(
        "ReRe-Games-v0", num_envs, env_kwargs={"task": task, "slate_size": 1, "mask": "lazy"}
    )


def assert_equal(first: VecEnv, second: VecEnv, num_steps: int) -> None:
    """Play both side by side: observations, masks, rewards and ends agree."""
    rng = np.random.default_rng(SEED)
    first.seed(SEED)
    second.seed(SEED)
    seen = first.reset(), second.reset()
    for _ in range(num_steps):
        for name in seen[0]:
            np.testing.assert_array_equal(seen[0][name], seen[1][name])
        masks = get_action_masks(first)
        np.testing.assert_array_equal(masks, get_action_masks(second))
        actions = np.where(masks, rng.random(masks.shape), -1.0).argmax(axis=1)
        one, two = first.step(actions), second.step(actions)
        np.testing.assert_array_equal(one[1], two[1])
        np.testing.assert_array_equal(one[2], two[2])
        seen = one[0], two[0]


def test_masked_ppo(benchmark, task):
    """A rollout and its update, ours and theirs."""
    agent = MaskablePPO(num_envs=256, num_steps=8, batch_size=512)
    envs = {"ours": ours(task, agent.num_envs), "dummy": dummy(task, agent.num_envs)}
    assert_equal(envs["ours"], envs["dummy"], num_steps=20)
    steps = agent.num_envs * agent.num_steps

    def training(env: VecEnv) -> Callable[[], object]:
        model = agent.make_model(env, seed=SEED)
        return lambda: model.learn(steps, reset_num_timesteps=False)

    sides = {name: training(env) for name, env in envs.items()}
    interleave(sides, 1)  # warms up
    benchmark.pedantic(sides["ours"], rounds=1)
    if benchmark.stats is None:  # under --benchmark-disable nothing is measured
        return
    seconds = interleave(sides, ROUNDS, time.process_time)
    found = ratio(seconds["ours"], seconds["dummy"])
    benchmark.extra_info["ratio"] = found
    for name, times in seconds.items():
        benchmark.extra_info[f"{name}/steps_per_s"] = steps / float(np.median(times))
    assert found["median"] >= AT_LEAST, found
