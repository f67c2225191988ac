"""What holds for every search and sampler."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.language_model import LanguageModel
from agents.policy import Policy
from agents.scoring import title_logprobs
from agents.search import (
    SAMPLERS,
    SEARCHES,
    beam_search,
    exact_search,
    find_sampler,
    find_search,
    radix_search,
    sample,
    sample_distinct,
    with_target,
)
from agents.trees import TorchTrie
from agents.types import Sampler
from rere_env import NO_TITLE
from rere_env.catalogue import TitleTokens
from rere_env.filters import Hidden
from rere_env.prompts import Prompts
from rere_env.trie import Trie

SUPPORTS = ("catalogue", "vocabulary")
CHECKED = {
    "beam": beam_search,
    "radix": radix_search,
    "exact": exact_search,
    "sample": sample,
    "sample_distinct": sample_distinct,
    "with_target": with_target(radix_search),
}

every_sampler = pytest.mark.parametrize("sampler", CHECKED.values(), ids=CHECKED)
CONSTRAINED = {name: find_search(name) for name in SEARCHES if name != "unconstrained"}
every_search = pytest.mark.parametrize("search", CONSTRAINED.values(), ids=CONSTRAINED)
each_support = pytest.mark.parametrize("support", SUPPORTS)


@each_support
@every_sampler
def test_candidates_are_titles_with_their_log_probabilities(
    sampler: Sampler, support, lm_of, many_titles
):
    """Best first, and what the update's forward pass gives for them."""
    lm = lm_of("qwen2", many_titles.vocab_size)
    prompts = many_titles.prompts(1, 11, 5, 5)
    found = sampler(
        many_titles.policy(lm, support),
        Prompts(prompts, targets=np.arange(4)),
        12,
        generator=torch.Generator().manual_seed(0),
    )
    assert found.titles.shape == (4, 12)
    assert found.titles.dtype == np.int64
    assert found.logprobs.dtype == np.float32
    assert (np.diff(found.logprobs) <= 0).all()
    scored = title_logprobs(many_titles.policy(lm, support), Prompts(prompts), found.titles)
    np.testing.assert_allclose(found.logprobs, scored.detach().numpy(), atol=1e-4)


@each_support
@every_search
def test_a_search_as_wide_as_the_catalogue_finds_all_of_it(search, support, lm_of, many_titles):
    """Every title once; slots beyond are empty."""
    lm = lm_of("qwen2", many_titles.vocab_size)
    prompts = many_titles.prompts(4, 7)
    found = search(many_titles.policy(lm, support), Prompts(prompts), 203)
    assert (np.sort(found.titles[:, :200], axis=1) == np.arange(200)).all()
    assert (found.titles[:, 200:] == NO_TITLE).all()
    assert (found.logprobs[:, 200:] == -np.inf).all()
    scored = title_logprobs(many_titles.policy(lm, support), Prompts(prompts), found.titles)
    np.testing.assert_allclose(found.logprobs[:, :200], scored.detach()[:, :200], atol=1e-4)


@each_support
@every_search
@pytest.mark.parametrize(
    "titles",
    [["only one title"], ["a b c", "a b d"], ["a", "b"], ["a", "a b", "a b c", "a b c d"]],
    ids=["one", "forced root", "nothing to read", "prefixes"],
)
def test_odd_catalogues(titles, search, support, titles_of, lm_of):
    """One title; a forced root; no title longer than a word; each a prefix of the next."""
    world = titles_of(titles)
    lm = lm_of("llama", 12)
    prompts = [[1, 2], [3]]
    found = search(world.policy(lm, support), Prompts(prompts), 5)
    number = len(titles)
    assert (np.sort(found.titles[:, :number], axis=1) == np.arange(number)).all()
    assert (found.titles[:, number:] == NO_TITLE).all()
    scored = title_logprobs(world.policy(lm, support), Prompts(prompts), found.titles)
    np.testing.assert_allclose(found.logprobs[:, :number], scored.detach()[:, :number], atol=1e-4)


@each_support
@every_search
@pytest.mark.parametrize("lengths", [(3, 1, 4, 2), (40, 1, 17, 2), (9, 2, 30)])
def test_a_batch_is_searched_like_each_prompt_alone(search, support, lengths, lm_of, many_titles):
    """Prompts that share rows of the cache, padding, and rows that end early change nothing."""
    lm, trie = lm_of("qwen2", many_titles.vocab_size), many_titles.torch_trie()
    prompts = many_titles.prompts(*lengths)
    together = search(Policy(lm=lm, trie=trie, support=support), Prompts(prompts), 8)
    for row, prompt in enumerate(prompts):
        alone = search(Policy(lm=lm, trie=trie, support=support), Prompts([prompt]), 8)
        assert alone.titles[0].tolist() == together.titles[row].tolist()
        np.testing.assert_allclose(alone.logprobs[0], together.logprobs[row], atol=1e-4)


@pytest.mark.parametrize("family", ["mistral", "gemma2"])
@every_search
def test_windows_slide_by_position_not_by_slot(search, family, lm_of, many_titles):
    """Layers that see six positions back, whatever else lies in the cache between."""
    lm = lm_of(family, many_titles.vocab_size)
    prompts = many_titles.prompts(9, 3, 12, 5)
    found = search(many_titles.policy(lm), Prompts(prompts), 10)
    scored = title_logprobs(many_titles.policy(lm), Prompts(prompts), found.titles)
    np.testing.assert_allclose(found.logprobs, scored.detach().numpy(), atol=1e-4)


def without(world, hidden):
    """The world as if the hidden titles had never been; its title ids count the others."""
    left = np.array([title for title in range(len(world.titles)) if title not in set(hidden)])
    rows = [world.tokens[title] for title in left]
    tokens = TitleTokens(
        local_model=world.tokens.local_model,
        indptr=np.concatenate([[0], np.cumsum([len(row) for row in rows])]),
        tokens=np.concatenate(rows),
        num_lossy=0,
    )
    trie = Trie.from_sequences(tokens.indptr, tokens.tokens, tokens.num_tokens)
    return TorchTrie.build(trie, tokens, torch.device("cpu")), left


@each_support
@pytest.mark.parametrize("search", [beam_search, exact_search])
@settings(max_examples=5)
@given(seed=st.integers(0, 1000), num_hidden=st.sampled_from([0, 3, 60, 190]))
def test_hiding_titles_is_having_a_catalogue_without_them(
    seed, num_hidden, search, support, lm_of, many_titles
):
    """Same titles, order and log-probabilities, up to ties; each prompt hides its own."""
    lm = lm_of("qwen2", many_titles.vocab_size)
    prompts = many_titles.prompts(5, 2, seed=seed)
    hidden = list(np.random.default_rng(seed).integers(0, 200, (2, num_hidden)))
    found = search(
        many_titles.policy(lm, support),
        Prompts(prompts, hidden=Hidden.from_lists(hidden)),
        6,
    )
    for row, prompt in enumerate(prompts):
        smaller, left = without(many_titles, hidden[row])
        expected = search(Policy(lm=lm, trie=smaller, support=support), Prompts([prompt]), 6)
        np.testing.assert_allclose(found.logprobs[row], expected.logprobs[0], atol=1e-4)
        differ = found.titles[row] != left[expected.titles[0]]
        assert np.abs(found.logprobs[row] - expected.logprobs[0])[differ].max(initial=0) <= 1e-5


@each_support
@every_sampler
@settings(max_examples=5)
@given(seed=st.integers(0, 1000), num_hidden=st.sampled_from([0, 3, 60, 190]))
def test_candidates_are_not_hidden_and_scored_without_what_is(
    seed, num_hidden, sampler: Sampler, support, lm_of, many_titles
):
    """The log-probability of each is that in a catalogue without the hidden titles."""
    lm = lm_of("qwen2", many_titles.vocab_size)
    prompts = many_titles.prompts(5, 2, seed=seed)
    hidden = list(np.random.default_rng(seed).integers(0, 200, (2, num_hidden)))
    found = sampler(
        many_titles.policy(lm, support),
        Prompts(prompts, hidden=Hidden.from_lists(hidden), targets=np.array([0, 1])),
        6,
        generator=torch.Generator().manual_seed(seed),
    )
    for row, prompt in enumerate(prompts):
        smaller, left = without(many_titles, hidden[row])
        every_one = beam_search(
            Policy(lm=lm, trie=smaller, support=support), Prompts([prompt]), len(left)
        )
        logprob = dict(zip(left[every_one.titles[0]], every_one.logprobs[0], strict=True))
        expected = [logprob[title] for title in found.titles[row]]  # a hidden one has none
        np.testing.assert_allclose(found.logprobs[row], expected, atol=1e-4)


@each_support
@every_sampler
def test_a_prompt_from_which_everything_is_hidden_gets_nothing(
    sampler: Sampler, support, lm_of, few_titles
):
    """Empty slots, and the other prompts of the batch are served."""
    lm = lm_of("qwen2", few_titles.vocab_size)
    found = sampler(
        few_titles.policy(lm, support),
        Prompts(
            few_titles.prompts(2, 3),
            hidden=Hidden.from_lists([np.arange(7), np.array([0, 1])]),
            targets=np.array([0, 2]),
        ),
        4,
    )
    assert found.titles[0].tolist() == [NO_TITLE] * 4
    assert found.logprobs[0].tolist() == [-np.inf] * 4
    assert not set(found.titles[1]) & {NO_TITLE, 0, 1}


@every_sampler
def test_an_impossible_request_is_refused(sampler: Sampler, lm_of, few_titles):
    """No candidate, no prompt, an empty prompt, hidden sets of another batch."""
    lm, trie = lm_of("qwen2", few_titles.vocab_size), few_titles.torch_trie()
    with pytest.raises(ValueError, match=r"`group_size` \(=0\)"):
        sampler(Policy(lm=lm, trie=trie), Prompts([[1]], targets=np.array([0])), 0)
    with pytest.raises(ValueError, match=r"`prompts` \(=0\)"):
        sampler(Policy(lm=lm, trie=trie), Prompts([], targets=np.array([], np.int64)), 4)
    with pytest.raises(ValueError, match="no empty one"):
        sampler(Policy(lm=lm, trie=trie), Prompts([[1], []], targets=np.array([0, 0])), 4)
    with pytest.raises(ValueError, match=r"`hidden` \(of 0\) needs the title ids of each"):
        Prompts([[1]], hidden=Hidden.from_lists([]))
    with pytest.raises(ValueError, match=r"`targets` of shape \(2,\)"):
        Prompts([[1]], targets=np.array([0, 0]))


@every_search
def test_a_prompt_that_leaves_no_room_for_a_title_is_refused(search, model_of, many_titles):
    """The model has 16 positions; the prompt takes 14 and titles up to six more."""
    lm = LanguageModel(model_of("gpt2", many_titles.vocab_size, max_length=16))
    with pytest.raises(ValueError, match="limit of 16"):
        search(many_titles.policy(lm), Prompts(many_titles.prompts(14)), 4)


@every_sampler
def test_search_leaves_no_graph_and_the_same_weights(sampler: Sampler, lm_of, many_titles):
    """A rollout is not differentiated."""
    lm = lm_of("qwen2", many_titles.vocab_size)
    before = {name: value.clone() for name, value in lm.state_dict().items()}
    sampler(
        many_titles.policy(lm),
        Prompts(many_titles.prompts(3), targets=np.array([0])),
        4,
    )
    assert all(parameter.grad is None for parameter in lm.parameters())
    assert all(torch.equal(value, before[name]) for name, value in lm.state_dict().items())


def test_every_name_of_the_tables_is_a_function():
    """One function has one name, and one name one function."""
    for table, find in ((SAMPLERS, find_sampler), (SEARCHES, find_search)):
        found = {name: find(name) for name in table}
        assert len({id(function) for function in found.values()}) == len(table)
        assert all(callable(function) for function in found.values())
    assert find_sampler("beam") is find_search("beam")


def test_a_sampler_is_chosen_by_name():
    """What is called so, and no other; an old name is refused by a list of the new ones."""
    assert find_sampler("sample") is sample
    with pytest.raises(ValueError, match=r"`sampler` \(='sample_with_target'\) must be one of"):
        find_sampler("sample_with_target")


def test_a_search_is_chosen_by_name():
    """Three names; any other is refused."""
    assert find_search("beam") is beam_search
    assert find_search("radix") is radix_search
    assert find_search("exact") is exact_search
    with pytest.raises(ValueError, match=r"`search` \(='best'\)"):
        find_search("best")
