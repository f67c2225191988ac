"""Titles drawn from the policy, and ways to see that the target is among the candidates.

The draws of a prompt walk the same tree: a prefix that several of them share is read once.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from agents.language_model.segments import segment_log_softmax
from agents.policy import Policy
from agents.search.beam import beam_search
from agents.search.choices import Choices, Sizes, check_group_size
from agents.search.prompt_tree import PromptTree
from agents.types import Candidates, Sampler
from rere_env.prompts import Prompts
from rere_env.types import NO_TITLE, IntArray

__all__ = [
    "beam_with_target",
    "distinct_first",
    "sample",
    "sample_distinct",
    "sample_distinct_with_target",
    "with_target",
]

# B prompts, G draws a prompt, E continuations in all.

OVERSAMPLING = 1.5
"""Draws a candidate of `sample_distinct`, as in the paper's dynamic sampling."""


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: Prompts,
    group_size: int,
    *,
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
) -> Candidates:
    """Draw G titles for each prompt, independently and with replacement.

    Tokens are drawn among the legal ones only, under either support. The log-probabilities are the
    policy's own, whatever the temperature.

    Args:
        policy: What writes, in eval mode.
        prompts: B prompts.
        group_size: G.
        generator: Source of randomness, on the policy's device; None: torch's own.
        temperature: Log-probabilities of tokens are divided by it before a draw.

    Returns:
        Titles [B, G], duplicates among them, the most probable first.
    """
    return _best_first(*_draw(policy, prompts, group_size, generator, temperature))


@torch.no_grad()
def sample_distinct(
    policy: Policy,
    prompts: Prompts,
    group_size: int,
    *,
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
) -> Candidates:
    """Draw 1.5 G titles; keep the copies of the target, then as many distinct ones as possible.

    The paper's dynamic sampling, on title ids. Among equals those drawn first are kept, and where
    fewer than G distinct titles were drawn the repeats fill the group.

    Args:
        prompts: B prompts, with their targets.
        Others: as `sample`.

    Raises:
        ValueError: The prompts have no targets.
    """
    targets = _targets(prompts)
    num_draws = math.ceil(OVERSAMPLING * group_size)
    titles, scores = _draw(policy, prompts, num_draws, generator, temperature)
    kept = distinct_first(titles, torch.from_numpy(targets).to(titles.device), group_size)
    return _best_first(titles.gather(1, kept), scores.gather(1, kept))


def distinct_first(titles: Tensor, targets: Tensor, group_size: int) -> Tensor:
    """Choose G of the drawn titles [B, draws]: copies of the target, distinct ones, repeats.

    Returns:
        Their places among the draws, [B, G]; within each kind in the order of the draws.

    >>> titles = torch.tensor([[7, 7, 5, 3, 5, 3]])
    >>> distinct_first(titles, torch.tensor([3]), 5).tolist()
    [[3, 5, 0, 2, 1]]
    """
    repeats = _first_equal(titles) != torch.arange(titles.shape[1], device=titles.device)
    kind = torch.where(titles == targets[:, None], 0, 1 + repeats.long())
    kind = torch.where(titles == NO_TITLE, 3, kind)
    return torch.argsort(kind, dim=1, stable=True)[:, :group_size]


def with_target(sampler: Sampler) -> Sampler:
    """Return a sampler whose candidates always hold the target, in place of the worst if need be.

    A target that is hidden from its prompt is not injected.
    """

    @torch.no_grad()
    def injected(
        policy: Policy,
        prompts: Prompts,
        group_size: int,
        *,
        generator: torch.Generator | None = None,
    ) -> Candidates:
        targets = _targets(prompts)
        found = sampler(policy, prompts, group_size, generator=generator)
        rows = np.flatnonzero((found.titles != targets[:, None]).all(axis=1))
        if len(rows) == 0:
            return found
        tree = PromptTree(policy, prompts.take(rows))
        walked = _walk(tree, 1, _towards(tree, targets[rows]))
        title, score = (values[:, 0].cpu().numpy() for values in walked)
        reached = title == targets[rows]  # a hidden target leads to what is left beside it
        titles, scores = found.titles.copy(), found.logprobs.copy()
        titles[rows[reached], -1] = title[reached]
        scores[rows[reached], -1] = score[reached]
        return _best_first(torch.from_numpy(titles), torch.from_numpy(scores))

    return injected


beam_with_target = with_target(beam_search)
"""A beam search whose group always holds the target."""

sample_distinct_with_target = with_target(sample_distinct)
"""Distinct draws among which the target always is."""

Chooser = Callable[[Choices, Tensor], Tensor]
"""`(choices, slot [B, G]) -> [B, G]`, the place among the E of what each walker takes."""


def _walk(tree: PromptTree, num_walkers: int, choose: Chooser) -> tuple[Tensor, Tensor]:
    """Lead G walkers a prompt from the root to a title, decision by decision.

    Returns:
        Titles [B, G] and their log-probabilities; `NO_TITLE` and -inf where the way was barred.
    """
    shape, device = (tree.num_prompts, num_walkers), tree.device
    row = torch.arange(shape[0], device=device)[:, None].expand(shape)
    walker = torch.arange(num_walkers, device=device).expand(shape)
    title = torch.full(shape, NO_TITLE, device=device)
    score = torch.zeros(shape, device=device)
    going = tree.shown.num_titles(row, torch.zeros_like(row)) > 0
    choices, slot, entry = tree.root(), row, tree.prompt_entry.expand(shape)
    while True:
        edge = choose(choices, slot).clamp(0, len(choices.child) - 1)
        node = torch.where(going, choices.child[edge], 0)
        score = torch.where(going, score + choices.logprob[edge], score)
        going = going & (score > -torch.inf)
        arrived = going & tree.is_title(row, node)
        title = torch.where(arrived, tree.shown.title(row, node), title)
        going = going & ~arrived
        # Walkers at one node read it once, by the first of them.
        leader = _first_equal(torch.where(going, node, 0))
        live = going & (leader == walker)
        # The one host read of a round: tensor shapes, and whether anybody is still going.
        sizes = Sizes(*tree.sizes(node, live).tolist())
        if sizes.nodes == 0:
            return title, torch.where(title == NO_TITLE, -torch.inf, score)
        reading = tree.read(entry, node, live, sizes)
        entry, slot = reading.entry.gather(1, leader), row * num_walkers + leader
        choices = reading.choices
        if reading.forced is not None:
            score = score + torch.where(going, reading.forced.gather(1, leader), 0.0)


def _first_equal(values: Tensor) -> Tensor:
    """Return for each value of [B, G] the place of the first equal one in its row."""
    ordered, place = torch.sort(values, dim=1, stable=True)
    column = torch.arange(values.shape[1], device=values.device).expand_as(values)
    begins = functional.pad(ordered[:, 1:] != ordered[:, :-1], (1, 0), value=True)
    begin = torch.where(begins, column, 0).cummax(1).values
    return torch.empty_like(place).scatter_(1, place, place.gather(1, begin))


def _draw(
    policy: Policy,
    prompts: Prompts,
    num_draws: int,
    generator: torch.Generator | None,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Draw titles [B, draws]; return their log-probabilities too, in the order of the draws."""
    check_group_size(num_draws)
    if not temperature > 0:
        raise ValueError(f"`temperature` (={temperature}) must be positive; 1 is the policy.")
    tree = PromptTree(policy, prompts)

    def at_random(choices: Choices, slot: Tensor) -> Tensor:
        legal = choices.logprob > -torch.inf
        logits = choices.logprob / temperature
        logits = segment_log_softmax(logits, choices.slot, len(choices.first))
        mass = torch.where(legal, logits.exp(), 0.0).double()
        # The inverse of the distribution function, which runs on through the slots.
        upto = functional.pad(torch.cumsum(mass, 0), (1, 0))
        end = functional.pad(choices.first[1:], (0, 1), value=len(mass))
        start, stop = upto[choices.first[slot]], upto[end[slot]]
        uniform = torch.rand(slot.shape, dtype=mass.dtype, device=mass.device, generator=generator)
        drawn = torch.minimum(start + uniform * (stop - start), torch.nextafter(stop, start))
        return torch.searchsorted(upto[1:], drawn, right=True)

    return _walk(tree, num_draws, at_random)


def _towards(tree: PromptTree, targets: IntArray) -> Chooser:
    """Choose what leads to the target of each prompt."""
    target = torch.from_numpy(np.asarray(targets, np.int64)).to(tree.device)
    leaf, stride = tree.trie.title_leaf[target][:, None], tree.trie.num_titles

    def choose(choices: Choices, slot: Tensor) -> Tensor:
        # Siblings lie in the order of their leaves, so the first leaves below the E ascend by slot.
        key = choices.slot * stride + tree.trie.lo[choices.child]
        return torch.searchsorted(key, slot * stride + leaf, right=True) - 1

    return choose


def _best_first(titles: Tensor, scores: Tensor) -> Candidates:
    """Sort the candidates of each prompt; equals keep their order."""
    order = torch.argsort(scores, dim=1, descending=True, stable=True)
    return Candidates(
        titles=titles.gather(1, order).cpu().numpy(),
        logprobs=scores.gather(1, order).cpu().numpy().astype(np.float32),
    )


def _targets(prompts: Prompts) -> IntArray:
    if prompts.targets is None:
        raise ValueError(
            "`prompts.targets` (=None) must hold one title id for each prompt: this sampler looks "
            "for them among its candidates; use `task.prompts(batch)`."
        )
    return prompts.targets
