"""Beam search that equals Hugging Face's, title for title; it only reads in another order.

The beams of a prompt are compared after every token, as `generate(num_beams=G, length_penalty=0)`
compares them under a prefix constraint. But a beam's forced tokens are read together and ahead of
time, and steps at which nothing is decided or finished are passed over.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from agents.policy import Policy
from agents.search.choices import Choices, Sizes, check_group_size
from agents.search.prompt_tree import PromptTree
from agents.trees import Edges, TorchTrie
from agents.types import Candidates, Support
from rere_env.prompts import Prompts
from rere_env.types import NO_TITLE

__all__ = ["beam_search"]

# B prompts, G beams a prompt, E continuations of all beams.


@torch.no_grad()
def beam_search(
    policy: Policy,
    prompts: Prompts,
    group_size: int,
    *,
    generator: torch.Generator | None = None,
) -> Candidates:
    """Return the G titles that a beam search of width G finds for each prompt, best first.

    Args:
        policy: What writes, in eval mode.
        prompts: B prompts.
        group_size: G, the number of beams and of titles returned.
        generator: Not used: the search is deterministic.

    Returns:
        Distinct titles [B, G]; slots beyond the catalogue's size hold `NO_TITLE` and -inf.
    """
    check_group_size(group_size)
    trie, support = policy.trie, policy.support
    tree = PromptTree(policy, prompts)
    known = _Known(tree.device)
    finished = _Finished.empty(tree.num_prompts, group_size, tree.device)
    found = tree.root()
    beams = _Beams.at_root(tree)
    while True:
        finished, beams = _advance(trie, finished, beams, found)
        target = _skip(trie, beams)
        wants, must = _unread(trie, beams, target, support)
        alive = beams.alive
        num_edges = torch.where(alive, trie.num_children(target), 0).sum(1)
        step = torch.stack([must.any().long(), num_edges.sum(), num_edges.max()])
        # The one host read of a step: tensor shapes, whether to read, whether to go on.
        sizes = torch.cat([step, tree.sizes(beams.start, wants)]).tolist()
        if sizes[1] == 0:
            break
        if sizes[0]:
            known.read(tree, beams, wants, Sizes(*sizes[3:]))
        if support == "vocabulary":
            beams.score = beams.score + known.forced(trie, beams, beams.node, target)
        beams.node = target
        edges = trie.known_edges(target.flatten(), sizes[1], alive.flatten())
        logprob = known.logprobs(trie, beams, edges, support)
        found = Choices.of(edges, logprob, tree.num_prompts, sizes[2])
    return Candidates(
        titles=finished.title.cpu().numpy(),
        logprobs=finished.score.cpu().numpy().astype(np.float32),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Finished:
    """The best complete titles so far, best first."""

    title: Tensor  # [B, G]
    score: Tensor  # [B, G]

    @classmethod
    def empty(cls, num_rows: int, group_size: int, device: torch.device) -> "_Finished":
        shape = (num_rows, group_size)
        return cls(
            title=torch.full(shape, NO_TITLE, device=device),
            score=torch.full(shape, -torch.inf, device=device),
        )


@dataclass(slots=True, kw_only=True, eq=False)
class _Beams:
    """The live beams of B rows; a dead beam has score -inf."""

    score: Tensor  # [B, G]
    node: Tensor  # [B, G] trie node
    start: Tensor  # [B, G] the node after the beam's last decision
    parent: Tensor  # [B, G] the entry after which that decision was taken
    entry: Tensor  # [B, G] the entry of `start` and its forced tokens; 0 = not yet read
    choice: Tensor  # [B, G] where the continuations of the chain's end are kept
    reach: Tensor  # [B, G] where the log-probabilities of the forced tokens are kept

    @classmethod
    def at_root(cls, tree: PromptTree) -> "_Beams":
        """Return one beam a row, which has just read its prompt."""
        zeros = torch.zeros(tree.num_prompts, 1, dtype=torch.int64, device=tree.device)
        return cls(
            score=zeros.float(),
            node=zeros,
            start=zeros,
            parent=zeros,
            entry=tree.prompt_entry,
            choice=zeros,
            reach=zeros,
        )

    @property
    def alive(self) -> Tensor:
        return self.score > -torch.inf


class _Known:
    """The log-probabilities of everything read so far, used when a beam gets there."""

    def __init__(self, device: torch.device) -> None:
        self._choices = torch.zeros(1, device=device)  # the first place: a forced token is free
        self._reach = torch.zeros(1, device=device)

    def read(self, tree: PromptTree, beams: _Beams, wants: Tensor, sizes: Sizes) -> None:
        """Read some beams' starts and forced tokens; write down where the results are kept."""
        reading = tree.read(beams.parent, beams.start, wants, sizes)
        first = reading.choices.first.view_as(wants) + len(self._choices)
        beams.entry = torch.where(wants, reading.entry, beams.entry)
        beams.choice = torch.where(wants, first, beams.choice)
        self._choices = torch.cat([self._choices, reading.choices.logprob])
        if reading.reach is not None:
            beams.reach = torch.where(wants, reading.start + len(self._reach), beams.reach)
            self._reach = torch.cat([self._reach, reading.reach])

    def forced(self, trie: TorchTrie, beams: _Beams, node: Tensor, later: Tensor) -> Tensor:
        """Return the log-probability of the forced tokens from a node to a later one, [B, G]."""
        base = beams.reach - trie.place[beams.start]
        last = len(self._reach) - 1  # dead beams point anywhere
        at_later = self._reach[(base + trie.place[later]).clamp(0, last)]
        return at_later - self._reach[(base + trie.place[node]).clamp(0, last)]

    def logprobs(self, trie: TorchTrie, beams: _Beams, edges: Edges, support: Support) -> Tensor:
        """Return the log-probability [E] of the continuations of all live beams."""
        node = beams.node.flatten()
        is_read = trie.num_children(node) > 1
        if support == "vocabulary":
            is_read |= node == trie.last_read(beams.start.flatten())
        within = torch.arange(len(edges.owner), device=node.device) - edges.first[edges.owner]
        choice = torch.where(is_read, beams.choice.flatten(), 0)[edges.owner]
        logprob = self._choices[torch.where(is_read[edges.owner], choice + within, 0)]
        if support == "catalogue":
            return logprob
        child = trie.first[beams.node].clamp(max=trie.place.numel() - 2) + 1
        forced = self.forced(trie, beams, beams.node, child).flatten()[edges.owner]
        return torch.where(is_read[edges.owner], logprob, forced)


def _skip(trie: TorchTrie, beams: _Beams) -> Tensor:
    """Return the nodes where the beams of each row next have something to decide or to finish."""
    end = trie.chain_end[beams.node]
    distance = trie.place[end] - trie.place[beams.node] - (trie.num_children(end) == 0).long()
    distance = torch.where(beams.alive, distance, trie.max_length)
    target = trie.place[beams.node] + distance.amin(1, keepdim=True)
    return torch.where(beams.alive, trie.read_node[target.clamp(max=len(trie.place) - 1)], 0)


def _unread(
    trie: TorchTrie, beams: _Beams, target: Tensor, support: Support
) -> tuple[Tensor, Tensor]:
    """Return the beams that will be read some time, and those that must be read now."""
    wants = beams.alive & (beams.entry == 0)
    if support == "vocabulary":
        return wants, wants
    wants = wants & (trie.hi[beams.start] - trie.lo[beams.start] > 1)
    return wants, wants & (trie.num_children(target) > 1)


def _advance(
    trie: TorchTrie, finished: _Finished, beams: _Beams, found: Choices
) -> tuple[_Finished, _Beams]:
    """Keep the best 2 G continuations a row; split them into finished titles and live beams."""
    num_rows, group_size = finished.title.shape
    keep = 2 * group_size
    score = beams.score.flatten()[found.slot] + found.logprob
    edge = torch.arange(len(score), device=score.device)
    table, edges = found.table(score, num_rows, -torch.inf), found.table(edge, num_rows, 0)
    missing = max(keep - found.width, 0)
    table = functional.pad(table, (0, missing), value=-torch.inf)
    score, place = torch.topk(table, keep, dim=1)
    edge = functional.pad(edges, (0, missing)).gather(1, place)
    child = found.child[edge]
    is_leaf = (trie.num_children(child) == 0) & (score > -torch.inf)

    # A title that ends among the best G joins the pool; the others only back up the live beams.
    ends = is_leaf & (torch.arange(keep, device=score.device) < group_size)
    title = trie.leaf_title[trie.lo[child]]
    pool = torch.cat([finished.score, torch.where(ends, score, -torch.inf)], dim=1)
    pool_title = torch.cat([finished.title, torch.where(ends, title, NO_TITLE)], dim=1)
    best_score, best = torch.topk(pool, group_size, dim=1)
    finished = _Finished(title=pool_title.gather(1, best), score=best_score)

    running, best = torch.topk(torch.where(is_leaf, -torch.inf, score), group_size, dim=1)
    # A row whose pool is final stops; its beams die.
    running = torch.where(running[:, :1] > best_score[:, -1:], running, -torch.inf)
    slot, node = found.slot[edge.gather(1, best)], child.gather(1, best)
    from_ = beams.node.flatten()[slot]
    decided = (trie.num_children(from_) > 1) | (from_ == 0)  # also where the root is forced
    return finished, _Beams(
        score=running,
        node=node,
        start=torch.where(decided, node, beams.start.flatten()[slot]),
        parent=torch.where(decided, beams.entry.flatten()[slot], beams.parent.flatten()[slot]),
        entry=torch.where(decided, 0, beams.entry.flatten()[slot]),
        choice=beams.choice.flatten()[slot],
        reach=beams.reach.flatten()[slot],
    )
