"""Checks to run on an algorithm of your own: may it stand in the comparison table?

    from agents.testing import check_algorithm

    check_algorithm(MyAlgorithm())        # or "my_package:MyAlgorithm", or a registered name

A check passes in silence, or raises an AssertionError that says the rule, the value and the
remedy. Those that need no torch are in `rere_env.testing`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps

import numpy as np
from numpy.typing import NDArray

from agents.budget import Budget
from agents.randomness import own_generators
from agents.registry import Algorithm, find_algorithm
from agents.rere.config import ReReConfig
from agents.testing.sources import TianshouSource, VecEnvSource, check_same_episodes
from agents.training.budgeted import PolicyAlgorithm, as_algorithm
from rere_env.rewards import WeightedSum, weighted_sum
from rere_env.task import Task
from rere_env.testing import check_recommender, some_examples
from rere_env.types import BATCH_COLUMNS, BatchLike, FloatArray, IntArray, Recommender, Reward
from rere_env.worlds import copy_last

__all__ = ["TianshouSource", "VecEnvSource", "check_algorithm", "check_same_episodes"]

SLACK_SLATES = 1024
"""Slates that may be scored beyond the budget: those of a rollout that had begun."""

SLACK_SECONDS = 2.0
"""Time that training may take beyond one and a half budgets: to set up, and to finish a step."""


def check_algorithm(
    algorithm: Algorithm | ReReConfig | str,
    task: Task | None = None,
    *,
    budget: Budget | None = None,
    seconds: float = 1.0,
    slates_per_step: int = 1,
    k: int = 5,
    split: str = "test",
    seed: int = 0,
) -> None:
    """Check that an algorithm trains as the protocol says.

    It is trained three times, on a task that lacks the split it is asked about afterwards. The
    rules: `train(task, budget, *, seed)` returns a recommender that passes `check_recommender`;
    two runs with the same seed give the same lists, whatever the global generators of Python,
    NumPy and torch hold (another seed may give others); the task is left as it is; the budget is
    kept. Of `steps`, that no more slates are scored by `task.reward` than steps, and 1024 for a
    rollout under way. Of `seconds`, that no more than half of them are added, and 2 s.

    Args:
        algorithm: Something with `train`, the choices of an agent that trains a language model, or
            a name as `--algorithm` takes it.
        task: Default: `rere_env.worlds.copy_last()`.
        budget: Of the two equal runs; in steps only, since equal times are not equal runs.
            Default: 2048 steps.
        seconds: Budget of the third run, of processor time.
        slates_per_step: Slates that a step scores: 1 where the environment is stepped, B x G where
            a step is one of the optimiser.
        k: Titles a list.
        split: Where the lists are compared.
        seed: Of the two equal runs; the third has the next one.

    Raises:
        AssertionError: A rule is broken.
        TypeError: It is no algorithm.
        ValueError: The budget has seconds, or nothing has that name.
    """
    learner, task = _find(algorithm), task or copy_last().task
    budget = budget or Budget(steps=2048)
    num_steps = _only_steps(budget)
    count = _Count()
    trained_on = _without(_counting(task, count), split)
    name = algorithm if isinstance(algorithm, str) else type(learner).__name__

    def train(budget: Budget, seed: int, others: int) -> Recommender:
        with own_generators(others), _untouched(trained_on, name):
            return learner.train(trained_on, budget, seed=seed)

    first = train(budget, seed, others=1)
    allowed = num_steps * slates_per_step + SLACK_SLATES
    if count.slates > allowed:
        raise AssertionError(
            f"{name}.train must keep its budget of {num_steps} steps, but {count.slates} slates "
            f"were scored, more than {allowed}. Ask `budget.start().over(steps)` after every "
            "rollout, and let no rollout be longer than the budget."
        )
    check_recommender(first, task, k=k, split=split, seed=seed)
    _check_same_lists(name, task, split, k, first, train(budget, seed, others=2))

    started = time.process_time()
    third = train(Budget(seconds=seconds, clock=time.process_time), seed + 1, others=3)
    spent = time.process_time() - started
    if spent > 1.5 * seconds + SLACK_SECONDS:
        raise AssertionError(
            f"{name}.train must keep its budget of {seconds} s, but took {spent:.1f} s of "
            "processor time. Start a meter by `budget.start()` and stop when `meter.over(steps)`."
        )
    check_recommender(third, task, k=k, split=split, seed=seed)


def _only_steps(budget: Budget) -> int:
    if budget.seconds is not None or budget.steps is None:
        raise ValueError(
            f"`budget` (={budget}) must be of `steps` alone: runs of equal time are not equal; "
            "`seconds` is the budget of the run that is timed."
        )
    return budget.steps


@dataclass(slots=True)
class _Count:
    slates: int = 0


def _find(algorithm: Algorithm | ReReConfig | str) -> Algorithm:
    made: object = algorithm
    if isinstance(algorithm, str):
        made = as_algorithm(find_algorithm(algorithm))
    elif isinstance(algorithm, ReReConfig):
        made = PolicyAlgorithm(config=algorithm)
    if isinstance(made, type) or not isinstance(made, Algorithm):
        raise TypeError(
            f"`algorithm` (={algorithm!r}) must have `train(task, budget, *, seed)`, and be an "
            "object, not its class."
        )
    return made


def _counting(task: Task, count: _Count) -> Task:
    """Return the same task under the same reward, which counts the slates it scores."""

    def counted(term: Reward) -> Reward:
        @wraps(term)
        def reward(titles: IntArray, batch: BatchLike) -> FloatArray:
            count.slates += len(titles)
            return term(titles, batch)

        return reward

    if isinstance(task.reward, WeightedSum):  # whose terms keep their names
        (weight, first), *others = task.reward.terms
        return task.with_reward(weighted_sum((weight, counted(first)), *others))
    return task.with_reward(counted(task.reward))


def _without(task: Task, split: str) -> Task:
    """Return a task that lacks a split, as training has no business with it."""
    if split == "train":
        return task
    splits = {name: batch for name, batch in task.splits.items() if name != split}
    return replace(task, dataset=replace(task.dataset, splits=splits))


@contextmanager
def _untouched(task: Task, name: str) -> Iterator[None]:
    """Check that the arrays of a task are the same afterwards."""
    before = {what: values.copy() for what, values in _arrays(task)}
    yield
    after = dict(_arrays(task))
    for what, values in before.items():
        if what not in after or not np.array_equal(values, after[what]):
            raise AssertionError(
                f"{name}.train must leave the task as it is, but has changed {what}; every agent "
                "of a table learns from the same one. Work on a copy."
            )


def _arrays(task: Task) -> Iterator[tuple[str, NDArray[np.generic]]]:
    for name, batch in task.splits.items():
        for field in BATCH_COLUMNS:
            yield f'`{field}` of split("{name}")', getattr(batch, field)
    yield "the titles of items", task.catalogue.item_title
    yield "the tokens of titles", task.title_tokens.tokens
    yield "the tokens of the trie", task.trie.tokens


def _check_same_lists(
    name: str, task: Task, split: str, k: int, first: Recommender, second: Recommender
) -> None:
    examples = some_examples(task, split, 64, np.random.default_rng(0))
    a, b = (recommender.recommend(examples, k) for recommender in (first, second))
    if not np.array_equal(a, b):
        differ = int((np.asarray(a) != np.asarray(b)).any(axis=1).sum())
        raise AssertionError(
            f"{name}.train must learn the same from the same seed, but {differ} of {len(a)} lists "
            "of two runs differ. Make every generator from `seed`, that of the weights too: the "
            "global ones held something else in the second run."
        )
