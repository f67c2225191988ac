"""The one transition function, over arrays of rows. Knows nothing of Gymnasium, masks or text.

A row is one user and one slate in the making (`rere_env.rows`). Every function takes the rows it
is about, as positions or as a slice: `ReReEnv` is one row, `ReReVectorEnv` is N rows, and the
physics is written once.

Legend: N rows held, n rows asked for, m rows that end, H history, K slate, L prefix.
"""

import numpy as np
from numpy.typing import NDArray

from rere_env.rewards import reward_terms
from rere_env.rows import ALL, Allowed, Int64, Outcome, Rows, Rules, Transition
from rere_env.task import Task
from rere_env.trie import EOS
from rere_env.types import BoolArray, FloatArray, IntArray

__all__ = ["Dynamics"]


class Dynamics:
    """Episodes over the examples of one split. Immutable; the state lives in `Rows`."""

    def __init__(self, task: Task, split: str, rules: Rules) -> None:
        """Check that an episode is possible at all.

        Raises:
            ValueError: The slate is larger than the catalogue, or the split is unknown or empty.
        """
        self.task, self.rules, self.trie = task, rules, task.trie
        self.examples = task.split(split)
        if rules.slate_size > self.trie.num_titles:
            raise ValueError(
                f"`slate_size` (={rules.slate_size}) must be at most the number of distinct titles "
                f"({self.trie.num_titles}) in {task.dataset.name!r}; use "
                f"`slate_size={self.trie.num_titles}` or less."
            )
        width = self.examples.history.shape[1]
        if width > task.history_length:
            raise ValueError(
                f"the split {split!r} holds histories of {width} items but the data set declares "
                f"`history_length` (={task.history_length}); keep the last {task.history_length}."
            )
        self.max_prefix = self.trie.max_length - 1  # EOS is never part of a prefix
        # EOS alone follows the parent of the last, deepest leaf: where finished rows rest.
        self.resting_node = int(self.trie.parents(np.array([self.trie.num_nodes - 1]))[0])
        self.max_tokens = rules.max_tokens
        if rules.on_illegal == "noop" and self.max_tokens is None:
            self.max_tokens = 2 * rules.slate_size * self.trie.max_length
        # Item id -> title id + 1; the padding item -1 finds the 0 at the end.
        self._shown = np.append(task.catalogue.item_title.astype(np.int64) + 1, 0)

    def new_rows(self, num_rows: int) -> Rows:
        """Return rows that wait for their first `start`."""

        def zeros(*shape: int) -> Int64:
            return np.zeros((num_rows, *shape), np.int64)

        size = self.rules.slate_size
        return Rows(
            example=zeros(),
            history=zeros(self.task.history_length),
            slate=zeros(size),
            leaf=np.full((num_rows, size), -1, np.int32),
            prefix=zeros(self.max_prefix),
            slot=zeros(),
            depth=zeros(),
            node=np.full(num_rows, self.resting_node, np.int64),
            num_tokens=zeros(),
            finished=np.ones(num_rows, np.bool_),
        )

    def start(self, state: Rows, examples: IntArray, rows: IntArray | slice = ALL) -> None:
        """Begin a new episode in each row with the example given."""
        history = self.examples.history[examples]
        state.example[rows] = examples
        state.history[rows] = 0
        state.history[rows, : history.shape[1]] = self._shown[history]
        state.leaf[rows] = -1
        state.finished[rows] = False
        for column in (state.slate, state.prefix, state.slot, state.depth, state.node):
            column[rows] = 0
        state.num_tokens[rows] = 0

    def step(self, state: Rows, tokens: IntArray, rows: IntArray | slice = ALL) -> Transition:
        """Write one token in each of n unfinished rows.

        Args:
            state: Changed in place.
            tokens: [n] local token ids; any other integer is an illegal token.
            rows: Which rows.

        Raises:
            ValueError: A token is illegal under `on_illegal="raise"`; nothing was changed.
        """
        ids = np.arange(len(state))[rows]
        child = self._legal_child(state, tokens, ids)
        illegal = child < 0
        if self.rules.on_illegal == "raise" and illegal.any():
            self._refuse(state, tokens, ids, illegal)
        closes = (tokens == EOS) & ~illegal

        writes = np.flatnonzero(~closes & ~illegal)
        at = ids[writes]
        state.node[at] = child[writes]
        state.prefix[at, state.depth[at]] = tokens[writes]
        state.depth[at] += 1
        self._close_titles(state, ids[closes], child[closes])
        state.num_tokens[rows] += 1

        reward = np.where(illegal, self.rules.illegal_reward, 0.0)
        terminated = state.slot[rows] == self.rules.slate_size
        if self.rules.on_illegal == "terminate":
            terminated |= illegal
        truncated = np.zeros(len(ids), np.bool_)
        if self.max_tokens is not None:
            truncated = ~terminated & (state.num_tokens[rows] >= self.max_tokens)
        ended = np.flatnonzero(terminated | truncated)
        outcome = None
        if len(ended):
            outcome = self._finish(
                state, ids[ended], ended, void=illegal[ended] & terminated[ended]
            )
            reward[ended] += outcome.item_rewards.sum(axis=1)
        return Transition(reward, terminated, truncated, illegal, outcome)

    def allowed(self, state: Rows, rows: IntArray | slice = ALL) -> Allowed:
        """Return the legal local tokens of each row, ascending: never none, EOS if finished."""
        node = state.node[rows]
        indptr, tokens, _ = self.trie.children(node)
        row, edge = self._hidden_edges(state, rows)
        if len(row):
            keep = np.ones(len(tokens), np.bool_)
            keep[indptr[row] + edge - self.trie.first[node[row]]] = False
            tokens = tokens[keep]
            hidden = np.bincount(row, minlength=len(node))
            indptr = indptr - np.concatenate([[0], np.cumsum(hidden)])
        return Allowed(indptr, tokens)

    def mask(self, state: Rows, rows: IntArray | slice = ALL) -> NDArray[np.int8]:
        """Return the legal local tokens as a dense int8 [n, V]."""
        indptr, tokens = self.allowed(state, rows)
        mask = np.zeros((len(indptr) - 1, self.trie.num_tokens), np.int8)
        mask[np.repeat(np.arange(len(mask)), np.diff(indptr)), tokens] = 1
        return mask

    def remaining(self, state: Rows, row: int) -> tuple[IntArray, IntArray]:
        """Return the legal tokens of one row and how many titles remain below each."""
        tokens = self.allowed(state, np.array([row])).tokens
        if state.finished[row]:
            return tokens, np.zeros(len(tokens), np.int64)
        child = self.trie.step(np.repeat(state.node[row], len(tokens)), tokens)
        lo, hi, leaf = self.trie.lo[child], self.trie.hi[child], state.leaf[row]
        written = (leaf >= lo[:, None]) & (leaf < hi[:, None])
        return tokens, hi - lo - written.sum(axis=1)

    def _legal_child(self, state: Rows, tokens: IntArray, ids: Int64) -> IntArray:
        """Return the node behind each token, -1 where there is none or the slate has it all."""
        child = self.trie.step(state.node[ids], tokens)
        if self.rules.slate_size == 1:
            return child
        lo, hi = self.trie.lo[child], self.trie.hi[child]
        narrow = np.flatnonzero(hi - lo <= state.slot[ids])  # only these can be used up
        if len(narrow):
            leaf = state.leaf[ids[narrow]]
            lo, hi = lo[narrow, None], hi[narrow, None]
            used = ((leaf >= lo) & (leaf < hi)).sum(axis=1)
            child[narrow[used == (hi - lo)[:, 0]]] = -1
        return child

    def _hidden_edges(self, state: Rows, rows: IntArray | slice) -> tuple[Int64, Int64]:
        """Return (row, edge) of the children below which every title is in the slate already.

        Cost: the titles of the slate, not the children. Each title of the slate below a node lies
        below exactly one child; a child is hidden if as many lie there as it has leaves.
        """
        nothing = np.zeros(0, np.int64)
        if self.rules.slate_size == 1:  # nothing is ever excluded while the only title is written
            return nothing, nothing
        trie, node, leaf = self.trie, state.node[rows], state.leaf[rows]
        below = (leaf >= trie.lo[node][:, None]) & (leaf < trie.hi[node][:, None])
        below &= ~state.finished[rows][:, None]
        row, slot = np.nonzero(below)
        if len(row) == 0:
            return nothing, nothing
        edge = _edge_above(
            trie.lo, trie.first[node[row]], trie.first[node[row] + 1], leaf[row, slot]
        )
        pair, used = np.unique(row * np.int64(trie.num_nodes) + edge, return_counts=True)
        row, edge = pair // trie.num_nodes, pair % trie.num_nodes
        full = used == trie.hi[edge + 1] - trie.lo[edge + 1]
        return row[full], edge[full]

    def _close_titles(self, state: Rows, ids: Int64, leaf_nodes: IntArray) -> None:
        """Move finished titles into the slate."""
        if len(ids) == 0:
            return
        slot = state.slot[ids]
        state.slate[ids, slot] = self.trie.titles(leaf_nodes) + 1
        state.leaf[ids, slot] = self.trie.lo[leaf_nodes]
        state.slot[ids] += 1
        state.node[ids] = 0
        state.depth[ids] = 0
        state.prefix[ids] = 0

    def _finish(self, state: Rows, ids: Int64, rows: Int64, *, void: BoolArray) -> Outcome:
        """Score the slates of ended rows (`void`: by an illegal token) and lay the rows to rest."""
        state.finished[ids] = True
        state.node[ids] = self.resting_node
        slate = state.slate[ids] - 1  # an empty slot becomes NO_TITLE
        batch = self.examples.take(state.example[ids])
        rewards = self._score(slate, self.task.reward(slate, batch), void)
        terms = {
            name: self._score(slate, values, void).sum(axis=1)
            for name, values in reward_terms(self.task.reward, slate, batch).items()
        }
        is_target = slate == batch.target_title[:, None]
        rank = np.where(is_target.any(axis=1) & ~void, is_target.argmax(axis=1) + 1, 0)
        return Outcome(
            rows=rows,
            slate=slate,
            item_rewards=rewards,
            reward_terms=terms,
            target=batch.target_title.astype(np.int64),
            target_rank=rank.astype(np.int64),
        )

    def _score(self, slate: Int64, rewards: FloatArray, void: BoolArray) -> NDArray[np.float64]:
        if np.shape(rewards) != slate.shape:
            raise ValueError(
                f"the reward function returned shape {np.shape(rewards)} for titles of shape "
                f"{slate.shape}; it must return one number a title."
            )
        return np.where(void[:, None], 0.0, rewards).astype(np.float64)

    def _refuse(self, state: Rows, tokens: IntArray, ids: Int64, illegal: BoolArray) -> None:
        first = int(np.flatnonzero(illegal)[0])
        legal = self.allowed(state, ids[[first]]).tokens
        raise ValueError(
            f"action {int(tokens[first])} in row {int(ids[first])} continues no title that is not "
            f"in the slate; {len(legal)} local tokens would: {legal[:10].tolist()}... Sample from "
            "`action_masks()` or `candidates()`, or use on_illegal='terminate'."
        )


def _edge_above(lo: IntArray, first: IntArray, end: IntArray, leaf: IntArray) -> Int64:
    """Return the edge in `first:end` whose child's leaves hold each leaf (a search in `lo`)."""
    left, right = first.astype(np.int64), end.astype(np.int64)
    while (right - left > 1).any():
        middle = (left + right) // 2
        # An interval of one edge stays as it is: its middle is its left end, which holds the leaf.
        beyond = lo[middle + 1] <= leaf
        left, right = np.where(beyond, middle, left), np.where(beyond, right, middle)
        right = np.maximum(right, left + 1)
    return left
