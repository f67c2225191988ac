"""Tiny worlds that the tests of the environment share."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from rere_env import NO_ITEM, Batch, Catalogue, Dataset, Task

TITLES = (
    "Star Quest",
    "Star Quest II",
    "Star Farm",
    "Moon Racer",
    "Moon Racer Deluxe Edition",
    "Dog Show",
    "Pinball",
    "Pinball Star",
)
"""Eight titles with shared beginnings, three of them prefixes of others."""


def batch_of(
    item_title: np.ndarray, rows: Sequence[tuple[Sequence[int], int]], length: int
) -> Batch:
    """Pack (history, target) rows, one user a row."""
    history = np.full((len(rows), length), NO_ITEM, np.int32)
    for row, (items, _) in enumerate(rows):
        history[row, : len(items)] = items
    target = np.array([target for _, target in rows], np.int32)
    return Batch(
        user=np.arange(len(rows)), history=history, target=target, target_title=item_title[target]
    )


def make_dataset(
    titles: Sequence[str] = TITLES,
    rows: Sequence[tuple[Sequence[int], int]] | None = None,
    *,
    length: int = 3,
) -> Dataset:
    """A data set of these titles; by default the target follows the last item of the history."""
    catalogue = Catalogue.from_items([f"i{n}" for n in range(len(titles))], titles)
    n = len(titles)
    if rows is None:
        rows = [((i, (i + 1) % n), (i + 2) % n) for i in range(n)]
    return Dataset(
        name="tiny",
        catalogue=catalogue,
        splits={
            "train": batch_of(catalogue.item_title, rows, length),
            "valid": batch_of(catalogue.item_title, rows[: max(1, n // 2)], length),
            "test": batch_of(catalogue.item_title, rows, length),
        },
        history_length=length,
        content_hash="",
        report={},
    )


def make_task(
    titles: Sequence[str] = TITLES, rows: Sequence[tuple[Sequence[int], int]] | None = None
) -> Task:
    """A task over `make_dataset`, one token a word."""
    return Task.build(make_dataset(titles, rows))


@pytest.fixture(scope="session")
def tiny_task() -> Task:
    """Eight titles, eight examples: each target follows the last item of its history."""
    return make_task()


@pytest.fixture(scope="session")
def task_of() -> Callable[..., Task]:
    """Build a task from titles and (history, target) rows."""
    return make_task


@pytest.fixture(scope="session")
def dataset_of() -> Callable[..., Dataset]:
    """Build a data set from titles and (history, target) rows."""
    return make_dataset


NAMES = ("toys", "industrial", "office", "video_games", "yelp")


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny published split under every known name, as `$RERE_DATA`."""
    items = "item_id,title\n" + "".join(f"i{n},{title}\n" for n, title in enumerate(TITLES))
    header = "user_id,history,item_id,timestamp\n"
    rows = [f"u{n},i{n} i{(n + 1) % 8},i{(n + 2) % 8},{100 + n}\n" for n in range(8)]
    for name in NAMES:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "items.csv").write_text(items, "utf-8")
        for split, part in (("train", rows), ("valid", rows[:3]), ("test", rows[3:])):
            (folder / f"{split}.csv").write_text(header + "".join(part), "utf-8")
    monkeypatch.setenv("RERE_DATA", str(tmp_path))
    return tmp_path
