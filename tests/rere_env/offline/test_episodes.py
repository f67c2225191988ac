"""Experts to episodes, against single environments stepped by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rere_env import NO_TITLE, ReReEnv, ReReVectorEnv
from rere_env.offline import TargetExpert, choose_examples, expert_episodes, slate_tokens


class Fixed:
    """Recommends the same titles to everybody."""

    def __init__(self, titles):
        self.titles = titles

    def recommend(self, examples, k):
        """Return the first k titles."""
        return np.tile(np.array(self.titles[:k]), (len(examples), 1))


class Rotating:
    """Recommends titles that depend on the example: the target's successors."""

    def recommend(self, examples, k):
        """Return k titles after the target."""
        return (examples.target_title[:, None] + 1 + np.arange(k)) % 8


def make_envs(task, num_envs=3, **arguments):
    """An environment as `expert_episodes` wants it."""
    return ReReVectorEnv(
        num_envs,
        task,
        **{"autoreset_mode": "Disabled", "mask": "lazy", "slate_size": 2, **arguments},
    )


def step_by_hand(task, expert, example, **arguments):
    """The same episode in a single environment, title by title from their tokens."""
    env = ReReEnv(task, **arguments)
    batch = task.splits[arguments.get("split", "train")].take(np.array([example]))
    slate = expert.recommend(batch, arguments["slate_size"])[0]
    actions = [int(token) for title in slate for token in task.title_tokens[title]]
    if arguments.get("token_ids") == "model":
        actions = [int(task.title_tokens.local_model[token]) for token in actions]
    observation, info = env.reset(options={"example": example})
    told = dict(info)
    seen, masks, results = [observation], [env.action_masks()], []
    for action in actions:
        observation, *result, info = env.step(action)
        told |= info
        seen.append(observation)
        masks.append(env.action_masks())
        results.append((action, *result))
        if result[1] or result[2]:
            break
    return seen, np.array(masks), results, told


@pytest.mark.parametrize(
    "arguments",
    [
        {"slate_size": 1},
        {"slate_size": 3},
        {"slate_size": 3, "token_ids": "model"},
        {"slate_size": 2, "split": "test", "reward": "hit"},
        {"slate_size": 3, "max_tokens": 4},  # cut off
    ],
    ids=str,
)
@pytest.mark.parametrize("expert", [Rotating(), TargetExpert(Fixed(range(8)))])
def test_episodes_are_those_of_the_environment(tiny_task, arguments, expert):
    """Observations, tokens, rewards, ends, masks and infos equal a single environment's."""
    envs = make_envs(tiny_task, **arguments)
    order = np.array([5, 0, 7, 2, 1])  # 3 at a time: the last part is not full
    episodes = list(expert_episodes(envs, expert, order))
    assert [episode.example for episode in episodes] == order.tolist()
    for episode in episodes:
        seen, masks, results, told = step_by_hand(
            tiny_task, expert, episode.example, mask="lazy", **arguments
        )
        actions, rewards, terminations, truncations = zip(*results, strict=True)
        assert episode.actions.tolist() == list(actions)
        assert episode.rewards.tolist() == list(rewards)
        assert episode.terminations.tolist() == list(terminations)
        assert episode.truncations.tolist() == list(truncations)
        for name, column in episode.observations.items():
            np.testing.assert_array_equal(column, [observation[name] for observation in seen])
        mask = episode.action_mask(envs.single_action_space.n)
        np.testing.assert_array_equal(mask.astype(bool), masks)
        assert episode.info.keys() == told.keys()
        for key, value in told.items():
            np.testing.assert_equal(episode.info[key], value)


def test_every_action_is_legal(tiny_task):
    """Each recorded token is allowed by the mask beside the observation it answers."""
    for episode in expert_episodes(make_envs(tiny_task), Rotating(), np.arange(8)):
        mask = episode.action_mask(tiny_task.trie.num_tokens)
        assert mask[np.arange(len(episode)), episode.actions].all()
        assert not episode.info["illegal"]


def test_the_target_expert_earns_the_most(tiny_task):
    """Its return is 1 with one title, and the share of the first place with more."""
    for slate_size, best in ((1, 1.0), (2, 1 / (1 + 1 / np.log2(3)))):
        envs = make_envs(tiny_task, slate_size=slate_size)
        for episode in expert_episodes(envs, TargetExpert(Fixed(range(8))), np.arange(8)):
            assert episode.info["target_rank"] == 1
            assert episode.rewards.sum() == pytest.approx(best, abs=1e-6)


@given(st.permutations(range(8)), st.integers(1, 8))
def test_the_target_is_put_before_what_another_says(tiny_task, titles, k):
    """The others keep their order; the last one makes room."""
    examples = tiny_task.splits["train"]
    slates = TargetExpert(Fixed(titles)).recommend(examples, k)
    for slate, target in zip(slates.tolist(), examples.target_title.tolist(), strict=True):
        assert slate == [target, *(title for title in titles[:k] if title != target)][:k]


@given(st.lists(st.permutations(range(8)), min_size=1, max_size=5), st.integers(1, 8))
def test_slates_are_written_title_by_title(tiny_task, slates, k):
    """A row is the tokens of its titles, one after the other."""
    slates = np.array(slates)[:, :k]
    indptr, tokens = slate_tokens(tiny_task.title_tokens, slates)
    for row, slate in enumerate(slates):
        expected = [int(t) for title in slate for t in tiny_task.title_tokens[title]]
        assert tokens[indptr[row] : indptr[row + 1]].tolist() == expected


@pytest.mark.parametrize("slate", [[0, NO_TITLE], [3, 3]])
def test_a_short_or_repeating_slate_is_refused(tiny_task, slate):
    """The environment would not let it be written."""
    with pytest.raises(ValueError, match=r"slate 1 .* must hold 2 distinct titles"):
        slate_tokens(tiny_task.title_tokens, np.array([[0, 1], slate]))


def test_examples_are_all_or_a_seeded_part():
    """Ascending, none twice, the same for the same seed."""
    assert choose_examples(4, None, 0).tolist() == [0, 1, 2, 3]
    part = choose_examples(100, 10, 1)
    assert part.tolist() == sorted(set(part.tolist()))
    assert len(part) == 10
    assert part.tolist() == choose_examples(100, 10, 1).tolist()
    assert part.tolist() != choose_examples(100, 10, 2).tolist()


@pytest.mark.parametrize("number", [0, 5])
def test_more_examples_than_there_are_is_an_error(number):
    """Both numbers are named."""
    with pytest.raises(ValueError, match=rf"`num_episodes` \(={number}\) must lie in 1..4"):
        choose_examples(4, number, 0)


@pytest.mark.parametrize("wrong", [{"mask": "info"}, {"autoreset_mode": "NextStep"}])
def test_the_environment_must_wait_at_the_end(tiny_task, wrong):
    """Autoreset would mix episodes; dense masks would be made for nothing."""
    with pytest.raises(ValueError, match="autoreset_mode='Disabled' and mask='lazy'"):
        next(expert_episodes(make_envs(tiny_task, **wrong), Rotating(), np.arange(2)))
