"""Every vector form equals Gymnasium's `SyncVectorEnv` of single forms, value for value."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import (
    DictInfoToList,
    FlattenObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
)

import rere_env
from rere_env import (
    DecisionActions,
    EpisodeText,
    MaskInObservation,
    OneHotObservation,
    ReReEnv,
    ReReVectorEnv,
    TianshouMask,
    VectorDecisionActions,
    VectorEpisodeText,
    VectorMaskInObservation,
    VectorOneHotObservation,
    VectorTianshouMask,
)

N = 5
MODES = [mode.value for mode in AutoresetMode]
PAIRS = {
    "decisions": (VectorDecisionActions, DecisionActions),
    "petting zoo": (VectorMaskInObservation, MaskInObservation),
    "tianshou": (VectorTianshouMask, TianshouMask),
    "one-hot": (VectorOneHotObservation, OneHotObservation),
    "text": (VectorEpisodeText, EpisodeText),
    "decisions, petting zoo": (
        lambda env: VectorMaskInObservation(VectorDecisionActions(env)),
        lambda env: MaskInObservation(DecisionActions(env)),
    ),
    "decisions, text, tianshou": (
        lambda env: VectorTianshouMask(VectorEpisodeText(VectorDecisionActions(env))),
        lambda env: TianshouMask(EpisodeText(DecisionActions(env))),
    ),
}


def assert_equal(ours, theirs, where=""):
    """Equal, recursively, types included; of infos, the values where `_key` is True."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            rows = ours.get(f"_{key}", slice(None))
            pair = (ours[key], theirs[key])
            if not isinstance(ours[key], dict):
                pair = tuple(value[rows] for value in pair)
            assert_equal(*pair, f"{where}/{key}")
    elif isinstance(ours, tuple):
        for index, (x, y) in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(x, y, f"{where}/{index}")
    elif isinstance(ours, np.ndarray) and ours.dtype == object:
        assert_equal(tuple(ours), tuple(theirs), where)
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype, where
        np.testing.assert_array_equal(ours, theirs, err_msg=where)
    else:
        assert ours == theirs, where


def some_actions(env, rng):
    """Any decisions; of tokens, legal ones nine times in ten."""
    random = rng.integers(env.single_action_space.n, size=env.num_envs)
    if env.single_action_space != env.unwrapped.single_action_space:
        return random
    legal = env.unwrapped.candidates().sample(rng)
    return np.where(rng.random(env.num_envs) < 0.9, legal, random)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("views", PAIRS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"slate_size": 1, "mask": "observation", "split": "test"},
        {"slate_size": 8, "mask": "lazy", "max_tokens": 17},
        {"on_illegal": "noop", "max_tokens": 9},
        {"token_ids": "model", "reward": "hit"},
        {"exclude": "history"},
        {"exclude": ["i0", "i3"], "backend": "numba", "split": "test"},
    ],
    ids=str,
)
def test_native_equals_sync(tiny_task, mode, views, options):
    """Observations, rewards, flags and infos of 90 steps and the resets between them."""
    vector_view, view = PAIRS[views]
    options = {"slate_size": 3, **options}
    native = vector_view(ReReVectorEnv(N, tiny_task, autoreset_mode=mode, **options))
    sync = SyncVectorEnv(
        [lambda i=i: view(ReReEnv(tiny_task, shard=(i, N), **options)) for i in range(N)],
        autoreset_mode=AutoresetMode(mode),
    )
    assert native.observation_space == sync.observation_space
    assert native.single_observation_space == sync.single_observation_space
    assert native.action_space == sync.action_space
    rng = np.random.default_rng(0)
    for seed in (7, None, [3, 3, None, 1, 0]):
        assert_equal(native.reset(seed=seed), sync.reset(seed=seed))
        for _ in range(30):
            actions = some_actions(native, rng)
            step = native.step(actions)
            assert_equal(step, sync.step(actions))
            assert native.observation_space.contains(step[0])
            over = step[2] | step[3]
            if mode == "Disabled" and over.any():
                ours = native.reset(options={"reset_mask": over})
                assert_equal(ours, sync.reset(options={"reset_mask": over}))


@pytest.mark.parametrize("mode", MODES)
def test_long_forced_runs_are_those_of_single_steps(task_of, mode):
    """Runs at the start, within and across titles, used-up branches, one dummy decision."""
    titles = [f"The {series} of Part {part}" for series in ("Red", "Blue") for part in "123"]
    task = task_of([*titles, "The Red", "The End"])
    for slate_size, max_tokens in ((1, None), (3, 11), (7, None), (8, 30), (1, 1)):
        options = {"slate_size": slate_size, "max_tokens": max_tokens}
        native = VectorDecisionActions(ReReVectorEnv(N, task, autoreset_mode=mode, **options))
        sync = SyncVectorEnv(
            [lambda options=options: DecisionActions(ReReEnv(task, **options))] * N,
            autoreset_mode=AutoresetMode(mode),
        )
        rng = np.random.default_rng(0)
        assert_equal(native.reset(seed=0), sync.reset(seed=0))
        for _ in range(60):
            actions = some_actions(native, rng)
            step = native.step(actions)
            assert_equal(step, sync.step(actions))
            over = step[2] | step[3]
            if mode == "Disabled" and over.any():
                ours = native.reset(options={"reset_mask": over})
                assert_equal(ours, sync.reset(options={"reset_mask": over}))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", ["inside", "outside"])
def test_episode_statistics_count_decisions(tiny_task, mode, place):
    """On either side of the view: the environment is stepped once a decision."""
    env = ReReVectorEnv(N, tiny_task, slate_size=3, autoreset_mode=mode)
    if place == "inside":
        env = VectorDecisionActions(RecordEpisodeStatistics(env))
    else:
        env = RecordEpisodeStatistics(VectorDecisionActions(env))
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    length, total, over, episodes = np.zeros(N, int), np.zeros(N), np.zeros(N, bool), 0
    for _ in range(100):
        if mode == "Disabled" and over.any():
            env.reset(options={"reset_mask": over.copy()})
        waiting = over if mode == "NextStep" else np.zeros(N, bool)
        _, reward, over, _, infos = env.step(some_actions(env, rng))
        length += ~waiting
        total += reward
        for row in np.flatnonzero(over):
            assert infos["episode"]["l"][row] == length[row]
            assert infos["episode"]["r"][row] == pytest.approx(total[row])
            episodes += 1
        length[over] = total[over] = 0
    assert episodes > 50


def test_other_wrappers_compose(tiny_task):
    """Flat observations, scaled rewards and one info a row, around and under the views."""
    env = VectorDecisionActions(FlattenObservation(ReReVectorEnv(N, tiny_task, slate_size=3)))
    env = DictInfoToList(RecordEpisodeStatistics(NormalizeReward(VectorTianshouMask(env))))
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    ended = []
    for _ in range(30):
        observations, *_, infos = env.step(rng.integers(4, size=N))
        assert observations["obs"].shape == (N, 10)
        assert observations["mask"].all()
        ended += [info["episode"]["l"] for info in infos if "episode" in info]
    assert len(ended) > 10
    assert min(ended) >= 3


@pytest.mark.parametrize("way", ["pickle", "state"])
def test_a_copy_made_mid_episode_goes_on_alike(tiny_task, way):
    """The driver goes with the environment; a state needs nothing of the view."""
    env = VectorDecisionActions(ReReVectorEnv(3, tiny_task, slate_size=2))
    rng = np.random.default_rng(0)
    env.reset(seed=3)
    for _ in range(20):
        env.step(some_actions(env, rng))
    if way == "pickle":
        other = pickle.loads(pickle.dumps(env))
    else:
        other = VectorDecisionActions(ReReVectorEnv(3, tiny_task, slate_size=2))
        other.unwrapped.set_state(env.unwrapped.get_state())
    for _ in range(50):
        actions = some_actions(env, rng)
        assert_equal(env.step(actions), other.step(actions))


def test_arrays_are_fresh_on_every_call(tiny_task):
    """What was returned never changes later."""
    for vector_view, _ in PAIRS.values():
        env = vector_view(ReReVectorEnv(3, tiny_task, slate_size=2, autoreset_mode="SameStep"))
        rng = np.random.default_rng(0)
        kept = [(*env.reset(seed=0), None)]
        kept[0] = (*kept[0][:2], pickle.dumps(kept[0][:2]))
        for _ in range(20):
            observation, *_, infos = env.step(some_actions(env, rng))
            kept.append((observation, infos, pickle.dumps((observation, infos))))
        for observation, infos, before in kept:
            assert_equal((observation, infos), pickle.loads(before))


def test_made_by_id_the_views_work(tiny_task):
    """`gym.make_vec` gives the native environment, and views go around it."""
    env = VectorDecisionActions(gym.make_vec("ReRe-Games-v0", 2, slate_size=2, mask="lazy"))
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert env.step(np.array([5, 0]))[4]["illegal"].tolist() == [False, False]


def test_misuse_is_an_error(tiny_task):
    """Rule, value and remedy."""
    native = ReReVectorEnv(2, tiny_task, slate_size=1, autoreset_mode="Disabled")
    sync = SyncVectorEnv([lambda: ReReEnv(tiny_task, slate_size=1)])
    for view in ("DecisionActions", "MaskInObservation", "TianshouMask", "EpisodeText"):
        with pytest.raises(TypeError, match=f"wrap each of them in `{view}`"):
            getattr(rere_env, f"Vector{view}")(sync)
    for view in (VectorEpisodeText, VectorOneHotObservation):
        with pytest.raises(TypeError, match=f"`{view.__name__}` reads .*Put the wrapper"):
            view(FlattenObservation(native))
    with pytest.raises(ValueError, match=r"`group_size` \(=2\) must be 1"):
        VectorDecisionActions(ReReVectorEnv(2, tiny_task, group_size=2))
    env = VectorDecisionActions(native)
    with pytest.raises(ValueError, match="decisions only once"):
        VectorDecisionActions(env)
    with pytest.raises(ResetNeeded, match="call `reset"):
        env.step(np.array([0, 0]))
    env.reset(seed=0)
    for actions in (np.zeros(3, int), np.zeros(2), 1):
        with pytest.raises(ValueError, match="actions must be 2 integers, one a row"):
            env.step(actions)
    with pytest.raises(ValueError, match=r"must lie in 0\.\.3; got 0\.\.4"):
        env.step(np.array([0, 4]))
    for _ in range(5):
        over = env.step(np.array([3, 0]))[2]
        if over.any():
            break
    with pytest.raises(ResetNeeded, match="are finished"):
        env.step(np.array([0, 0]))
