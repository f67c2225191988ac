"""Steps per second of the environment beside a plain-Python one. Equality is asserted first.

    python -m pytest benchmarks/bench_env.py --benchmark-only

The peer is `agents.bench.env.peers.DictTrieEnv` under Gymnasium's `SyncVectorEnv`. Each case
replays actions that were drawn beforehand, so drawing them is not measured; N x STEPS / median =
steps per second, shown as `steps_per_s` in the saved JSON (`--benchmark-json`). Resets count as
steps in both. The published ratios come from `rere bench env`.
"""

from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv, VectorEnv

from agents.bench.env.peers import DictTrieEnv, dict_trie
from rere_env import ReReEnv, ReReVectorEnv, Task, load_task

STEPS = 20
SEED = 0


@pytest.fixture(scope="module")
def task() -> Task:
    """The built-in world: 3,000 titles."""
    return load_task()


def native(task: Task, num_envs: int, slate_size: int, mask: bool) -> VectorEnv:
    """Ours."""
    return ReReVectorEnv(num_envs, task, slate_size=slate_size, mask="info" if mask else "lazy")


def sync(task: Task, num_envs: int, slate_size: int, mask: bool) -> VectorEnv:
    """Ours, one object a row."""
    style = "info" if mask else "lazy"
    return SyncVectorEnv(
        [lambda: ReReEnv(task, slate_size=slate_size, mask=style) for _ in range(num_envs)]
    )


def peer(task: Task, num_envs: int, slate_size: int, mask: bool) -> VectorEnv:
    """Plain Python, one object a row; the dict trie is shared."""
    root = dict_trie(task)
    return SyncVectorEnv(
        [lambda: DictTrieEnv(task, root, slate_size=slate_size, mask=mask) for _ in range(num_envs)]
    )


Maker = Callable[[Task, int, int, bool], VectorEnv]


def legal_actions(task: Task, num_envs: int, slate_size: int) -> np.ndarray:
    """Draw [STEPS, N] legal actions of the episodes that begin with `reset(seed=SEED)`."""
    env = ReReVectorEnv(num_envs, task, slate_size=slate_size, mask="lazy")
    rng = np.random.default_rng(SEED)
    env.reset(seed=SEED)
    actions = []
    for _ in range(STEPS):
        actions.append(env.candidates().sample(rng))
        env.step(actions[-1])
    return np.array(actions)


def assert_equal(ours: VectorEnv, theirs: VectorEnv, actions: np.ndarray) -> None:
    """Play both side by side: observations, rewards, ends and masks agree."""
    first, second = ours.reset(seed=SEED), theirs.reset(seed=SEED)
    for step in range(len(actions) + 1):
        for name in first[0]:
            np.testing.assert_array_equal(first[0][name], second[0][name])
        if "action_mask" in second[-1]:
            np.testing.assert_array_equal(first[-1]["action_mask"], second[-1]["action_mask"])
        if step == len(actions):
            return
        first, second = ours.step(actions[step]), theirs.step(actions[step])
        np.testing.assert_allclose(first[1], second[1], atol=1e-6)  # ours sums float32 terms
        np.testing.assert_array_equal(first[2], second[2])
        np.testing.assert_array_equal(first[3], second[3])


def replay(env: VectorEnv, actions: np.ndarray) -> None:
    """The measured loop."""
    for action in actions:
        env.step(action)


CASES = [
    pytest.param(
        make, num_envs, slate_size, mask, id=f"{make.__name__}-{num_envs}-{slate_size}-{mask}"
    )
    for num_envs, slate_size, mask, makers in (
        (16, 16, True, (native, sync, peer)),
        (256, 1, False, (native, peer)),
        (256, 1, True, (native, peer)),
        (256, 16, True, (native, peer)),
        (1024, 1, False, (native,)),
    )
    for make in makers
]


@pytest.mark.parametrize(("make", "num_envs", "slate_size", "mask"), CASES)
def test_step(benchmark, task, make: Maker, num_envs: int, slate_size: int, mask: bool):
    """Replay legal actions through N rows."""
    actions = legal_actions(task, num_envs, slate_size)
    env = make(task, num_envs, slate_size, mask)
    if make is peer:
        assert_equal(native(task, num_envs, slate_size, mask), env, actions)
    else:
        assert_equal(env, peer(task, num_envs, slate_size, mask), actions)

    def setup() -> tuple[tuple[VectorEnv, np.ndarray], dict[str, object]]:
        env.reset(seed=SEED)
        return (env, actions), {}

    benchmark.extra_info["steps"] = num_envs * STEPS
    benchmark.pedantic(replay, setup=setup, rounds=3, warmup_rounds=1)
    if benchmark.stats is not None:  # under --benchmark-disable nothing is measured
        benchmark.extra_info["steps_per_s"] = num_envs * STEPS / benchmark.stats["median"]


@pytest.mark.parametrize("num_envs", [256, 1024])
def test_candidates(benchmark, task, num_envs: int):
    """The legal tokens of every row as CSR, in the middle of slates."""
    env = native(task, num_envs, 16, mask=False)
    env.reset(seed=SEED)
    replay(env, legal_actions(task, num_envs, 16))
    allowed = env.candidates()
    dense = np.zeros((num_envs, env.single_action_space.n), bool)
    dense[np.repeat(np.arange(num_envs), np.diff(allowed.indptr)), allowed.tokens] = True
    np.testing.assert_array_equal(dense, env.action_masks())
    benchmark(env.candidates)


def test_cartpole(benchmark):
    """Gymnasium's own native vector environment: the yardstick of the machine."""
    env = gym.make_vec("CartPole-v1", 1024, vectorization_mode="vector_entry_point")
    env.reset(seed=SEED)
    actions = np.random.default_rng(SEED).integers(2, size=(STEPS, 1024))
    benchmark.extra_info["steps"] = 1024 * STEPS
    benchmark(replay, env, actions)
