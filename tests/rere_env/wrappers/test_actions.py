"""`DecisionActions`: every action is legal, forced tokens are skipped, returns are the same."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import (
    FlattenObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
    TimeLimit,
    TransformReward,
)
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from rere_env import (
    DecisionActions,
    ReReEnv,
    ReReVectorEnv,
    Task,
    VectorDecisionActions,
    WordTokenizer,
)

# Gymnasium says this of every wrapped environment.
wrapped = pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")

PAIR = ("Moon Racer", "Star Quest")


def play(env, actions):
    """The steps of an episode; the actions are repeated until it is over."""
    steps, over = [], False
    while not over:
        steps.append(env.step(actions[len(steps) % len(actions)]))
        over = steps[-1][2] or steps[-1][3]
    return steps


def title(task, prefix):
    """The words of an observed prefix."""
    return task.tokenizer.decode_completion(
        task.title_tokens.to_model_ids(prefix[prefix > 0]).tolist()
    )


def test_an_action_is_a_child_and_a_hidden_one_yields_to_the_next(tiny_task):
    """Root: Star, Moon, Dog, Pinball. "Pinball": end, Star. "Star": Quest, Farm. By hand."""
    env = DecisionActions(ReReEnv(tiny_task, slate_size=4))
    assert env.action_space == gym.spaces.Discrete(4)
    env.reset(options={"example": 0})

    observation = env.step(2)[0]  # "Dog" has one title: " Show" and the end follow unasked
    assert observation["slate"].tolist() == [6, 0, 0, 0]
    assert title(tiny_task, observation["prefix"]) == ""

    observation = env.step(2)[0]  # "Dog" again: nothing is left below it, so "Pinball"
    assert title(tiny_task, observation["prefix"]) == "Pinball"
    observation = env.step(2)[0]  # child 2 mod 2 = 0 is the end of a title
    assert observation["slate"].tolist() == [6, 7, 0, 0]

    observation = env.step(3)[0]  # "Pinball": its end is hidden now, so "Star" and the end follow
    assert observation["slate"].tolist() == [6, 7, 8, 0]

    observation = env.step(3)[0]  # "Pinball" is used up: round to "Star"
    assert title(tiny_task, observation["prefix"]) == "Star"
    _, reward, terminated, truncated, info = env.step(1)  # child 1: "Farm" and the end
    assert (terminated, truncated) == (True, False)
    assert info["slate"].tolist() == [5, 6, 7, 2]
    assert info["target_rank"] == 4
    assert reward == info["item_rewards"].sum()


def expected_slate(titles, hidden, slate_size, actions):
    """Write a slate by the rule of the docstring, over plain lists of words."""
    rows = {index: (*words.split(" "), "<end>") for index, words in enumerate(titles)}
    order = ["<end>", *dict.fromkeys(word for words in titles for word in words.split(" "))]
    slate, num_steps = [], 0
    while len(slate) < slate_size:
        prefix = ()
        while "<end>" not in prefix:

            def next_words(pool, prefix=prefix):
                words = {row[len(prefix)] for row in pool if row[: len(prefix)] == prefix}
                return sorted(words, key=order.index)

            children = next_words(rows.values())
            legal = next_words(row for index, row in rows.items() if index not in {*slate, *hidden})
            word = legal[0]
            if len(legal) > 1:
                place = actions[num_steps % len(actions)] % len(children)
                cycle = children[place:] + children[:place]
                word = next(child for child in cycle if child in legal)
                num_steps += 1
            prefix = (*prefix, word)
        slate += [index for index, row in rows.items() if row == prefix]
    return slate, max(num_steps, 1)


words = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(" ".join)


@given(
    titles=st.lists(words, min_size=1, max_size=9, unique=True),
    actions=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    data=st.data(),
)
def test_any_slate_follows_the_rule(task_of, titles, actions, data):
    """Titles, order and number of steps, on random catalogues, filters and actions."""
    hidden = data.draw(st.sets(st.integers(0, len(titles) - 1), max_size=len(titles) - 1))
    slate_size = data.draw(st.integers(1, len(titles) - len(hidden)))
    task = task_of(titles, [((0,), 0)]).with_exclude([f"i{title}" for title in hidden])
    env = DecisionActions(ReReEnv(task, slate_size=slate_size, mask="lazy"))
    actions = [action % int(env.action_space.n) for action in actions]
    env.reset(seed=0)
    steps = play(env, actions)
    slate, num_steps = expected_slate(titles, hidden, slate_size, actions)
    assert steps[-1][4]["slate"].tolist() == slate
    assert len(steps) == num_steps


@pytest.mark.parametrize("token_ids", ["local", "model"])
def test_the_return_is_that_of_the_token_view(dataset_of, token_ids):
    """The same titles, written token by token: same return and terminal info, more steps."""
    backwards = WordTokenizer(
        reversed(WordTokenizer.from_titles(dataset_of().catalogue.titles).words[1:])
    )
    task = Task.build(dataset_of(), tokenizer=backwards)
    view = DecisionActions(ReReEnv(task, slate_size=3, token_ids=token_ids))
    tokens = ReReEnv(task, slate_size=3, token_ids=token_ids)
    rng = np.random.default_rng(0)
    for example in range(8):
        view.reset(options={"example": example})
        steps = play(view, rng.integers(view.action_space.n, size=50))
        tokens.reset(options={"example": example})
        plain = [
            tokens.step(tokens.surface.to_actions(token))
            for written in steps[-1][4]["slate"]
            for token in task.title_tokens[written]
        ]
        assert sum(step[1] for step in steps) == sum(step[1] for step in plain)
        assert len(steps) < len(plain)
        for key in plain[-1][4].keys() - {"action_mask"}:
            np.testing.assert_array_equal(steps[-1][4][key], plain[-1][4][key])


def test_model_ids_change_nothing(dataset_of):
    """The same decisions lead to the same observations, whatever the tokens are called."""
    unused = WordTokenizer(
        ["zero", *WordTokenizer.from_titles(dataset_of().catalogue.titles).words[1:]]
    )
    task = Task.build(dataset_of(), tokenizer=unused)
    local, model = (
        DecisionActions(ReReEnv(task, slate_size=3, mask="lazy", token_ids=token_ids))
        for token_ids in ("local", "model")
    )
    assert local.action_space == model.action_space
    rng = np.random.default_rng(0)
    for seed in range(20):
        actions = rng.integers(4, size=20)
        for env in (local, model):
            env.reset(seed=seed)
        for ours, theirs in zip(play(local, actions), play(model, actions), strict=True):
            assert not ours[4]["illegal"]
            assert ours[1] == theirs[1]
            for key in ours[0]:
                np.testing.assert_array_equal(ours[0][key], theirs[0][key])


def test_forced_tokens_are_written_at_the_reset(task_of):
    """All titles begin alike: the first question is asked where they part."""
    task = task_of(["The Moon Racer", "The Star Quest"], [((0,), 1)])
    env = DecisionActions(ReReEnv(task, slate_size=1))
    observation, info = env.reset(seed=0)
    assert title(task, observation["prefix"]) == "The"
    assert info.keys() == ReReEnv(task, slate_size=1).reset(seed=0)[1].keys()
    _, reward, terminated, *_ = env.step(1)
    assert (reward, terminated) == (1.0, True)


@pytest.mark.parametrize(("titles", "slate_size"), [(PAIR[:1], 1), (PAIR, 2)])
def test_an_episode_has_at_least_one_step(task_of, titles, slate_size):
    """One title: one dummy action, any. Two of two titles: their order is the only decision."""
    env = DecisionActions(ReReEnv(task_of(titles, [((0,), 0)]), slate_size=slate_size))
    for action in range(int(env.action_space.n)):
        env.reset(seed=0)
        _, _, terminated, truncated, info = env.step(action)
        assert (terminated, truncated) == (True, False)
        assert info["slate"].tolist() == [action, 1 - action][:slate_size]


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 4, 5, 8])
def test_the_token_budget_cuts_a_run(task_of, max_tokens):
    """Skipped tokens count: the episode is truncated where it would be without the view."""
    task = task_of(["The Moon Racer", "The Star Quest"], [((0,), 1)])
    env = DecisionActions(ReReEnv(task, slate_size=2, max_tokens=max_tokens))
    env.reset(seed=0)
    assert env.unwrapped.rows.num_tokens[0] == min(1, max_tokens - 1)  # "The"
    *_, terminated, truncated, info = play(env, [0])[-1]
    assert (terminated, truncated) == (max_tokens == 8, max_tokens < 8)
    assert (info["slate"] >= 0).sum() == max_tokens // 4
    assert env.unwrapped.rows.num_tokens[0] == max_tokens


def test_rewards_of_skipped_tokens_are_summed(task_of):
    """Also those of the reset: a price a token makes the token view's return."""
    task = task_of(["The Moon Racer", "The Star Quest"], [((0,), 1)])
    env = DecisionActions(TransformReward(ReReEnv(task, slate_size=2), lambda reward: reward - 1))
    env.reset(seed=0)
    ((_, reward, *_, info),) = play(env, [1])
    assert reward == pytest.approx(info["item_rewards"].sum() - 8)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_uniformly_random_actions_are_never_illegal_in_a_million(tiny_task, backend):
    """Sampled without any mask, under a filter and a slate that use the catalogue up."""
    options = {"slate_size": 5, "exclude": "history", "backend": backend, "mask": "lazy"}
    env = VectorDecisionActions(ReReVectorEnv(4096, tiny_task, **options))
    history = tiny_task.split("train").history
    rng = np.random.default_rng(0)
    _, infos = env.reset(seed=0)
    example, decisions = infos["example"].copy(), 0
    while decisions < 500_000:  # a million in both
        _, _, terminated, truncated, infos = env.step(rng.integers(4, size=4096))
        if "example" in infos:
            example[infos["_example"]] = infos["example"][infos["_example"]]
        decisions += int(infos["_illegal"].sum())
        assert not infos["illegal"].any()
        assert not truncated.any()
        if terminated.any():
            slates = infos["slate"][terminated]
            assert slates.min() >= 0
            assert (np.diff(np.sort(slates, axis=1), axis=1) > 0).all()
            seen = history[example[terminated]][:, :, None] == slates[:, None, :]
            assert not seen.any()


def test_the_mask_is_all_ones_wherever_it_goes(tiny_task):
    """Every action is legal: in the info, in the observation, from the method."""
    info = DecisionActions(ReReEnv(tiny_task, slate_size=2))
    assert info.reset(seed=0)[1]["action_mask"].tolist() == [1, 1, 1, 1]
    assert info.step(info.action_space.sample(info.step(0)[4]["action_mask"]))[4][
        "action_mask"
    ].all()
    observation = DecisionActions(ReReEnv(tiny_task, slate_size=2, mask="observation"))
    seen, _ = observation.reset(seed=0)
    assert seen["action_mask"].tolist() == [1, 1, 1, 1]
    assert observation.observation_space.contains(seen)
    assert (
        RecordEpisodeStatistics(observation).get_wrapper_attr("action_masks")().tolist()
        == [True] * 4
    )


@wrapped
@pytest.mark.parametrize("mask", ["info", "observation", "lazy"])
@pytest.mark.parametrize("token_ids", ["local", "model"])
def test_both_checkers_pass(tiny_task, mask, token_ids):
    """Gymnasium's and SB3's."""
    env = DecisionActions(ReReEnv(tiny_task, slate_size=3, mask=mask, token_ids=token_ids))
    check_env(env, skip_render_check=True)
    sb3_check_env(env)


@wrapped
def test_other_wrappers_compose(tiny_task):
    """Statistics count decisions, time limits too; both checkers pass around the whole stack."""
    view = DecisionActions(ReReEnv(tiny_task, slate_size=6))
    env = RecordEpisodeStatistics(TimeLimit(FlattenObservation(NormalizeReward(view)), 5))
    check_env(env, skip_render_check=True)
    sb3_check_env(env)
    env.reset(seed=0)
    *_, truncated, info = play(env, [0, 1, 2, 3])[-1]
    assert truncated
    assert info["episode"]["l"] == 5


def test_a_time_limit_inside_counts_tokens(tiny_task):
    """And may end the episode in the midst of a run."""
    env = DecisionActions(TimeLimit(ReReEnv(tiny_task, slate_size=6), 3))
    env.reset(seed=0)
    assert play(env, [1])[0][2:4] == (False, False)
    env.reset(seed=0)
    *_, terminated, truncated, _ = play(env, [2, 2])[-1]
    assert (terminated, truncated) == (False, True)


def test_a_copy_made_mid_episode_goes_on_alike(tiny_task):
    """Pickled with what was carried."""
    env = DecisionActions(ReReEnv(tiny_task, slate_size=3))
    env.reset(seed=0)
    env.step(3)
    other = pickle.loads(pickle.dumps(env))
    for ours, theirs in zip(play(env, [1, 2, 3]), play(other, [1, 2, 3]), strict=True):
        assert ours[1:4] == theirs[1:4]
        np.testing.assert_array_equal(ours[0]["slate"], theirs[0]["slate"])


def test_the_view_is_part_of_the_spec():
    """A wrapped environment can be made again from JSON."""
    env = DecisionActions(gym.make("ReRe-Games-v0", slate_size=2))
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert isinstance(again, DecisionActions)
    assert again.action_space == env.action_space
    first, second = env.reset(seed=3), again.reset(seed=3)
    np.testing.assert_array_equal(first[0]["history"], second[0]["history"])


def test_a_library_without_masks_learns_with_it(tiny_task):
    """PPO of Stable-Baselines3 collects and updates; no episode ends illegally."""
    env = RecordEpisodeStatistics(DecisionActions(ReReEnv(tiny_task, slate_size=1, mask="lazy")))
    model = PPO("MultiInputPolicy", env, n_steps=32, batch_size=32, n_epochs=1, device="cpu")
    model.learn(64)
    assert min(env.return_queue) >= 0.0


def test_episodes_are_shorter():
    """Half again as many tokens as decisions in the built-in world, whose tokens are words."""
    env = DecisionActions(gym.make("ReRe-Games-v0", mask="lazy"))
    rng = np.random.default_rng(0)
    decisions = tokens = 0
    for seed in range(20):
        env.reset(seed=seed)
        decisions += len(play(env, rng.integers(env.action_space.n, size=500)))
        tokens += int(env.unwrapped.rows.num_tokens[0])
    assert tokens > 1.4 * decisions


@pytest.mark.parametrize("action", [-1, 4])
def test_actions_outside_the_space_are_errors(tiny_task, action):
    """Modulo is for nodes with few children, not for mistakes."""
    env = DecisionActions(ReReEnv(tiny_task, slate_size=1))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=rf"must lie in 0\.\.3; got {action}"):
        env.step(action)


def test_misuse_is_an_error(tiny_task):
    """Rule, value and remedy."""
    env = ReReEnv(tiny_task, slate_size=1)
    with pytest.raises(TypeError, match=r"is a view of a ReReEnv; got <.*CartPole"):
        DecisionActions(gym.make("CartPole-v1"))
    with pytest.raises(ValueError, match="decisions only once"):
        DecisionActions(DecisionActions(env))
    with pytest.raises(ResetNeeded):
        DecisionActions(env).step(0)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="actions must be 1 integers"):
        DecisionActions(env).step(0.5)


def test_a_wrapper_inside_may_not_end_an_episode_before_its_first_decision(task_of):
    """There would be no step to report it."""
    task = task_of(["The Moon Racer", "The Star Quest"], [((0,), 1)])
    env = DecisionActions(TimeLimit(ReReEnv(task, slate_size=1), 1))
    with pytest.raises(RuntimeError, match=r"`TimeLimit`, for instance\) outside"):
        env.reset(seed=0)
