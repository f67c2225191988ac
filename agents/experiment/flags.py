"""From the flags of a run to the choices of its algorithm."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from agents import advantages
from agents.registry import find_algorithm
from agents.rere.config import ReReConfig
from agents.runs.config import TrainConfig
from agents.search import find_sampler
from agents.types import Advantage, AdvantageName

__all__ = ["ADVANTAGES", "choose"]

ADVANTAGES: Mapping[AdvantageName, Advantage] = MappingProxyType(
    {
        "group_normalized": advantages.group_normalized,
        "group_centered": advantages.group_centered,
        "leave_one_out": advantages.leave_one_out,
        "batch_centered": advantages.batch_centered,
        "raw": advantages.raw,
        "windowed": advantages.windowed(),
    }
)


def choose(config: TrainConfig, group_size: int) -> ReReConfig:
    """Return the algorithm's choices with those of the flags in their place.

    Args:
        config: What was asked for.
        group_size: G.

    Raises:
        ValueError: The algorithm trains no language model, or has no KL to weigh.
    """
    if config.train_seconds is not None or config.train_steps is not None:
        raise ValueError(
            f"`train_seconds` (={config.train_seconds}) and `train_steps` (={config.train_steps}) "
            f"limit agents; {config.algorithm!r} trains a language model: use --rl-steps."
        )
    info = find_algorithm(config.algorithm)
    options = {} if config.kl_weight is None else {"kl_weight": config.kl_weight}
    chosen = info.load(**options)
    if not isinstance(chosen, ReReConfig):
        raise ValueError(
            f"`algorithm` (={config.algorithm!r}) trains no language model; it has no choices."
        )
    asked: dict[str, Any] = {
        "sampler": config.sampler and find_sampler(config.sampler),
        "advantage": config.advantage and ADVANTAGES[config.advantage],
        "inner_steps": config.inner_steps,
        "max_refills": config.max_refills,
        "repair_weight": config.repair_weight,
        "kl_groups": config.kl_groups,
    }
    return replace(
        chosen,
        group_size=group_size,
        support=config.support,
        max_tokens=config.max_tokens,
        **{name: value for name, value in asked.items() if value is not None},
    )
