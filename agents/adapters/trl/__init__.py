"""TRL on our tasks (extra `trl`); rewards written for TRL on our groups, which need no TRL."""

from typing import TYPE_CHECKING

from agents.adapters.trl.rewards import from_trl_reward
from agents.adapters.trl.rows import reward_function

if TYPE_CHECKING:
    from agents.adapters.trl.agents import TRLGRPO, prompt_dataset, rollout_function

__all__ = [
    "TRLGRPO",
    "from_trl_reward",
    "prompt_dataset",
    "reward_function",
    "rollout_function",
]


def __getattr__(name: str) -> object:
    """Load what needs TRL when it is asked for."""
    if name in __all__:
        from agents.adapters.trl import agents

        return globals().setdefault(name, getattr(agents, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
