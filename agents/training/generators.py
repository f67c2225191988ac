"""torch's own generators of every process, which dropout draws from: saved, and set again."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from agents.randomness import States, set_generators

__all__ = ["load_generators", "save_generators"]

FILE = "generators.safetensors"


def save_generators(folder: Path, states: Sequence[States]) -> None:
    """Write the states of all processes, in their order."""
    named = {f"{name}.{p}": state for p, own in enumerate(states) for name, state in own.items()}
    save_file(named, str(folder / FILE))


def load_generators(folder: Path, process: int, device: torch.device) -> None:
    """Set a process's generators; one that was not there when they were saved keeps its own."""
    if not (folder / FILE).is_file():  # saved by version 0.1.0
        return
    states = load_file(str(folder / FILE))
    own = (name.rpartition(".") for name in states)
    set_generators({kind: states[f"{kind}.{p}"] for kind, _, p in own if p == str(process)}, device)
