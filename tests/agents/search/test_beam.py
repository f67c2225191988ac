"""Token-synchronous beam search against `generate` of Hugging Face."""

import numpy as np
import pytest
import torch

from agents.language_model import LanguageModel
from agents.policy import Policy
from agents.scoring import title_logprobs
from agents.search import beam_search
from rere_env import NO_TITLE
from rere_env.prompts import Prompts

# Full attention, a window in every layer, a window in every other layer and eager attention, and
# learnt positions; the slow grid holds the rest.
FAMILIES = ("qwen2", "mistral", "gemma2", "gpt2")
ALL_FAMILIES = (
    *FAMILIES,
    "qwen3",
    "llama",
    "gemma",
    "gemma3",
    "olmo2",
    "phi3",
    "granite",
    "smollm3",
)
SUPPORTS = ("catalogue", "vocabulary")


def assert_same_titles(lm, world, prompt, support, ours, logprobs, theirs):
    """Equal titles in equal order, but two whose scores differ by 1e-5 may have swapped."""
    assert len(set(ours)) == len(ours)
    if ours == theirs:
        return
    scores = title_logprobs(world.policy(lm, support), Prompts([prompt]), np.array([theirs]))[
        0
    ].detach()
    for rank, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        assert mine == other or abs(scores[rank] - logprobs[rank]) <= 1e-5, (ours, theirs)


def assert_beams_are_those_of_generate(lm, world, group_size, support, hf_beams):
    """For four prompts of unequal length, two of which share a row of the cache."""
    prompts = world.prompts(1, 13, 6, 9)
    found = beam_search(world.policy(lm, support), Prompts(prompts), group_size)
    assert found.titles.shape == found.logprobs.shape == (4, group_size)
    for row, prompt in enumerate(prompts):
        theirs, scores = hf_beams(lm.model, world, prompt, group_size, support)
        ours, logprobs = found.titles[row].tolist(), found.logprobs[row]
        assert_same_titles(lm, world, prompt, support, ours, logprobs, theirs)
        if scores is not None:
            np.testing.assert_allclose(logprobs, scores, atol=1e-4)


@pytest.mark.parametrize("group_size", [1, 4, 16])
@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_beams_are_those_of_generate(family, support, group_size, lm_of, many_titles, hf_beams):
    """Same titles, order and log-probabilities."""
    lm = lm_of(family, many_titles.vocab_size)
    assert_beams_are_those_of_generate(lm, many_titles, group_size, support, hf_beams)


@pytest.mark.slow
@pytest.mark.parametrize("group_size", [1, 4, 16, 50])
@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_beams_of_every_family(family, support, group_size, lm_of, many_titles, hf_beams):
    """Twelve families, up to 50 beams."""
    lm = lm_of(family, many_titles.vocab_size)
    assert_beams_are_those_of_generate(lm, many_titles, group_size, support, hf_beams)


@pytest.mark.slow
@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("seed", range(20))
def test_beams_of_many_users(seed, support, model_of, titles_of, hf_beams):
    """Other weights, other catalogues of other shapes, other prompts."""
    rng = np.random.default_rng(seed)
    words = [f"w{i}" for i in range(rng.integers(3, 30))]
    titles = [" ".join(rng.choice(words, rng.integers(1, 9))) for _ in range(rng.integers(5, 120))]
    world = titles_of(list(dict.fromkeys(titles)))
    model = model_of("qwen2", world.vocab_size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.from_numpy(0.1 * rng.standard_normal(parameter.shape)))
    lm = LanguageModel(model)
    for group_size in (3, 10):
        assert_beams_are_those_of_generate(lm, world, group_size, support, hf_beams)


@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_catalogue_smaller_than_the_beam_is_returned_whole(
    family, support, lm_of, few_titles, hf_beams
):
    """All seven titles, best first as `generate` has them, then empty slots."""
    lm = lm_of(family, few_titles.vocab_size)
    prompts = few_titles.prompts(2, 5)
    found = beam_search(few_titles.policy(lm, support), Prompts(prompts), 10)
    for row, prompt in enumerate(prompts):
        theirs, scores = hf_beams(lm.model, few_titles, prompt, 10, support)
        ours, logprobs = found.titles[row].tolist(), found.logprobs[row]
        assert_same_titles(lm, few_titles, prompt, support, ours[:7], logprobs, theirs)
        np.testing.assert_allclose(logprobs[:7], scores, atol=1e-4)
        assert sorted(ours[:7]) == list(range(7))
        assert ours[7:] == [NO_TITLE] * 3
        assert (logprobs[7:] == -np.inf).all()


@pytest.mark.parametrize("support", SUPPORTS)
def test_a_batch_of_prompts_is_searched_like_each_alone(support, lm_of, many_titles):
    """Padding, and rows that finish early, change nothing."""
    lm, trie = lm_of("qwen2", many_titles.vocab_size), many_titles.torch_trie()
    prompts = many_titles.prompts(1, 20, 3, 9, 1, 14)
    together = beam_search(Policy(lm=lm, trie=trie, support=support), Prompts(prompts), 8)
    for row, prompt in enumerate(prompts):
        alone = beam_search(Policy(lm=lm, trie=trie, support=support), Prompts([prompt]), 8)
        assert alone.titles[0].tolist() == together.titles[row].tolist()
        np.testing.assert_allclose(alone.logprobs[0], together.logprobs[row], atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_catalogue_s_probabilities_sum_to_one(family, lm_of, many_titles):
    """A beam as wide as the catalogue finds every title once; its mass is 1."""
    lm = lm_of(family, many_titles.vocab_size)
    found = beam_search(many_titles.policy(lm), Prompts(many_titles.prompts(4, 7)), 200)
    for titles, logprobs in zip(found.titles, found.logprobs, strict=True):
        assert sorted(titles) == list(range(200))
        assert (np.diff(logprobs) <= 0).all()
        assert abs(np.exp(logprobs.astype(np.float64)).sum() - 1) < 1e-4


@pytest.mark.parametrize("support", SUPPORTS)
def test_search_and_scoring_agree(support, lm_of, many_titles):
    """The log-probability of a found title is that of the update's forward pass."""
    lm = lm_of("qwen2", many_titles.vocab_size)
    prompts = many_titles.prompts(1, 11, 5)
    found = beam_search(many_titles.policy(lm, support), Prompts(prompts), 16)
    scored = title_logprobs(many_titles.policy(lm, support), Prompts(prompts), found.titles)
    np.testing.assert_allclose(found.logprobs, scored.detach().numpy(), atol=1e-4)


@pytest.mark.parametrize("support", SUPPORTS)
def test_a_catalogue_of_one_title_has_one_candidate(support, lm_of, titles_of):
    """Nothing is decided: under catalogue support its probability is 1."""
    world = titles_of(["only one title"])
    lm = lm_of("qwen2", world.vocab_size)
    found = beam_search(world.policy(lm, support), Prompts([[1, 2], [3]]), 4)
    assert found.titles.tolist() == [[0, -1, -1, -1]] * 2
    if support == "catalogue":
        assert found.logprobs[:, 0].tolist() == [0.0, 0.0]
    else:
        assert (found.logprobs[:, 0] < 0).all()


@pytest.mark.parametrize("support", SUPPORTS)
def test_titles_that_begin_alike_are_searched_past_their_forced_words(
    support, lm_of, titles_of, hf_beams
):
    """The root itself may be forced."""
    world = titles_of(["a b c", "a b d", "a b d e f g", "a b d e f h"])
    lm = lm_of("llama", world.vocab_size)
    found = beam_search(world.policy(lm, support), Prompts([[1, 2], [5, 3, 1]]), 4)
    for row, prompt in enumerate([[1, 2], [5, 3, 1]]):
        theirs, scores = hf_beams(lm.model, world, prompt, 4, support)
        assert found.titles[row].tolist() == theirs
        np.testing.assert_allclose(found.logprobs[row], scores, atol=1e-4)
