"""Decision-synchronous and exact search against the scores of all titles."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.language_model import LanguageModel
from agents.policy import Policy
from agents.scoring import title_logprobs
from agents.search import beam_search, exact_search, radix_search
from rere_env.prompts import Prompts

SUPPORTS = ("catalogue", "vocabulary")
each_support = pytest.mark.parametrize("support", SUPPORTS)


@pytest.fixture(scope="module")
def flat(model_of, many_titles):
    """A policy that finds many titles about equally good: beams leave better ones behind."""
    return LanguageModel(model_of("qwen2", many_titles.vocab_size, initializer_range=0.3))


@torch.no_grad()
def all_scores(lm, world, prompts, support):
    """The log-probability of every title, [B, titles], by packed trees."""
    titles = np.tile(np.arange(len(world.titles)), (len(prompts), 1))
    return title_logprobs(world.policy(lm, support), Prompts(prompts), titles).numpy()


def best(scores, group_size):
    """The largest scores of each row, best first."""
    return -np.sort(-scores, axis=1)[:, :group_size]


@each_support
@settings(max_examples=25)
@given(data=st.data())
def test_exact_search_finds_the_most_probable_titles(data, support, lm_of, titles_of):
    """Any small catalogue, any width: the scores are the best ones, and certified."""
    word = st.sampled_from(["a", "b", "c", "d", "e"])
    title = st.lists(word, min_size=1, max_size=5).map(" ".join)
    world = titles_of(data.draw(st.lists(title, min_size=1, max_size=25, unique=True)))
    lm = lm_of("qwen2", 12)
    prompts = world.prompts(3, 6, 1, seed=data.draw(st.integers(0, 1000)))
    group_size = data.draw(st.integers(1, len(world.titles)))
    found = exact_search(world.policy(lm, support), Prompts(prompts), group_size)
    scores = all_scores(lm, world, prompts, support)
    np.testing.assert_allclose(found.logprobs, best(scores, group_size), atol=1e-4)
    np.testing.assert_allclose(
        np.take_along_axis(scores, found.titles, 1), found.logprobs, atol=1e-4
    )
    assert all(len(set(row)) == group_size for row in found.titles.tolist())
    assert found.certified.all()


@each_support
@pytest.mark.parametrize("group_size", [1, 4, 16, 50])
def test_exact_search_on_two_hundred_titles(group_size, support, lm_of, many_titles):
    """The set of the best is that of the scores of all titles."""
    lm = lm_of("qwen2", many_titles.vocab_size)
    prompts = many_titles.prompts(1, 13, 6, 9)
    found = exact_search(many_titles.policy(lm, support), Prompts(prompts), group_size)
    scores = all_scores(lm, many_titles, prompts, support)
    order = np.argsort(-scores, axis=1)[:, :group_size]
    assert np.sort(found.titles, axis=1).tolist() == np.sort(order, axis=1).tolist()
    assert found.certified.all()


@each_support
@pytest.mark.parametrize("max_reads", [0, 1, 3, 10, 40])
def test_a_capped_search_says_what_it_cannot_certify(max_reads, support, flat, many_titles):
    """It goes on as beams: still distinct titles, right scores; and no false certificate."""
    lm = flat
    prompts = many_titles.prompts(*range(1, 13))
    found = exact_search(
        many_titles.policy(lm, support),
        Prompts(prompts),
        8,
        max_reads=max_reads,
    )
    scores = all_scores(lm, many_titles, prompts, support)
    assert all(len(set(row)) == 8 for row in found.titles.tolist())
    np.testing.assert_allclose(
        np.take_along_axis(scores, found.titles, 1), found.logprobs, atol=1e-4
    )
    missed = (best(scores, 8) - found.logprobs).max(axis=1) > 1e-4
    assert not (missed & found.certified).any()
    if max_reads <= 1:
        assert not found.certified.all()


@each_support
def test_radix_search_certifies_only_what_is_exact(support, flat, many_titles):
    """Where the beams left nothing better behind, the titles are the best there are."""
    lm = flat
    prompts = many_titles.prompts(*range(1, 25))
    found = radix_search(many_titles.policy(lm, support), Prompts(prompts), 6)
    scores = all_scores(lm, many_titles, prompts, support)
    missed = (best(scores, 6) - found.logprobs).max(axis=1) > 1e-4
    assert not (missed & found.certified).any()
    if support == "catalogue":
        assert 0 < found.certified.sum() < 24


def test_radix_search_is_the_exact_search_that_keeps_no_reserve(lm_of, many_titles):
    """Same titles as an exact search that may not go back."""
    lm = lm_of("qwen2", many_titles.vocab_size)
    prompts, trie = many_titles.prompts(1, 4, 9), many_titles.torch_trie()
    radix = radix_search(Policy(lm=lm, trie=trie), Prompts(prompts), 10)
    capped = exact_search(Policy(lm=lm, trie=trie), Prompts(prompts), 10, max_reads=0)
    assert radix.titles.tolist() == capped.titles.tolist()


@each_support
def test_a_forced_chain_is_one_forward_pass(support, lm_of, titles_of, monkeypatch):
    """Two decisions, whatever lies between them: two reads at most, where tokens are many."""
    long = " ".join(f"w{i}" for i in range(20))
    world = titles_of([f"{start} {long} {end}" for start in "ab" for end in "xyz"])
    lm = lm_of("qwen2", world.vocab_size)
    reads = []
    extend = type(lm).extend

    def counted(self, tokens, *args):
        reads.append(tokens.shape)
        return extend(self, tokens, *args)

    monkeypatch.setattr(type(lm), "extend", counted)
    number = {}
    for search in (beam_search, radix_search, exact_search):
        reads.clear()
        search(world.policy(lm, support), Prompts(world.prompts(4, 6)), 6)
        number[search.__name__] = len(reads) - 1  # the first reads the prompts
    # Under "vocabulary" the last words and their ends are read as well.
    expected = 1 if support == "catalogue" else 2
    assert number == dict.fromkeys(("beam_search", "radix_search", "exact_search"), expected)
