"""`ReReEnv`: Gymnasium's contract for one environment."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from rere_env import Batch, ReReEnv, WordTokenizer

TERMINAL = {
    "slate": np.ndarray,
    "item_rewards": np.ndarray,
    "reward_terms": dict,
    "target": int,
    "target_rank": int,
    "hit": bool,
    "is_success": bool,
}


def play(env, rng, *, legal=1.0):
    """Yield random steps of one episode; each action is legal with this probability."""
    over = False
    while not over:
        action = env.candidates().sample(rng)[0]
        if rng.random() >= legal:
            action = rng.integers(env.action_space.n)
        step = env.step(action)
        over = step[2] or step[3]
        yield step


def write(env, *titles):
    """Write whole titles; return the last step."""
    for title in titles:
        for token in env.task.title_tokens[title]:
            step = env.step(int(token))
    return step


def assert_same(a, b):
    """Equal observations, infos or steps, recursively."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, tuple):
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert type(a) is type(b)
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mask", ["info", "observation", "lazy"])
@pytest.mark.parametrize("token_ids", ["local", "model"])
@pytest.mark.parametrize("on_illegal", ["terminate", "noop"])
def test_both_checkers_pass(tiny_task, mask, token_ids, on_illegal):
    """Gymnasium's and SB3's check_env sample without masks and find nothing to say."""
    env = ReReEnv(tiny_task, slate_size=3, mask=mask, token_ids=token_ids, on_illegal=on_illegal)
    check_env(env, skip_render_check=True)
    sb3_check_env(env)


def test_the_observation_is_what_the_agent_sees(tiny_task):
    """History and slate as title id + 1, the prefix as local tokens, zeros where empty."""
    env = ReReEnv(tiny_task, slate_size=2)
    observation, info = env.reset(options={"example": 4})
    assert info["example"] == 4
    assert observation["history"].tolist() == [5, 6, 0]
    assert observation["slate"].tolist() == [0, 0]
    assert observation["prefix"].tolist() == [0, 0, 0, 0]
    write(env, 3)
    token = int(tiny_task.title_tokens[1][0])
    observation = env.step(token)[0]
    assert observation["slate"].tolist() == [4, 0]
    assert observation["prefix"].tolist() == [token, 0, 0, 0]
    assert env.observation_space.contains(observation)


def test_the_types_are_gymnasiums(tiny_task):
    """Reward is a float, flags are bools, terminal keys have one type each."""
    env = ReReEnv(tiny_task, slate_size=3)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(20):
        for _, reward, terminated, truncated, info in play(env, rng, legal=0.9):
            assert type(reward) is float
            assert type(terminated) is type(truncated) is bool
            assert type(info["illegal"]) is bool
            assert info["action_mask"].dtype == np.int8
        for key, kind in TERMINAL.items():
            assert type(info[key]) is kind, key
        assert info["slate"].dtype == np.int64
        assert info["item_rewards"].dtype == np.float64
        assert all(type(value) is float for value in info["reward_terms"].values())
        _, info = env.reset()
        assert type(info["example"]) is type(info["pass"]) is int


def test_a_seed_reproduces_an_episode_exactly(tiny_task):
    """Same seed, same actions: same everything, step by step."""

    def episodes():
        env = ReReEnv(tiny_task, slate_size=3)
        rng = np.random.default_rng(1)
        first = env.reset(seed=123)
        return [first, *play(env, rng, legal=0.95), env.reset(), *play(env, rng)]

    for a, b in zip(episodes(), episodes(), strict=True):
        assert_same(a, b)


def test_training_examples_come_from_np_random(tiny_task):
    """Whoever sets the generator sets the examples (Tianshou does)."""
    env = ReReEnv(tiny_task, slate_size=1)
    env.np_random = np.random.default_rng(5)
    drawn = [env.reset()[1]["example"] for _ in range(20)]
    assert drawn == np.random.default_rng(5).integers(8, size=20).tolist()


def test_an_evaluation_split_is_served_in_order_and_counts_its_passes(tiny_task):
    """Shard (1, 3) of 8 examples: 1, 4, 7, then again; a seeded reset rewinds."""
    env = ReReEnv(tiny_task, split="test", slate_size=1, shard=(1, 3))
    served = [env.reset()[1] for _ in range(7)]
    assert [info["example"] for info in served] == [1, 4, 7, 1, 4, 7, 1]
    assert [info["pass"] for info in served] == [0, 0, 0, 1, 1, 1, 2]
    assert env.reset(seed=0)[1]["example"] == 1


def test_shards_serve_every_example_once(tiny_task):
    """Their first passes together are the split."""
    served = []
    for shard in range(3):
        env = ReReEnv(tiny_task, split="test", slate_size=1, shard=(shard, 3))
        while (info := env.reset()[1])["pass"] == 0:
            served.append(info["example"])
    assert sorted(served) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_chosen_example_leaves_the_order_alone(tiny_task):
    """`options` serve once; the shard goes on where it was."""
    env = ReReEnv(tiny_task, split="test", slate_size=1)
    env.reset()
    assert env.reset(options={"example": 6})[1]["example"] == 6
    assert env.reset()[1]["example"] == 1


def test_random_episodes_write_distinct_titles(tiny_task):
    """The slate of a masked episode holds K distinct titles; its rewards sum to the return."""
    env = ReReEnv(tiny_task, slate_size=5)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(200):
        *_, (_, reward, terminated, _, info) = play(env, rng)
        assert terminated
        assert not info["illegal"]
        assert len(set(info["slate"].tolist())) == 5
        assert reward == info["item_rewards"].sum()
        target = tiny_task.split("train").target_title
        rank = info["slate"].tolist().index(info["target"]) + 1 if info["hit"] else 0
        assert info["target"] in target
        assert info["target_rank"] == rank
        env.reset()


def test_the_mask_methods_agree(tiny_task):
    """`info`, `action_masks` and `candidates` say the same; the space can sample with it."""
    env = ReReEnv(tiny_task, slate_size=3)
    _, info = env.reset(seed=0)
    for step in play(env, np.random.default_rng(0)):
        info = step[4]
        masks = env.action_masks()
        assert masks.dtype == np.bool_
        np.testing.assert_array_equal(info["action_mask"], masks)
        assert np.flatnonzero(masks).tolist() == env.candidates().tokens.tolist()
        assert masks[env.action_space.sample(info["action_mask"])]


def test_the_observation_mask_is_the_info_mask(tiny_task):
    """Under mask="observation" it is a key of the observation and not of the info."""
    env = ReReEnv(tiny_task, slate_size=3, mask="observation")
    observation, info = env.reset(seed=0)
    assert "action_mask" not in info
    np.testing.assert_array_equal(observation["action_mask"], env.action_masks())
    assert "action_mask" not in ReReEnv(tiny_task, slate_size=3, mask="lazy").reset()[1]


def test_model_ids_are_the_same_game(task_of, dataset_of):
    """Actions named by the tokenizer lead to the same observations, rewards and candidates."""
    from rere_env import Task

    titles = dataset_of().catalogue.titles
    words = ["zero", *reversed(WordTokenizer.from_titles(titles).words[1:]), "unused"]
    task = Task.build(dataset_of(), tokenizer=WordTokenizer(words))
    local = ReReEnv(task, slate_size=3, mask="lazy")
    model = ReReEnv(task, slate_size=3, mask="lazy", token_ids="model")
    assert model.action_space.n == task.tokenizer.vocab_size == 14
    assert local.action_space.n == task.title_tokens.num_tokens == 12
    assert_same(local.reset(seed=0), model.reset(seed=0))
    rng = np.random.default_rng(0)
    over = False
    while not over:
        tokens = local.candidates().tokens
        ids = task.title_tokens.to_model_ids(tokens)
        assert model.candidates().tokens.tolist() == ids.tolist()
        pick = rng.integers(len(tokens))
        ours, theirs = local.step(tokens[pick]), model.step(ids[pick])
        assert_same(ours, theirs)
        over = ours[2]


@pytest.mark.parametrize("action", [1, 13, -1, 14, 10**12])
def test_model_ids_that_no_title_uses_are_illegal(dataset_of, action):
    """Unused words and numbers outside the vocabulary end the episode like any illegal token."""
    from rere_env import Task

    titles = dataset_of().catalogue.titles
    words = ["zero", *WordTokenizer.from_titles(titles).words[1:], "unused"]
    task = Task.build(dataset_of(), tokenizer=WordTokenizer(words))
    env = ReReEnv(task, slate_size=3, token_ids="model")
    env.reset(seed=0)
    _, reward, terminated, _, info = env.step(action)
    assert (reward, terminated, info["illegal"]) == (-1.0, True, True)


def test_actions_of_every_integer_kind_are_understood(tiny_task):
    """int, NumPy integers, 0-d and 1-element arrays; a float is an error."""
    env = ReReEnv(tiny_task, slate_size=3)
    for kind in (int, np.int64, np.int32, np.array, lambda a: np.array([a])):
        env.reset(seed=0)
        assert not env.step(kind(env.candidates().tokens[0]))[4]["illegal"]
    with pytest.raises(TypeError, match=r"must be an integer; got 1\.5"):
        env.step(1.5)


def test_stepping_a_finished_episode_is_an_error(tiny_task):
    """Before the first reset, and after the end."""
    env = ReReEnv(tiny_task, slate_size=1)
    with pytest.raises(ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    env.step(-1)
    with pytest.raises(ResetNeeded, match=r"call `reset\(\)` first"):
        env.step(0)


def test_arrays_are_fresh_on_every_call(tiny_task):
    """Nothing that was returned changes later, nor shares memory with what comes next."""
    env = ReReEnv(tiny_task, slate_size=3)
    observation, info = env.reset(seed=0)
    kept = [(observation, info, copy.deepcopy((observation, info)))]
    for observation, *_, info in play(env, np.random.default_rng(0)):
        for name, column in observation.items():
            assert not np.shares_memory(column, kept[-1][0][name])
        assert not np.shares_memory(info["action_mask"], kept[-1][1]["action_mask"])
        kept.append((observation, info, copy.deepcopy((observation, info))))
    env.reset()
    for observation, info, before in kept:
        assert_same((observation, info), before)


def finish(env):
    """The rest of the episode and the whole of the next, first legal action each time."""
    steps = []
    for _ in range(2):
        over = False
        while not over:
            steps.append(env.step(env.candidates().tokens[-1]))
            over = steps[-1][2]
        steps.append(env.reset())
    return steps


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("copier", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_made_mid_episode_goes_on_alike(tiny_task, split, copier):
    """Pickles and deep copies carry the row, the place in the split and the generator."""
    env = ReReEnv(tiny_task, split=split, slate_size=2)
    env.reset(seed=3)
    env.step(env.candidates().tokens[-1])
    other = copier(env)
    for a, b in zip(finish(env), finish(other), strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_state_can_be_saved_and_restored(tiny_task, split):
    """`set_state` goes back, as often as one likes, also in another environment."""
    env = ReReEnv(tiny_task, split=split, slate_size=2)
    env.reset(seed=3)
    env.step(env.candidates().tokens[-1])
    state = env.get_state()
    first = finish(env)
    env.set_state(state)
    other = ReReEnv(tiny_task, split=split, slate_size=2)
    other.set_state(state)
    for a, b, c in zip(first, finish(env), finish(other), strict=True):
        assert_same(a, b)
        assert_same(a, c)


def test_the_target_travels_with_the_example(task_of):
    """Two equal histories with different targets pay for their own."""
    env = ReReEnv(task_of(rows=[((0, 1), 2), ((0, 1), 3)]), slate_size=1)
    for example, target in ((0, 2), (1, 3)):
        env.reset(options={"example": example})
        step = write(env, 2)
        assert step[4]["target"] == target
        assert step[1] == float(target == 2)


def constant(titles, batch: Batch):
    """Pay a quarter for every slot."""
    return np.full(titles.shape, 0.25, np.float32)


def test_a_reward_is_a_name_or_a_function(tiny_task):
    """Anything with the signature of a reward will do."""
    env = ReReEnv(tiny_task, slate_size=2, reward=constant)
    env.reset(seed=0)
    _, reward, *_, info = write(env, 0, 1)
    assert reward == 0.5
    assert info["reward_terms"] == {"constant": 0.5}
    assert ReReEnv(tiny_task, slate_size=2, reward="hit").task.reward.__name__ == "hit"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"slate_size": 9}, r"`slate_size` \(=9\) must be at most the number of distinct titles"),
        ({"split": "dev"}, r"`split` \(='dev'\)"),
        ({"mask": "dense"}, r"`mask` \(='dense'\) must be one of"),
        ({"token_ids": "bpe"}, r"`token_ids` \(='bpe'\) must be one of"),
        ({"reward": "ndcg"}, r"`reward` \(='ndcg'\)"),
        ({"render_mode": "video"}, r"`render_mode` \(='video'\)"),
        ({"data": "toys"}, "either `task` or `data`"),
        ({"split": "test", "shard": (8, 9)}, r"`shard` \(=\(8, 9\)\) is empty: .* 8 examples"),
        ({"split": "test", "shard": (3, 3)}, r"0 <= i < N"),
    ],
)
def test_bad_arguments_are_errors(tiny_task, arguments, message):
    """Rule, value and remedy."""
    with pytest.raises(ValueError, match=message):
        ReReEnv(tiny_task, **{"slate_size": 2, **arguments})


@pytest.mark.parametrize("example", [8, -1])
def test_an_example_outside_the_split_is_an_error(tiny_task, example):
    """The range is named."""
    with pytest.raises(ValueError, match=r"must lie in 0\.\.7"):
        ReReEnv(tiny_task, slate_size=1).reset(options={"example": example})


def test_an_example_that_is_no_integer_is_an_error(tiny_task):
    """A float would be cut silently."""
    with pytest.raises(TypeError, match="must be an integer"):
        ReReEnv(tiny_task, slate_size=1).reset(options={"example": 1.5})


def test_common_wrappers_work(tiny_task):
    """Statistics, time limit and flattening sit on top without a workaround."""
    env = ReReEnv(tiny_task, slate_size=2)
    env = gym.wrappers.RecordEpisodeStatistics(gym.wrappers.TimeLimit(env, 3))
    env = gym.wrappers.FlattenObservation(env)
    observation, info = env.reset(seed=0)
    assert observation.shape == (3 + 2 + 4,)
    over = False
    while not over:
        action = env.action_space.sample(info["action_mask"])
        _, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    assert truncated
    assert info["episode"]["l"] == 3
    assert env.get_wrapper_attr("action_masks")().any()
