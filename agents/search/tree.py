"""The engine of every search: B prompts, each read once, and the tree of prefixes read after it.

Every prefix that a search reads is an *entry* of its prompt's row: a token that was chosen and the
forced ones up to the next decision, in one forward pass. The key-value cache only grows; an entry
sees its own ancestors by its attention mask, so nothing is ever copied or reordered. Knows nothing
of beams or ranking.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from agents.language_model import LanguageModel
from agents.ops import segment_log_softmax
from agents.torch_trie import Edges, Shown, TorchTrie
from agents.types import Support
from rere_env.types import IntArray

__all__ = ["Continuations", "PromptTree", "Reading", "Sizes", "take"]

# B prompts (rows), K nodes a row, E continuations in all, T tokens read in all.


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the host must know of a read before it can shape the tensors.

    Attributes:
        width: Most tokens that a row reads.
        tokens: T.
        nodes: Nodes that are read.
        edges: E.
        edge_width: Most continuations in a row.
    """

    width: int
    tokens: int
    nodes: int
    edges: int
    edge_width: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Continuations:
    """The children of K nodes a row, ragged, ordered by row, node and token.

    Attributes:
        slot: [E] the node that each continues, numbered row * K + k.
        row: [E] its prompt.
        child: [E] trie node.
        logprob: [E] of the child given its parent; -inf where every title below is hidden.
        first: [B * K] position of each node's first continuation.
        place: [E] position in a table [B, width], one row a prompt.
        width: Most continuations in a row.
    """

    slot: Tensor
    row: Tensor
    child: Tensor
    logprob: Tensor
    first: Tensor
    place: Tensor
    width: int

    @classmethod
    def of(cls, edges: Edges, logprob: Tensor, num_rows: int, width: int) -> "Continuations":
        """Place the edges of B * K nodes in rows of at most `width`."""
        per_row = len(edges.first) // num_rows
        row = edges.owner // per_row
        rows = torch.arange(num_rows, device=row.device)
        shift = rows * width - edges.first[::per_row]
        return cls(
            slot=edges.owner,
            row=row,
            child=edges.child,
            logprob=logprob,
            first=edges.first,
            place=torch.arange(len(row), device=row.device) + shift[row],
            width=width,
        )

    def table(self, values: Tensor, num_rows: int, fill: float) -> Tensor:
        """Spread values [E] over rows [B, width], the rest filled."""
        table = values.new_full((num_rows * self.width,), fill)
        table[self.place] = values
        return table.view(num_rows, self.width)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """What one read has found.

    Attributes:
        entry: [B, K] the entries that were made, parents of what is read next.
        next: The continuations of each chain's end.
        forced: [B, K] log-probability of the forced tokens up to the chain's end; None under
            `support="catalogue"`, where it is 0.
        reach: [T] the same up to each token read.
        start: [B, K] the place of each node's own token among the T.
    """

    entry: Tensor
    next: Continuations
    forced: Tensor | None
    reach: Tensor | None
    start: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Queries:
    """Where each token of a read goes: a row's nodes, one after the other, padded on the right.

    Attributes:
        count: [B, K] tokens of each node.
        end: [B, K] column after a node's last token.
        owner: [B, width] the node of each query.
        step: [B, width] which of the node's tokens a query is.
        is_query: [B, width] bool, False in the padding.
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
        """Return [B, K], the place of each node's first token among all T."""
        flat = self.count.flatten()
        return (torch.cumsum(flat, 0) - flat).view_as(self.count)


class PromptTree:
    """What has been read after B prompts; `shown` tells which titles may be written."""

    def __init__(
        self,
        lm: LanguageModel,
        trie: TorchTrie,
        prompts: Sequence[Sequence[int]],
        support: Support,
        hidden: Sequence[IntArray] | None = None,
    ) -> None:
        """Read the prompts.

        Args:
            lm: The policy.
            trie: The catalogue, on the policy's device.
            prompts: B prompts of model token ids, of any lengths.
            support: What the probabilities are normalised over.
            hidden: Title ids that each prompt may not be shown.

        Raises:
            ValueError: No prompt, an empty one, or one that leaves no room for a title.
        """
        if len(prompts) == 0 or min(len(prompt) for prompt in prompts) == 0:
            raise ValueError(
                f"`prompts` (={len(prompts)}) must hold at least one prompt and no empty one."
            )
        # The last token of a title is never read.
        lm.check_length(max(len(prompt) for prompt in prompts) + trie.max_length - 1)
        self.trie = trie
        self.support = support
        self.num_rows = len(prompts)
        self.shown = Shown(trie, len(prompts), hidden)
        self._lm = lm
        padded, lengths, self._prompt = (tensor.to(lm.device) for tensor in _pad(prompts))
        self._root, self._cache = lm.prefill(padded, lengths)
        # Entry 0 is the prompt; the slots that the cache appends belong to later ones.
        zeros = torch.zeros(len(prompts), 1, dtype=torch.int64, device=lm.device)
        self._length = lengths[:, None]  # [B, entries] tokens up to an entry's end
        self._path = zeros[:, :, None]  # [B, entries, depth] an entry and its ancestors, 0 = none
        self._slot_entry = zeros[:, :0]  # [B, slots] the entry of each appended slot, 0 = padding

    @property
    def device(self) -> torch.device:
        """Where everything is."""
        return self._lm.device

    def root(self) -> Continuations:
        """Return the first tokens of all titles after each prompt: K = 1, entry 0."""
        node = torch.zeros(self.num_rows, dtype=torch.int64, device=self._lm.device)
        width = int(self.trie.first[1])
        edges = self.trie.known_edges(node, width * self.num_rows)
        logprob = edge_logprobs(self._lm, self._root, edges, self.support)
        return self._continuations(edges, logprob, width)

    def sizes(self, node: Tensor, live: Tensor) -> Tensor:
        """Return what makes `Sizes(*sizes.tolist())` for a read of these nodes."""
        count = torch.where(live, self.trie.num_read[node], 0).sum(1)
        edges = torch.where(live, self.trie.num_children(self.trie.last_read(node)), 0).sum(1)
        return torch.stack([count.max(), count.sum(), live.sum(), edges.sum(), edges.max()])

    def read(self, parent: Tensor, node: Tensor, live: Tensor, sizes: Sizes) -> Reading:
        """Read K nodes a row, each with the forced tokens that follow it.

        Args:
            parent: [B, K] the entry after which each node was chosen.
            node: [B, K] trie nodes; those to be read are no leaves.
            live: [B, K] bool, the nodes to read; at least one.
            sizes: Of the same nodes.
        """
        queries = _Queries.lay_out(torch.where(live, self.trie.num_read[node], 0), sizes.width)
        place = self.trie.place[node].gather(1, queries.owner) + queries.step  # [B, width]
        length = self._length.gather(1, parent)
        path = take(self._path, parent)
        hidden = self._lm.extend(
            torch.where(queries.is_query, self.trie.read_token[place], 0),
            length.gather(1, queries.owner) + queries.step,
            self._visible(path, queries.owner),
            self._cache,
        )
        entry = self._new_entries(path, length, queries)
        last = self.trie.last_read(node).flatten()
        chosen = self.trie.known_edges(last, sizes.edges, live.flatten())
        if self.support == "catalogue":
            at_end = take(hidden, (queries.end - 1).clamp(min=0)).flatten(0, 1)
            logprob = edge_logprobs(self._lm, at_end, chosen, self.support)
            forced = reach = None
        else:
            logprob, forced, reach = self._all_tokens(hidden, place, chosen, queries, sizes)
        return Reading(
            entry=entry,
            next=self._continuations(chosen, logprob, sizes.edge_width),
            forced=forced,
            reach=reach,
            start=queries.start(),
        )

    def _visible(self, path: Tensor, owner: Tensor) -> Tensor:
        """Return bool [B, width, slots + width]: what the queries of some new entries see.

        Padding queries come last in their row and see what its last entry sees.
        """
        num_rows, width = owner.shape
        num_entries = self._length.shape[1]
        is_ancestor = torch.zeros(*path.shape[:2], num_entries, dtype=torch.bool, device=path.device)
        is_ancestor.scatter_(2, path, True)
        is_ancestor[:, :, 0] = False
        slots = self._slot_entry[:, None, :].expand(-1, path.shape[1], -1)
        column = torch.arange(width, device=path.device)
        own = (owner[:, :, None] == owner[:, None, :]) & (column <= column[:, None])
        prompt = self._prompt[:, None, :].expand(-1, width, -1)
        return torch.cat([prompt, take(is_ancestor.gather(2, slots), owner), own], -1)

    def _new_entries(self, path: Tensor, length: Tensor, queries: _Queries) -> Tensor:
        """Write down K new entries a row and the slots they have taken; return their ids."""
        num_entries, num_nodes = self._length.shape[1], path.shape[1]
        entry = torch.arange(num_entries, num_entries + num_nodes, device=path.device)
        entry = entry.expand(self.num_rows, -1)
        self._length = torch.cat([self._length, length + queries.count], 1)
        longer = torch.cat([path, entry[..., None]], -1)
        self._path = torch.cat([functional.pad(self._path, (0, 1)), longer], 1)
        slots = torch.where(queries.is_query, entry.gather(1, queries.owner), 0)
        self._slot_entry = torch.cat([self._slot_entry, slots], 1)
        return entry

    def _all_tokens(
        self, hidden: Tensor, place: Tensor, chosen: Edges, queries: _Queries, sizes: Sizes
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Score every token, the forced ones too.

        Returns:
            The log-probabilities of the chosen edges [E]; `forced` and `reach` of `Reading`.
        """
        query = queries.is_query.flatten().nonzero_static(size=sizes.tokens)[:, 0]
        # All but the last token of a node have one edge: the forced token that comes next.
        num_edges = sizes.edges + sizes.tokens - sizes.nodes
        edges = self.trie.known_edges(self.trie.read_node[place.flatten()[query]], num_edges)
        logprob = edge_logprobs(self._lm, hidden.flatten(0, 1)[query], edges, self.support)

        start = queries.start()
        last = (start + queries.count - 1).clamp(min=0)
        shift = edges.first[last.flatten()] - chosen.first
        edge = torch.arange(sizes.edges, device=place.device) + shift[chosen.owner]
        paid = logprob[edges.first].double()  # a difference of long sums follows
        before = torch.cumsum(paid, 0) - paid
        node_start = start.gather(1, queries.owner).flatten()[query]
        reach = (before - before[node_start]).float()
        return logprob[edge], torch.where(queries.count > 0, reach[last], 0.0), reach

    def _continuations(self, edges: Edges, logprob: Tensor, width: int) -> Continuations:
        """Hide what may not be shown and place the edges in rows."""
        found = Continuations.of(edges, logprob, self.num_rows, width)
        if not self.shown.hides:
            return found
        is_shown = self.shown.num_titles(found.row, found.child) > 0
        logprob = torch.where(is_shown, logprob, -torch.inf)
        if self.support == "catalogue":
            logprob = segment_log_softmax(logprob, edges.owner, len(edges.first))
            logprob = torch.where(is_shown, logprob, -torch.inf)
        return replace(found, logprob=logprob)


def take(values: Tensor, index: Tensor) -> Tensor:
    """Select along the second axis: values [B, N, X], index [B, K] -> [B, K, X]."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def edge_logprobs(lm: LanguageModel, hidden: Tensor, edges: Edges, support: Support) -> Tensor:
    if support == "catalogue":
        return lm.next_logprobs(hidden, edges)
    return lm.next_logprobs(hidden, None)[edges.owner, edges.token]


def _pad(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return prompts [B, P] padded on the right, their lengths [B] and bool [B, P]: real tokens."""
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    padded = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.int64)
    real = torch.arange(padded.shape[1]) < lengths[:, None]
    padded[real] = torch.tensor([token for prompt in prompts for token in prompt])
    return padded, lengths, real
