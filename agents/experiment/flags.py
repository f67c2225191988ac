"""From the flags of a run to the choices of its algorithm."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

from agents.advantages import find_advantage
from agents.registry import Kind, find_algorithm
from agents.rere.config import ReReConfig
from agents.runs.config import TrainConfig
from agents.search import find_sampler

__all__ = ["CHOICES", "NOT_FLAGS", "check_flags", "choose"]

NAMED: Mapping[str, Callable[[str], object]] = MappingProxyType(
    {"sampler": find_sampler, "advantage": find_advantage}
)
"""Choices that a flag names, and what finds the function of a name."""

CHOICES = tuple(
    choice.name
    for choice in fields(ReReConfig)
    if choice.name in {flag.name for flag in fields(TrainConfig)}
)
"""The choices of an algorithm that a flag of the same name replaces."""

NOT_FLAGS = (
    "loss",
    "reference_sync_steps",
    "reference_mix",
    "max_grad_norm",
    "max_rollout_tokens",
)
"""The choices that are the algorithm's alone."""


def check_flags(config: TrainConfig, kind: Kind) -> None:
    """Refuse flags that an algorithm of this kind would ignore.

    Raises:
        ValueError: One was given.
    """
    for name, value in config.ignored_by(kind).items():
        if kind == "agent":
            raise ValueError(
                f"`{name}` (={value!r}) is about language models, and {config.algorithm!r} trains "
                "none; leave it out: what limits an agent is --train-seconds or --train-steps."
            )
        raise ValueError(
            f"`{name}` (={value!r}) limits agents; {config.algorithm!r} trains a language model: "
            "use --rl-steps."
        )


def choose(config: TrainConfig, group_size: int) -> ReReConfig:
    """Return the algorithm's choices with those of the flags in their place.

    Args:
        config: What was asked for.
        group_size: G.

    Raises:
        ValueError: The algorithm trains no language model, or has no KL to weigh.
    """
    options = {} if config.kl_weight is None else {"kl_weight": config.kl_weight}
    chosen = find_algorithm(config.algorithm).choices(**options)
    asked: dict[str, Any] = {
        name: NAMED[name](value) if name in NAMED else value
        for name in CHOICES
        if (value := getattr(config, name)) is not None
    }
    return replace(chosen, **(asked | {"group_size": group_size}))
