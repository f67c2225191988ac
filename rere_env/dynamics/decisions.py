"""Rows that move from decision to decision: what has no alternative is written unasked.

A token is forced if no other is legal. Most are: 97 % of the inner nodes of a trie of subword
titles have one child. Knows `Dynamics` and its rows; nothing of Gymnasium.

Legend: N rows held, n rows asked for.
"""

from dataclasses import fields, replace
from typing import Any

import numpy as np

from rere_env.dynamics.groups import GroupedDynamics
from rere_env.dynamics.rows import ALL, Allowed, Int64, Outcome, Rows, Transition
from rere_env.dynamics.transition import Dynamics
from rere_env.ragged import offsets, owners, stretches
from rere_env.trie import EOS
from rere_env.types import BoolArray, IntArray

__all__ = ["Decisions"]


class Decisions:
    """The dynamics with forced tokens skipped, and actions that are always legal. Immutable."""

    def __init__(self, dynamics: Dynamics) -> None:
        """Look at the widest node: it needs the most actions.

        Raises:
            ValueError: The rows are grouped.
        """
        if isinstance(dynamics, GroupedDynamics):
            raise ValueError(
                f"forced tokens can be skipped only where rows are on their own; `group_size` "
                f"(={dynamics.group_size}) must be 1."
            )
        self.dynamics = dynamics
        self.num_actions = int(np.diff(dynamics.trie.first).max())

    def tokens(self, state: Rows, actions: IntArray, rows: IntArray | slice = ALL) -> IntArray:
        """Return the legal local token [n] that each action [n] stands for.

        Action k is child k of the node, modulo its full number of children, so that an action
        means the same whatever is hidden; a hidden child yields to the next legal one, cyclically.
        """
        trie, node = self.dynamics.trie, state.node[rows]
        edge = trie.first[node] + actions % trie.num_children(node)
        tokens: IntArray = trie.tokens[edge].astype(np.int64)
        hidden = np.flatnonzero(self.dynamics.num_remaining(state, edge + 1, rows) == 0)
        if len(hidden):
            ids = np.arange(len(state))[rows][hidden]
            tokens[hidden] = _next_cyclically(self.dynamics.allowed(state, ids), tokens[hidden])
        return tokens

    def forced(self, state: Rows, rows: IntArray | slice = ALL) -> IntArray:
        """Return the only legal local token of each unfinished row, -1 where there is a choice."""
        trie, node = self.dynamics.trie, state.node[rows]
        first = trie.first[node]
        tokens: IntArray = trie.tokens[first].astype(np.int64)
        many = np.flatnonzero(trie.num_children(node) > 1)
        if len(many) == 0:
            return tokens
        ids = np.arange(len(state))[rows][many]
        all_of_them = self.dynamics.num_remaining(state, node[many], ids)
        below_first = self.dynamics.num_remaining(state, first[many] + 1, ids)
        tokens[many[below_first < all_of_them]] = -1
        unknown = np.flatnonzero(below_first == 0)  # another child has all of them, or several do
        if len(unknown):
            indptr, legal = self.dynamics.allowed(state, ids[unknown])
            tokens[many[unknown]] = np.where(np.diff(indptr) == 1, legal[indptr[:-1]], -1)
        return tokens

    def ends(self, state: Rows, tokens: IntArray, rows: IntArray | slice = ALL) -> BoolArray:
        """Say in which rows a legal token would be the last of the episode."""
        rules, budget = self.dynamics.rules, self.dynamics.max_tokens
        last: BoolArray = (tokens == EOS) & (state.slot[rows] == rules.slate_size - 1)
        if budget is not None:
            last |= state.num_tokens[rows] + 1 >= budget
        return last

    def start(self, state: Rows, examples: IntArray, rows: IntArray | slice = ALL) -> None:
        """Begin a new episode in each row and write up to its first decision.

        Where there is nothing to decide in a whole episode, its last token is left to be asked
        for: an episode has at least one step.
        """
        self.dynamics.start(state, examples, rows)
        live = np.arange(len(state))[rows]
        while len(live):
            self._follow_chains(state, live)
            tokens = self.forced(state, live)
            going = (tokens >= 0) & ~self.ends(state, tokens, live)
            live, tokens = live[going], tokens[going]
            if len(live):
                self.dynamics.step(state, tokens, live)  # legal and not the last: pays nothing

    def step(self, state: Rows, tokens: IntArray, rows: IntArray | slice = ALL) -> Transition:
        """Write a token in each of n rows and all that is forced after it; a finished one stays.

        Returns:
            The sum of the rewards, and whether and how the episode ended on the way.
        """
        moved = self.dynamics.step(state, tokens, rows)
        outcomes = [moved.outcome]
        ids = np.arange(len(state))[rows]
        live = np.flatnonzero(~state.finished[ids])  # of the n rows
        while len(live):
            self._follow_chains(state, ids[live])
            tokens = self.forced(state, ids[live])
            live, tokens = live[tokens >= 0], tokens[tokens >= 0]
            if len(live) == 0:
                break
            more = self.dynamics.step(state, tokens, ids[live])
            moved.reward[live] += more.reward
            moved.terminated[live], moved.truncated[live] = more.terminated, more.truncated
            outcomes.append(_at(more.outcome, live))
            live = live[~state.finished[ids[live]]]
        return moved._replace(outcome=_joined([found for found in outcomes if found is not None]))

    def _follow_chains(self, state: Rows, ids: Int64) -> None:
        """Write runs of forced tokens inside the trie at once, up to an EOS or a choice.

        An EOS closes a title and may end the episode: it is left to `Dynamics.step`, and so is a
        run that the token budget would cut.
        """
        trie, titles = self.dynamics.trie, self.dynamics.task.title_tokens
        node = state.node[ids]
        end, length = trie.chain_end[node], trie.chain_len[node].astype(np.int64)
        closes = trie.is_leaf(end)
        end = np.where(closes, trie.parents(end), end)
        length -= closes
        if self.dynamics.max_tokens is not None:
            length[state.num_tokens[ids] + length >= self.dynamics.max_tokens] = 0
        runs = np.flatnonzero(length)
        if len(runs) == 0:
            return
        ids, node, end, length = ids[runs], node[runs], end[runs], length[runs]
        # A run is a stretch of any title below the node.
        start = titles.indptr[trie.titles(node)]
        indptr = offsets(length)
        row, place = owners(indptr), stretches(state.depth[ids], indptr)
        state.prefix[ids[row], place] = titles.tokens[start[row] + place]
        state.node[ids] = end
        state.depth[ids] += length
        state.num_tokens[ids] += length


def _next_cyclically(allowed: Allowed, wanted: IntArray) -> IntArray:
    """Return the first legal token from the wanted one on, or the first of all if none follows."""
    counts = np.diff(allowed.indptr)
    before = allowed.tokens < np.repeat(wanted, counts)
    skipped = np.add.reduceat(before.astype(np.int64), allowed.indptr[:-1])
    tokens: IntArray = allowed.tokens[allowed.indptr[:-1] + skipped % counts]
    return tokens


def _at(outcome: Outcome | None, rows: Int64) -> Outcome | None:
    """Return the outcome of some rows as one of all rows."""
    return None if outcome is None else replace(outcome, rows=rows[outcome.rows])


def _joined(outcomes: list[Outcome]) -> Outcome | None:
    """Return several outcomes as one, by ascending row."""
    if len(outcomes) < 2:
        return outcomes[0] if outcomes else None
    order = np.argsort(np.concatenate([outcome.rows for outcome in outcomes]))

    def join(values: list[Any]) -> Any:  # noqa: ANN401 - arrays, dicts of them, or nothing
        if values[0] is None:
            return None
        if isinstance(values[0], dict):
            return {key: join([value[key] for value in values]) for key in values[0]}
        return np.concatenate(values)[order]

    names = [field.name for field in fields(Outcome)]
    return Outcome(**{name: join([getattr(found, name) for found in outcomes]) for name in names})
