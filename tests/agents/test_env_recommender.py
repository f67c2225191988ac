"""The beam search over actions against the environment itself, and against all titles."""

import numpy as np
import pytest

from agents.env_recommender import EnvRecommender
from rere_env import NO_TITLE, ReReVectorEnv
from rere_env.worlds import fifty_items, one_item, successor
from rere_env.wrappers import VectorDecisionActions

WORLD = fifty_items()


def scorer(num_actions, seed=0):
    """Scores that depend on everything observed, by a fixed random projection."""

    def score(observation):
        rows = np.concatenate([observation[key] for key in ("history", "slate", "prefix")], axis=1)
        weights = np.random.default_rng(seed).normal(size=(rows.shape[1], num_actions))
        return np.sin(rows @ weights) * 3

    return score


def greedy_titles(env, score, examples):
    """Step every example to its end with the best legal action."""
    observations, _ = env.reset(seed=0)
    titles = np.full(len(examples), NO_TITLE)
    for _ in range(20):
        scores = np.where(env.action_masks(), score(observations), -np.inf)
        observations, _, terminated, _, infos = env.step(scores.argmax(axis=1))
        for row in np.flatnonzero(terminated & (titles == NO_TITLE)):
            titles[row] = infos["final_info"]["slate"][row, 0]
    return titles


@pytest.mark.parametrize("decisions", [False, True])
def test_one_beam_is_the_greedy_agent(decisions):
    """It writes what stepping the environment with the best legal action writes."""
    examples = WORLD.task.split("test").take(slice(40))
    env = ReReVectorEnv(
        40, WORLD.task, split="test", slate_size=1, mask="lazy", autoreset_mode="SameStep"
    )
    # Row i of N shards serves example i first.
    view = VectorDecisionActions(env) if decisions else env
    score = scorer(view.single_action_space.n)
    found = EnvRecommender(WORLD.task, score, beam=1, decisions=decisions, values=True)
    np.testing.assert_array_equal(
        found.recommend(examples, 1)[:, 0], greedy_titles(view, score, examples)
    )


def title_logprobs(task, score, history):
    """Log-probability of every title under the masked policy, one token at a time."""
    logprobs = []
    titles = [tuple(task.title_tokens[t].tolist()) for t in range(task.catalogue.num_titles)]
    for title in titles:
        total = 0.0
        for place, token in enumerate(title):
            legal = sorted({t[place] for t in titles if t[:place] == title[:place]})
            prefix = np.zeros((1, task.trie.max_length - 1), np.int64)
            prefix[0, :place] = title[:place]
            slate = np.zeros((1, 1), np.int64)
            scores = score({"history": history, "slate": slate, "prefix": prefix})[0]
            total += scores[token] - np.log(np.exp(scores[legal]).sum())
        logprobs.append(total)
    return np.array(logprobs)


def test_wide_beams_rank_all_titles_by_probability():
    """A beam as wide as the catalogue finds the order of the exact probabilities."""
    task = successor().task
    score = scorer(task.title_tokens.num_tokens)
    examples = task.split("test").take(np.array([0, 50, 119]))
    found = EnvRecommender(task, score, beam=12).recommend(examples, 12)
    for row, titles in enumerate(found):
        expected = title_logprobs(task, score, examples.history[row : row + 1] + 1)
        np.testing.assert_array_equal(titles, np.argsort(-expected))


def test_actions_of_one_meaning_add_up_or_compete():
    """With three actions for two children, policies add probabilities and values take the best."""
    task = successor(2).task  # "Star Quest" and "Moon Quest": one decision of two children

    def score(observation):
        return np.tile(np.log([0.3, 0.4, 0.3]), (len(observation["history"]), 1))

    examples = task.split("test").take(slice(1))
    by_token = {int(task.title_tokens[title][0]): title for title in (0, 1)}
    first, second = (by_token[int(token)] for token in task.trie.tokens[:2])
    policy = EnvRecommender(task, score, decisions=True).recommend(examples, 2)[0]
    values = EnvRecommender(task, score, decisions=True, values=True).recommend(examples, 2)[0]
    assert policy.tolist() == [first, second]  # .6 against .4
    assert values.tolist() == [second, first]  # .3 against .4


def test_hidden_titles_are_never_shown():
    """The history's titles are left out, and the list is padded where nothing is left."""
    task = successor(4).task.with_exclude("history")
    examples = task.split("test").take(slice(20))
    found = EnvRecommender(task, scorer(task.title_tokens.num_tokens)).recommend(examples, 4)
    for history, titles in zip(examples.history, found, strict=True):
        shown = titles[titles != NO_TITLE]
        assert set(shown.tolist()) == set(range(4)) - set(history.tolist())
        assert (titles[len(shown) :] == NO_TITLE).all()


def test_a_catalogue_of_one_title():
    """There is one title to recommend, whatever the scores say."""
    task = one_item().task
    found = EnvRecommender(task, scorer(3), decisions=True).recommend(
        task.split("test").take(slice(3)), 2
    )
    assert found.tolist() == [[0, NO_TITLE]] * 3


def test_scores_of_the_wrong_shape_are_refused():
    """The message names what was expected."""
    task = successor().task
    broken = EnvRecommender(task, lambda _: np.zeros(9))
    with pytest.raises(ValueError, match="one row of scores"):
        broken.recommend(task.split("test").take(slice(2)), 1)
