"""Tiny worlds whose best possible score is known, one for each thing a learner can get wrong.

They ask whether an agent learns at all, so train, valid and test are the same rows. Every history
ends with the item that decides what comes next; the items before it are there to distract.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

import numpy as np

from rere_env.catalogue import Catalogue
from rere_env.data import Dataset
from rere_env.rewards import rank_weights
from rere_env.task import Task
from rere_env.types import Batch, IntArray

__all__ = [
    "WORLDS",
    "World",
    "copy_last",
    "fifty_items",
    "noisy_successor",
    "one_item",
    "ordered_slates",
    "successor",
    "tiny_titles",
]

BRANDS = ("Star", "Moon", "Iron", "Wild", "Deep")
NOUNS = ("Quest", "Racer", "Farm", "Keep", "Reef")
PARTS = ("", " 2", " Gold Edition", " 3", " 2 Gold Edition")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class World:
    """A task with its optimum.

    Attributes:
        name: What it is called in `WORLDS`.
        task: Three equal splits; reward `rere`.
        slate_size: K of an episode.
        hit_rate: Hit rate at 1 of the best possible agent.
        reward: Its mean reward a slate.
    """

    name: str
    task: Task
    slate_size: int
    hit_rate: float
    reward: float


def tiny_titles(num_titles: int) -> list[str]:
    """Return distinct titles of 2 to 5 words that share beginnings; some begin others.

    >>> tiny_titles(12)[::5]
    ['Star Quest', 'Star Quest 2', 'Star Quest Gold Edition']

    Raises:
        ValueError: More than 125 are wanted, or none.
    """
    titles = [f"{brand} {noun}{part}" for noun, part, brand in product(NOUNS, PARTS, BRANDS)]
    if not 1 <= num_titles <= len(titles):
        raise ValueError(f"`num_titles` (={num_titles}) must lie in [1, {len(titles)}].")
    return titles[:num_titles]


def one_item() -> World:
    """Make a shop that sells one thing: what cannot be missed must be hit."""
    return _world("one_item", 1, [1.0], lambda last: [last])


def copy_last(num_titles: int = 12) -> World:
    """Make users who want what they had last: is the history read, and written down again?"""
    return _world("copy_last", num_titles, [1.0], lambda last: [last])


def successor(num_titles: int = 12) -> World:
    """Make users who always want the successor of what they had last: is it remembered?"""
    after = _cycle(num_titles)
    return _world("successor", num_titles, [1.0], lambda last: [after[last]])


def noisy_successor(num_titles: int = 12) -> World:
    """Make users who want the successor four times of five: is luck told from skill?"""
    after = _cycle(num_titles)
    return _world("noisy_successor", num_titles, [0.8, 0.2], lambda last: _chain(after, last, 2))


def ordered_slates(num_titles: int = 12) -> World:
    """Make users with three wishes of unequal weight: is the slate written best first?"""
    after = _cycle(num_titles)
    return _world(
        "ordered_slates",
        num_titles,
        [0.6, 0.3, 0.1],
        lambda last: _chain(after, last, 3),
        slate_size=3,
    )


def fifty_items() -> World:
    """Make 400 users of 50 titles who want the successor of their last: does it scale a little?"""
    after = _cycle(50)
    return _world("fifty_items", 50, [1.0], lambda last: [after[last]], rows_per_title=8)


WORLDS: Mapping[str, Callable[[], World]] = MappingProxyType(
    {
        make.__name__: make
        for make in (one_item, copy_last, successor, noisy_successor, ordered_slates, fifty_items)
    }
)
"""Every world by name, from the easiest on."""


def _world(
    name: str,
    num_titles: int,
    shares: list[float],
    wishes: Callable[[int], list[int]],
    *,
    slate_size: int = 1,
    rows_per_title: int = 10,
    history_length: int = 3,
) -> World:
    """Build rows in which wish w of every last item has exactly its share."""
    titles = tiny_titles(num_titles)
    catalogue = Catalogue.from_items([f"item-{i}" for i in range(num_titles)], titles)
    counts = np.rint(np.array(shares) * rows_per_title).astype(int)
    last = np.repeat(np.arange(num_titles), rows_per_title)
    target = np.array([np.repeat(wishes(item), counts) for item in range(num_titles)]).ravel()
    # Where wishes differ, users who differ in their wish alone show the same history: it must not
    # pay to know a row by heart.
    per_history = rows_per_title if len(shares) > 1 else 1
    before = np.random.default_rng(0).integers(
        num_titles, size=(len(last) // per_history, history_length - 1)
    )
    rows = Batch(
        user=np.arange(len(last)),
        history=np.column_stack([np.repeat(before, per_history, axis=0), last]),
        target=target,
        target_title=catalogue.item_title[target],
    )
    dataset = Dataset(
        name=name,
        catalogue=catalogue,
        splits={"train": rows, "valid": rows, "test": rows},
        history_length=history_length,
        content_hash=f"{name}-{num_titles}",
        report={},
    )
    weights = rank_weights(slate_size)
    best = np.sort(shares)[::-1][:slate_size]
    return World(
        name=name,
        task=Task.build(dataset),
        slate_size=slate_size,
        hit_rate=float(best[0]),
        reward=float(best @ weights[: len(best)] / weights.sum()),
    )


def _cycle(num_titles: int) -> IntArray:
    """Return a successor for each title: one random cycle through all of them."""
    order = np.random.default_rng(1).permutation(num_titles)
    after = np.empty(num_titles, np.int64)
    after[order] = np.roll(order, -1)
    return after


def _chain(after: IntArray, item: int, length: int) -> list[int]:
    """Return the successor, its successor, and so on."""
    chain = []
    for _ in range(length):
        item = int(after[item])
        chain.append(item)
    return chain
