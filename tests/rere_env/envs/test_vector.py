"""`ReReVectorEnv` equals Gymnasium's `SyncVectorEnv` of `ReReEnv`s, value for value."""

import pickle

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

from rere_env import ReReEnv, ReReVectorEnv

N = 5
MODES = [mode.value for mode in AutoresetMode]


def assert_equal(a, b, path=""):
    """Equal keys, dtypes and values; of infos, the values where `_key` is True."""
    assert a.keys() == b.keys(), path
    for key in a:
        where = f"{path}/{key}"
        if isinstance(a[key], dict):
            assert_equal(a[key], b[key], where)
            continue
        assert a[key].dtype == b[key].dtype, where
        rows = a.get(f"_{key}", slice(None))
        if a[key].dtype == object:
            for x, y in zip(a[key][rows], b[key][rows], strict=True):
                assert_equal(x, y, where)
        else:
            np.testing.assert_array_equal(a[key][rows], b[key][rows], err_msg=where)


def assert_same_step(a, b):
    """Equal observations, rewards, flags and infos."""
    assert_equal(a[0], b[0])
    for x, y in zip(a[1:4], b[1:4], strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)
    assert_equal(a[4], b[4])


def some_actions(env, rng, legal):
    """One action a row, each legal with this probability."""
    random = rng.integers(env.single_action_space.n, size=env.num_envs)
    return np.where(rng.random(env.num_envs) < legal, env.candidates().sample(rng), random)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("legal", [1.0, 0.9])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"slate_size": 1, "mask": "observation"},
        {"slate_size": 8, "mask": "lazy"},
        {"on_illegal": "noop", "max_tokens": 9},
        {"token_ids": "model", "reward": "hit"},
        {"exclude": "history"},
        {"exclude": ["i0", "i3"], "backend": "numba"},
    ],
    ids=str,
)
def test_native_equals_sync(tiny_task, mode, split, legal, options):
    """Observations, rewards, flags and infos of 150 steps and the resets between them."""
    options = {"slate_size": 3, "split": split, **options}
    native = ReReVectorEnv(N, tiny_task, autoreset_mode=mode, **options)
    sync = SyncVectorEnv(
        [lambda i=i: ReReEnv(tiny_task, shard=(i, N), **options) for i in range(N)],
        autoreset_mode=AutoresetMode(mode),
    )
    assert native.observation_space == sync.observation_space
    assert native.action_space == sync.action_space
    rng = np.random.default_rng(0)
    for seed in (7, None, [3, 3, None, 1, 0]):
        for x, y in zip(native.reset(seed=seed), sync.reset(seed=seed), strict=True):
            assert_equal(x, y)
        for _ in range(50):
            actions = some_actions(native, rng, legal)
            step = native.step(actions)
            assert_same_step(step, sync.step(actions))
            over = step[2] | step[3]
            if mode == "Disabled" and over.any():
                ours = native.reset(options={"reset_mask": over})
                theirs = sync.reset(options={"reset_mask": over})
                for x, y in zip(ours, theirs, strict=True):
                    assert_equal(x, y)


def test_long_runs_draw_the_same_examples(tiny_task):
    """Reading ahead in blocks does not change the stream of examples."""
    native = ReReVectorEnv(2, tiny_task, slate_size=1, mask="lazy")
    single = ReReEnv(tiny_task, slate_size=1, mask="lazy")
    _, infos = native.reset(seed=4)
    drawn = [infos["example"][1]]
    while len(drawn) < 100:
        infos = native.step(np.array([-1, -1]))[4]
        if "example" in infos:
            drawn.append(infos["example"][1])
    expected = [single.reset(seed=5)[1]["example"]]
    expected += [single.reset()[1]["example"] for _ in range(99)]
    assert drawn == expected


def test_a_hundred_thousand_masked_episodes_hold_no_illegal_title_and_no_dead_end(tiny_task):
    """Every slate holds K distinct titles of the catalogue, every row always has an action."""
    env = ReReVectorEnv(4096, tiny_task, slate_size=4, mask="lazy")
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    episodes = 0
    while episodes < 100_000:
        allowed = env.candidates()
        assert (np.diff(allowed.indptr) > 0).all()
        _, reward, terminated, truncated, infos = env.step(allowed.sample(rng))
        assert not truncated.any()
        assert not infos.get("illegal", np.zeros(1, bool)).any()
        if terminated.any():
            slates = np.sort(infos["slate"][terminated], axis=1)
            assert slates.min() >= 0
            assert slates.max() < 8
            assert (np.diff(slates, axis=1) > 0).all()
            np.testing.assert_array_equal(reward, infos["item_rewards"].sum(axis=1))
            episodes += int(terminated.sum())


def test_an_evaluation_split_is_dealt_out_among_the_rows(tiny_task):
    """The first passes of all rows together are the split, each example once."""
    env = ReReVectorEnv(3, tiny_task, split="test", slate_size=1, mask="lazy")
    _, infos = env.reset(seed=0)
    served = infos["example"].tolist()
    for _ in range(12):
        infos = env.step(np.array([-1, -1, -1]))[4]
        if "example" in infos:
            served += infos["example"][infos["pass"] == 0].tolist()
    assert sorted(served) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_parts_of_a_split_are_dealt_out_too(tiny_task):
    """Two processes with shards (0, 2) and (1, 2) and two rows each serve every example once."""
    served = []
    for part in range(2):
        env = ReReVectorEnv(2, tiny_task, split="test", slate_size=1, shard=(part, 2), mask="lazy")
        _, infos = env.reset(seed=0)
        served += infos["example"].tolist()
        for _ in range(2):
            infos = env.step(np.array([-1, -1]))[4]
        served += infos["example"].tolist()
    assert sorted(served) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_examples_can_be_chosen_for_all_rows_or_one_by_one(tiny_task):
    """`options["example"]` is an integer or one a row."""
    env = ReReVectorEnv(2, tiny_task, slate_size=1)
    assert env.reset(options={"example": 3})[1]["example"].tolist() == [3, 3]
    assert env.reset(options={"example": [6, 2]})[1]["example"].tolist() == [6, 2]


def test_masks_never_leave_a_row_without_an_action(tiny_task):
    """A row that waits for its reset allows exactly EOS."""
    env = ReReVectorEnv(2, tiny_task, slate_size=1)
    env.reset(seed=0)
    *_, infos = env.step(np.array([-1, int(env.candidates().tokens[-1])]))
    assert infos["action_mask"][0].tolist() == [1] + [0] * 11
    masks = env.action_masks()
    assert masks.dtype == np.bool_
    np.testing.assert_array_equal(masks, infos["action_mask"])


def test_arrays_are_fresh_on_every_call(tiny_task):
    """What was returned never changes later."""
    env = ReReVectorEnv(3, tiny_task, slate_size=2)
    rng = np.random.default_rng(0)
    observation, infos = env.reset(seed=0)
    kept = []
    for _ in range(30):
        kept.append((observation, infos, pickle.dumps((observation, infos))))
        observation, *_, infos = env.step(some_actions(env, rng, 0.9))
        for name, column in observation.items():
            assert not np.shares_memory(column, kept[-1][0][name])
    for observation, infos, before in kept:
        assert_equal(observation, pickle.loads(before)[0])
        assert_equal(infos, pickle.loads(before)[1])


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("way", ["pickle", "state"])
def test_a_copy_made_mid_episode_goes_on_alike(tiny_task, split, way):
    """Pickles and states carry rows, places in the split and generators."""
    env = ReReVectorEnv(3, tiny_task, split=split, slate_size=2)
    rng = np.random.default_rng(0)
    env.reset(seed=3)
    for _ in range(40):
        env.step(some_actions(env, rng, 0.9))
    if way == "pickle":
        other = pickle.loads(pickle.dumps(env))
    else:
        other = ReReVectorEnv(3, tiny_task, split=split, slate_size=2)
        other.set_state(env.get_state())
    for _ in range(200):
        actions = some_actions(env, rng, 0.9)
        assert_same_step(env.step(actions), other.step(actions))


def test_a_state_is_a_snapshot(tiny_task):
    """Stepping on does not change a state that was taken."""
    env = ReReVectorEnv(3, tiny_task, slate_size=2)
    env.reset(seed=3)
    state, other = env.get_state(), ReReVectorEnv(3, tiny_task, slate_size=2)
    actions = env.candidates().tokens[env.candidates().indptr[:-1]]
    first = env.step(actions)
    for _ in range(20):
        env.step(np.array([-1, -1, -1]))
    other.set_state(state)
    assert_same_step(other.step(actions), first)


def test_rows_have_generators_of_their_own(tiny_task):
    """Row i is seeded seed + i, as in `SyncVectorEnv`."""
    env = ReReVectorEnv(3, tiny_task, slate_size=1)
    env.reset(seed=10)
    assert env.np_random_seed == (10, 11, 12)
    assert len(env.np_random) == 3


def look_at_generators(env):
    """What a curious user, or a wrapper, does."""
    return env.np_random, env.np_random_seed


def play(env, **reset):
    """Ten steps from a reset: which examples were drawn."""
    _, infos = env.reset(**reset)
    drawn = [infos["example"].tolist()]
    for step in range(10):
        if step == 5:
            env.reset(options={"reset_mask": np.array([True, False, True])})
        infos = env.step(np.full(3, -1))[-1]
        drawn.append(infos.get("example", np.zeros(3)).tolist())
    return drawn


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("seed", [None, 7, [None, 3, None]])
def test_looking_at_the_generators_changes_nothing(tiny_task, split, seed):
    """Of two equal environments, unseeded at first, one is looked at: both go on alike."""
    env = ReReVectorEnv(3, tiny_task, slate_size=1, split=split)
    other = ReReVectorEnv(3, tiny_task, slate_size=1, split=split)
    other.set_state(env.get_state())
    look_at_generators(env)
    assert play(env, seed=seed) == play(other, seed=seed)
    look_at_generators(env)
    assert play(env) == play(other)


def test_generators_can_be_looked_at_before_the_first_reset(tiny_task):
    """They are one a row, the same ones at every look, and those that an unseeded reset uses."""
    env = ReReVectorEnv(3, tiny_task, slate_size=1)
    generators, seeds = look_at_generators(env)
    env.reset()
    assert all(a is b for a, b in zip(generators, env.np_random, strict=True))
    assert env.np_random_seed == seeds
    assert len(set(seeds)) == 3


@pytest.mark.parametrize("mode", MODES[:2])
def test_episode_statistics_are_right(tiny_task, mode):
    """Gymnasium's wrapper counts returns and lengths, whatever the autoreset mode."""
    env = RecordEpisodeStatistics(
        ReReVectorEnv(4, tiny_task, slate_size=2, autoreset_mode=mode, on_illegal="noop")
    )
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    total, returns = np.zeros(4), []
    for _ in range(100):
        _, reward, terminated, truncated, infos = env.step(some_actions(env.unwrapped, rng, 0.9))
        total += reward
        for row in np.flatnonzero(terminated | truncated):
            assert infos["episode"]["r"][row] == pytest.approx(total[row])
            returns.append(total[row])
            total[row] = 0
    assert len(returns) > 20


def test_the_reset_mask_stays_in_the_options(tiny_task):
    """RecordEpisodeStatistics reads it after us, so it must not be popped."""
    env = ReReVectorEnv(2, tiny_task, slate_size=1, autoreset_mode="Disabled")
    env.reset(seed=0)
    env.step(np.array([-1, int(env.candidates().tokens[-1])]))
    options = {"reset_mask": np.array([True, False])}
    env.reset(options=options)
    assert "reset_mask" in options


def test_infos_can_be_split_into_one_dict_a_row(tiny_task):
    """DictInfoToList relies on the `_key` masks."""
    env = DictInfoToList(ReReVectorEnv(2, tiny_task, slate_size=2))
    env.reset(seed=0)
    infos = env.step(np.array([-1, int(env.unwrapped.candidates().tokens[-1])]))[4]
    assert infos[0]["illegal"]
    assert infos[0]["slate"].tolist() == [-1, -1]
    assert "slate" not in infos[1]


def test_a_disabled_env_refuses_to_step_finished_rows(tiny_task):
    """The remedy is named."""
    env = ReReVectorEnv(2, tiny_task, slate_size=1, autoreset_mode="Disabled")
    env.reset(seed=0)
    env.step(np.array([-1, int(env.candidates().tokens[-1])]))
    with pytest.raises(ResetNeeded, match=r"rows \[0\] are finished; call `reset\(options"):
        env.step(np.array([0, 0]))


def test_stepping_before_the_first_reset_is_an_error(tiny_task):
    """The remedy is named."""
    with pytest.raises(ResetNeeded, match="call `reset"):
        ReReVectorEnv(2, tiny_task, slate_size=1).step(np.array([0, 0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, r"`num_envs` \(=0\) must be at least 1"),
        ({"autoreset_mode": "next"}, r"one of \['NextStep', 'SameStep', 'Disabled'\]"),
        ({"num_envs": 9, "split": "test"}, "is empty: the split holds 8 examples"),
        ({"slate_size": 9}, r"`slate_size` \(=9\)"),
        ({"render_mode": "video"}, r"`render_mode` \(='video'\)"),
    ],
)
def test_bad_arguments_are_errors(tiny_task, arguments, message):
    """Rule, value and remedy."""
    with pytest.raises(ValueError, match=message):
        ReReVectorEnv(**{"num_envs": 2, "task": tiny_task, "slate_size": 2, **arguments})


@pytest.mark.parametrize("actions", [np.zeros(3, int), np.zeros(2), 1], ids=str)
def test_actions_are_one_integer_a_row(tiny_task, actions):
    """Wrong shapes and floats are refused."""
    env = ReReVectorEnv(2, tiny_task, slate_size=1)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="actions must be 2 integers, one a row"):
        env.step(actions)


def test_bad_resets_are_errors(tiny_task):
    """Seeds and masks have one entry a row."""
    env = ReReVectorEnv(2, tiny_task, slate_size=1)
    with pytest.raises(ValueError, match="holds 3 seeds for 2 rows"):
        env.reset(seed=[1, 2, 3])
    with pytest.raises(TypeError, match="bool array of shape"):
        env.reset(options={"reset_mask": [True, False]})
    with pytest.raises(ValueError, match="at least one row"):
        env.reset(options={"reset_mask": np.zeros(2, bool)})
