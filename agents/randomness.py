"""The global random generators of Python, NumPy and torch, which libraries seed and draw from."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

__all__ = ["States", "generator_states", "own_generators", "set_generators"]

States: TypeAlias = dict[str, Tensor]
"""The state of torch's generator of each device that a process draws from, by the device's type."""


@contextmanager
def own_generators(seed: int | None = None) -> Iterator[None]:
    """Give the global generators back as they were, whatever is drawn from them inside.

    Those of accelerators are left alone: `torch.manual_seed` would seed them, and for good.

    Args:
        seed: What they begin with inside, any integer that torch takes; None: as they are.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one
    with torch.random.fork_rng(devices=[]):
        try:
            if seed is not None:
                random.seed(int(seed))
                np.random.seed(int(seed) % 2**32)  # noqa: NPY002 - it takes no other
                torch.default_generator.manual_seed(int(seed))
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def generator_states(device: torch.device) -> States:
    """Return the states of torch's generators of this process: the CPU's and its device's."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_generators(states: States, device: torch.device) -> None:
    """Set torch's generators of this process; one without a state keeps its own."""
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
