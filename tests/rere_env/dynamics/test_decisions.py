"""`Decisions`: forced tokens are written unasked, over arrays of rows."""

import numpy as np
import pytest

from rere_env import EOS, Dynamics, Rules
from rere_env.dynamics.decisions import Decisions

STAR, QUEST, II, FARM, MOON, RACER, DELUXE, EDITION, DOG, SHOW, PINBALL = range(1, 12)
"""The local tokens of the eight titles."""


def started(task, num_rows, **rules):
    """Decisions and rows that answer example 0."""
    decisions = Decisions(Dynamics(task, "train", Rules(**rules)))
    rows = decisions.dynamics.new_rows(num_rows)
    decisions.start(rows, np.zeros(num_rows, np.int64))
    return decisions, rows


def test_the_widest_node_sets_the_number_of_actions(tiny_task):
    """The root, with four children."""
    assert started(tiny_task, 1, slate_size=1)[0].num_actions == 4


def test_a_token_is_forced_where_no_other_is_legal(tiny_task):
    """Inside a chain, and at a branching node that has one branch left."""
    decisions, rows = started(tiny_task, 3, slate_size=2)
    only = np.array([2])
    decisions.step(rows, np.array([PINBALL]), only)
    decisions.step(rows, np.array([EOS]), only)  # one of the two titles that begin so is written
    decisions.dynamics.step(rows, np.array([DOG, PINBALL, PINBALL]))
    assert decisions.forced(rows).tolist() == [SHOW, -1, STAR]


def test_the_last_token_of_an_episode_is_told(tiny_task):
    """The end of the last title, or any token that exhausts the budget."""
    decisions, rows = started(tiny_task, 2, slate_size=1, max_tokens=3)
    decisions.dynamics.step(rows, np.array([PINBALL, MOON]))
    assert decisions.ends(rows, np.array([EOS, RACER])).tolist() == [True, False]
    decisions.dynamics.step(rows, np.array([STAR, RACER]))
    assert decisions.ends(rows, np.array([EOS, DELUXE])).tolist() == [True, True]


def test_a_run_goes_to_the_next_decision(tiny_task):
    """After "Dog" its "Show" and its end; prefix, depth and count go along."""
    decisions, rows = started(tiny_task, 2, slate_size=2)
    moved = decisions.step(rows, np.array([DOG, MOON]))
    assert not (moved.terminated | moved.truncated | moved.illegal).any()
    assert rows.slate.tolist() == [[6, 0], [0, 0]]
    assert rows.prefix.tolist() == [[0, 0, 0, 0], [MOON, RACER, 0, 0]]
    assert rows.depth.tolist() == [0, 2]
    assert rows.num_tokens.tolist() == [3, 2]


def test_outcomes_of_one_step_are_joined_by_row(tiny_task):
    """Rows that end at different tokens of their runs are reported together, ascending."""
    decisions, rows = started(tiny_task, 3, slate_size=1)
    decisions.step(rows, np.array([MOON, PINBALL, STAR]))
    moved = decisions.step(rows, np.array([DELUXE, EOS, FARM]))
    assert moved.terminated.tolist() == [True, True, True]
    assert moved.outcome.rows.tolist() == [0, 1, 2]
    assert moved.outcome.slate[:, 0].tolist() == [4, 6, 2]
    assert moved.outcome.reward_terms["hit"].tolist() == [0.0, 0.0, 1.0]
    assert moved.reward.tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("rows", [slice(None), np.array([2, 0])])
def test_some_rows_can_be_moved_alone(tiny_task, rows):
    """The others stay as they were."""
    decisions, state = started(tiny_task, 3, slate_size=2)
    before = state.prefix.copy()
    decisions.step(state, np.full(len(np.arange(3)[rows]), MOON), rows)
    moved = np.isin(np.arange(3), np.arange(3)[rows])
    assert (state.prefix[moved, 0] == MOON).all()
    np.testing.assert_array_equal(state.prefix[~moved], before[~moved])


def test_the_rewards_of_a_run_are_summed(task_of):
    """An illegal token that does nothing costs its price, and the run after it pays as well."""
    task = task_of(["Moon Racer"], [((0,), 0)])
    decisions, rows = started(task, 1, slate_size=1, on_illegal="noop")
    moved = decisions.step(rows, np.array([-1]))
    assert moved.terminated.tolist() == [True]
    assert moved.reward.tolist() == [0.0]  # -1 for the illegal token, 1 for the hit
