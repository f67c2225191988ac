"""Sequences that nothing keeps to the catalogue: what is drawn, what is found, what is illegal."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.language_model import LanguageModel
from agents.lm_recommender import LMRecommender
from agents.policy import Policy
from agents.scoring import title_logprobs
from agents.search import find_search, sample_unconstrained, unconstrained_beam
from rere_env import NO_TITLE, Task
from rere_env.filters import Hidden
from rere_env.prompts import Prompts

ROWS, DRAWS = 250, 40
"""The draws of one prompt are spread over rows: what a step reads grows with the draws squared."""


@pytest.fixture(scope="module")
def world(titles_of):
    """All sequences of one to three of three words, but for every fourth: 29 titles."""
    words = ["a", "b", "c"]
    every = [" ".join(row) for n in (1, 2, 3) for row in itertools.product(words, repeat=n)]
    return titles_of([title for place, title in enumerate(every) if place % 4 != 2])


@pytest.fixture(scope="module")
def lm(world, model_of):
    """Smaller weights than those of the other tests: a good share of what it draws is a title."""
    return LanguageModel(model_of("qwen2", world.vocab_size, initializer_range=0.1))


def generator(seed=0):
    """A source of randomness."""
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def chance_of(lm, ids, prompt, temperature=1.0):
    """The probability that a sequence is drawn token by token from the whole vocabulary."""
    logits = lm.model(torch.tensor([[*prompt, *ids]])).logits[0]
    chances = torch.softmax(logits / temperature, -1)
    return math.prod(
        float(chances[len(prompt) + place - 1, token]) for place, token in enumerate(ids)
    )


def assert_drawn(count, chance, draws):
    """Four standard deviations."""
    assert abs(count - draws * chance) <= 4 * math.sqrt(draws * chance * (1 - chance)) + 1e-9


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_titles_are_drawn_as_often_as_the_whole_vocabulary_makes_them(temperature, lm, world):
    """And what is left is illegal."""
    [prompt] = world.prompts(4)
    found = sample_unconstrained(
        world.policy(lm, "vocabulary"),
        Prompts([prompt] * ROWS),
        DRAWS,
        generator=generator(),
        temperature=temperature,
    )
    titles = range(len(world.titles))
    chances = [chance_of(lm, world.model_ids(title), prompt, temperature) for title in titles]
    for title in titles:
        assert_drawn((found.titles == title).sum(), chances[title], ROWS * DRAWS)
    assert 0.02 < sum(chances) < 0.98
    assert_drawn(found.num_illegal.sum(), 1 - sum(chances), ROWS * DRAWS)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), length=st.integers(1, 12))
def test_the_illegal_rate_is_what_the_titles_leave(seed, length, lm, world):
    """1 - the sum of all titles' probabilities under the vocabulary."""
    [prompt] = world.prompts(length, seed=seed)
    trie, titles = world.torch_trie(), np.arange(len(world.titles))[None]
    logprobs = title_logprobs(world.policy(lm, "vocabulary"), Prompts([prompt]), titles)
    found = sample_unconstrained(
        Policy(lm=lm, trie=trie, support="vocabulary"),
        Prompts([prompt] * 50),
        40,
        generator=generator(seed),
    )
    assert_drawn(found.num_illegal.sum(), 1 - float(logprobs.detach().exp().sum()), 2000)


def test_draws_come_with_the_policy_s_log_probabilities_and_illegal_ones_last(lm, world):
    """Sorted, whatever the temperature; an illegal draw is empty, at the end."""
    prompts = world.prompts(3, 8, 1)
    found = sample_unconstrained(
        world.policy(lm, "vocabulary"),
        Prompts(prompts),
        40,
        generator=generator(),
        temperature=1.5,
    )
    is_title = found.titles != NO_TITLE
    assert 0 < is_title.sum() < 120
    scored = title_logprobs(world.policy(lm, "vocabulary"), Prompts(prompts), found.titles)
    np.testing.assert_allclose(
        found.logprobs[is_title], scored.detach().numpy()[is_title], atol=1e-4
    )
    assert (found.logprobs[~is_title] == -np.inf).all()
    assert (found.logprobs[:, :-1] >= found.logprobs[:, 1:]).all()
    assert found.num_illegal.tolist() == (~is_title).sum(1).tolist()


def test_a_hidden_title_is_illegal(lm, world):
    """The others are drawn as often as ever: nothing is renormalised."""
    [prompt] = world.prompts(4)
    hidden = np.arange(0, len(world.titles), 2)
    found = sample_unconstrained(
        world.policy(lm, "vocabulary"),
        Prompts([prompt] * 100, hidden=Hidden.from_lists([hidden] * 100)),
        40,
        generator=generator(),
    )
    assert not np.isin(found.titles, hidden).any()
    shown = range(1, len(world.titles), 2)
    chance = sum(chance_of(lm, world.model_ids(title), prompt) for title in shown)
    assert_drawn(found.num_illegal.sum(), 1 - chance, 4000)


@torch.no_grad()
def hugging_face(model, world, prompt, num_beams):
    """Beams of `generate` without a processor: a title id or `NO_TITLE` each, and the scores."""
    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        num_beams=num_beams,
        num_return_sequences=num_beams,
        do_sample=False,
        max_new_tokens=world.trie.max_length,
        length_penalty=0.0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    known = {tuple(world.model_ids(title)): title for title in range(len(world.titles))}
    titles = []
    for ids in out.sequences[:, len(prompt) :].tolist():
        end = ids.index(0) + 1 if 0 in ids else len(ids)
        titles.append(known.get(tuple(ids[:end]), NO_TITLE))
    return titles, out.sequences_scores.numpy()


@pytest.mark.parametrize("num_beams", [3, 8, 12])
@pytest.mark.parametrize("family", ["qwen2", "llama", "gpt2"])
def test_beams_are_those_of_generate_without_a_constraint(family, num_beams, lm_of, many_titles):
    """The same titles at the same ranks with the same scores; illegal beams where it has them."""
    lm = lm_of(family, many_titles.vocab_size)
    prompts = many_titles.prompts(3, 9, 1, 6, 4, 7, seed=3)
    found = unconstrained_beam(
        many_titles.policy(lm, "vocabulary"),
        Prompts(prompts),
        num_beams,
    )
    num_titles = 0
    for row, prompt in enumerate(prompts):
        titles, scores = hugging_face(lm.model, many_titles, prompt, num_beams)
        assert found.titles[row].tolist() == titles
        is_title = np.array(titles) != NO_TITLE
        np.testing.assert_allclose(found.logprobs[row, is_title], scores[is_title], atol=1e-4)
        assert (found.logprobs[row, ~is_title] == -np.inf).all()
        assert found.num_illegal[row] == (~is_title).sum()
        num_titles += is_title.sum()
    assert 0 < num_titles < 6 * num_beams


def test_hidden_titles_leave_holes_in_the_beams(lm_of, many_titles):
    """The beams are the same; those that end in a hidden title are illegal."""
    lm, trie = lm_of("qwen2", many_titles.vocab_size), many_titles.torch_trie()
    prompts = many_titles.prompts(3, 9, 5, seed=3)
    free = unconstrained_beam(Policy(lm=lm, trie=trie, support="vocabulary"), Prompts(prompts), 8)
    hidden = [titles[titles != NO_TITLE][:1] for titles in free.titles]
    found = unconstrained_beam(
        Policy(lm=lm, trie=trie, support="vocabulary"),
        Prompts(prompts, hidden=Hidden.from_lists(hidden)),
        8,
    )
    expected = free.titles.copy()
    for row, titles in enumerate(hidden):
        expected[row, np.isin(expected[row], titles)] = NO_TITLE
    assert found.titles.tolist() == expected.tolist()


@pytest.mark.parametrize("method", [sample_unconstrained, unconstrained_beam])
def test_only_the_whole_vocabulary_has_illegal_sequences(method, lm_of, few_titles):
    """Under the catalogue's support there is nothing to measure."""
    lm = lm_of("llama", few_titles.vocab_size)
    with pytest.raises(ValueError, match=r"`support` \(='catalogue'\) must be 'vocabulary'"):
        method(few_titles.policy(lm), Prompts([[1]]), 2)
    with pytest.raises(ValueError, match="prompts"):
        method(few_titles.policy(lm, "vocabulary"), Prompts([]), 2)


def test_a_recommender_shows_illegal_beams_at_their_ranks(successor, lm_of):
    """By the name of the search; the list keeps its holes."""
    task = Task.build(successor)
    lm = lm_of("qwen2", task.tokenizer.vocab_size)
    examples = task.split("test")
    recommender = LMRecommender(task, lm, beam=6, support="vocabulary", search="unconstrained")
    found = find_search("unconstrained")(recommender.policy, task.prompts(examples), 6)
    assert recommender.recommend(examples, 6).tolist() == found.titles.tolist()
    assert (found.titles == NO_TITLE).any()
