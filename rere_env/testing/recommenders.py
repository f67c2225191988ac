"""Checks to run on a recommender of your own: does it keep the rules that `evaluate` relies on?

    from rere_env.testing import check_recommender
    from rere_env.worlds import copy_last

    task = copy_last().task
    check_recommender(MyRecommender(task), task)

A check passes in silence, or raises an AssertionError that says the rule, the value and the
remedy. NumPy only; knows nothing of how a list is made. The checks of episodes are in
`rere_env.testing.episodes` and have their names here too.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rere_env.task import Task
from rere_env.testing.episodes import (
    ActionScores,
    EpisodeSource,
    Moment,
    Transcript,
    check_same_episodes,
    hashed_policy,
)
from rere_env.types import BATCH_COLUMNS, NO_TITLE, Batch, BoolArray, Recommender

__all__ = [
    "ActionScores",
    "EpisodeSource",
    "Moment",
    "Transcript",
    "check_recommender",
    "check_same_episodes",
    "hashed_policy",
    "some_examples",
]

# B examples, k titles a list.

Int64 = NDArray[np.int64]


def check_recommender(
    recommender: Recommender,
    task: Task,
    *,
    k: int = 10,
    num_examples: int = 32,
    split: str = "test",
    deterministic: bool = True,
    seed: int = 0,
) -> None:
    """Check that a recommender answers as the protocol says.

    The rules: integer title ids [B, k]; distinct and legal; no title that `task.exclude` hides;
    `NO_TITLE` at the end only, and only where fewer than k titles may be shown; the examples are
    left as they are; k = 1 and k beyond the catalogue work. If it is deterministic: the same
    lists when asked again, in another order, in other batches, and for other targets.

    Args:
        recommender: Asked about ten times; twice for more titles than there are.
        task: Its task: catalogue, examples and filter. Small worlds: `rere_env.worlds`.
        k: Titles a list.
        num_examples: B, drawn from the split.
        split: Name of the split.
        deterministic: False: it may answer by chance, so answers are not compared.
        seed: Of the draw.

    Raises:
        AssertionError: A rule is broken.
    """
    rng = np.random.default_rng(seed)
    examples = some_examples(task, split, num_examples, rng)
    titles = _ask(recommender, task, examples, k)
    _ask(recommender, task, examples, 1)
    _ask(recommender, task, examples.take(slice(2)), task.catalogue.num_titles + 3)
    if not deterministic:
        return

    def check(again: Int64, how: str, remedy: str) -> None:
        _check_same(recommender, titles, again, how, remedy)

    check(
        _ask(recommender, task, examples, k),
        "asked the same again",
        "let `recommend` draw nothing at random and learn nothing, or say `deterministic=False`",
    )
    order = rng.permutation(len(examples))
    mixed = _ask(recommender, task, examples.take(order), k)
    check(
        mixed[np.argsort(order)],
        "asked in another order",
        "let a list depend on its own row alone, not on its neighbours",
    )
    check(
        np.concatenate([_ask(recommender, task, part, k) for part in _uneven_batches(examples)]),
        "asked in batches of 1, 2 and the rest",
        "let a list depend on its own row alone, and break ties by title id",
    )
    check(
        _ask(recommender, task, _with_other_targets(examples, task), k),
        "asked with other targets",
        "do not read `target` or `target_title` in `recommend`: they are the answers",
    )


def some_examples(task: Task, split: str, num_examples: int, rng: np.random.Generator) -> Batch:
    """Return rows of a split, drawn without replacement, in their order; all if it has fewer."""
    rows = task.split(split)
    size = min(num_examples, len(rows))
    return rows.take(np.sort(rng.choice(len(rows), size, replace=False)))


def _ask(recommender: Recommender, task: Task, examples: Batch, k: int) -> Int64:
    """Return the answer [B, k] to a copy of the examples, once it has kept the rules of lists."""
    call = f"{type(recommender).__name__}.recommend(examples, k={k})"
    given = Batch(**{name: getattr(examples, name).copy() for name in BATCH_COLUMNS})
    answer: object = recommender.recommend(given, k)  # whatever it is, in spite of its type
    for name in BATCH_COLUMNS:
        if not np.array_equal(getattr(given, name), getattr(examples, name)):
            raise AssertionError(
                f"{call} must leave its arguments as they are, but has changed "
                f"`examples.{name}`; work on a copy."
            )
    shape = getattr(answer, "shape", None)
    if not isinstance(answer, np.ndarray) or shape != (len(examples), k):
        raise AssertionError(
            f"{call} must return an array of shape {(len(examples), k)}, one list an example; got "
            f"{type(answer).__name__} of shape {shape}. Pad short lists with NO_TITLE."
        )
    if answer.dtype.kind not in "iu":
        raise AssertionError(
            f"{call} must return integer title ids; got dtype {answer.dtype}. "
            "Use `.astype(np.int64)`, and NO_TITLE where there is no title."
        )
    titles = answer.astype(np.int64)
    _check_lists(titles, task, examples, call)
    return titles


def _check_lists(titles: Int64, task: Task, examples: Batch, call: str) -> None:
    """Check ids, repeats, hidden titles and padding, in this order."""
    num_titles, k = task.catalogue.num_titles, titles.shape[1]
    empty = titles == NO_TITLE

    def refuse(wrong: BoolArray, rule: str, remedy: str) -> None:
        if wrong.any():
            row = int(wrong.argmax())
            raise AssertionError(
                f"{call} {rule}; got {_shown(titles[row])} in row {row}, whose history is "
                f"{list(examples[row].history)}. {remedy}"
            )

    refuse(
        np.any((titles < NO_TITLE) | (titles >= num_titles), axis=1),
        f"must return title ids from 0 to {num_titles - 1}, or NO_TITLE ({NO_TITLE})",
        "Item ids become title ids by `task.catalogue.item_title[item]`.",
    )
    ordered = np.sort(titles, axis=1)
    repeats: BoolArray = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_TITLE)
    refuse(
        np.any(repeats, axis=1),
        "must return distinct titles in each list",
        "Where several items share a title, keep the best of them.",
    )
    num_shown = np.full(len(titles), num_titles)
    if (hidden := task.hidden(examples)) is not None:
        num_shown = num_titles - hidden.counts
        refuse(
            np.any(hidden.marks(titles, num_titles), axis=1),
            "must not return titles that the task hides",
            "Leave out `task.hidden(examples).of(row)`.",
        )
    refuse(
        (empty[:, :-1] & ~empty[:, 1:]).any(axis=1),
        "must have NO_TITLE at the end of a list only",
        "Move the titles to the front.",
    )
    expected = np.minimum(num_shown, k)
    refuse(
        (~empty).sum(axis=1) < expected,
        f"must fill its lists while there are titles to show (here {expected.min()} or more)",
        "Search wider, or go on with the most popular titles.",
    )


def _check_same(
    recommender: Recommender, titles: Int64, again: Int64, how: str, remedy: str
) -> None:
    differ = (titles != again).any(axis=1)
    if differ.any():
        row = int(differ.argmax())
        raise AssertionError(
            f"{type(recommender).__name__}.recommend must give the same lists when {how}, but "
            f"{int(differ.sum())} of {len(titles)} differ; row {row}: {_shown(titles[row])}, then "
            f"{_shown(again[row])}. Remedy: {remedy}."
        )


def _uneven_batches(examples: Batch) -> Sequence[Batch]:
    """Return the examples in batches of 1, 2 and the rest, without empty ones."""
    parts = (slice(0, 1), slice(1, 3), slice(3, None))
    return [part for part in map(examples.take, parts) if len(part)]


def _with_other_targets(examples: Batch, task: Task) -> Batch:
    """Return the same examples, each with the next item as its target."""
    target = (examples.target + 1) % task.catalogue.num_items
    return Batch(
        user=examples.user,
        history=examples.history,
        target=target,
        target_title=task.catalogue.item_title[target],
    )


def _shown(titles: Int64) -> str:
    """Return a list as text, cut after 20 titles."""
    rest = f" and {len(titles) - 20} more" if len(titles) > 20 else ""
    return f"{titles[:20].tolist()}{rest}"
