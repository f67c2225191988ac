"""A recommender made of an agent that acts in the environment: beam search over its actions.

Any agent will do that gives scores to the actions of an observation: the same observations as the
environment's, the same actions, whichever library it was trained with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rere_env.task import Task
from rere_env.trie.shown import ShownTitles
from rere_env.types import NO_TITLE, Batch, BoolArray

__all__ = ["ActionScores", "EnvRecommender"]

# B examples, M prefixes of titles in the beams of all of them, E continuations, n actions.

Int64: TypeAlias = NDArray[np.int64]
Float64: TypeAlias = NDArray[np.float64]

ActionScores = Callable[[dict[str, Int64]], NDArray[np.floating]]
"""`{history [M, H], slate [M, K], prefix [M, L]} -> [M, n]`, logits or values of the actions."""


class EnvRecommender:
    """Ranks titles by what a beam search finds: the product of an agent's action probabilities.

    An agent acts by logits: the probabilities of the legal actions are their softmax. One that
    acts by values gets the same treatment, so `beam=1` is the greedy agent in either case.
    """

    def __init__(
        self,
        task: Task,
        score: ActionScores,
        *,
        decisions: bool = False,
        token_ids: Literal["local", "model"] = "local",
        slate_size: int = 1,
        beam: int = 50,
        values: bool = False,
        batch_size: int = 64,
    ) -> None:
        """Keep the agent.

        Args:
            task: Catalogue, trie and filter.
            score: Called with observations, their slates empty.
            decisions: The actions are those of `DecisionActions`.
            token_ids: How the environment names tokens.
            slate_size: K of the environment that the agent knows.
            beam: Width of the search; at least k beams are kept in any case but `beam=1`.
            values: The scores are values, so that of the actions which mean the same the best
                counts; for logits their probabilities are added. Matters for `decisions` only.
            batch_size: Examples searched together.
        """
        if decisions and token_ids == "model":
            raise ValueError('`token_ids` (="model") means nothing where `decisions` are made.')
        for name, value in (("beam", beam), ("slate_size", slate_size), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"`{name}` (={value}) must be at least 1.")
        self.task = task
        self.score = score
        self.decisions = decisions
        self.slate_size = slate_size
        self.beam = beam
        self.values = values
        self.batch_size = batch_size
        self._model_id = task.title_tokens.local_model if token_ids == "model" else None

    def recommend(self, examples: Batch, k: int) -> Int64:
        """Return title ids [B, k], best first, `NO_TITLE` where the beams hold no more."""
        titles = np.full((len(examples), k), NO_TITLE, np.int64)
        for start in range(0, len(examples), self.batch_size):
            rows = slice(start, start + self.batch_size)
            titles[rows] = self._search(examples.take(rows), k)
        return titles

    def _search(self, examples: Batch, k: int) -> Int64:
        trie = self.task.trie
        shown = ShownTitles(trie, self.task.hidden(examples))
        history = self._history(examples)
        width = self.beam if self.beam == 1 else max(self.beam, k)
        row = np.arange(len(examples))
        row = row[shown.num_titles(row, np.zeros_like(row)) > 0]
        beams = _Beams(row, np.zeros_like(row), np.zeros(len(row)), self._no_prefix(len(row)))
        while not (done := trie.is_leaf(beams.node)).all():
            live = beams.take(~done)
            if self.decisions:
                self._write_forced(live, shown)
                if trie.is_leaf(live.node).any():
                    beams = _joined(beams.take(done), live)
                    continue
            observation = {
                "history": history[live.row],
                "slate": np.zeros((len(live.row), self.slate_size), np.int64),
                "prefix": live.prefix,
            }
            grown = self._grow(live, shown, np.asarray(self.score(observation), np.float64))
            beams = _best(_joined(beams.take(done), grown), width)
        return self._lists(beams, len(examples), k)

    def _grow(self, live: "_Beams", shown: ShownTitles, scores: Float64) -> "_Beams":
        """Return every legal continuation of the live beams."""
        owner, child = shown.children(live.row, live.node)
        if scores.ndim != 2 or len(scores) != len(live.row):
            raise ValueError(
                f"`score` must return one row of scores for each of {len(live.row)} observations; "
                f"got shape {scores.shape}."
            )
        logit = self._child_scores(live.node[owner], owner, child, scores)
        first = np.searchsorted(owner, np.arange(len(live.row)))
        logit = logit - np.maximum.reduceat(logit, first)[owner]
        logprob = logit - np.log(np.add.reduceat(np.exp(logit), first))[owner]
        return live.follow(owner, child, self.task.trie.tokens[child - 1], logprob)

    def _child_scores(self, node: Int64, owner: Int64, child: Int64, scores: Float64) -> Float64:
        """Return the score [E] of the action, or actions, that lead to each child."""
        trie = self.task.trie
        if not self.decisions:
            token = trie.tokens[child - 1]
            action = token if self._model_id is None else self._model_id[token]
            found: Float64 = scores[owner, action]
            return found
        # Child c is meant by every action k with k modulo the number of children equal to c.
        count = trie.num_children(node).astype(np.int64)
        ordinal = child - 1 - trie.first[node]
        meaning = [scores[owner, ordinal]]
        for turn in range(1, -(-scores.shape[1] // int(count.min()))):
            action = ordinal + turn * count
            exists = action < scores.shape[1]
            value = scores[owner, np.where(exists, action, 0)]
            meaning.append(np.where(exists, value, -np.inf))
        combine = np.maximum if self.values else np.logaddexp
        combined: Float64 = combine.reduce(meaning)
        return combined

    def _write_forced(self, live: "_Beams", shown: ShownTitles) -> None:
        """Follow the only legal child as long as there is one, in place."""
        trie = self.task.trie
        while True:
            owner, child = shown.children(live.row, live.node)
            only = np.bincount(owner, minlength=len(live.row))[owner] == 1
            if not only.any():
                return
            live.write(owner[only], child[only], trie.tokens[child[only] - 1])

    def _lists(self, beams: "_Beams", num_rows: int, k: int) -> Int64:
        beams = _best(beams, k)
        titles = np.full((num_rows, k), NO_TITLE, np.int64)
        place = np.arange(len(beams.row)) - np.searchsorted(beams.row, beams.row)
        titles[beams.row, place] = self.task.trie.titles(beams.node)
        return titles

    def _history(self, examples: Batch) -> Int64:
        history = np.zeros((len(examples), self.task.history_length), np.int64)
        titles = self.task.catalogue.history_titles(examples.history)
        history[:, : titles.shape[1]] = titles
        return history

    def _no_prefix(self, num_rows: int) -> Int64:
        return np.zeros((num_rows, self.task.trie.max_length - 1), np.int64)


@dataclass(slots=True, eq=False)
class _Beams:
    """Prefixes of titles.

    Attributes:
        row: [M] example, ascending.
        node: [M] trie node.
        logprob: [M] float64.
        prefix: [M, L] local tokens, 0 = not yet.
    """

    row: Int64
    node: Int64
    logprob: Float64
    prefix: Int64

    def take(self, where: BoolArray | Int64) -> "_Beams":
        """Select beams."""
        return _Beams(self.row[where], self.node[where], self.logprob[where], self.prefix[where])

    def follow(
        self, owner: Int64, child: Int64, token: NDArray[np.int32], logprob: Float64
    ) -> "_Beams":
        """Return the beams `owner`, each with one token more."""
        grown = self.take(owner)
        grown.logprob = grown.logprob + logprob
        grown.write(np.arange(len(owner)), child, token)
        return grown

    def write(self, where: Int64, child: Int64, token: NDArray[np.int32]) -> None:
        """Write one token in some beams, in place. An EOS is never part of a prefix."""
        depth = np.count_nonzero(self.prefix[where], axis=1)
        goes_on = token > 0
        self.prefix[where[goes_on], depth[goes_on]] = token[goes_on]
        self.node[where] = child


def _joined(a: _Beams, b: _Beams) -> _Beams:
    return _Beams(
        np.concatenate([a.row, b.row]),
        np.concatenate([a.node, b.node]),
        np.concatenate([a.logprob, b.logprob]),
        np.concatenate([a.prefix, b.prefix]),
    )


def _best(beams: _Beams, width: int) -> _Beams:
    """Keep the most probable beams of each example, best first; equals in the trie's order."""
    order = np.lexsort((beams.node, -beams.logprob, beams.row))
    row = beams.row[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    return beams.take(order[place < width])
