"""Recommendation as token-level reinforcement learning: a Gymnasium environment.

    import gymnasium as gym
    import rere_env

    env = gym.make("ReRe-Games-v0")

Importing this package registers the environments. It needs NumPy and Gymnasium, nothing else, and
loads the rest of itself when a name is first used: the import must cost next to nothing.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

import gymnasium as _gym

if TYPE_CHECKING:
    from rere_env.catalogue import Catalogue, TitleTokens
    from rere_env.data import Dataset, find_data, games_dataset, load_dataset
    from rere_env.dynamics import Allowed, Dynamics, Rows, Rules
    from rere_env.envs import ReReEnv, ReReVectorEnv
    from rere_env.filters import Combined, Filter, Hidden, HideHistory, HideItems, OutOfStock
    from rere_env.rewards import (
        REWARDS,
        collaborative,
        hit,
        rank,
        rank_literal,
        rank_weights,
        rere,
        semantic,
        weighted_sum,
    )
    from rere_env.task import Task, load_task
    from rere_env.tokenizer import HFTokenizer, Tokenizer, WordTokenizer
    from rere_env.trie import EOS, Trie
    from rere_env.types import (
        NO_ITEM,
        NO_TITLE,
        Batch,
        BatchLike,
        Example,
        Observation,
        Recommender,
        Reward,
    )
    from rere_env.wrappers import (
        DecisionActions,
        EpisodeText,
        MaskInObservation,
        OneHotObservation,
        TianshouMask,
        VectorDecisionActions,
        VectorEpisodeText,
        VectorMaskInObservation,
        VectorOneHotObservation,
        VectorTianshouMask,
    )

__all__ = [
    "EOS",
    "NO_ITEM",
    "NO_TITLE",
    "REWARDS",
    "Allowed",
    "Batch",
    "BatchLike",
    "Catalogue",
    "Combined",
    "Dataset",
    "DecisionActions",
    "Dynamics",
    "EpisodeText",
    "Example",
    "Filter",
    "HFTokenizer",
    "Hidden",
    "HideHistory",
    "HideItems",
    "MaskInObservation",
    "Observation",
    "OneHotObservation",
    "OutOfStock",
    "ReReEnv",
    "ReReVectorEnv",
    "Recommender",
    "Reward",
    "Rows",
    "Rules",
    "Task",
    "TianshouMask",
    "TitleTokens",
    "Tokenizer",
    "Trie",
    "VectorDecisionActions",
    "VectorEpisodeText",
    "VectorMaskInObservation",
    "VectorOneHotObservation",
    "VectorTianshouMask",
    "WordTokenizer",
    "collaborative",
    "find_data",
    "games_dataset",
    "hit",
    "load_dataset",
    "load_task",
    "rank",
    "rank_literal",
    "rank_weights",
    "rere",
    "semantic",
    "weighted_sum",
]

__version__ = "0.1.0"

_HOMES = (
    "types",
    "tokenizer",
    "catalogue",
    "trie",
    "rewards",
    "filters",
    "data",
    "task",
    "dynamics",
    "envs",
    "wrappers",
)


def __getattr__(name: str) -> object:
    """Load a public name from the module that defines it."""
    if name in _HOMES:
        return _import_module(f"rere_env.{name}")
    if name in __all__:
        for home in _HOMES:
            module = _import_module(f"rere_env.{home}")
            if name in module.__all__:
                return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module 'rere_env' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


for _name, _data in {
    "Games": "games",
    "Toys": "toys",
    "Industrial": "industrial",
    "Office": "office",
    "VideoGames": "video_games",
    "Yelp": "yelp",
}.items():
    # No `max_episode_steps`: the trie bounds an episode, and Gymnasium would hand it on.
    _gym.register(
        id=f"ReRe-{_name}-v0",
        entry_point="rere_env.envs:ReReEnv",
        vector_entry_point="rere_env.envs:ReReVectorEnv",
        kwargs={"data": _data},
    )
