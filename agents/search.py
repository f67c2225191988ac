"""Constrained beam search on the shared-prompt tree: the title candidates of a policy.

The prompt is read once per user. The live beams are query tokens of one row, a beam's parent is a
bit of its attention mask, and the key-value cache only grows: nothing is copied or reordered.
Candidates are ragged: only the children of live nodes are scored.

`beam_search` is token-synchronous and equals `generate(num_beams=G, length_penalty=0)` of Hugging
Face under a prefix constraint, title for title. Under `support="catalogue"` a forced token has
log-probability 0 and costs no forward pass; it is read together with the next token that decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agents.language_model import LanguageModel, TreeCache
from agents.torch_trie import Edges, TorchTrie
from agents.types import Candidates, Support
from rere_env.types import NO_TITLE

__all__ = ["beam_search"]


@torch.no_grad()
def beam_search(
    lm: LanguageModel,
    trie: TorchTrie,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    *,
    support: Support = "catalogue",
) -> Candidates:
    """Return the G titles that a beam search of width G finds for each prompt, best first.

    Args:
        lm: The policy.
        trie: The catalogue, on the policy's device.
        prompts: B prompts of model token ids, of any lengths.
        group_size: G, the number of beams and of titles returned.
        support: What the probabilities are normalised over.

    Returns:
        Distinct titles [B, G]; slots beyond the catalogue's size hold `NO_TITLE` and -inf.
    """
    if group_size < 1 or len(prompts) == 0:
        raise ValueError(
            f"`group_size` (={group_size}) must be at least 1 and `prompts` "
            f"(={len(prompts)}) not empty."
        )
    # The last token of a title is never read.
    lm.check_length(max(len(prompt) for prompt in prompts) + trie.max_length - 1)
    beams = _start(lm, prompts, group_size)
    finished = _Finished.empty(len(prompts), group_size, lm.device)
    while True:
        if support == "catalogue":
            _skip_forced(beams, trie)
        owner, hidden = _read_pending(lm, trie, beams, support)
        row, beam, edges, score = _score_children(lm, trie, beams, owner, hidden, support)
        finished, beams = _advance(beams, finished, trie, row, beam, edges, score)
        # Scores only fall, so a full pool that beats the best live beam is final.
        if not (finished.scores[:, -1] < beams.score[:, 0]).any():
            break
    return Candidates(
        titles=finished.titles.cpu().numpy(),
        logprobs=finished.scores.cpu().numpy().astype(np.float32),
    )


@dataclass(slots=True, kw_only=True, eq=False)
class _Beams:
    """The live beams of B rows; a dead beam has score -inf."""

    node: Tensor  # [B, G] trie node
    score: Tensor  # [B, G]
    pending: Tensor  # [B, G, W] tokens written but not yet read by the model
    num_pending: Tensor  # [B, G]
    position: Tensor  # [B, G] position of the next token to be written
    visible: Tensor  # [B, G, slots] cache slots of the prefix already read
    cache: TreeCache
    root: Tensor | None  # [B, D] hidden state of the prompts, until the first step has used it

    @property
    def alive(self) -> Tensor:
        return self.score > -torch.inf


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Finished:
    """The best complete titles so far, best first."""

    titles: Tensor  # [B, G]
    scores: Tensor  # [B, G]

    @classmethod
    def empty(cls, num_rows: int, group_size: int, device: torch.device) -> "_Finished":
        shape = (num_rows, group_size)
        return cls(
            titles=torch.full(shape, NO_TITLE, device=device),
            scores=torch.full(shape, -torch.inf, device=device),
        )


def _start(lm: LanguageModel, prompts: Sequence[Sequence[int]], group_size: int) -> _Beams:
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    padded = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.int64)
    real = torch.arange(padded.shape[1]) < lengths[:, None]
    padded[real] = torch.tensor([token for prompt in prompts for token in prompt])
    padded, lengths, real = (tensor.to(lm.device) for tensor in (padded, lengths, real))
    hidden, cache = lm.prefill(padded, lengths)
    shape = (len(prompts), group_size)
    score = torch.full(shape, -torch.inf, device=lm.device)
    score[:, 0] = 0.0
    zeros = torch.zeros(shape, dtype=torch.int64, device=lm.device)
    return _Beams(
        node=zeros,
        score=score,
        pending=torch.zeros(*shape, 0, dtype=torch.int64, device=lm.device),
        num_pending=zeros,
        position=lengths[:, None].expand(shape),
        visible=real[:, None, :].expand(*shape, -1),
        cache=cache,
        root=hidden,
    )


def _skip_forced(beams: _Beams, trie: TorchTrie) -> None:
    """While no live beam decides, write the forced tokens of all at once (they are free)."""
    chain = trie.chain_len[beams.node]
    chain = torch.where(beams.alive, chain, chain.max() + 1)
    # One host read a step: how far every beam can go without deciding or finishing.
    for _ in range(int(chain.min()) - 1):
        edge = trie.first[beams.node].clamp(max=len(trie.edge_token) - 1)
        moved = torch.where(beams.alive, edge + 1, beams.node)
        _write(beams, trie.edge_token[edge])
        beams.node = moved


def _write(beams: _Beams, token: Tensor) -> None:
    """Append a token [B, G] to what each beam still has to read."""
    width = int(beams.num_pending.max()) + 1
    if beams.pending.shape[-1] < width:
        beams.pending = torch.nn.functional.pad(beams.pending, (0, 4))
    beams.pending = beams.pending.scatter(-1, beams.num_pending[..., None], token[..., None])
    beams.num_pending = beams.num_pending + 1
    beams.position = beams.position + 1


def _read_pending(
    lm: LanguageModel, trie: TorchTrie, beams: _Beams, support: Support
) -> tuple[Tensor, Tensor]:
    """Read the tokens of the beams that must decide now.

    Returns:
        owner: [M] flattened (row, beam) of each deciding beam.
        hidden: [M, D] its hidden state.
    """
    decides = beams.alive
    if support == "catalogue":
        decides = decides & (trie.num_children(beams.node) > 1)
    owner = decides.flatten().nonzero()[:, 0]
    group_size = beams.node.shape[1]
    if beams.root is not None:
        hidden, beams.root = beams.root[owner // group_size], None
        return owner, hidden
    if len(owner) == 0:
        return owner, torch.zeros(0, 0, device=owner.device)

    # The queries of a row are its deciding beams' pending chains, one after the other.
    count = torch.where(decides, beams.num_pending, 0)
    end = torch.cumsum(count, 1)  # [B, G] within the row
    width = int(end[:, -1].max())
    query_beam = torch.repeat_interleave(count.flatten())  # [total] flattened (row, beam)
    row = query_beam // group_size
    start = (end - count).flatten()[query_beam]
    total_before = (torch.cumsum(count.flatten(), 0) - count.flatten())[query_beam]
    step = torch.arange(len(query_beam), device=owner.device) - total_before
    column = start + step

    num_rows, _, num_slots = beams.visible.shape
    tokens = torch.zeros(num_rows, width, dtype=torch.int64, device=owner.device)
    positions = torch.zeros_like(tokens)
    tokens[row, column] = beams.pending.flatten(0, 1)[query_beam, step]
    first_position = (beams.position - beams.num_pending).flatten()[query_beam]
    positions[row, column] = first_position + step
    slot = torch.arange(width, device=owner.device)
    visible = torch.zeros(num_rows, width, num_slots + width, dtype=torch.bool, device=owner.device)
    # Padding queries see slot 0 of their row only, so that no softmax is empty.
    visible[:, :, 0] = True
    own = (slot >= start[:, None]) & (slot <= column[:, None])
    visible[row, column] = torch.cat([beams.visible.flatten(0, 1)[query_beam], own], dim=-1)
    hidden = lm.extend(tokens, positions, visible, beams.cache)

    last = (end.flatten() - 1)[owner]
    read = (slot >= (end - count)[..., None]) & (slot < end[..., None])
    beams.visible = torch.cat([beams.visible, read], dim=-1)
    beams.num_pending = torch.where(decides, 0, beams.num_pending)
    return owner, hidden[owner // group_size, last]


def _score_children(
    lm: LanguageModel,
    trie: TorchTrie,
    beams: _Beams,
    owner: Tensor,
    hidden: Tensor,
    support: Support,
) -> tuple[Tensor, Tensor, Edges, Tensor]:
    """Return row, beam and total score of every legal continuation of every live beam."""
    live = beams.alive.flatten().nonzero()[:, 0]
    edges = trie.edges(beams.node.flatten()[live])
    flat = live[edges.owner]  # [E] flattened (row, beam)
    score = beams.score.flatten()[flat]
    if support == "vocabulary":
        logprobs = lm.next_logprobs(hidden, None)
        score = score + logprobs[edges.owner, edges.token]
    elif len(owner):
        chosen = trie.edges(beams.node.flatten()[owner])
        # Live and deciding beams are both in flattened order, so their edges line up.
        score = score.clone()
        score[torch.isin(flat, owner)] += lm.next_logprobs(hidden, chosen)
    group_size = beams.node.shape[1]
    return flat // group_size, flat % group_size, edges, score


def _advance(
    beams: _Beams,
    finished: _Finished,
    trie: TorchTrie,
    row: Tensor,
    beam: Tensor,
    edges: Edges,
    score: Tensor,
) -> tuple[_Finished, _Beams]:
    """Keep the best 2 G continuations a row; split them into finished titles and live beams."""
    num_rows, group_size = beams.node.shape
    count = torch.bincount(row, minlength=num_rows)
    column = torch.arange(len(row), device=row.device) - (torch.cumsum(count, 0) - count)[row]
    keep = 2 * group_size
    width = max(int(count.max()), keep)
    table = torch.full((num_rows, width), -torch.inf, device=row.device)
    table[row, column] = score
    edge = torch.zeros((num_rows, width), dtype=torch.int64, device=row.device)
    edge[row, column] = torch.arange(len(row), device=row.device)
    score_2g, place = torch.topk(table, keep, dim=1)
    edge_2g = edge.gather(1, place)
    child = edges.child[edge_2g]
    title = trie.leaf_title[child]
    is_leaf = (title >= 0) & (score_2g > -torch.inf)

    # A title that ends among the best G joins the pool; the others only back up the live beams.
    ends = is_leaf & (torch.arange(keep, device=row.device) < group_size)
    pool = torch.cat([finished.scores, torch.where(ends, score_2g, -torch.inf)], dim=1)
    pool_titles = torch.cat([finished.titles, torch.where(ends, title, NO_TITLE)], dim=1)
    scores, best = torch.topk(pool, group_size, dim=1)
    finished = _Finished(titles=pool_titles.gather(1, best), scores=scores)

    running, best = torch.topk(torch.where(is_leaf, -torch.inf, score_2g), group_size, dim=1)
    # A row whose pool is final stops; its beams die.
    running = torch.where(running[:, :1] > scores[:, -1:], running, -torch.inf)
    edge_g = edge_2g.gather(1, best)
    parent = beam[edge_g]
    moved = _Beams(
        node=edges.child[edge_g],
        score=running,
        pending=_take(beams.pending, parent),
        num_pending=beams.num_pending.gather(1, parent),
        position=beams.position.gather(1, parent),
        visible=_take(beams.visible, parent),
        cache=beams.cache,
        root=None,
    )
    _write(moved, edges.token[edge_g])
    return finished, moved


def _take(values: Tensor, parent: Tensor) -> Tensor:
    """Select along the beam axis: values [B, G, X], parent [B, G]."""
    return values.gather(1, parent[..., None].expand(-1, -1, values.shape[-1]))
