"""Data sets: files to a catalogue and its examples by split.

Knows nothing of tokens, prompts or rewards.
"""

from rere_env.data.datasets import Dataset, build_dataset, check_empty, load_dataset
from rere_env.data.known import GAMES, ORIGINS, data_places, find_data, games_dataset, load_data
from rere_env.data.sources import SplitProtocol
from rere_env.data.splits import chronological_splits, leave_one_out_splits

__all__ = [
    "GAMES",
    "ORIGINS",
    "Dataset",
    "SplitProtocol",
    "build_dataset",
    "check_empty",
    "chronological_splits",
    "data_places",
    "find_data",
    "games_dataset",
    "leave_one_out_splits",
    "load_data",
    "load_dataset",
]
