"""Log-probabilities and gradients on packed trees against one forward pass a title."""

import numpy as np
import pytest
import torch

from agents.scoring import exact_kl, score_groups, title_logprobs
from agents.trees.groups import plan_groups
from rere_env import NO_TITLE
from rere_env.filters import Hidden
from rere_env.prompts import Prompts

FAMILIES = ("qwen2", "llama", "mistral", "gemma2", "gemma3", "granite", "gpt2")
SUPPORTS = ("catalogue", "vocabulary")
CPU = torch.device("cpu")


def some_titles():
    """Three groups of five, with an empty slot and a duplicate."""
    titles = np.random.default_rng(1).integers(0, 200, (3, 5))
    titles[0, 1] = NO_TITLE
    titles[1, 2] = titles[1, 1]
    return titles


def gradients(lm, value):
    """The gradient of each parameter that has one."""
    found = torch.autograd.grad(value, list(lm.parameters()), allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_values_and_gradients_are_those_of_separate_passes(
    family, support, lm_of, many_titles, slow_logprob
):
    """In float64 every title's log-probability, and the gradient of their weighted sum."""
    lm = lm_of(family, many_titles.vocab_size, torch.float64)
    prompts, titles = many_titles.prompts(2, 9, 5), some_titles()
    weight = torch.linspace(-1, 2, 15, dtype=torch.float64).view(3, 5)
    ours = title_logprobs(many_titles.policy(lm, support), Prompts(prompts), titles)
    slow = torch.zeros(3, 5, dtype=torch.float64)
    for (row, column), title in np.ndenumerate(titles):
        if title != NO_TITLE:
            kept = slow_logprob(lm.model, many_titles, prompts[row], title, support)
            slow[row, column] = sum((step[0] for step in kept), torch.zeros(()))
    torch.testing.assert_close(ours.double(), slow, atol=1e-4, rtol=1e-5)
    for mine, theirs in zip(
        gradients(lm, (ours * weight).sum()), gradients(lm, (slow * weight).sum()), strict=True
    ):
        assert (mine - theirs).norm() <= 1e-5 * theirs.norm() + 1e-12


@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("family", ["qwen2", "gemma3"])
def test_hidden_titles_are_illegal_for_their_prompt(
    family, support, lm_of, many_titles, slow_logprob
):
    """Values and gradients are those of a catalogue without them, prompt by prompt."""
    lm = lm_of(family, many_titles.vocab_size, torch.float64)
    rng = np.random.default_rng(2)
    prompts, titles = many_titles.prompts(2, 9, 5), some_titles()
    hidden = [np.setdiff1d(rng.choice(200, 120), titles[row]) for row in range(3)]
    hidden[1] = np.zeros(0, np.int64)
    ours = title_logprobs(
        many_titles.policy(lm, support), Prompts(prompts, hidden=Hidden.from_lists(hidden)), titles
    )
    slow = torch.zeros(3, 5, dtype=torch.float64)
    for (row, column), title in np.ndenumerate(titles):
        if title != NO_TITLE:
            kept = slow_logprob(
                lm.model, many_titles, prompts[row], title, support, hidden=hidden[row]
            )
            slow[row, column] = sum((step[0] for step in kept), torch.zeros(()))
    torch.testing.assert_close(ours.double(), slow, atol=1e-4, rtol=1e-5)
    for mine, theirs in zip(gradients(lm, ours.sum()), gradients(lm, slow.sum()), strict=True):
        assert (mine - theirs).norm() <= 1e-5 * theirs.norm() + 1e-12


def test_one_title_decides_nothing(lm_of, titles_of):
    """A catalogue of one title has log-probability 0 and no exact KL to speak of."""
    world = titles_of(["only one title"])
    lm = lm_of("qwen2", world.vocab_size)
    titles = np.array([[0, NO_TITLE]])
    logprobs = title_logprobs(world.policy(lm), Prompts([[1, 2]]), titles)
    assert logprobs.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("family", ["qwen2", "gpt2"])
def test_all_titles_sum_to_one(family, lm_of, many_titles):
    """Scoring the whole catalogue gives a distribution."""
    lm = lm_of(family, many_titles.vocab_size)
    with torch.no_grad():
        logprobs = title_logprobs(
            many_titles.policy(lm), Prompts([[1, 2, 3]]), np.arange(200)[None]
        )
    assert abs(logprobs.double().exp().sum().item() - 1) < 1e-4


def scores_of_two(lm_of, world, prompts, titles, support):
    """The same groups under a policy and another model."""
    plan = plan_groups(world.trie, world.tokens, Prompts(prompts), titles, support)
    return [
        score_groups(lm_of(family, world.vocab_size), plan, CPU) for family in ("qwen2", "llama")
    ]


def test_exact_kl_is_the_sum_over_the_legal_tokens(lm_of, many_titles, slow_logprob):
    """Decision by decision, against the definition; never negative."""
    prompts, titles = many_titles.prompts(2, 9, 5), some_titles()
    policy, reference = scores_of_two(lm_of, many_titles, prompts, titles, "catalogue")
    ours = exact_kl(policy, reference)
    assert (ours >= -1e-6).all()
    expected = torch.zeros_like(ours)
    for (row, column), title in np.ndenumerate(titles):
        if title == NO_TITLE:
            continue
        rows = [
            slow_logprob(lm_of(f, many_titles.vocab_size).model, many_titles, prompts[row], title,
                         "catalogue")
            for f in ("qwen2", "llama")
        ]  # fmt: skip
        for place, (p, q) in enumerate(zip(*rows, strict=True)):
            expected[row, column, place] = (p.exp() * (p - q)).sum()
    torch.testing.assert_close(ours, expected, atol=2e-4, rtol=1e-4)


def test_exact_kl_to_itself_is_zero(lm_of, many_titles):
    """No divergence, and no gradient, between equal models."""
    plan = plan_groups(
        many_titles.trie, many_titles.tokens, Prompts(many_titles.prompts(2, 9, 5)), some_titles()
    )
    lm = lm_of("qwen2", many_titles.vocab_size)
    scores = score_groups(lm, plan, CPU)
    with torch.no_grad():
        same = score_groups(lm, plan, CPU)
    divergence = exact_kl(scores, same)
    assert (divergence == 0).all()
    assert max(g.abs().max() for g in gradients(lm, divergence.sum())) < 1e-4


def test_vocabulary_support_has_no_exact_kl(lm_of, many_titles):
    """Only the chosen tokens' log-probabilities are kept."""
    scores = scores_of_two(lm_of, many_titles, [[1]], np.array([[0, 1]]), "vocabulary")
    assert exact_kl(*scores) is None
