"""Which titles a user may not be shown: those of the history, those out of stock, or any others.

A filter hides titles, from everybody or from some examples. What the slate holds already is hidden
by the dynamics themselves. Knows catalogue, batches and the leaves of a trie; no tokens.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from rere_env.catalogue import Catalogue
from rere_env.ragged import offsets, owners, stretches
from rere_env.types import NO_ITEM, Batch, BoolArray, IntArray

__all__ = [
    "Combined",
    "Exclude",
    "Filter",
    "Hidden",
    "HideHistory",
    "HideItems",
    "OutOfStock",
    "find_filter",
    "hidden_titles",
]


@dataclass(frozen=True, slots=True, eq=False)
class Hidden:
    """Hidden titles: everybody's once, and each example's own ragged (CSR).

    Example i owns `indptr[i]:indptr[i + 1]`; what is hidden from everybody is among no example's
    own.

    Attributes:
        indptr: [B + 1] int64.
        titles: [total] int64 title ids, ascending and distinct within an example.
        everybody: [E] int64 title ids hidden from all examples, ascending and distinct.

    >>> hidden = Hidden.from_lists([[5, 2, 5], [], [7]], everybody=[5])
    >>> hidden.indptr.tolist(), hidden.titles.tolist(), hidden.take([2, 0]).of(1).tolist()
    ([0, 1, 1, 2], [2, 7], [2, 5])
    """

    indptr: IntArray
    titles: IntArray
    everybody: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def from_lists(cls, titles: Sequence[ArrayLike], everybody: ArrayLike = ()) -> "Hidden":
        """Return the titles of B lists and those hidden from everybody, in any order, with repeats.

        Raises:
            ValueError: An id is negative.
        """
        lists = [np.asarray(found, np.int64).reshape(-1) for found in titles]
        gone = np.asarray(everybody, np.int64).reshape(-1)
        if min(found.min(initial=0) for found in (gone, *lists)) < 0:
            raise ValueError("hidden titles must be title ids, from 0; leave out `NO_TITLE`.")
        row = owners(offsets(np.array([len(found) for found in lists], np.int64)))
        return _ragged(row, np.concatenate([*lists, np.zeros(0, np.int64)]), len(lists), gone)

    @classmethod
    def joined(cls, parts: Sequence["Hidden"]) -> "Hidden":
        """Return the rows of several, one after the other."""
        gone = parts[0].everybody
        if not all(np.array_equal(part.everybody, gone) for part in parts):
            gone = gone[:0]  # each of other tasks: what was everybody's becomes each one's own
            parts = [cls.from_lists([*map(part.of, range(part.num_rows))]) for part in parts]
        counts = np.concatenate([np.diff(part.indptr) for part in parts])
        return cls(offsets(counts), np.concatenate([part.titles for part in parts]), gone)

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.indptr) - 1

    @property
    def row(self) -> IntArray:
        """[total] which example each of `titles` is hidden from."""
        return owners(self.indptr)

    @property
    def counts(self) -> IntArray:
        """[B] how many titles are hidden from each example."""
        counts: IntArray = np.diff(self.indptr) + len(self.everybody)
        return counts

    def of(self, row: int) -> IntArray:
        """Return the titles hidden from one example, everybody's among them; ascending."""
        own = self.titles[self.indptr[row] : self.indptr[row + 1]]
        return np.sort(np.concatenate([own, self.everybody]))

    def take(self, rows: Sequence[int] | IntArray) -> "Hidden":
        """Select examples, in the order given."""
        first = self.indptr[:-1][rows]
        indptr = offsets(self.indptr[1:][rows] - first)
        return Hidden(indptr, self.titles[stretches(first, indptr)], self.everybody)

    def marks(self, titles: IntArray, num_titles: int) -> BoolArray:
        """Say which of some titles [B, K] are hidden from their example; others are not ids."""
        legal = (titles >= 0) & (titles < num_titles)
        cell = np.arange(len(titles))[:, None] * num_titles + np.where(legal, titles, 0)
        marked = np.isin(cell, self.row * num_titles + self.titles)
        if len(self.everybody):
            marked |= np.isin(titles, self.everybody)
        return marked & legal


@runtime_checkable
class Filter(Protocol):
    """Says which titles are hidden. One meaning everywhere: masks, search, loss, evaluation."""

    def from_all(self, catalogue: Catalogue) -> IntArray:
        """Return the title ids hidden from everybody, in any order."""
        ...

    def from_each(self, catalogue: Catalogue, batch: Batch) -> Hidden:
        """Return the title ids hidden from each example."""
        ...


class HideHistory:
    """Hide every title of which the user has had an item."""

    def from_all(self, catalogue: Catalogue) -> IntArray:
        """Return nothing."""
        return np.zeros(0, np.int64)

    def from_each(self, catalogue: Catalogue, batch: Batch) -> Hidden:
        """Return the titles of each history."""
        row, column = np.nonzero(batch.history != NO_ITEM)
        return _ragged(row, catalogue.item_title[batch.history[row, column]], len(batch))


class OutOfStock:
    """Hide, from everybody, the titles of which no item is left."""

    def __init__(self, item_keys: Iterable[str]) -> None:
        """Take the items that are not available, by the keys of the user's files."""
        self.item_keys = frozenset(item_keys)

    def from_all(self, catalogue: Catalogue) -> IntArray:
        """Return the titles whose items are all unavailable.

        Raises:
            KeyError: The catalogue has no such item.
        """
        gone = np.zeros(catalogue.num_items, np.bool_)
        gone[[catalogue.item_id(key) for key in self.item_keys]] = True
        left = np.bincount(catalogue.item_title[~gone], minlength=catalogue.num_titles)
        return np.flatnonzero(left == 0)

    def from_each(self, catalogue: Catalogue, batch: Batch) -> Hidden:
        """Return nothing."""
        return _nothing(len(batch))


class HideItems:
    """Hide the titles of any items that a function names for each example."""

    def __init__(self, items: Callable[[Batch], Sequence[IntArray]]) -> None:
        """Take a function `batch of B -> B arrays of item ids`."""
        self.items = items

    def from_all(self, catalogue: Catalogue) -> IntArray:
        """Return nothing."""
        return np.zeros(0, np.int64)

    def from_each(self, catalogue: Catalogue, batch: Batch) -> Hidden:
        """Return the titles of the named items.

        Raises:
            ValueError: Not one array an example, or an item id that the catalogue does not have.
        """
        items = [np.asarray(found, np.int64).reshape(-1) for found in self.items(batch)]
        if len(items) != len(batch):
            raise ValueError(
                f"`HideItems` got {len(items)} arrays of item ids for {len(batch)} examples; "
                "return one for each, empty where nothing is hidden."
            )
        flat = np.concatenate([*items, np.zeros(0, np.int64)])
        if len(flat) and not 0 <= flat.min() <= flat.max() < catalogue.num_items:
            raise ValueError(
                f"`HideItems` got item ids from {flat.min()} to {flat.max()}, but the catalogue "
                f"has 0..{catalogue.num_items - 1}; use `catalogue.item_id(key)`."
            )
        row = owners(offsets(np.array([len(found) for found in items], np.int64)))
        return _ragged(row, catalogue.item_title[flat], len(batch))


class Combined:
    """Hide what any of several filters hides."""

    def __init__(self, *filters: Filter) -> None:
        """Take the filters."""
        self.filters = filters

    def from_all(self, catalogue: Catalogue) -> IntArray:
        """Return the union."""
        found = [each.from_all(catalogue) for each in self.filters]
        return np.unique(np.concatenate([*found, np.zeros(0, np.int64)]))

    def from_each(self, catalogue: Catalogue, batch: Batch) -> Hidden:
        """Return the union by example."""
        found = [each.from_each(catalogue, batch) for each in self.filters]
        empty = np.zeros(0, np.int64)
        return _ragged(
            np.concatenate([*(hidden.row for hidden in found), empty]),
            np.concatenate([*(hidden.titles for hidden in found), empty]),
            len(batch),
            np.concatenate([*(hidden.everybody for hidden in found), empty]),
        )


Exclude: TypeAlias = str | Filter | Iterable[str] | None
"""`"history"`, a list of unavailable item keys, a `Filter`, or None."""


def find_filter(exclude: Exclude) -> Filter | None:
    """Return the filter that `exclude` asks for.

    Raises:
        ValueError: An unknown name.
    """
    if exclude is None or isinstance(exclude, Filter):
        return exclude
    if exclude == "history":
        return HideHistory()
    if isinstance(exclude, str):
        raise ValueError(
            f"`exclude` (={exclude!r}) must be None, 'history', a list of item keys that are out "
            "of stock, or a Filter."
        )
    return OutOfStock(exclude)


def hidden_titles(exclude: Filter, catalogue: Catalogue, batch: Batch) -> Hidden:
    """Return all titles that a filter hides from each example; O(hidden), and not for each."""
    own = exclude.from_each(catalogue, batch)
    gone = np.concatenate([exclude.from_all(catalogue), own.everybody])
    return _ragged(own.row, own.titles, len(batch), gone)


def _ragged(
    row: IntArray, title: IntArray, num_rows: int, everybody: IntArray | None = None
) -> Hidden:
    """Sort and make distinct the titles of each row, less everybody's."""
    gone = np.unique(np.zeros(0, np.int64) if everybody is None else everybody.astype(np.int64))
    if len(gone):
        own = ~np.isin(title, gone)
        row, title = row[own], title[own]
    size = int(title.max(initial=0)) + 1
    pairs = np.unique(row.astype(np.int64) * size + title)
    indptr = np.searchsorted(pairs // size, np.arange(num_rows + 1))
    return Hidden(indptr, pairs % size, gone)


def _nothing(num_rows: int) -> Hidden:
    return Hidden(np.zeros(num_rows + 1, np.int64), np.zeros(0, np.int64))
