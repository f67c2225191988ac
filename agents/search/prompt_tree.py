"""The engine of every search: B prompts, each read once, and the tree of prefixes read after it.

Every prefix that a search reads is an *entry*: a token that was chosen and the forced ones up to
the next decision, in one forward pass. The key-value cache only grows; an entry sees its own
ancestors by its attention mask, so nothing is ever copied or reordered. Knows nothing of beams or
ranking.

A row of the cache holds several prompts side by side. Prompts differ in how much they read at a
time, and the shorter rows of a batch are padding: several prompts together differ less.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from agents.language_model.cache import folded
from agents.language_model.segments import segment_log_softmax
from agents.policy import Policy
from agents.search.choices import Choices, Reading, Sizes, take
from agents.trees import Edges, TorchShown
from agents.trees.tensors import pad_prompts
from rere_env.prompts import Prompts

__all__ = ["PromptTree"]

# B prompts, R rows of the cache, K nodes a prompt, N nodes a row of the cache (B * K = R * N),
# E continuations in all, T tokens read in all.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Queries:
    """Where each token of a read goes: a row's nodes, one after the other, padded on the right.

    Attributes:
        count: [R, N] tokens of each node.
        end: [R, N] column after a node's last token.
        owner: [R, width] the node of each query.
        step: [R, width] which of the node's tokens a query is.
        is_query: [R, width] bool, False in the padding.
    """

    count: Tensor
    end: Tensor
    owner: Tensor
    step: Tensor
    is_query: Tensor

    @classmethod
    def lay_out(cls, count: Tensor, width: int) -> "_Queries":
        num_rows, num_nodes = count.shape
        end = torch.cumsum(count, 1)
        column = torch.arange(width, device=count.device).expand(num_rows, -1)
        owner = torch.searchsorted(end, column.contiguous(), right=True)
        is_query = owner < num_nodes
        owner = owner.clamp(max=num_nodes - 1)
        step = torch.where(is_query, column - (end - count).gather(1, owner), 0)
        return cls(count=count, end=end, owner=owner, step=step, is_query=is_query)

    def start(self) -> Tensor:
        """Return [R, N], the place of each node's first token among all T."""
        flat = self.count.flatten()
        return (torch.cumsum(flat, 0) - flat).view_as(self.count)


class PromptTree:
    """What has been read after B prompts.

    Attributes:
        trie: The catalogue.
        support: What the probabilities are normalised over.
        num_prompts: B.
        shown: Which titles may be written.
        prompt_entry: [B, 1] the entry of each prompt itself.
    """

    def __init__(
        self,
        policy: Policy,
        prompts: Prompts,
    ) -> None:
        """Read the prompts.

        Args:
            policy: What reads, and where to.
            prompts: B prompts.

        Raises:
            ValueError: No prompt, an empty one, or one that leaves no room for a title.
        """
        lm, trie = policy.lm, policy.trie
        self.trie = trie
        self.support = policy.support
        self.num_prompts = len(prompts)
        self.shown = TorchShown(trie, prompts)
        self._lm = lm
        padded, lengths, is_real = (tensor.to(lm.device) for tensor in pad_prompts(prompts))
        # The last token of a title is never read.
        lm.check_length(padded.shape[1] + trie.max_length - 1)
        self._root, cache = lm.prefill(padded, lengths)
        num_rows = _num_rows(len(prompts), padded.shape[1], self._root.shape[-1])
        self._cache = folded(cache, num_rows)

        # In a row, entry 0 is nothing and 1, 2, ... are its prompts.
        entry = torch.arange(1, len(prompts) // num_rows + 1, device=lm.device)
        self.prompt_entry = entry.repeat(num_rows)[:, None]
        # [R, entries] tokens up to the end of each entry
        self._length = functional.pad(lengths.view(num_rows, -1), (1, 0))
        # [R, entries, depth] each entry and its ancestors, filled up with 0
        self._path = functional.pad(entry, (1, 0)).expand(num_rows, -1)[..., None]
        # [R, slots] the entry that each slot of the cache belongs to, 0 in the padding
        self._slot_entry = torch.where(is_real, self.prompt_entry, 0).view(num_rows, -1)

    @property
    def device(self) -> torch.device:
        """Where everything is."""
        return self._lm.device

    def root(self) -> Choices:
        """Return the first tokens of all titles after each prompt (K = 1)."""
        node = torch.zeros(self.num_prompts, dtype=torch.int64, device=self.device)
        width = self.trie.root_width
        edges = self.trie.known_edges(node, width * self.num_prompts)
        if self.support == "catalogue":
            logprob = self._lm.shared_logprobs(self._root, edges.token[:width]).flatten()
        else:
            logprob = self._lm.edge_logprobs(self._root, edges, self.support).float()
        return self._choices(edges, logprob, width)

    def is_title(self, row: Tensor, node: Tensor) -> Tensor:
        """Say which nodes are as good as written: nothing that costs probability is left."""
        if self.support == "catalogue":
            return self.shown.num_titles(row, node) == 1
        return self.trie.num_children(node) == 0

    def sizes(self, node: Tensor, live: Tensor) -> Tensor:
        """Return what makes `Sizes(*sizes.tolist())` for a read of these nodes."""
        count = torch.where(live, self.trie.num_read[node], 0).view(len(self._length), -1).sum(1)
        edges = torch.where(live, self.trie.num_children(self.trie.last_read(node)), 0).sum(1)
        return torch.stack([count.max(), count.sum(), live.sum(), edges.sum(), edges.max()])

    def read(self, parent: Tensor, node: Tensor, live: Tensor, sizes: Sizes) -> Reading:
        """Read K nodes a prompt, each with the forced tokens that follow it.

        Args:
            parent: [B, K] the entry after which each node was chosen.
            node: [B, K] trie nodes; those to be read are no leaves.
            live: [B, K] bool, the nodes to read; at least one.
            sizes: Of the same nodes.
        """
        rows = (len(self._length), -1)
        count = torch.where(live, self.trie.num_read[node], 0).reshape(rows)
        queries = _Queries.lay_out(count, sizes.width)
        place = self.trie.place[node].reshape(rows).gather(1, queries.owner) + queries.step
        length = self._length.gather(1, parent.reshape(rows))
        path = take(self._path, parent.reshape(rows))
        states = self._lm.extend(
            torch.where(queries.is_query, self.trie.read_token[place], 0),
            length.gather(1, queries.owner) + queries.step,
            self._visible(path, queries.owner),
            self._cache,
        )
        entry = self._new_entries(path, length, queries)
        last = self.trie.last_read(node).flatten()
        edges = self.trie.known_edges(last, sizes.edges, live.flatten())
        forced = reach = None
        if self.support == "catalogue":
            at_end = take(states, (queries.end - 1).clamp(min=0)).flatten(0, 1)
            logprob = self._lm.edge_logprobs(at_end, edges, self.support).float()
        else:
            logprob, forced, reach = self._all_tokens(states, place, edges, queries, sizes)
            forced = forced.view(node.shape)
        return Reading(
            entry=entry.reshape(node.shape),
            choices=self._choices(edges, logprob, sizes.edge_width),
            forced=forced,
            reach=reach,
            start=queries.start().view(node.shape),
        )

    def _visible(self, path: Tensor, owner: Tensor) -> Tensor:
        """Return bool [R, width, slots + width]: what the queries of some new entries see.

        Padding queries come last in their row and see what its last entry sees.
        """
        num_entries, width = self._length.shape[1], owner.shape[1]
        is_ancestor = torch.zeros(
            *path.shape[:2], num_entries, dtype=torch.bool, device=path.device
        )
        is_ancestor.scatter_(2, path, True)
        is_ancestor[:, :, 0] = False
        slots = self._slot_entry[:, None, :].expand(-1, path.shape[1], -1)
        column = torch.arange(width, device=path.device)
        own = (owner[:, :, None] == owner[:, None, :]) & (column <= column[:, None])
        return torch.cat([take(is_ancestor.gather(2, slots), owner), own], -1)

    def _new_entries(self, path: Tensor, length: Tensor, queries: _Queries) -> Tensor:
        """Write down N new entries a row and the slots that they take; return their ids [R, N]."""
        num_entries, num_nodes = self._length.shape[1], path.shape[1]
        entry = torch.arange(num_entries, num_entries + num_nodes, device=path.device)
        entry = entry.expand(len(path), -1)
        self._length = torch.cat([self._length, length + queries.count], 1)
        longer = torch.cat([path, entry[..., None]], -1)
        self._path = torch.cat([functional.pad(self._path, (0, 1)), longer], 1)
        slots = torch.where(queries.is_query, entry.gather(1, queries.owner), 0)
        self._slot_entry = torch.cat([self._slot_entry, slots], 1)
        return entry

    def _all_tokens(
        self, states: Tensor, place: Tensor, chosen: Edges, queries: _Queries, sizes: Sizes
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Score every token, the forced ones too.

        Returns:
            The log-probabilities of the edges at the chains' ends, [E]; `forced` and `reach` of
            `Reading`.
        """
        start = queries.start().flatten()
        node = torch.repeat_interleave(queries.count.flatten(), output_size=sizes.tokens)
        column = (queries.end - queries.count).flatten() - start
        row = node // queries.count.shape[1]
        query = row * sizes.width + column[node] + torch.arange(sizes.tokens, device=node.device)
        # All but the last token of a node have one edge: the forced token that comes next.
        num_edges = sizes.edges + sizes.tokens - sizes.nodes
        edges = self.trie.known_edges(self.trie.read_node[place.flatten()[query]], num_edges)
        at_query = states.flatten(0, 1)[query]
        logprob = self._lm.edge_logprobs(at_query, edges, self.support).float()

        last = (start + queries.count.flatten() - 1).clamp(min=0)
        shift = edges.first[last] - chosen.first
        edge = torch.arange(sizes.edges, device=node.device) + shift[chosen.owner]
        paid = logprob[edges.first].double()  # a difference of long sums follows
        before = torch.cumsum(paid, 0) - paid
        reach = (before - before[start[node]]).float()
        forced = torch.where(queries.count.flatten() > 0, reach[last], 0.0)
        return logprob[edge], forced, reach

    def _choices(self, edges: Edges, logprob: Tensor, width: int) -> Choices:
        """Hide what may not be shown and place the edges in rows."""
        choices = Choices.of(edges, logprob, self.num_prompts, width)
        if not self.shown.hides:
            return choices
        is_shown = self.shown.num_titles(choices.row, choices.child) > 0
        logprob = torch.where(is_shown, logprob, -torch.inf)
        if self.support == "catalogue":
            logprob = segment_log_softmax(logprob, edges.owner, len(edges.first))
            logprob = torch.where(is_shown, logprob, -torch.inf)
        return replace(choices, logprob=logprob)


def _num_rows(num_prompts: int, width: int, hidden_size: int) -> int:
    """Return how many rows of the cache B prompts of P slots take: a divisor of B.

    A query pays for all slots of its row: with S slots, S / (6 D) of what the rest of a layer
    costs. So a row gets no more than D of them.
    """
    per_row = max(min(hidden_size // width, num_prompts), 1)
    while num_prompts % per_row:
        per_row -= 1
    return num_prompts // per_row
