"""Grouped rows: G rows write one title each for the same user, and are scored together.

For group-relative policy gradients over hand-written loops. The reward is the very function that
scores a slate or a beam, over the group's titles in rank order. Knows the end of a group; the
moves of a row are those of `Dynamics`.

Legend: N rows, G rows a group, g groups that end, m = g G rows.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rere_env.dynamics.moves import Backend
from rere_env.dynamics.payoffs import score
from rere_env.dynamics.rows import ALL, Int64, Outcome, Rows, Rules, Transition
from rere_env.dynamics.transition import Dynamics
from rere_env.task import Task
from rere_env.types import NO_TITLE, BoolArray, FloatArray, IntArray

__all__ = ["GroupRows", "GroupedDynamics", "Sync"]

Sync = Literal["group", "batch"]
"""When a group ends: with its own last row, or all groups with the last row of all."""


@dataclass(slots=True, eq=False)
class GroupRows(Rows):
    """Rows that wait for their group: `finished` says that a row is, `ended` that its group is.

    Attributes:
        ended: [N] the row's group is over (or has not begun).
        illegal: [N] the row ended by an illegal token.
        cut: [N] the row ran out of tokens.
        score: [N] what ranks the row in its group, NaN where nothing was set.
    """

    ended: BoolArray
    illegal: BoolArray
    cut: BoolArray
    score: NDArray[np.float64]


class GroupedDynamics(Dynamics):
    """`Dynamics` of one title a row whose groups of G consecutive rows end in one step."""

    def __init__(
        self,
        task: Task,
        split: str,
        rules: Rules,
        *,
        group_size: int,
        sync: Sync = "group",
        backend: Backend = "numpy",
        num_rows: int,
    ) -> None:
        """Check the sizes.

        Raises:
            ValueError: The rows are no whole groups, a row would write more than one title, or
                `sync` is none of its choices.
        """
        if num_rows % group_size:
            raise ValueError(
                f"`num_envs` (={num_rows}) must be a multiple of `group_size` (={group_size})."
            )
        if rules.slate_size != 1:
            raise ValueError(
                f"`slate_size` (={rules.slate_size}) must be 1 with `group_size` (={group_size}): "
                "each row of a group writes one title."
            )
        if sync not in get_args(Sync):
            raise ValueError(f"`sync` (={sync!r}) must be one of {get_args(Sync)}.")
        super().__init__(task, split, rules, backend=backend, num_rows=num_rows)
        self.group_size, self.sync = group_size, sync

    def new_rows(self, num_rows: int) -> GroupRows:
        """Return rows that wait for their first `start`."""
        rows = super().new_rows(num_rows)
        none = np.zeros(num_rows, np.bool_)
        return GroupRows(
            **{name: getattr(rows, name) for name in Rows.__slots__},
            ended=~none,
            illegal=none,
            cut=none.copy(),
            score=np.full(num_rows, np.nan),
        )

    def start(self, state: Rows, examples: IntArray, rows: IntArray | slice = ALL) -> None:
        """Begin whole groups; the G rows of a group have the same example."""
        assert isinstance(state, GroupRows)
        super().start(state, examples, rows)
        state.ended[rows] = state.illegal[rows] = state.cut[rows] = False
        state.score[rows] = np.nan

    def over(self, state: Rows) -> BoolArray:
        """Return [N] the rows whose group is over: they wait for `start`."""
        assert isinstance(state, GroupRows)
        return state.ended

    def set_scores(self, state: GroupRows, rows: IntArray, scores: FloatArray) -> None:
        """Say what ranks rows in their groups, the highest first (sequence log-probabilities).

        Raises:
            ValueError: A score is not finite.
        """
        scores = np.asarray(scores, np.float64)
        if not np.isfinite(scores).all():
            raise ValueError("the scores of rows must be finite numbers: they rank a group.")
        state.score[rows] = scores

    def step(self, state: Rows, tokens: IntArray, rows: IntArray | slice = ALL) -> Transition:
        """Write one token in each unfinished row; a finished one waits, whatever its token.

        `rows` are whole groups. A group pays and ends in the step in which its last row does.
        """
        assert isinstance(state, GroupRows)
        if self.rules.on_illegal == "raise":
            self._refuse_illegal(state, tokens, rows)
        illegal, terminated, truncated, _ = self.moves.advance(state, tokens, rows)
        reward = np.zeros(len(illegal))
        if self.rules.on_illegal == "noop":
            reward[illegal] = self.rules.illegal_reward
        ids = np.arange(len(state))[rows]
        state.cut[ids[truncated]] = True
        state.illegal[ids[illegal & terminated]] = True

        groups: BoolArray = np.all(state.finished[ids].reshape(-1, self.group_size), axis=1)
        if self.sync == "batch" and not groups.all():
            groups = np.zeros_like(groups)
        over = np.repeat(groups, self.group_size) & ~state.ended[ids]
        ended = np.flatnonzero(over)
        cut = state.cut[ids]
        outcome = None
        if len(ended):
            outcome = self._finish_groups(state, ids[ended], ended)
            reward[ended] += np.where(
                state.illegal[ids[ended]],
                self.rules.illegal_reward,
                outcome.item_rewards.sum(axis=1),
            )
        return Transition(reward, over & ~cut, over & cut, illegal, outcome)

    def _finish_groups(self, state: GroupRows, ids: Int64, rows: Int64) -> Outcome:
        """Score whole groups in rank order."""
        size = self.group_size
        state.ended[ids] = True
        title = state.slate[ids, 0] - 1  # a row that wrote nothing has NO_TITLE
        title[state.illegal[ids]] = NO_TITLE
        order = _rank_order(state.score[ids].reshape(-1, size), ids)
        ranked = np.take_along_axis(title.reshape(-1, size), order, axis=1)  # [g, G]
        batch = self.examples.take(state.example[ids[::size]])
        rewards, terms = score(self.task.reward, ranked, batch)
        place = np.argsort(order, axis=1)  # of each row in its group

        def by_row(values: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.take_along_axis(values, place, axis=1).reshape(-1)

        legal = ~state.illegal[ids]
        target = np.repeat(batch.target_title, size).astype(np.int64)
        group_rank = (place + 1).reshape(-1)
        return Outcome(
            rows=rows,
            slate=title[:, None],
            item_rewards=np.where(legal, by_row(rewards), 0.0)[:, None],
            reward_terms={
                name: np.where(legal, by_row(values), 0.0) for name, values in terms.items()
            },
            target=target,
            target_rank=np.where(title == target, group_rank, 0),
            group_rank=group_rank,
        )


def _rank_order(scores: NDArray[np.float64], ids: Int64) -> Int64:
    """Return [g, G] the rows of each group, best first: by score, or as they stand without any.

    Raises:
        ValueError: Some rows of a group have a score and others none.
    """
    missing = np.isnan(scores)
    mixed = missing.any(axis=1) & ~missing.all(axis=1)
    if mixed.any():
        row = int(ids.reshape(scores.shape)[mixed][0, missing[mixed][0].argmax()])
        raise ValueError(
            f"row {row} has no score, but others of its group have; call `set_scores` for every "
            "row of a group, or for none (then the order of the rows is the rank)."
        )
    return np.argsort(-np.where(missing, 0.0, scores), axis=1, kind="stable")
