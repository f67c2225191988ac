"""torch's own generators of every process, which dropout draws from: saved, and set again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

__all__ = ["States", "generator_states", "load_generators", "save_generators"]

FILE = "generators.safetensors"

States: TypeAlias = dict[str, Tensor]
"""The state of the generator of each device that a process draws from, by the device's type."""


def generator_states(device: torch.device) -> States:
    """Return the states of this process's generators: the CPU's and that of its device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def save_generators(folder: Path, states: Sequence[States]) -> None:
    """Write the states of all processes, in their order."""
    named = {f"{name}.{p}": state for p, own in enumerate(states) for name, state in own.items()}
    save_file(named, str(folder / FILE))


def load_generators(folder: Path, process: int, device: torch.device) -> None:
    """Set a process's generators; one that was not there when they were saved keeps its own."""
    if not (folder / FILE).is_file():  # saved by version 0.1.0
        return
    states = load_file(str(folder / FILE))
    if f"cpu.{process}" in states:
        torch.set_rng_state(states[f"cpu.{process}"])
    if device.type == "cuda" and f"cuda.{process}" in states:
        torch.cuda.set_rng_state(states[f"cuda.{process}"], device)
