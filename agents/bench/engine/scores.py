"""The same synthetic scores for every side: a random model then searches as a trained one does.

Each side does all of its own work first; then its log-probabilities are replaced by those of
`UserScores`, and what that costs is put aside. So all sides walk the same paths, results can be
compared title for title with a plain computation on the table, and no side gains by the detour.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedModel

from agents.bench.clock import Aside
from agents.language_model import LanguageModel, TreeCache
from agents.trees import Edges, TorchTrie
from agents.trees.tensors import Continuations
from agents.types import Support
from rere_env.catalogue import TitleTokens
from rere_env.ragged import owners
from rere_env.trie import Trie
from rere_env.types import IntArray

__all__ = ["ScoredLanguageModel", "ScoresForGenerate", "UserScores", "follow"]

# U users, S trie nodes, B prompts, M hidden states, E continuations.

ILLEGAL = -1e6
"""What released code adds to the log-probability of an illegal token."""


class UserScores:
    """Log-probabilities of every trie node given its parent, for U users.

    The logit of a child is the log of its number of titles plus Gumbel noise; forced tokens get 0.
    A user is known by the first token of the prompt.
    """

    def __init__(self, trie: Trie, num_users: int, seed: int = 0) -> None:
        """Draw the noise; a user's does not depend on how many users there are."""
        self.trie = trie
        self.table = np.zeros((num_users, trie.num_nodes), np.float32)  # [U, S]
        parents = np.flatnonzero(np.diff(trie.first) > 0)
        num_children = trie.num_children(parents)
        log_titles = np.log(trie.num_titles_below(np.arange(1, trie.num_nodes)))
        for user, row in enumerate(self.table):
            noise = np.random.default_rng([seed, user]).gumbel(size=len(log_titles))
            row[1:] = _log_softmax(log_titles + noise, trie.first[parents], num_children)
        self.aside = Aside()

    def first_tokens(self) -> IntArray:
        """Return the token [U] that opens the prompt of each user."""
        return np.arange(1, len(self.table) + 1)

    def titles(self) -> NDArray[np.float64]:
        """Return the log-probability of every title [U, I], by walking down the whole trie."""
        total = self.table.astype(np.float64)
        for start, end in zip(self.trie.level_first[1:], self.trie.level_first[2:], strict=False):
            nodes = np.arange(start, end)
            total[:, nodes] += total[:, self.trie.parents(nodes)]
        return total[:, self.trie.leaf_node[self.trie.title_leaf]]


class ScoredLanguageModel(LanguageModel):
    """A language model whose log-probabilities in searches are those of `UserScores`.

    The user of a hidden state travels in its first number: it has no other use once the attention
    has been computed. Training passes are left alone.
    """

    _scores: UserScores | None = None
    _users: Tensor | None = None  # [B] of the prompts read last

    def __init__(self, model: PreTrainedModel, trie: TorchTrie, scores: UserScores) -> None:
        """Wrap a causal LM."""
        super().__init__(model)
        self._scores = scores
        self._table = torch.from_numpy(scores.table)
        self._root_tokens = trie.edges(torch.zeros(1, dtype=torch.int64)).token
        self._width = 0

    def prefill(self, prompts: Tensor, lengths: Tensor) -> tuple[Tensor, TreeCache]:
        """Read prompts; note whose they are."""
        self._users = None
        states, cache = super().prefill(prompts, lengths)
        if self._scores is not None:
            with self._scores.aside:
                self._users, self._width = prompts[:, 0] - 1, prompts.shape[1]
                states[:, 0] = self._users.to(states)
        return states, cache

    def extend(
        self, tokens: Tensor, positions: Tensor, visible: Tensor, cache: TreeCache
    ) -> Tensor:
        """Append queries; each belongs to the user whose prompt it sees."""
        states = super().extend(tokens, positions, visible, cache)
        if self._scores is not None and self._users is not None:
            with self._scores.aside:
                users = self._users.view(len(tokens), -1)  # several prompts a row of the cache
                first_slot = self._width * torch.arange(users.shape[1])
                seen = visible[:, :, first_slot].byte().argmax(-1)
                states[..., 0] = users.gather(1, seen).to(states)
        return states

    def edge_logprobs(self, states: Tensor, edges: Continuations, support: Support) -> Tensor:
        """Compute log-probabilities; return the synthetic ones."""
        logprobs = super().edge_logprobs(states, edges, support)
        if self._scores is None or not isinstance(edges, Edges):
            return logprobs
        with self._scores.aside:
            return self._table[states[:, 0].long()[edges.owner], edges.child].to(logprobs)

    def shared_logprobs(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Compute log-probabilities of the root's children; return the synthetic ones."""
        logprobs = super().shared_logprobs(states, tokens)
        if self._scores is None:
            return logprobs
        with self._scores.aside:
            if not torch.equal(tokens, self._root_tokens):
                raise AssertionError("only the root's children have scores without a trie node")
            return self._table[states[:, 0].long(), 1 : len(tokens) + 1].to(logprobs)


class ScoresForGenerate(LogitsProcessor):
    """The same for `generate`: the last processor replaces what all others have made."""

    def __init__(self, scores: UserScores, tokens: TitleTokens, prompt_length: int) -> None:
        """Take the table and what the tokens mean."""
        self._scores = scores
        self._tokens = tokens
        self._prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return log-probabilities [rows, V], `ILLEGAL` where no title goes on."""
        with self._scores.aside:
            ids = input_ids.numpy()
            node = follow(self._scores.trie, self._tokens, ids[:, self._prompt_length :])
            rows = np.flatnonzero(node >= 0)
            children = self._scores.trie.children(node[rows])
            row = rows[owners(children.indptr)]
            values = self._scores.table[ids[row, 0] - 1, children.nodes]
            replaced = torch.full_like(scores, ILLEGAL)
            column = self._tokens.to_model_ids(children.tokens)
            replaced[torch.from_numpy(row), torch.from_numpy(column)] = torch.from_numpy(values)
            return replaced


def _log_softmax(
    logits: NDArray[np.float64], first: IntArray, size: IntArray
) -> NDArray[np.float64]:
    """Normalise segments of a vector, given where each begins and how long it is."""
    logits = logits - np.repeat(np.maximum.reduceat(logits, first), size)
    normalized: NDArray[np.float64] = logits - np.repeat(
        np.log(np.add.reduceat(np.exp(logits), first)), size
    )
    return normalized


def follow(trie: Trie, tokens: TitleTokens, ids: IntArray) -> IntArray:
    """Return the trie node that each row of model ids [n, L] leads to, -1 where to none."""
    node = np.zeros(len(ids), np.int64)
    for column in tokens.from_model_ids(ids).T:
        node = np.where(node >= 0, trie.step(np.maximum(node, 0), column), -1)
    return node
