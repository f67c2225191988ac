"""Episodes of an expert, for learners that do not act."""

from rere_env.offline.episodes import (
    Episode,
    TargetExpert,
    choose_examples,
    expert_episodes,
    slate_tokens,
)

__all__ = ["Episode", "TargetExpert", "choose_examples", "expert_episodes", "slate_tokens"]
