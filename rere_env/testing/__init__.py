"""Checks to run on a recommender, or a stack, of your own."""

from rere_env.testing.episodes import (
    ActionScores,
    EpisodeSource,
    Moment,
    Transcript,
    check_same_episodes,
    hashed_policy,
)
from rere_env.testing.recommenders import check_recommender, some_examples

__all__ = [
    "ActionScores",
    "EpisodeSource",
    "Moment",
    "Transcript",
    "check_recommender",
    "check_same_episodes",
    "hashed_policy",
    "some_examples",
]
