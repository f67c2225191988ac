"""Searches that advance decision by decision: a chain of forced tokens is read in one forward.

`radix_search` keeps G beams. `exact_search` also keeps what the beams leave behind, and goes back
to it as long as it could hold one of the best G titles: scores only fall along a path, so what
cannot beat the G-th finished title is out for good, and the answer is certified.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from agents.policy import Policy
from agents.search.choices import Choices, Sizes, check_group_size
from agents.search.prompt_tree import PromptTree
from agents.types import Candidates
from rere_env.prompts import Prompts
from rere_env.types import NO_TITLE

__all__ = ["exact_search", "radix_search"]

# B prompts, G candidates a prompt, F nodes waiting a prompt.


@torch.no_grad()
def radix_search(
    policy: Policy,
    prompts: Prompts,
    group_size: int,
    *,
    generator: torch.Generator | None = None,
) -> Candidates:
    """Return G titles of each prompt, found by G beams that all advance one decision a round.

    Args:
        policy: What writes, in eval mode.
        prompts: B prompts.
        group_size: G.
        generator: Not used: the search is deterministic.

    Returns:
        Distinct titles [B, G], best first; `certified` where the beams have left nothing behind
        that could hold a better title.
    """
    return _search(policy, prompts, group_size, max_reads=0)


@torch.no_grad()
def exact_search(
    policy: Policy,
    prompts: Prompts,
    group_size: int,
    *,
    generator: torch.Generator | None = None,
    max_reads: int = 1024,
) -> Candidates:
    """Return the G most probable titles of each prompt, with a certificate.

    Under `support="vocabulary"` it is legal but dear: every forced token costs probability, so many
    more prefixes stay in the race.

    Args:
        policy: What writes, in eval mode.
        prompts: B prompts.
        group_size: G.
        generator: Not used: the search is deterministic.
        max_reads: Prefixes read a prompt before it goes on with its G best ones alone, as
            `radix_search` does. A flat policy would else read most of the catalogue.

    Returns:
        Distinct titles [B, G], best first; where `certified`, no other title is more probable.
    """
    return _search(policy, prompts, group_size, max_reads=max_reads)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Waiting:
    """Prefixes that were scored and not yet read, in no order; -inf where there is none."""

    score: Tensor  # [B, F]
    node: Tensor  # [B, F]
    parent: Tensor  # [B, F] the entry after which it was chosen

    def take(self, place: Tensor) -> "_Waiting":
        return _Waiting(
            score=self.score.gather(1, place),
            node=self.node.gather(1, place),
            parent=self.parent.gather(1, place),
        )

    def join(self, other: "_Waiting") -> "_Waiting":
        return _Waiting(
            score=torch.cat([self.score, other.score], 1),
            node=torch.cat([self.node, other.node], 1),
            parent=torch.cat([self.parent, other.parent], 1),
        )


class _Search:
    """The state of a search over B prompts."""

    def __init__(self, tree: PromptTree, group_size: int, max_reads: int) -> None:
        self.tree = tree
        self.group_size = group_size
        self.max_reads = max_reads
        device, shape = tree.device, (tree.num_prompts, group_size)
        self.title = torch.full(shape, NO_TITLE, device=device)  # [B, G] finished, best first
        self.score = torch.full(shape, -torch.inf, device=device)  # [B, G]
        self.num_reads = torch.zeros(tree.num_prompts, 1, dtype=torch.int64, device=device)
        # [B] score of the best prefix that was given up while it could still hold a better title.
        self.given_up = torch.full(shape[:1], -torch.inf, device=device)

    def sort_in(self, found: Choices, score: Tensor, entry: Tensor) -> _Waiting:
        """Finish what is a title; return what must be read.

        Args:
            found: The continuations of what was read last.
            score: [E] of each in all.
            entry: [E] where each continues.
        """
        row, child = found.row, found.child
        is_title = self.tree.is_title(row, child)
        is_title &= score > -torch.inf

        num_prompts = self.tree.num_prompts
        titles = torch.where(is_title, self.tree.shown.title(row, child), NO_TITLE)
        scores = torch.where(is_title, score, -torch.inf)
        pool = torch.cat([self.score, found.table(scores, num_prompts, -torch.inf)], 1)
        pool_title = torch.cat([self.title, found.table(titles, num_prompts, NO_TITLE)], 1)
        self.score, best = torch.topk(pool, self.group_size, dim=1)
        self.title = pool_title.gather(1, best)

        scores = torch.where(is_title, -torch.inf, score)
        return _Waiting(
            score=found.table(scores, num_prompts, -torch.inf),
            node=found.table(child, num_prompts, 0),
            parent=found.table(entry, num_prompts, 0),
        )

    def choose(self, waiting: _Waiting) -> tuple[_Waiting, Tensor, _Waiting]:
        """Return K prefixes a row, which of them are to be read now, and the others.

        Those are read that are among the best G of finished titles and waiting prefixes together:
        each holds a title, so G titles remain in reach whatever is given up.
        """
        score, place = torch.topk(waiting.score, min(self.group_size, waiting.score.shape[1]), 1)
        num_better = (self.score[:, None, :] > score[:, :, None]).sum(-1)
        rank = torch.arange(score.shape[1], device=score.device)
        live = (score > self.score[:, -1:]) & (rank + num_better < self.group_size)
        rest = waiting.score.scatter(1, place, torch.where(live, -torch.inf, score))

        gives_up = self.num_reads >= self.max_reads
        best = torch.where(gives_up[:, 0], rest.amax(1), -torch.inf)
        self.given_up = torch.maximum(self.given_up, best)
        self.num_reads = self.num_reads + live.sum(1, keepdim=True)
        others = replace(waiting, score=torch.where(gives_up, -torch.inf, rest))
        return waiting.take(place), live, self._within_limit(others)

    def _within_limit(self, waiting: _Waiting) -> _Waiting:
        """Keep what can still be read before `max_reads` (and G more)."""
        if self.max_reads == 0:
            return waiting.take(torch.zeros_like(self.title[:, :0]))
        limit = self.max_reads + self.group_size
        if waiting.score.shape[1] <= limit:
            return waiting
        score, place = torch.topk(waiting.score, limit + 1, dim=1)
        self.given_up = torch.maximum(self.given_up, score[:, -1])
        return waiting.take(place[:, :-1])


def _search(policy: Policy, prompts: Prompts, group_size: int, *, max_reads: int) -> Candidates:
    check_group_size(group_size)
    tree = PromptTree(policy, prompts)
    search = _Search(tree, group_size, max_reads)
    found = tree.root()
    waiting = search.sort_in(found, found.logprob, tree.prompt_entry[found.slot, 0])
    while True:
        chosen, live, others = search.choose(waiting)
        # The one host read of a round: tensor shapes, and whether there is anything left to do.
        sizes = Sizes(*tree.sizes(chosen.node, live).tolist())
        if sizes.nodes == 0:
            break
        reading = tree.read(chosen.parent, chosen.node, live, sizes)
        base = chosen.score if reading.forced is None else chosen.score + reading.forced
        found = reading.choices
        score = base.flatten()[found.slot] + found.logprob
        waiting = others.join(search.sort_in(found, score, reading.entry.flatten()[found.slot]))
    return Candidates(
        titles=search.title.cpu().numpy(),
        logprobs=search.score.cpu().numpy().astype(np.float32),
        certified=(search.given_up <= search.score[:, -1]).cpu().numpy(),
    )
