"""Gradients of the estimators against the exact policy gradient, on a catalogue of eight titles.

An estimator is a sampler, an advantage and a loss. Where the sampler draws, its mean is computed
by going through every group that could be drawn, so that a bias shows to the last digit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from agents.advantages import (
    batch_centered,
    group_centered,
    group_normalized,
    leave_one_out,
    raw,
    windowed,
)
from agents.language_model import LanguageModel
from agents.losses import (
    cispo,
    clipped_surrogate,
    dapo,
    dpo,
    dr_grpo,
    grpo,
    gspo,
    reinforce,
    s_dpo,
    sprec,
)
from agents.policy import Policy
from agents.scoring import exact_policy_gradient, score_catalogue, score_groups
from agents.search import beam_search, sample
from agents.trees import TorchTrie
from agents.trees.groups import plan_groups
from agents.types import Advantage, Loss, LossInputs, StepTotals
from rere_env import Dataset, Task, WordTokenizer
from rere_env.prompts import Prompts
from rere_env.rewards import hit

# B examples, I titles, T tokens, P parameters; M groups of G titles for each example.

G = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class World:
    """What every estimator is made of: tokens' log-probabilities and their gradients."""

    logprobs: Tensor  # [B, I, T]
    mask: Tensor  # [B, I, T]
    slopes: Tensor  # [B, I, T, P], grad of each of them
    exact: Tensor  # [P], gradient of the expected hit
    hits: Tensor  # [B, I]

    def places(self, titles: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Index tensors [B, I, ...] at the titles [B, M, G] of each example."""
        row = torch.arange(len(titles))[:, None, None].expand(titles.shape)
        return row, torch.from_numpy(titles)

    def rewards(self, titles: NDArray[np.int64]) -> Tensor:
        """Return 1 for each hit, [B, M, G]."""
        return self.hits[self.places(titles)]

    def gradients(self, titles: NDArray[np.int64], advantages: Tensor, loss: Loss) -> Tensor:
        """Return d(-loss) by each token's log-probability, [B, M, G, T], at ratio 1.

        Group m of every example makes up a step of its own; the totals are those of a step.
        """
        num_examples, num_groups, group_size = titles.shape
        logprobs = self.logprobs[self.places(titles)].flatten(0, 1).requires_grad_()
        mask = self.mask[self.places(titles)].flatten(0, 1)
        rewards = self.rewards(titles).flatten(0, 1)
        num_tokens = (mask.sum() / num_groups).item()
        value, _ = loss(
            LossInputs(
                logprobs=logprobs,
                old_logprobs=logprobs.detach(),
                ref_logprobs=logprobs.detach(),
                mask=mask,
                advantages=advantages.flatten(0, 1),
                rewards=rewards,
                is_target=rewards > 0,
                totals=StepTotals(
                    num_groups=num_examples,
                    num_candidates=num_examples * group_size,
                    num_tokens=round(num_tokens),
                    longest_title=int(self.mask.sum(-1).max()),
                ),
            )
        )
        (gradient,) = torch.autograd.grad(-value, logprobs)
        return gradient.view(num_examples, num_groups, group_size, -1)


Groups: TypeAlias = tuple[NDArray[np.int64], Tensor]
"""Titles [B, M, G], and how probable each group is [B, M]."""


def flat(lm: LanguageModel, value: Tensor) -> Tensor:
    """The gradient of a value in one vector."""
    parameters = list(lm.parameters())
    found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return torch.cat(
        [
            torch.zeros(p.numel()) if g is None else g.flatten()
            for p, g in zip(parameters, found, strict=True)
        ]
    )


TITLES = ["red fox", "red fox runs", "red owl", "blue", "blue fox", "elk", "elk at night", "owl"]
HISTORIES = [(0, 1), (3,), (5, 6), (2, 4, 0), (7,), (1,)]
RANKS = [0, 0, 1, 2, 4, 7]
"""What the policy thinks of each target, from easy to hard."""


@pytest.fixture(scope="module")
def lm(model_of: Callable[..., PreTrainedModel]) -> LanguageModel:
    """A random policy that is sure of little: each title has some chance."""
    vocab_size = WordTokenizer.from_titles(TITLES).vocab_size
    return LanguageModel(model_of("qwen2", vocab_size, initializer_range=0.3))


@pytest.fixture(scope="module")
def task(lm: LanguageModel, dataset_of: Callable[..., Dataset]) -> Task:
    """Six examples whose targets have the ranks above."""
    unjudged = Task.build(dataset_of(TITLES, [(items, 0) for items in HISTORIES]))
    order = np.argsort(
        -score_catalogue(Policy.of(lm, unjudged), unjudged.prompts(unjudged.split("train")))
    )
    targets = order[np.arange(len(RANKS)), RANKS].tolist()
    return Task.build(dataset_of(TITLES, list(zip(HISTORIES, targets, strict=True))))


@pytest.fixture(scope="module")
def world(lm: LanguageModel, task: Task) -> World:
    """Every token of every title for every example."""
    examples = task.split("train")
    prompts = [task.prompt(example.history) for example in examples]
    titles = np.tile(np.arange(task.trie.num_titles), (len(examples), 1))
    plan = plan_groups(task.trie, task.title_tokens, Prompts(prompts), titles)
    scores = score_groups(lm, plan, lm.device)
    num_parameters = sum(parameter.numel() for parameter in lm.parameters())
    slopes = torch.zeros(*scores.mask.shape, num_parameters)
    for place in scores.mask.nonzero().tolist():
        slopes[tuple(place)] = flat(lm, scores.logprobs[tuple(place)])
    _, exact = exact_policy_gradient(Policy.of(lm, task), task.prompts(examples), examples, hit)
    return World(
        logprobs=scores.logprobs.detach(),
        mask=scores.mask,
        slopes=slopes,
        exact=torch.cat([part.flatten() for part in exact]).double(),
        hits=torch.from_numpy(hit(titles, examples)),
    )


def drawn_by_sample(world: World) -> Groups:
    """All groups of G independent draws, best first, and how probable each is."""
    by_title = world.logprobs.sum(-1).numpy()
    draws = np.array(list(product(range(by_title.shape[1]), repeat=G)))
    titles = np.stack([np.take_along_axis(draws, np.argsort(-row[draws]), 1) for row in by_title])
    logprob = np.stack([row[group].sum(-1) for row, group in zip(by_title, titles, strict=True)])
    return titles, torch.from_numpy(np.exp(logprob))


def found_by_beams(world: World) -> Groups:
    """The one group of beams of each example; with 8 titles they find the G most probable."""
    best = torch.argsort(-world.logprobs.sum(-1), dim=1)[:, None, :G]
    return best.numpy(), torch.ones(len(best), 1)


def mean_gradient(world: World, groups: Groups, advantage: Advantage, loss: Loss) -> Tensor:
    """The mean step of an estimator over groups with their probabilities, [P]."""
    titles, probability = groups
    advantages = advantage(world.rewards(titles).flatten(0, 1)).view(titles.shape)
    gradients = world.gradients(titles, advantages, loss) * probability[..., None, None]
    at_title = torch.zeros(world.logprobs.shape)
    at_title.index_put_(world.places(titles), gradients, accumulate=True)
    return torch.einsum("bit,bitp->p", at_title, world.slopes)


def test_beams_find_the_most_probable_titles(world, lm, task):
    """What the groups of beams below rely on."""
    prompts = [task.prompt(example.history) for example in task.split("train")]
    trie = TorchTrie.build(task.trie, task.title_tokens, lm.device)
    expected = found_by_beams(world)[0][:, 0]
    np.testing.assert_array_equal(
        beam_search(Policy(lm=lm, trie=trie), Prompts(prompts), G).titles, expected
    )


TOKENS = 51
"""Of the mean step of 6 G = 24 drawn titles."""


@pytest.mark.parametrize(
    ("advantage", "loss", "factor"),
    [
        (raw, reinforce(), 1),
        (leave_one_out, reinforce(), 1),
        # The group's mean holds the candidate's own reward.
        (group_centered, reinforce(), (G - 1) / G),
        # The longest title has 3 tokens that decide.
        (group_centered, dr_grpo(), (G - 1) / G / 3),
        (leave_one_out, dapo(), 6 * G / TOKENS),
        (leave_one_out, cispo(), 6 * G / TOKENS),
    ],
)
def test_unbiased_estimators(advantage, loss, factor, world):
    """Draws at temperature 1, beta 0: the exact policy gradient, up to a constant factor.

    The factor of DAPO and CISPO takes a step's number of tokens at its mean.
    """
    mean = mean_gradient(world, drawn_by_sample(world), advantage, loss)
    expected = factor * world.exact
    assert (mean - expected).norm() <= 1e-4 * expected.norm()


@pytest.mark.parametrize(
    ("groups", "advantage", "loss", "cosine", "norm"),
    [
        # Dividing by the deviation mostly changes the length, by the tokens of a title also the
        # direction: short titles count for more.
        (drawn_by_sample, group_normalized, grpo(beta=0), 0.999, 1.205),
        (drawn_by_sample, group_normalized, clipped_surrogate(beta=0), 0.999, 1.205),
        (drawn_by_sample, group_normalized, gspo(), 0.999, 1.205),
        (drawn_by_sample, group_normalized, dapo(), 1.000, 0.661),
        (drawn_by_sample, group_normalized, cispo(), 1.000, 0.661),
        (drawn_by_sample, group_normalized, reinforce(), 1.000, 1.404),
        (drawn_by_sample, raw, grpo(beta=0), 0.975, 1.088),
        (drawn_by_sample, windowed(), grpo(beta=0), 0.985, 1.187),
        # Preferences know no rewards; their size is that of beta.
        (drawn_by_sample, raw, dpo(), 0.927, 0.208),
        (drawn_by_sample, raw, s_dpo(), 0.999, 2.400),
        (drawn_by_sample, raw, sprec(), 0.996, 2.479),
        # Beams show each title once, however probable, and the improbable never.
        (found_by_beams, raw, reinforce(), 0.943, 0.556),
        (found_by_beams, leave_one_out, reinforce(), 0.812, 1.218),
        (found_by_beams, group_centered, dr_grpo(), 0.812, 0.304),
        (found_by_beams, group_normalized, grpo(beta=0), 0.857, 1.482),
        (found_by_beams, group_normalized, gspo(), 0.857, 1.482),
        (found_by_beams, group_normalized, dapo(), 0.812, 0.996),
        (found_by_beams, group_normalized, cispo(), 0.812, 0.996),
        (found_by_beams, windowed(), grpo(beta=0), 0.775, 1.855),
        (found_by_beams, raw, dpo(), 0.724, 0.334),
        (found_by_beams, raw, s_dpo(), 0.812, 3.653),
        (found_by_beams, raw, sprec(), 0.951, 2.460),
    ],
)
def test_biased_estimators(groups, advantage, loss, cosine, norm, world):
    """How far the mean step turns from the exact gradient, and its length relative to it."""
    mean, exact = mean_gradient(world, groups(world), advantage, loss).double(), world.exact
    assert (mean @ exact / mean.norm() / exact.norm()).item() == pytest.approx(cosine, abs=0.01)
    assert (mean.norm() / exact.norm()).item() == pytest.approx(norm, rel=0.02)


def batchwise(rewards: Tensor) -> Tensor:
    """`batch_centered` of each step: rewards [B, M, G], one step a column."""
    return torch.stack([batch_centered(rewards[:, step]) for step in range(rewards.shape[1])], 1)


@pytest.mark.parametrize("advantage", [raw, leave_one_out, batchwise])
def test_drawn_steps_are_unbiased(advantage, world, lm, task):
    """Of 500 steps that `sample` drew, along eight directions: within three standard errors."""
    steps = 500
    prompts = [task.prompt(example.history) for example in task.split("train")]
    trie = TorchTrie.build(task.trie, task.title_tokens, lm.device)
    random = torch.Generator().manual_seed(0)
    drawn = sample(Policy(lm=lm, trie=trie), Prompts(prompts), steps * G, generator=random).titles
    # They come best first: shuffled, any G of them are independent.
    titles = np.random.default_rng(0).permuted(drawn, axis=1).reshape(len(prompts), steps, G)
    gradients = world.gradients(titles, advantage(world.rewards(titles)), reinforce())
    directions = torch.randn(len(world.exact), 8, generator=random)
    along = (world.slopes @ directions)[world.places(titles)]
    of_step = (gradients[..., None] * along).sum((0, 2, 3))  # [M, 8]
    error = of_step.std(0) / steps**0.5
    exact = world.exact.float() @ directions
    assert ((of_step.mean(0) - exact).abs() <= 3 * error).all()
