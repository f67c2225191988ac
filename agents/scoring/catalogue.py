"""The exact log-probability of every title, and what follows from it.

Under `support="catalogue"` the probabilities of all titles sum to one, and only prefixes with two
or more titles below cost a token: a few thousand a prompt. They are read in blocks of bounded size
behind one reading of the prompt.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.language_model import LanguageModel
from agents.language_model.cache import folded, shrink
from agents.language_model.segments import segment_log_softmax
from agents.policy import Policy
from agents.trees import Edges, TorchShown, TorchTrie
from agents.trees.catalogue import Block, blocks
from agents.trees.pack import parts_of_similar_length
from agents.trees.tensors import pad_prompts
from rere_env.prompts import Prompts

__all__ = ["check_support", "only_shown", "score_catalogue"]

# B examples, I titles, n nodes of a block, m of them decide, E continuations of those.

MAX_TOKENS = 4096
"""Tokens that one forward pass reads, those of all its prompts together."""

MAX_NODES = 256
"""Nodes of a block: a longer one pays more for attention, a shorter one for more passes."""


@torch.no_grad()
def score_catalogue(
    policy: Policy,
    prompts: Prompts,
    *,
    max_tokens: int = MAX_TOKENS,
) -> NDArray[np.float32]:
    """Return the log-probability of every title for every prompt, over the legal tokens.

    Args:
        policy: What is asked; its mode is left as it is, so put it in eval mode.
        prompts: B prompts; the titles hidden from one get -inf.
        max_tokens: Bounds the memory: prompts read together, and what a pass adds to them.

    Returns:
        [B, I] float32; `exp` of a row sums to 1 (to 0 if everything is hidden from it).

    Raises:
        ValueError: The policy's probabilities are over the vocabulary.
    """
    check_support(policy)
    trie = policy.trie
    scores = np.empty((len(prompts), trie.num_titles), np.float32)
    for rows in parts_of_similar_length(prompts.lengths, max_tokens):
        some = prompts.take(rows)
        num_nodes = max(min(max_tokens // len(rows), MAX_NODES), 1)
        plan = blocks(trie.host, trie.title_tokens, num_nodes)
        by_leaf = _Scores(trie, TorchShown(trie, some), len(rows))
        _read_blocks(policy.lm, some, plan, by_leaf)
        scores[rows] = by_leaf.result()
    return scores


def check_support(policy: Policy) -> None:
    """Raise unless the probabilities of all titles sum to one.

    Raises:
        ValueError: They do not.
    """
    if policy.support != "catalogue":
        raise ValueError(
            f"`support` (={policy.support!r}) must be 'catalogue' where every title is scored; "
            "use search='exact' for the best ones."
        )


class _Scores:
    """Sums of log-probabilities by leaf, for B prompts.

    What a continuation costs is added to all leaves below it, an interval: its cost is added where
    the interval begins and taken off where it ends.
    """

    def __init__(self, trie: TorchTrie, shown: TorchShown, num_prompts: int) -> None:
        self._trie = trie
        self._shown = shown
        self._row = torch.arange(num_prompts, device=trie.lo.device)[:, None]
        self._steps = torch.zeros(
            num_prompts, trie.num_titles + 1, dtype=torch.float64, device=trie.lo.device
        )

    def add(self, lm: LanguageModel, states: Tensor, nodes: Tensor) -> None:
        """Score the continuations of m nodes, given the hidden states [B, m, D] at them."""
        num_prompts, num_nodes, _ = states.shape
        of_one = self._trie.edges(nodes)
        num_edges = len(of_one.child)
        edges = Edges(
            owner=(self._row * num_nodes + of_one.owner).flatten(),
            token=of_one.token.repeat(num_prompts),
            child=of_one.child.repeat(num_prompts),
            first=(self._row * num_edges + of_one.first).flatten(),
        )
        logprob = lm.edge_logprobs(states.flatten(0, 1), edges, "catalogue")
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
    lm: LanguageModel, prompts: Prompts, plan: Iterable[Block], scores: _Scores
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
        states = root[:, None]
        if len(tokens):
            slot = torch.arange(len(tokens), device=lm.device)
            own = (slot <= slot[:, None]) & (slot[:, None] < ends)
            shape = (len(prompts), len(tokens), -1)
            visible = torch.cat([is_real[:, None].expand(shape), own.expand(shape)], -1)
            read = lm.extend(
                tokens.expand(shape[:2]), lengths[:, None] + depths - 1, visible, cache
            )
            states = torch.cat([states, read], 1)
            shrink(cache, padded.shape[1])
        scores.add(lm, states[:, slots + 1], nodes)


def only_shown(logprob: Tensor, edges: Edges, is_shown: Tensor) -> Tensor:
    """Renormalise over the continuations that are shown; the others get 0."""
    least = torch.finfo(logprob.dtype).min
    shown = segment_log_softmax(
        torch.where(is_shown, logprob, least), edges.owner, len(edges.first)
    )
    return torch.where(is_shown, shown, 0.0)
