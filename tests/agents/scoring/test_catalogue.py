"""Exact scores of the whole catalogue against scoring its titles, and against draws."""

import math

import numpy as np
import pytest
import torch

from agents.language_model import LanguageModel
from agents.policy import Policy, load_backbone
from agents.scoring import (
    exact_policy_gradient,
    expected_reward,
    kl,
    policy_entropy,
    score_catalogue,
    title_logprobs,
)
from agents.search import exact_search, sample
from agents.trees import TorchTrie
from rere_env import Task
from rere_env.data import load_dataset
from rere_env.filters import Hidden
from rere_env.prompts import Prompts
from rere_env.rewards import hit, rere, weighted_sum


@pytest.fixture(scope="module")
def world(dataset_of, many_titles) -> Task:
    """Two hundred titles and five users with histories of unequal length."""
    rows = [((0, 1), 2), ((3,), 4), ((5, 6, 9, 150, 7), 7), ((), 1), ((8, 8), 199)]
    return Task.build(dataset_of(many_titles.titles, rows))


def prompts_of(task, examples):
    """The prompt of each example."""
    return [task.prompt(example.history) for example in examples]


def every_title(task, number):
    """All title ids, once for each of some examples."""
    return np.tile(np.arange(task.trie.num_titles), (number, 1))


def scored(lm, task, examples):
    """The log-probabilities of all titles, each scored as a candidate of a group."""
    prompts, titles = prompts_of(task, examples), every_title(task, len(examples))
    return title_logprobs(Policy.of(lm, task), Prompts(prompts), titles)


@pytest.mark.parametrize("family", ["qwen2", "gemma2", "mistral", "gpt2"])
@pytest.mark.parametrize("max_tokens", [1, 40, 4096])
def test_every_title_gets_the_score_of_a_candidate(family, max_tokens, lm_of, world):
    """In blocks of any size; a row sums to one."""
    lm, examples = lm_of(family, world.tokenizer.vocab_size), world.split("test")
    scores = score_catalogue(Policy.of(lm, world), world.prompts(examples), max_tokens=max_tokens)
    assert scores.dtype == np.float32
    with torch.no_grad():
        np.testing.assert_allclose(scores, scored(lm, world, examples).numpy(), atol=1e-4)
    np.testing.assert_allclose(np.exp(scores.astype(np.float64)).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("titles", [["one title"], ["ant", "bee"], ["a b c", "a b d", "a b"]])
def test_small_catalogues(titles, lm_of, dataset_of):
    """One title is certain; one word may decide; the root may be forced."""
    task = Task.build(dataset_of(titles, [((0,), 0), ((0, 0), 0)]))
    lm = lm_of("llama", 8)
    scores = score_catalogue(Policy.of(lm, task), task.prompts(task.split("test")))
    with torch.no_grad():
        np.testing.assert_allclose(scores, scored(lm, task, task.split("test")), atol=1e-5)


def test_hidden_titles_have_probability_zero_and_the_rest_sums_to_one(lm_of, world):
    """The same numbers as an exact search with the same hidden titles."""
    lm, examples = lm_of("qwen2", world.tokenizer.vocab_size), world.split("test").take(slice(3))
    hidden = [np.arange(50), np.zeros(0, np.int64), np.array([7, 199, 7])]
    scores = score_catalogue(
        Policy.of(lm, world),
        Prompts(prompts_of(world, examples), hidden=Hidden.from_lists(hidden)),
        max_tokens=100,
    )
    for row in range(3):
        is_hidden = np.isin(np.arange(200), hidden[row])
        assert (scores[row][is_hidden] == -np.inf).all()
        assert (scores[row][~is_hidden] > -np.inf).all()
    np.testing.assert_allclose(np.exp(scores.astype(np.float64)).sum(axis=1), 1, atol=1e-5)
    trie = TorchTrie.build(world.trie, world.title_tokens, lm.device)
    found = exact_search(
        Policy(lm=lm, trie=trie),
        Prompts(prompts_of(world, examples), hidden=Hidden.from_lists(hidden)),
        100,
    )
    np.testing.assert_allclose(
        np.take_along_axis(scores, found.titles, 1), found.logprobs, atol=1e-4
    )


def test_everything_hidden_leaves_no_probability(lm_of, world):
    """No NaN; the other rows are served."""
    lm, examples = lm_of("qwen2", world.tokenizer.vocab_size), world.split("test").take(slice(2))
    scores = score_catalogue(
        Policy.of(lm, world),
        Prompts(
            prompts_of(world, examples), hidden=Hidden.from_lists([np.arange(200), np.arange(0)])
        ),
    )
    assert (scores[0] == -np.inf).all()
    assert np.exp(scores[1]).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_exact_search_and_exact_scores_agree_on_real_titles(shared_data):
    """The top 50 of 3,646 titles, for users of the published split; sums of one."""
    dataset = load_dataset(shared_data / "industrial")
    backbone = load_backbone("scratch:tiny", dataset.catalogue.titles)
    task, lm = backbone.task(dataset), LanguageModel(backbone.model.eval())
    with torch.no_grad():  # sharper than a fresh model
        for parameter in lm.parameters():
            parameter.mul_(2.0 if parameter.ndim == 2 else 1.0)
    examples = task.split("test").take(slice(6))
    scores = score_catalogue(Policy.of(lm, task), task.prompts(examples))
    np.testing.assert_allclose(np.exp(scores.astype(np.float64)).sum(axis=1), 1, atol=1e-5)
    trie = TorchTrie.build(task.trie, task.title_tokens, lm.device)
    found = exact_search(
        Policy(lm=lm, trie=trie), Prompts(prompts_of(task, examples)), 50, max_reads=10_000
    )
    assert found.certified.all()
    np.testing.assert_allclose(-np.sort(-scores)[:, :50], found.logprobs, atol=1e-4)
    np.testing.assert_allclose(
        np.take_along_axis(scores, found.titles, 1), found.logprobs, atol=1e-4
    )


def test_entropy_and_divergence_by_hand():
    """Of (1/2, 1/4, 1/4) and of certainty, against a uniform reference."""
    policy = np.log([[0.5, 0.25, 0.25]])
    sure = np.array([[0.0, -np.inf, -np.inf]])
    uniform = np.log([[1 / 3, 1 / 3, 1 / 3]])
    assert policy_entropy(policy) == pytest.approx([1.5 * math.log(2)])
    assert policy_entropy(sure) == pytest.approx([0.0])
    assert kl(policy, uniform) == pytest.approx([math.log(3) - 1.5 * math.log(2)])
    assert kl(sure, uniform) == pytest.approx([math.log(3)])
    assert kl(uniform, uniform) == pytest.approx([0.0])
    assert kl(uniform, sure).tolist() == [np.inf]
    assert kl(sure, sure).tolist() == [0.0]


def test_the_expected_reward_of_hit_is_the_target_s_probability(world, lm_of):
    """And rewards add up."""
    lm, examples = lm_of("qwen2", world.tokenizer.vocab_size), world.split("test")
    logprobs = score_catalogue(Policy.of(lm, world), world.prompts(examples))
    target = np.exp(logprobs[np.arange(5), examples.target_title])
    assert expected_reward(logprobs, hit, examples) == pytest.approx(target)
    thrice = weighted_sum((1.0, hit), (2.0, hit))
    assert expected_reward(logprobs, thrice, examples) == pytest.approx(3 * target)


def test_a_reward_of_places_has_no_expectation(world, lm_of):
    """The rank penalty of a title depends on who else was drawn."""
    lm, examples = lm_of("qwen2", world.tokenizer.vocab_size), world.split("test")
    with pytest.raises(ValueError, match="depends on a title's place in its group"):
        expected_reward(
            score_catalogue(Policy.of(lm, world), world.prompts(examples)), rere, examples
        )


def flat(gradients):
    """One vector."""
    return torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("max_tokens", [1, 3, 4096])
def test_the_exact_gradient_is_that_of_the_explicit_sum(max_tokens, animal_task, lm_of):
    """Sum of p(title) reward(title) over all titles, differentiated as it stands."""
    lm = lm_of("qwen2", animal_task.tokenizer.vocab_size)
    examples = animal_task.split("train")
    expected, gradient = exact_policy_gradient(
        Policy.of(lm, animal_task),
        animal_task.prompts(examples),
        examples,
        hit,
        max_tokens=max_tokens,
    )
    logprobs = scored(lm, animal_task, examples)
    rewards = torch.from_numpy(hit(every_title(animal_task, len(examples)), examples))
    value = (logprobs.exp() * rewards).sum(1)
    slow = torch.autograd.grad(value.mean(), list(lm.parameters()))
    np.testing.assert_allclose(expected, value.detach(), rtol=1e-5)
    assert (flat(gradient) - flat(slow)).norm() <= 1e-5 * flat(slow).norm()


def test_the_exact_gradient_knows_hidden_titles(animal_task, lm_of):
    """Of the target's probability among the shown titles, as the update scores it."""
    lm = lm_of("qwen2", animal_task.tokenizer.vocab_size)
    examples = animal_task.split("train").take(slice(2))  # targets 2 and 4
    hidden = [np.array([0, 7]), np.array([3])]
    expected, gradient = exact_policy_gradient(
        Policy.of(lm, animal_task),
        Prompts(prompts_of(animal_task, examples), hidden=Hidden.from_lists(hidden)),
        examples,
        hit,
    )
    of_target = title_logprobs(
        Policy.of(lm, animal_task),
        Prompts(prompts_of(animal_task, examples), hidden=Hidden.from_lists(hidden)),
        examples.target_title[:, None].astype(np.int64),
    ).exp()
    slow = torch.autograd.grad(of_target.mean(), list(lm.parameters()))
    np.testing.assert_allclose(expected, of_target[:, 0].detach(), rtol=1e-5)
    assert (flat(gradient) - flat(slow)).norm() <= 1e-5 * flat(slow).norm()


def test_the_exact_gradient_is_the_mean_of_reinforce(animal_task, lm_of):
    """Raw advantages of `hit`, independent draws, summed over tokens: 3 standard errors."""
    lm = lm_of("qwen2", animal_task.tokenizer.vocab_size)
    examples = animal_task.split("train")
    prompts, draws = prompts_of(animal_task, examples), 4000
    trie = TorchTrie.build(animal_task.trie, animal_task.title_tokens, lm.device)
    drawn = sample(
        Policy(lm=lm, trie=trie),
        Prompts(prompts),
        draws,
        generator=torch.Generator().manual_seed(0),
    ).titles
    rewards = hit(drawn, examples)
    _, gradient = exact_policy_gradient(
        Policy.of(lm, animal_task), animal_task.prompts(examples), examples, hit
    )
    logprobs = scored(lm, animal_task, examples)
    directions = torch.randn(8, flat(gradient).numel(), generator=torch.Generator().manual_seed(1))
    # grad log p of every title along each direction: [examples, titles, directions]
    slopes = np.zeros((len(examples), 8, 8))
    for row in range(len(examples)):
        for title in range(8):
            one = torch.autograd.grad(
                logprobs[row, title], list(lm.parameters()), retain_graph=True, allow_unused=True
            )
            vector = flat(
                torch.zeros_like(p) if g is None else g
                for p, g in zip(lm.parameters(), one, strict=True)
            )
            slopes[row, title] = (directions @ vector).numpy()
    of_draw = rewards[..., None] * slopes[np.arange(len(examples))[:, None], drawn]
    estimate = of_draw.mean(axis=(0, 1))
    error = np.sqrt((of_draw.var(axis=1) / draws).sum(axis=0)) / len(examples)
    exact = (directions @ flat(gradient)).numpy()
    assert (np.abs(estimate - exact) <= 3 * error).all()
