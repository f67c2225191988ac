"""`rere data build`: bring a data set into the form that training reads."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rere_env.data import build_dataset

__all__ = ["Build"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Read items and interactions (or a published split) from SRC; write a data set to DST.

    CSV, JSONL or Parquet, plain or .gz:
        items         item_id, title
        interactions  user_id, item_id, timestamp
        or train, valid, test:  user_id, history (item ids separated by spaces), item_id, timestamp

    Attributes:
        src: Folder to read.
        dst: Folder to write; must be empty or absent.
        min_interactions: Fewest interactions of a kept user or item (k-core).
        max_title_words: Most words of a kept title.
        history_length: Most items of a history.
        protocol: How interactions are split.
        duplicates: Items with the same title: one title for all, numbered titles, or an error.
        prefer: Which kind to read where SRC holds both.
    """

    src: Annotated[Path, tyro.conf.Positional]
    dst: Annotated[Path, tyro.conf.Positional]
    min_interactions: int = 5
    max_title_words: int = 20
    history_length: int = 10
    protocol: Literal["chronological", "leave_one_out"] = "chronological"
    duplicates: Literal["merge", "suffix", "error"] = "merge"
    prefer: Literal["splits", "interactions"] = "splits"

    def run(self) -> None:
        """Build and print the report."""
        dataset = build_dataset(
            self.src,
            self.dst,
            min_interactions=self.min_interactions,
            max_title_words=self.max_title_words,
            history_length=self.history_length,
            protocol=self.protocol,
            duplicates=self.duplicates,
            prefer=self.prefer,
        )
        print(json.dumps(dict(dataset.report), indent=2))
        print(f"wrote {self.dst}; train on it with: rere train --data {self.dst}")
