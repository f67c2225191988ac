"""Grouped rows against hand-stepped single environments and the reward function."""

import numpy as np
import pytest

from rere_env import ReReEnv, ReReVectorEnv, rere
from rere_env.types import NO_TITLE

G = 4
MODES = ["NextStep", "SameStep", "Disabled"]


def play(env, rng, *, legal=1.0, scored=False):
    """Step random tokens until a group ends; return the tokens [T, N] and the last step."""
    taken = []
    while True:
        random = rng.integers(env.single_action_space.n, size=env.num_envs)
        pick = rng.random(env.num_envs) < legal
        taken.append(np.where(pick, env.candidates().sample(rng), random))
        if scored:
            env.set_scores(np.arange(env.num_envs), rng.normal(size=env.num_envs))
        step = env.step(taken[-1])
        if (step[2] | step[3]).any():
            return np.array(taken), step


def title_by_hand(task, example, tokens, **options):
    """Step one single environment; return (title, -1 after an illegal end; steps it took)."""
    env = ReReEnv(task, slate_size=1, split="test", **options)
    env.reset(seed=0, options={"example": int(example)})
    for count, token in enumerate(tokens, start=1):
        *_, terminated, truncated, info = env.step(token)
        if terminated or truncated:
            return (-1 if info["illegal"] else int(info["slate"][0])), count
    raise AssertionError("the row never ended")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("legal", [1.0, 0.8])
@pytest.mark.parametrize("scored", [False, True])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_group_is_paid_like_its_titles_in_rank_order(tiny_task, mode, legal, scored, backend):
    """Titles of hand-stepped single environments, ranked, through the reward function."""
    env = ReReVectorEnv(
        G, tiny_task, split="test", group_size=G, autoreset_mode=mode, backend=backend
    )
    rng = np.random.default_rng(3)
    for _ in range(25):
        _, infos = env.reset(seed=int(rng.integers(8)))
        assert len(set(infos["example"].tolist())) == 1
        example = int(infos["example"][0])
        scores = rng.normal(size=G)
        if scored:
            env.set_scores(np.arange(G), scores)
        tokens, (_, reward, terminated, truncated, infos) = play(env, rng, legal=legal)
        assert terminated.all()
        assert not truncated.any()
        last = infos["final_info"] if mode == "SameStep" else infos
        titles = [title_by_hand(tiny_task, example, tokens[:, row])[0] for row in range(G)]
        order = np.argsort(-scores) if scored else np.arange(G)
        expected = np.empty(G)
        batch = tiny_task.split("test").take(np.array([example]))
        expected[order] = rere(np.array(titles)[None, order], batch)[0]
        expected[np.array(titles) == -1] = -1.0
        np.testing.assert_allclose(reward, expected, atol=1e-7)
        assert last["slate"][:, 0].tolist() == titles
        assert last["group_rank"].tolist() == (np.argsort(order) + 1).tolist()
        hits = np.array(titles) == batch.target_title[0]
        assert last["hit"].tolist() == hits.tolist()
        assert last["target_rank"].tolist() == np.where(hits, last["group_rank"], 0).tolist()


def test_a_row_that_is_done_waits_for_its_group(tiny_task):
    """Only EOS is legal, its action is ignored, its reward is 0, and nothing of it changes."""
    env = ReReVectorEnv(2, tiny_task, group_size=2, split="test", mask="lazy")
    env.reset(seed=0)
    short, long = (tiny_task.title_tokens[title].tolist() for title in (6, 1))  # Pinball; II
    env.step(np.array([short[0], long[0]]))
    env.step(np.array([short[1], long[1]]))
    assert env.candidates().tokens[0] == 0
    assert np.diff(env.candidates().indptr)[0] == 1
    observation, reward, terminated, *_ = env.step(np.array([5, long[2]]))
    assert not terminated.any()
    assert reward.tolist() == [0.0, 0.0]
    assert observation["slate"][:, 0].tolist() == [7, 0]
    *_, terminated, _, infos = env.step(np.array([-9, long[3]]))
    assert terminated.all()
    assert infos["slate"][:, 0].tolist() == [6, 1]


def test_each_copy_of_the_target_hits(tiny_task):
    """Duplicates are legal in a group."""
    env = ReReVectorEnv(3, tiny_task, group_size=3, split="test", reward="hit")
    env.reset(seed=0)
    target = int(tiny_task.split("test").target_title[0])
    for token in tiny_task.title_tokens[target]:
        *step, infos = env.step(np.full(3, token))
    assert step[1].tolist() == [1.0, 1.0, 1.0]
    assert infos["target_rank"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("sync", ["group", "batch"])
def test_groups_end_by_themselves_or_together(tiny_task, sync):
    """`sync="batch"`: nobody ends before the last row of all has."""
    env = ReReVectorEnv(8, tiny_task, group_size=2, sync=sync, split="test")
    rng = np.random.default_rng(0)
    ended = []
    for _ in range(20):
        env.reset(seed=0)
        ended.append((play(env, rng)[1][2]).sum())
    assert (set(ended) == {8}) if sync == "batch" else (min(ended) == 2)


def test_a_spent_budget_truncates_the_row_not_the_group(tiny_task):
    """Under `noop` a row may run out; its flag is `truncated`, it has no title and never hits."""
    env = ReReVectorEnv(2, tiny_task, group_size=2, split="test", on_illegal="noop", max_tokens=3)
    env.reset(seed=0)
    path = tiny_task.title_tokens[6]
    env.step(np.array([path[0], -1]))
    _, reward, *_ = env.step(np.array([path[1], -1]))
    assert reward.tolist() == [0.0, -1.0]
    _, reward, terminated, truncated, infos = env.step(np.array([0, -1]))
    assert (terminated.tolist(), truncated.tolist()) == ([True, False], [False, True])
    assert infos["slate"][:, 0].tolist() == [6, NO_TITLE]


def test_a_group_has_one_generator_and_one_shard(tiny_task):
    """Training draws and evaluation order are those of as many single environments as groups."""
    env = ReReVectorEnv(6, tiny_task, group_size=3, mask="lazy")
    assert len(env.np_random) == 2
    _, infos = env.reset(seed=5)
    alone = [
        ReReEnv(tiny_task, slate_size=1).reset(seed=5 + group)[1]["example"] for group in range(2)
    ]
    assert infos["example"].tolist() == np.repeat(alone, 3).tolist()
    env = ReReVectorEnv(6, tiny_task, group_size=3, split="test", mask="lazy")
    assert env.reset(seed=0)[1]["example"].tolist() == [0, 0, 0, 1, 1, 1]
    assert env.reset()[1]["example"].tolist() == [2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize("mode", MODES)
def test_a_state_in_the_middle_of_a_group_goes_on_alike(tiny_task, mode):
    """Waiting rows and scores are part of it."""
    env = ReReVectorEnv(8, tiny_task, group_size=4, autoreset_mode=mode)
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    for _ in range(2):
        env.step(env.candidates().sample(rng))
    env.set_scores(np.arange(8), rng.normal(size=8))
    state, results = env.get_state(), []
    for _ in range(2):
        env.set_state(state)
        tokens, step = play(env, np.random.default_rng(7))
        results.append((tokens.tolist(), step[1].tolist(), step[0]["history"].tolist()))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 5}, r"`num_envs` \(=5\) must be a multiple of `group_size` \(=2\)"),
        ({"slate_size": 2}, r"`slate_size` \(=2\) must be 1 with `group_size` \(=2\)"),
        ({"sync": "all"}, r"`sync` \(='all'\) must be one of"),
        ({"group_size": 0}, r"`group_size` \(=0\) must be at least 1"),
    ],
)
def test_impossible_groups_are_refused(tiny_task, arguments, message):
    """Rule and value."""
    with pytest.raises(ValueError, match=message):
        ReReVectorEnv(**{"num_envs": 4, "task": tiny_task, "group_size": 2, **arguments})


def test_scores_are_for_whole_groups_and_finite(tiny_task):
    """A group with half its scores is an error that names the row, as is a score that ranks not."""
    env = ReReVectorEnv(2, tiny_task, group_size=2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="must be finite"):
        env.set_scores(np.array([0]), np.array([np.nan]))
    env.set_scores(np.array([1]), np.array([0.5]))
    with pytest.raises(ValueError, match="row 0 has no score"):
        play(env, np.random.default_rng(0))
    with pytest.raises(ValueError, match="`set_scores` ranks the rows of a group"):
        ReReVectorEnv(2, tiny_task, slate_size=1).set_scores(np.array([0]), np.array([1.0]))


def test_groups_are_reset_whole(tiny_task):
    """Half a group cannot have another user than the rest."""
    env = ReReVectorEnv(4, tiny_task, group_size=2, autoreset_mode="Disabled")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="only 1 rows of group 0"):
        env.reset(options={"reset_mask": np.array([True, False, True, True])})
    with pytest.raises(ValueError, match="the same in all rows of a group"):
        env.reset(options={"example": [0, 1, 2, 2]})
