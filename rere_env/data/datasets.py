"""Data sets: a catalogue and its examples by split, from a folder of files or to one.

Knows what data sets are made of. Knows nothing of file formats, tokens, prompts or rewards.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rere_env.catalogue import Catalogue, DuplicatePolicy
from rere_env.data.records import write_items, write_split
from rere_env.data.sources import Prefer, Selection, Source, SplitProtocol, read_source
from rere_env.types import Batch, IntArray, Probabilistic

__all__ = [
    "Dataset",
    "build_dataset",
    "check_empty",
    "dataset_of",
    "load_dataset",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """A catalogue and the examples of each split.

    Attributes:
        name: The folder's name, or `games`.
        catalogue: What can be recommended.
        splits: `train`, `valid`, `test`, then any other.
        history_length: H, the width of every history.
        content_hash: sha256 over catalogue and splits; the file format does not matter.
        report: Counts of what was read, made, cut and left out.
        oracle: Knows the law behind the examples; None: nobody does.
    """

    name: str
    catalogue: Catalogue
    splits: Mapping[str, Batch]
    history_length: int
    content_hash: str
    report: Mapping[str, int]
    oracle: Probabilistic | None = None

    def with_train(self, split: str) -> "Dataset":
        """Return the data set with another of its splits as `train`."""
        return replace(self, splits={**self.splits, "train": self.splits[split]})


def load_dataset(
    folder: Path,
    *,
    history_length: int = 10,
    protocol: SplitProtocol = "chronological",
    duplicates: DuplicatePolicy = "merge",
    prefer: Prefer = "splits",
) -> Dataset:
    """Load `items` and either a published split or `interactions` from a folder.

    Files are CSV, JSONL or Parquet, plain or .gz; extra columns are ignored. A folder that holds
    both kinds is read by its published split, unless `prefer="interactions"`.

    - `items`: item_id, title.
    - `train`, `valid`, `test` and any other file with these columns: user_id, history (item ids
      separated by spaces, oldest first, may be empty), item_id, timestamp (may be empty).
    - `interactions`: user_id, item_id, timestamp, in any order. Every position i >= 1 of a user's
      sequence becomes a sample with the last `history_length` items before it; the report counts
      the histories that were cut.

    Args:
        folder: Where the files are.
        history_length: H. A longer history in a published split is an error.
        protocol: How interactions are split; a published split is taken as it is.
        duplicates: What to do with items that share a title.
        prefer: Which of the two kinds to read where both are present.

    Raises:
        FileNotFoundError: The folder or a file is missing.
        ValueError: A file is broken; the message names file, line, column and the mend.
    """
    folder = Path(folder)
    source = read_source(
        folder,
        history_length=history_length,
        protocol=protocol,
        duplicates=duplicates,
        prefer=prefer,
    )
    return dataset_of(folder.resolve().name, source, history_length)


def build_dataset(
    source: Path,
    destination: Path,
    *,
    min_interactions: int = 5,
    max_title_words: int = 20,
    history_length: int = 10,
    protocol: SplitProtocol = "chronological",
    duplicates: DuplicatePolicy = "merge",
    prefer: Prefer = "splits",
) -> Dataset:
    """Write a data set as a published split: items.csv, train.csv, ..., and report.json.

    Interactions pass the paper's filters first: no item with a long title, then the k-core of
    users and items. A published split is copied as it is: its rows were chosen by its authors.

    Args:
        source: A folder as `load_dataset` reads it.
        destination: A folder that is empty or does not exist.
        min_interactions: The k of the k-core: fewest interactions of a kept user or item.
        max_title_words: Most words of a kept title.
        history_length: H.
        protocol: How interactions are split.
        duplicates: What to do with items that share a title.
        prefer: Which kind to read where the source holds both.

    Returns:
        The data set as read back from `destination`, with the builder's report.

    Raises:
        FileExistsError: The destination holds something.
    """
    destination = Path(destination)
    check_empty(destination)
    made = read_source(
        Path(source),
        history_length=history_length,
        protocol=protocol,
        duplicates=duplicates,
        prefer=prefer,
        selection=Selection(min_interactions=min_interactions, max_title_words=max_title_words),
    )
    _check_keys(made.catalogue)
    report = dataset_of(destination.name, made, history_length).report
    destination.mkdir(parents=True, exist_ok=True)
    write_items(destination / "items.csv", made.catalogue)
    for name, samples in made.splits.items():
        write_split(destination / f"{name}.csv", samples, made.catalogue, list(made.users))
    (destination / "report.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    return replace(load_dataset(destination, history_length=history_length), report=report)


def check_empty(folder: Path) -> None:
    """Refuse to write where something is.

    Raises:
        FileExistsError: It is a file, or a folder that holds something.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not an empty folder; choose another or empty it.")


def dataset_of(name: str, source: Source, history_length: int) -> Dataset:
    """Return what was read from anywhere as a data set."""
    item_title = source.catalogue.item_title
    users = _renumbered([samples.user for samples in source.splits.values()])
    splits = {
        split: Batch(
            user=user,
            history=samples.history,
            target=samples.target,
            target_title=item_title[samples.target],
        )
        for user, (split, samples) in zip(users, source.splits.items(), strict=True)
    }
    return Dataset(
        name=name,
        catalogue=source.catalogue,
        splits=splits,
        history_length=history_length,
        content_hash=_content_hash(source.catalogue, splits),
        report=_report(source, history_length),
    )


def _renumbered(users: list[IntArray]) -> list[IntArray]:
    """Number the users by first appearance, so that every source of the same rows agrees."""
    _, first, inverse = np.unique(np.concatenate(users), return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return np.split(rank[inverse], np.cumsum([len(part) for part in users])[:-1])


def _report(source: Source, history_length: int) -> dict[str, int]:
    splits = source.splits.values()
    cut = sum(int((samples.num_before > history_length).sum()) for samples in splits)
    empty = sum(int((samples.num_before == 0).sum()) for samples in splits)
    return {
        "items": source.catalogue.num_items,
        "titles": source.catalogue.num_titles,
        "merged_duplicates": source.catalogue.num_merged,
        "users": len(np.unique(np.concatenate([samples.user for samples in splits]))),
        **{f"rows/{name}": len(samples) for name, samples in source.splits.items()},
        "truncated_histories": cut,
        "empty_histories": empty,
        **source.counts,
    }


def _content_hash(catalogue: Catalogue, splits: Mapping[str, Batch]) -> str:
    digest = hashlib.sha256(catalogue.content_hash().encode())
    for name in sorted(splits):
        batch = splits[name]
        digest.update(f"{name} {batch.history.shape}".encode())
        for column in (batch.user, batch.history, batch.target):
            digest.update(np.ascontiguousarray(column, "<i8").tobytes())
    return digest.hexdigest()


def _check_keys(catalogue: Catalogue) -> None:
    if spaced := next((key for key in catalogue.item_keys if key.split() != [key]), None):
        raise ValueError(
            f"item id {spaced!r} holds white space, which separates the ids of a history; "
            "rename it in both files."
        )
