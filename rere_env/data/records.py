"""Tables to items, interactions and samples, and back. Every bad value is found here.

Knows what the columns mean. Knows nothing of file formats, protocols or filters.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rere_env.catalogue import Catalogue, DuplicatePolicy
from rere_env.data.splits import NO_TIME, Samples
from rere_env.data.tables import Table, read_table, write_csv
from rere_env.ragged import offsets, owners
from rere_env.types import NO_ITEM, IntArray

__all__ = [
    "SPLIT_COLUMNS",
    "Interactions",
    "UserIds",
    "read_interactions",
    "read_items",
    "read_split",
    "write_items",
    "write_split",
]

SPLIT_COLUMNS = ("user_id", "history", "item_id", "timestamp")
"""What a published split must have."""

UserIds = dict[str, int]
"""User key -> index, by first appearance."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Interactions:
    """Who took what, when; the rows of a file in its order.

    Attributes:
        user: [E] int64 indices into the user keys.
        item: [E] int32 item ids.
        timestamp: [E] int64; None where the file has no times and its order is the order.
    """

    user: IntArray
    item: IntArray
    timestamp: IntArray | None


def read_items(path: Path, *, duplicates: DuplicatePolicy = "merge") -> Catalogue:
    """Read a catalogue from the columns item_id and title.

    Raises:
        ValueError: No item, an empty or repeated item id, an empty title, or a repeated title
            under `duplicates="error"`; the message names file, line and column.
    """
    table = read_table(path, ("item_id", "title"))
    keys, titles = table.columns["item_id"], table.columns["title"]
    _check_filled(table, "item_id", "give the item an id or remove the row")
    if (row := _first(not title.strip() for title in titles)) is not None:
        raise table.error(
            row,
            "title",
            f"the title of item {keys[row]!r} is empty (={titles[row]!r}); "
            "give it a title or remove the item.",
        )
    _check_distinct(table, "item_id", "item ids must be distinct; remove or rename one of the two.")
    if duplicates == "error":
        _check_distinct(
            table, "title", "use duplicates='merge' or 'suffix', or make the titles distinct."
        )
    try:
        return Catalogue.from_items(keys, titles, duplicates=duplicates)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_interactions(
    path: Path, catalogue: Catalogue, users: UserIds, *, need_timestamp: bool
) -> Interactions:
    """Read the columns user_id, item_id and timestamp; new users are added to `users`.

    Args:
        path: The file.
        catalogue: Knows every item id of the file.
        users: Grows.
        need_timestamp: Whether an empty timestamp is an error; else all or none may be empty.

    Raises:
        ValueError: A bad value; the message names file, line and column.
    """
    table = read_table(path, ("user_id", "item_id", "timestamp"))
    timestamp = _timestamps(table)
    empty = timestamp == NO_TIME
    if empty.any() and (need_timestamp or not empty.all()):
        raise table.error(
            int(empty.argmax()),
            "timestamp",
            "the timestamp is empty, but a chronological split needs every one; fill it in, or "
            "use protocol='leave_one_out' where the order of the file is the order of time."
            if need_timestamp
            else "the timestamp is empty, but other rows have one; fill in all or none.",
        )
    return Interactions(
        user=_user_ids(table, users),
        item=_item_ids(table, table.columns["item_id"], catalogue, lambda place: place),
        timestamp=None if empty.any() else timestamp,
    )


def read_split(path: Path, catalogue: Catalogue, users: UserIds, *, history_length: int) -> Samples:
    """Read a published split; new users are added to `users`.

    Raises:
        ValueError: A bad value, or a history of more than `history_length` items; the message
            names file, line and column.
    """
    table = read_table(path, SPLIT_COLUMNS)
    histories = [history.split() for history in table.columns["history"]]
    length = np.fromiter(map(len, histories), np.int64, len(histories))
    if length.max(initial=0) > history_length:
        row = int((length > history_length).argmax())
        raise table.error(
            row,
            "history",
            f"the history has {length[row]} items, more than `history_length` "
            f"(={history_length}); pass history_length={length.max()} (the longest of the file) "
            "or shorten the histories.",
        )
    filled = np.arange(history_length) < length[:, None]  # [B, H]
    history = np.full(filled.shape, NO_ITEM, np.int32)
    row_of = owners(offsets(length))
    history[filled] = _item_ids(
        table, list(chain(*histories)), catalogue, lambda place: int(row_of[place]), "history"
    )
    return Samples(
        user=_user_ids(table, users),
        history=history,
        target=_item_ids(table, table.columns["item_id"], catalogue, lambda place: place),
        timestamp=_timestamps(table),
        num_before=length,
    )


def write_items(path: Path, catalogue: Catalogue) -> None:
    """Write item_id and title as CSV."""
    titles = (catalogue.titles[title] for title in catalogue.item_title)
    write_csv(path, ("item_id", "title"), list(zip(catalogue.item_keys, titles, strict=True)))


def write_split(
    path: Path, samples: Samples, catalogue: Catalogue, user_keys: Sequence[str]
) -> None:
    """Write a published split as CSV."""
    keys = catalogue.item_keys
    rows = [
        (
            user_keys[user],
            " ".join([keys[item] for item in history if item != NO_ITEM]),
            keys[target],
            "" if timestamp == NO_TIME else timestamp,
        )
        for user, history, target, timestamp in zip(
            samples.user.tolist(),
            samples.history.tolist(),
            samples.target.tolist(),
            samples.timestamp.tolist(),
            strict=True,
        )
    ]
    write_csv(path, SPLIT_COLUMNS, rows)


def _first(flags: Iterable[bool]) -> int | None:
    return next((row for row, flag in enumerate(flags) if flag), None)


def _check_filled(table: Table, column: str, mend: str) -> None:
    if (row := _first(not value for value in table.columns[column])) is not None:
        raise table.error(row, column, f"the value is empty; {mend}.")


def _check_distinct(table: Table, column: str, mend: str) -> None:
    seen: dict[str, int] = {}
    for row, value in enumerate(table.columns[column]):
        if (first := seen.setdefault(value, row)) != row:
            raise table.error(
                row, column, f"{value!r} was used before ({table.place(first)}); {mend}"
            )


def _user_ids(table: Table, users: UserIds) -> NDArray[np.int64]:
    _check_filled(table, "user_id", "every row needs its user")
    keys = table.columns["user_id"]
    return np.fromiter((users.setdefault(key, len(users)) for key in keys), np.int64, len(keys))


def _item_ids(
    table: Table,
    keys: Sequence[str],
    catalogue: Catalogue,
    row_of: Callable[[int], int],
    column: str = "item_id",
) -> NDArray[np.int32]:
    ids = {key: item for item, key in enumerate(catalogue.item_keys)}
    items = np.fromiter(map(ids.get, keys, repeat(-1)), np.int32, len(keys))
    if (items < 0).any():
        place = int((items < 0).argmax())
        raise table.error(
            row_of(place),
            column,
            f"item id {keys[place]!r} is not among the {catalogue.num_items} items of the "
            f"catalogue (ids look like {catalogue.item_keys[0]!r}); add it to the items file or "
            "mend the row.",
        )
    return items


def _timestamps(table: Table) -> NDArray[np.int64]:
    values = table.columns["timestamp"]
    try:
        return np.fromiter(
            (int(value) if value else NO_TIME for value in values), np.int64, len(values)
        )
    except (ValueError, OverflowError):
        row = next(row for row, value in enumerate(values) if not _is_int64(value))
        raise table.error(
            row,
            "timestamp",
            f"{values[row]!r} is not an integer; write whole numbers, e.g. seconds since 1970.",
        ) from None


def _is_int64(value: str) -> bool:
    try:
        return not value or NO_TIME < int(value) < -NO_TIME
    except ValueError:
        return False
