"""The exact log-probability of every title, and what follows from it.

Under `support="catalogue"` the probabilities of all titles sum to one, and only prefixes with two
or more titles below cost a token: a few thousand a prompt. They are read in blocks of bounded size
behind one reading of the prompt.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.language_model import LanguageModel
from agents.language_model.cache import folded, shrink
from agents.language_model.segments import segment_log_softmax
from agents.search.prompt_tree import pad_prompts
from agents.trees import Edges, Shown, TorchTrie
from agents.trees.catalogue import Block, blocks
from agents.trees.pack import parts_of_similar_length
from rere_env.task import Task
from rere_env.types import Batch, IntArray

__all__ = ["only_shown", "score_catalogue"]

# B examples, I titles, n nodes of a block, m of them decide, E continuations of those.

MAX_TOKENS = 4096
"""Tokens that one forward pass reads, those of all its prompts together."""

MAX_NODES = 256
"""Nodes of a block: a longer one pays more for attention, a shorter one for more passes."""


@torch.no_grad()
def score_catalogue(
    lm: LanguageModel,
    task: Task,
    examples: Batch,
    *,
    hidden: Sequence[IntArray] | None = None,
    max_tokens: int = MAX_TOKENS,
) -> NDArray[np.float32]:
    """Return the log-probability of every title for every example.

    Args:
        lm: The policy; its mode is left as it is, so put it in eval mode.
        task: Catalogue and prompts.
        examples: B examples.
        hidden: Title ids that each example may not be shown: they get -inf.
        max_tokens: Bounds the memory: prompts read together, and what a pass adds to them.

    Returns:
        [B, I] float32; `exp` of a row sums to 1 (to 0 if everything is hidden from it).
    """
    trie = TorchTrie.build(task.trie, task.title_tokens, lm.device)
    prompts = [task.prompt(example.history) for example in examples]
    scores = np.empty((len(prompts), trie.num_titles), np.float32)
    for part in parts_of_similar_length(np.array([len(p) for p in prompts]), max_tokens):
        rows = part.tolist()
        some_hidden = None if hidden is None else [hidden[row] for row in rows]
        shown = Shown(trie, len(rows), some_hidden)
        num_nodes = max(min(max_tokens // len(rows), MAX_NODES), 1)
        plan = blocks(task.trie, task.title_tokens, num_nodes)
        by_leaf = _Scores(trie, shown, len(rows))
        _read_blocks(lm, [prompts[row] for row in rows], plan, by_leaf)
        scores[rows] = by_leaf.result()
    return scores


class _Scores:
    """Sums of log-probabilities by leaf, for B prompts.

    What a continuation costs is added to all leaves below it, an interval: its cost is added where
    the interval begins and taken off where it ends.
    """

    def __init__(self, trie: TorchTrie, shown: Shown, num_prompts: int) -> None:
        self._trie = trie
        self._shown = shown
        self._row = torch.arange(num_prompts, device=trie.lo.device)[:, None]
        self._steps = torch.zeros(
            num_prompts, trie.num_titles + 1, dtype=torch.float64, device=trie.lo.device
        )

    def add(self, lm: LanguageModel, hidden: Tensor, nodes: Tensor) -> None:
        """Score the continuations of m nodes, given the hidden states [B, m, D] at them."""
        num_prompts, num_nodes, _ = hidden.shape
        of_one = self._trie.edges(nodes)
        num_edges = len(of_one.child)
        edges = Edges(
            owner=(self._row * num_nodes + of_one.owner).flatten(),
            token=of_one.token.repeat(num_prompts),
            child=of_one.child.repeat(num_prompts),
            first=(self._row * num_edges + of_one.first).flatten(),
        )
        logprob = lm.edge_logprobs(hidden.flatten(0, 1), edges, "catalogue")
        if self._shown.hides:
            row = self._row.expand(-1, num_edges).flatten()
            is_shown = self._shown.num_titles(row, edges.child) > 0
            logprob = only_shown(logprob, edges, is_shown)
        step = logprob.view(num_prompts, num_edges).double()
        self._steps.index_add_(1, self._trie.lo[of_one.child], step)
        self._steps.index_add_(1, self._trie.hi[of_one.child], -step)

    def result(self) -> NDArray[np.float32]:
        """Return [B, I] by title id."""
        scores = torch.cumsum(self._steps, 1)[:, self._trie.title_leaf]
        scores = torch.where(self._shown.titles(), scores, -torch.inf)
        return scores.float().cpu().numpy()


def _read_blocks(
    lm: LanguageModel, prompts: Sequence[Sequence[int]], plan: Iterable[Block], scores: _Scores
) -> None:
    """Read prompts once and every block behind them."""
    padded, lengths, is_real = (tensor.to(lm.device) for tensor in pad_prompts(prompts))
    root, cache = lm.prefill(padded, lengths)
    cache = folded(cache, len(prompts))
    for block in plan:
        tokens, depths, ends, slots, nodes = (
            torch.from_numpy(array).to(lm.device)
            for array in (block.tokens, block.depths, block.ends, block.slots, block.nodes)
        )
        hidden = root[:, None]
        if len(tokens):
            slot = torch.arange(len(tokens), device=lm.device)
            own = (slot <= slot[:, None]) & (slot[:, None] < ends)
            shape = (len(prompts), len(tokens), -1)
            visible = torch.cat([is_real[:, None].expand(shape), own.expand(shape)], -1)
            read = lm.extend(
                tokens.expand(shape[:2]), lengths[:, None] + depths - 1, visible, cache
            )
            hidden = torch.cat([hidden, read], 1)
            shrink(cache, padded.shape[1])
        scores.add(lm, hidden[:, slots + 1], nodes)


def only_shown(logprob: Tensor, edges: Edges, is_shown: Tensor) -> Tensor:
    """Renormalise over the continuations that are shown; the others get 0."""
    least = torch.finfo(logprob.dtype).min
    shown = segment_log_softmax(
        torch.where(is_shown, logprob, least), edges.owner, len(edges.first)
    )
    return torch.where(is_shown, shown, 0.0)
