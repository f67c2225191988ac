"""A folder of tables to one catalogue and its samples by split.

Knows the folder layout, the protocols and the paper's selection. Knows nothing of file formats,
tokens or rewards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from rere_env.catalogue import Catalogue, DuplicatePolicy
from rere_env.data.records import (
    SPLIT_COLUMNS,
    Interactions,
    UserIds,
    read_interactions,
    read_items,
    read_split,
)
from rere_env.data.splits import Samples, chronological_splits, core_rows, leave_one_out_splits
from rere_env.data.tables import column_names, find_table, list_tables

__all__ = ["SPLITS", "Prefer", "Selection", "Source", "SplitProtocol", "read_source"]

SplitProtocol: TypeAlias = Literal["chronological", "leave_one_out"]
Prefer: TypeAlias = Literal["splits", "interactions"]

SPLITS = ("train", "valid", "test")
"""The splits that every data set has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the paper keeps of a log of interactions.

    Attributes:
        min_interactions: The k of the k-core: fewest interactions of a kept user or item.
        max_title_words: Most words of a kept title.
    """

    min_interactions: int = 5
    max_title_words: int = 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """What a folder held, before it becomes a `Dataset`.

    Attributes:
        catalogue: What can be recommended.
        splits: Samples by split, `train`, `valid` and `test` first.
        users: User key -> the index that the samples use.
        counts: What was read and left out.
    """

    catalogue: Catalogue
    splits: Mapping[str, Samples]
    users: UserIds
    counts: Mapping[str, int]


def read_source(
    folder: Path,
    *,
    history_length: int,
    protocol: SplitProtocol,
    duplicates: DuplicatePolicy,
    prefer: Prefer,
    selection: Selection | None = None,
) -> Source:
    """Read `items` and either a published split or `interactions`.

    Args:
        folder: Where the files are.
        history_length: H.
        protocol: How interactions are split; a published split is taken as it is.
        duplicates: What to do with items that share a title.
        prefer: Which of the two kinds to read where both are present.
        selection: For interactions; a published split is never filtered.
    """
    for name, value, legal in (
        ("protocol", protocol, get_args(SplitProtocol)),
        ("prefer", prefer, get_args(Prefer)),
    ):
        if value not in legal:
            raise ValueError(f"`{name}` (={value!r}) must be one of {list(legal)}.")
    if history_length < 1:
        raise ValueError(f"`history_length` (={history_length}) must be at least 1.")
    tables = list_tables(folder)
    items = find_table(folder, tables, "items")
    published = any(name in tables for name in SPLITS)
    if "interactions" in tables and (prefer == "interactions" or not published):
        return _read_interactions(
            items, tables["interactions"], history_length, protocol, duplicates, selection
        )
    if not published:
        find_table(folder, tables, "interactions", instead="train, valid and test")
    return _read_published(folder, tables, history_length, duplicates)


def _read_published(
    folder: Path, tables: Mapping[str, Path], history_length: int, duplicates: DuplicatePolicy
) -> Source:
    catalogue = read_items(tables["items"], duplicates=duplicates)
    paths = {name: find_table(folder, tables, name) for name in SPLITS}
    rest = tables.keys() - {"items", "interactions", *SPLITS}
    paths |= {name: tables[name] for name in sorted(rest) if _is_split(name, tables[name])}
    users: UserIds = {}
    return Source(
        catalogue=catalogue,
        splits={
            name: read_split(path, catalogue, users, history_length=history_length)
            for name, path in paths.items()
        },
        users=users,
        counts={"ignored_files": len(tables) - len(paths) - 1},
    )


def _is_split(name: str, path: Path) -> bool:
    # A file named like a split must be one: a misspelt column is an error, not another table.
    return name.startswith(SPLITS) or set(SPLIT_COLUMNS) <= set(column_names(path))


def _read_interactions(
    items: Path,
    path: Path,
    history_length: int,
    protocol: SplitProtocol,
    duplicates: DuplicatePolicy,
    selection: Selection | None,
) -> Source:
    # Suffixes are given after filtering, so that a dropped item leaves no gap.
    late = selection is not None and duplicates == "suffix"
    catalogue = read_items(items, duplicates="merge" if late else duplicates)
    users: UserIds = {}
    log = read_interactions(path, catalogue, users, need_timestamp=protocol == "chronological")
    counts = {"interactions": len(log.user)}
    if selection:
        catalogue, log, dropped = _filter(path, catalogue, log, selection, duplicates)
        counts |= dropped
    per_user = np.bincount(log.user)
    counts["single_interaction_users"] = int((per_user == 1).sum())
    if log.timestamp is not None and protocol == "chronological":
        splits = chronological_splits(
            log.user, log.item, log.timestamp, history_length=history_length
        )
    else:
        splits = leave_one_out_splits(
            log.user, log.item, log.timestamp, history_length=history_length
        )
    return Source(catalogue=catalogue, splits=splits, users=users, counts=counts)


def _filter(
    path: Path,
    catalogue: Catalogue,
    log: Interactions,
    selection: Selection,
    duplicates: DuplicatePolicy,
) -> tuple[Catalogue, Interactions, dict[str, int]]:
    num_words = np.array([len(title.split()) for title in catalogue.titles])
    fits = (num_words <= selection.max_title_words)[catalogue.item_title]  # [I]
    keep = fits[log.item]  # [E]
    num_fitting = int(keep.sum())
    keep[keep] = core_rows(log.user[keep], log.item[keep], selection.min_interactions)
    per_item = np.bincount(log.item[keep], minlength=catalogue.num_items)
    kept = fits & (per_item >= selection.min_interactions)
    if not keep.any():
        raise ValueError(
            f"{path}: none of {len(keep)} interactions passes `max_title_words` "
            f"(={selection.max_title_words}) and `min_interactions` "
            f"(={selection.min_interactions}); lower min_interactions or raise max_title_words."
        )
    dropped = {
        "dropped/long_title_items": int((~fits).sum()),
        "dropped/long_title_interactions": len(keep) - num_fitting,
        "dropped/rare_items": int((fits & ~kept).sum()),
        "dropped/rare_interactions": num_fitting - int(keep.sum()),
        "dropped/users": len(np.unique(log.user)) - len(np.unique(log.user[keep])),
    }
    old = np.flatnonzero(kept)
    smaller = Catalogue.from_items(
        [catalogue.item_keys[item] for item in old],
        [catalogue.titles[catalogue.item_title[item]] for item in old],
        duplicates=duplicates,
    )
    log = Interactions(
        user=log.user[keep],
        item=np.searchsorted(old, log.item[keep]).astype(np.int32),
        timestamp=None if log.timestamp is None else log.timestamp[keep],
    )
    return smaller, log, dropped
