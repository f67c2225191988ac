"""Interactions -> chronological examples and splits; published splits; files (being written)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from rere_env.catalogue import Catalogue
from rere_env.types import Batch, IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    name: str
    catalogue: Catalogue
    splits: Mapping[str, Batch]
    history_length: int
    content_hash: str
