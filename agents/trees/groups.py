"""Groups of titles laid out as trees: what one forward pass must read to score them. NumPy only.

One tree a prompt: the prompt once, then the part of the catalogue's trie that the group's titles
run through. Under `support="catalogue"` only what decides is kept: a token is scored only where two
or more are legal, nothing after a title's last decision is read, and the head is computed only on
the rows of legal tokens. Titles hidden from a prompt are illegal for it, and a node all of whose
titles are hidden is no choice.
"""

# B prompts, G titles each, N = B * G, L tokens of the longest title, T kept tokens of a title,
# S nodes of a tree, M slots after which something is chosen, E tokens that are scored there.

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from agents.trees.pack import Trees
from agents.types import Support
from rere_env.catalogue import TitleTokens
from rere_env.prompts import Prompts
from rere_env.trie import ShownTitles, Trie
from rere_env.types import NO_TITLE, BoolArray, IntArray

__all__ = ["GroupTrees", "group_sizes", "longest_kept", "num_kept", "plan_groups"]

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupTrees:
    """The forward pass that scores B groups (the same for policy and reference).

    Attributes:
        support: What the probabilities are normalised over.
        trees: One tree a prompt.
        slots: [M] flattened tree slots after which a kept token is chosen, each once.
        nodes: [M] the trie node at each of those slots.
        owner: [E] ascending, the slot (0..M - 1) of each token that is scored: under "catalogue"
            all legal tokens, under "vocabulary" the chosen ones.
        token: [E] the model's id of that token.
        place: [B, G, T] which of the M slots each kept token follows, 0 in the padding.
        chosen: [B, G, T] which of the E tokens it is, 0 in the padding.
        mask: [B, G, T] True on kept tokens.

    One prompt of two tokens; "Star Quest" and "Star Quest 2" of twelve titles. Two tokens of each
    decide, both at the same two slots: the first word of five, and what follows "Quest" of three.
    So four nodes are read (the prompt, "Star", "Quest"), and eight tokens are scored:

    >>> from rere_env.worlds import copy_last
    >>> task = copy_last().task
    >>> plan = plan_groups(task.trie, task.title_tokens, Prompts([[1, 2]]), np.array([[0, 5]]))
    >>> plan.trees.sizes.tolist(), len(plan.slots), len(plan.token), plan.place.tolist()
    ([4], 2, 8, [[[0, 1], [0, 1]]])
    """

    support: Support
    trees: Trees
    slots: Int64
    nodes: Int64
    owner: Int64
    token: Int64
    place: Int64
    chosen: Int64
    mask: BoolArray


def plan_groups(
    trie: Trie,
    tokens: TitleTokens,
    prompts: Prompts,
    titles: IntArray,
    support: Support = "catalogue",
) -> GroupTrees:
    """Lay out the trees of B prompts with G titles each; `NO_TITLE` slots keep no token.

    Args:
        trie: The catalogue.
        tokens: Its titles as tokens.
        prompts: B prompts; none of the titles hidden from them may be in `titles`.
        titles: [B, G] title ids.
        support: Which tokens are kept: those that decide, or all.
    """
    paths = _Paths(trie, titles, support, ShownTitles(trie, prompts.hidden))
    lengths = prompts.lengths
    row, node = paths.read_nodes()
    trees = _grow(trie, tokens, prompts, row, node)

    # The slots after which something is chosen, by (row, node) in ascending order.
    mask = paths.keep
    key = (paths.row[:, None] * trie.num_nodes + paths.before)[mask]
    keys, place = np.unique(key, return_inverse=True)
    at_row, at_node = np.divmod(keys, trie.num_nodes)
    rank = np.searchsorted(_preorder(trie, row, node), _preorder(trie, at_row, at_node))
    rank -= np.searchsorted(row, at_row)
    slot = lengths[at_row] + np.where(at_node > 0, rank, -1)

    # The tokens scored there, ascending by (slot, child).
    own = place * trie.num_nodes + paths.nodes[mask]
    if support == "catalogue":
        owner, child = paths.shown.children(at_row, at_node)
        scored = owner * trie.num_nodes + child
    else:
        scored = np.unique(own)
        owner, child = np.divmod(scored, trie.num_nodes)

    # Kept tokens move to the front of each title: [B, G, T].
    count = mask.sum(axis=1).reshape(titles.shape)
    front = np.arange(max(int(count.max()), 1)) < count[..., None]
    return GroupTrees(
        support=support,
        trees=trees,
        slots=slot + at_row * trees.tokens.shape[1],
        nodes=at_node,
        owner=owner,
        token=tokens.to_model_ids(trie.tokens[child - 1]),
        place=_fill(front, place),
        chosen=_fill(front, np.searchsorted(scored, own)),
        mask=front,
    )


def group_sizes(
    trie: Trie,
    prompts: Prompts,
    titles: IntArray,
    support: Support = "catalogue",
) -> Int64:
    """Return the number of nodes of each tree that `plan_groups` would lay out, [B]."""
    paths = _Paths(trie, titles, support, ShownTitles(trie, prompts.hidden))
    row, _ = paths.read_nodes()
    return prompts.lengths + np.bincount(row, minlength=len(prompts))


def num_kept(
    trie: Trie,
    titles: IntArray,
    support: Support = "catalogue",
    prompts: Prompts | None = None,
) -> Int64:
    """Return how many tokens of each title [B, G] are kept, 0 for `NO_TITLE`.

    Args:
        trie: The catalogue.
        titles: [B, G] title ids.
        support: Which tokens are kept: those that decide, or all.
        prompts: B prompts, where titles are hidden from them.
    """
    shown = ShownTitles(trie, None if prompts is None else prompts.hidden)
    keep = _Paths(trie, titles, support, shown).keep
    count: Int64 = keep.sum(axis=1).reshape(titles.shape)
    return count


@lru_cache(maxsize=4)
def longest_kept(trie: Trie, support: Support = "catalogue") -> int:
    """Return the number of kept tokens of the catalogue's longest title, nothing hidden."""
    blocks = np.array_split(np.arange(trie.num_titles), -(-trie.num_titles // 65_536))
    return max(int(num_kept(trie, block[None], support).max()) for block in blocks)


class _Paths:
    """The titles as paths through the trie, and which of their tokens are kept.

    Attributes:
        row: [N] the prompt of each title.
        nodes: [N, L] the node that each token leads to, 0 past the end.
        before: [N, L] the node that it is chosen at.
        keep: [N, L] bool.
    """

    def __init__(self, trie: Trie, titles: IntArray, support: Support, shown: ShownTitles) -> None:
        """Follow every title; empty slots keep nothing."""
        flat = titles.reshape(-1)
        self.row = np.repeat(np.arange(len(titles)), titles.shape[1])
        self.shown = shown
        self.nodes = trie.paths(np.where(flat == NO_TITLE, 0, flat)).astype(np.int64)
        self.before = np.zeros_like(self.nodes)
        self.before[:, 1:] = self.nodes[:, :-1]
        self.keep = (self.nodes > 0) & (flat != NO_TITLE)[:, None]
        self._trie = trie
        leaf = trie.leaf_node[trie.title_leaf[flat]].astype(np.int64)
        if (is_hidden := (shown.num_titles(self.row, leaf) == 0) & (flat != NO_TITLE)).any():
            raise ValueError(
                f"title {flat[is_hidden][0]} is a candidate of prompt {self.row[is_hidden][0]} and "
                "hidden from it; give the sampler the same `Prompts`."
            )
        if support == "catalogue":
            self.keep &= self._decides()

    def _decides(self) -> BoolArray:
        """Say where two or more children are legal, [N, L]."""
        branching = self._trie.num_children(self.before) > 1
        key = (self.row[:, None] * self._trie.num_nodes + self.before)[branching]
        keys, where = np.unique(key, return_inverse=True)
        owner, _ = self.shown.children(*np.divmod(keys, self._trie.num_nodes))
        decides = np.zeros_like(branching)
        decides[branching] = (np.bincount(owner, minlength=len(keys)) > 1)[where]
        return decides

    def read_nodes(self) -> tuple[Int64, Int64]:
        """Return row and node of all that must be read after the prompts, each once, in pre-order.

        The last kept token of a title is predicted, never read.
        """
        is_read = np.logical_or.accumulate(self.keep[:, ::-1], axis=1)[:, ::-1]
        read = np.zeros_like(self.keep)
        read[:, :-1] = is_read[:, 1:]
        key = (self.row[:, None] * self._trie.num_nodes + self.nodes)[read]
        row, node = np.divmod(np.unique(key), self._trie.num_nodes)
        order = np.argsort(_preorder(self._trie, row, node))
        return row[order], node[order]


def _grow(trie: Trie, tokens: TitleTokens, prompts: Prompts, row: Int64, node: Int64) -> Trees:
    """Put trie nodes, in pre-order, below the prompts of their rows."""
    lengths = prompts.lengths
    num_nodes = np.bincount(row, minlength=len(prompts))
    sizes = lengths + num_nodes
    shape = (len(prompts), int(sizes.max()))
    column = np.arange(shape[1])
    in_prompt = column < lengths[:, None]
    in_nodes = ~in_prompt & (column < sizes[:, None])

    packed = np.zeros(shape, np.int64)
    packed[in_prompt] = np.fromiter((t for prompt in prompts.ids for t in prompt), np.int64)
    packed[in_nodes] = tokens.to_model_ids(trie.tokens[node - 1])
    positions = np.where(in_prompt, column, 0)
    positions[in_nodes] = lengths[row] + trie.depth(node) - 1
    # The descendants of a node are those up to the end of its interval of leaves.
    ends = np.where(in_prompt, sizes[:, None], column + 1)
    first = np.cumsum(num_nodes) - num_nodes
    past = np.searchsorted(
        row * (trie.num_titles + 1) + trie.lo[node], row * (trie.num_titles + 1) + trie.hi[node]
    )
    ends[in_nodes] = lengths[row] + past - first[row]
    return Trees(tokens=packed, positions=positions, ends=ends, sizes=sizes)


def _preorder(trie: Trie, row: Int64, node: Int64) -> Int64:
    """Return keys in whose order parents precede children, siblings ascend, rows stay apart."""
    return row * (trie.num_titles * trie.num_nodes) + trie.preorder(node)


def _fill(mask: BoolArray, values: Int64) -> Int64:
    """Return zeros with values where the mask is True."""
    filled = np.zeros(mask.shape, np.int64)
    filled[mask] = values
    return filled
