"""Titles drawn from a policy, and the target among them."""

import math

import numpy as np
import pytest
import torch

from agents.policy import Policy
from agents.scoring import title_logprobs
from agents.search import beam_search, exact_search, sample, sample_distinct, with_target
from agents.search.sampling import distinct_first
from rere_env import NO_TITLE
from rere_env.filters import Hidden
from rere_env.prompts import Prompts

SUPPORTS = ("catalogue", "vocabulary")
each_support = pytest.mark.parametrize("support", SUPPORTS)

DRAWS = 20_000


def generator(seed=0):
    """A source of randomness."""
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def tempered(slow_logprob, lm, world, prompt, title, temperature):
    """The probability of a title whose tokens are drawn one by one among the legal ones."""
    kept = slow_logprob(lm.model, world, prompt, title, "catalogue")
    chances = [torch.softmax(logprobs / temperature, -1)[0] for logprobs in kept]
    return math.prod(float(chance) for chance in chances)


@each_support
@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_titles_are_drawn_as_often_as_they_are_probable(
    temperature, support, lm_of, few_titles, slow_logprob
):
    """Under either support tokens are drawn among the legal ones; four standard deviations."""
    lm = lm_of("llama", few_titles.vocab_size)
    [prompt] = few_titles.prompts(4, seed=1)
    found = sample(
        few_titles.policy(lm, support),
        Prompts([prompt]),
        DRAWS,
        generator=generator(),
        temperature=temperature,
    )
    for title in range(7):
        chance = tempered(slow_logprob, lm, few_titles, prompt, title, temperature)
        count = int((found.titles == title).sum())
        deviation = math.sqrt(DRAWS * chance * (1 - chance))
        assert abs(count - DRAWS * chance) <= 4 * deviation + 1e-9, title


@each_support
def test_log_probabilities_are_the_policy_s_own(support, lm_of, many_titles):
    """Whatever the temperature of the draws; the candidates are sorted by them."""
    lm = lm_of("qwen2", many_titles.vocab_size)
    prompts = many_titles.prompts(3, 8, 5, 1)
    trie = many_titles.torch_trie()
    found = sample(
        Policy(lm=lm, trie=trie, support=support),
        Prompts(prompts),
        30,
        generator=generator(),
        temperature=4.0,
    )
    scored = title_logprobs(many_titles.policy(lm, support), Prompts(prompts), found.titles)
    np.testing.assert_allclose(found.logprobs, scored.detach().numpy(), atol=1e-4)
    assert (np.diff(found.logprobs) <= 0).all()


def test_hidden_titles_are_never_drawn_and_the_rest_is_renormalised(
    lm_of, few_titles, slow_logprob
):
    """Drawn as often as the policy would, given that the hidden ones are not drawn."""
    lm = lm_of("llama", few_titles.vocab_size)
    [prompt] = few_titles.prompts(4, seed=1)
    hidden = [np.array([1, 5, 6, 6])]  # "red fox", and all that begins with "green"
    trie = few_titles.torch_trie()
    found = sample(
        Policy(lm=lm, trie=trie),
        Prompts([prompt], hidden=Hidden.from_lists(hidden)),
        DRAWS,
        generator=generator(),
    )
    every_one = exact_search(
        Policy(lm=lm, trie=trie), Prompts([prompt], hidden=Hidden.from_lists(hidden)), 7
    )
    left = every_one.titles[0, :4]
    assert sorted(left) == [0, 2, 3, 4]
    for title, logprob in zip(left, every_one.logprobs[0], strict=False):
        chance = float(np.exp(logprob))
        count = int((found.titles == title).sum())
        assert abs(count - DRAWS * chance) <= 4 * math.sqrt(DRAWS * chance * (1 - chance)) + 1e-9
    assert set(found.titles[0]) <= set(left)


@pytest.mark.parametrize("sampler", [sample, sample_distinct])
def test_a_seed_repeats_the_draws(sampler, lm_of, many_titles):
    """The same generator state gives the same titles; torch's own randomness is not touched."""
    lm, trie = lm_of("qwen2", many_titles.vocab_size), many_titles.torch_trie()
    prompts, targets = many_titles.prompts(3, 8), np.array([0, 1])
    state = torch.get_rng_state()
    first, second, other = (
        sampler(
            Policy(lm=lm, trie=trie),
            Prompts(prompts, targets=targets),
            8,
            generator=generator(seed),
            temperature=3.0,
        )
        for seed in (0, 0, 1)
    )
    assert first.titles.tolist() == second.titles.tolist()
    assert first.titles.tolist() != other.titles.tolist()
    assert torch.equal(state, torch.get_rng_state())


def test_shared_prefixes_are_read_once(lm_of, titles_of, monkeypatch):
    """A thousand draws read no more tokens than the catalogue's tree has."""
    world = titles_of(["a b c d", "a b c e", "a b f", "g h i", "g h j"])
    lm = lm_of("qwen2", world.vocab_size)
    widths = []
    extend = type(lm).extend

    def counted(self, tokens, *args):
        widths.append(tokens.shape[1])
        return extend(self, tokens, *args)

    monkeypatch.setattr(type(lm), "extend", counted)
    sample(world.policy(lm), Prompts([[1, 2]]), 1000, generator=generator())
    assert widths[0] == 2
    assert sum(widths[1:]) <= len(["a", "b", "c", "g", "h"])


def test_the_target_s_copies_come_first_then_distinct_titles():
    """Within each kind the first drawn is kept; repeats fill what is left; empty slots last."""
    titles = torch.tensor([[4, 4, 9, 4, 9, 2, 8, 2, 2], [1, 1, 1, 1, 1, -1, 3, 3, -1]])
    places = distinct_first(titles, torch.tensor([9, 5]), 6)
    assert places.tolist() == [[2, 4, 0, 5, 6, 1], [0, 6, 1, 2, 3, 4]]
    kept = titles.gather(1, distinct_first(titles, torch.tensor([9, 5]), 9))
    assert kept[1, -2:].tolist() == [NO_TITLE, NO_TITLE]


def test_distinct_sampling_draws_half_as_many_again(lm_of, few_titles, monkeypatch):
    """ceil(1.5 G) draws: of a sure target there are never more copies than G."""
    lm = lm_of("llama", few_titles.vocab_size)
    trie, prompts = few_titles.torch_trie(), few_titles.prompts(4, seed=1)
    found = sample_distinct(
        Policy(lm=lm, trie=trie), Prompts(prompts, targets=np.array([2])), 5, generator=generator()
    )
    drawn = sample(
        Policy(lm=lm, trie=trie), Prompts(prompts), 8, generator=generator()
    )  # the same draws, all of them
    counts = {title: int((drawn.titles == title).sum()) for title in set(drawn.titles[0])}
    target = min(counts.get(2, 0), 5)
    assert int((found.titles == 2).sum()) == target
    others = set(found.titles[0]) - {2}
    assert len(others) == min(len(set(counts) - {2}), 5 - target)


@each_support
def test_an_absent_target_takes_the_place_of_the_worst(support, lm_of, many_titles):
    """With its own log-probability; the others stay, and so do groups that hold it already."""
    lm, trie = lm_of("qwen2", many_titles.vocab_size), many_titles.torch_trie()
    prompts = many_titles.prompts(3, 8, 5)
    plain = beam_search(Policy(lm=lm, trie=trie, support=support), Prompts(prompts), 6)
    absent = next(title for title in range(200) if title not in plain.titles[:2])
    targets = np.array([absent, absent, plain.titles[2, 3]])
    found = with_target(beam_search)(
        Policy(lm=lm, trie=trie, support=support), Prompts(prompts, targets=targets), 6
    )
    for row in (0, 1):
        assert set(found.titles[row]) == {*plain.titles[row, :5], absent}
    assert found.titles[2].tolist() == plain.titles[2].tolist()
    scored = title_logprobs(many_titles.policy(lm, support), Prompts(prompts), found.titles)
    np.testing.assert_allclose(found.logprobs, scored.detach().numpy(), atol=1e-4)
    assert (np.diff(found.logprobs) <= 0).all()


def test_a_hidden_target_is_not_injected(lm_of, many_titles):
    """Filters come first."""
    lm, trie = lm_of("qwen2", many_titles.vocab_size), many_titles.torch_trie()
    prompts, hidden = many_titles.prompts(3, 8), [np.array([7]), np.array([8])]
    targets = np.array([7, 7])
    plain = beam_search(
        Policy(lm=lm, trie=trie), Prompts(prompts, hidden=Hidden.from_lists(hidden)), 6
    )
    found = with_target(beam_search)(
        Policy(lm=lm, trie=trie),
        Prompts(prompts, hidden=Hidden.from_lists(hidden), targets=targets),
        6,
    )
    assert found.titles[0].tolist() == plain.titles[0].tolist()
    assert 7 in found.titles[1]


def test_impossible_requests_are_refused(lm_of, few_titles):
    """Each message names the value."""
    lm, trie = lm_of("qwen2", few_titles.vocab_size), few_titles.torch_trie()
    with pytest.raises(ValueError, match=r"`temperature` \(=0\) must be positive"):
        sample(Policy(lm=lm, trie=trie), Prompts([[1]]), 4, temperature=0)
    for sampler in (sample_distinct, with_target(beam_search)):
        with pytest.raises(ValueError, match=r"`prompts.targets` \(=None\) must hold one title id"):
            sampler(Policy(lm=lm, trie=trie), Prompts([[1]]), 4)
