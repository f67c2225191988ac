"""What a forward-backward pass may hold, and what happens when that was too much."""

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch
from transformers import PreTrainedModel

__all__ = ["PassLimit", "checkpoint_activations"]

T = TypeVar("T")


class PassLimit:
    """Tree tokens of one pass (rows times the longest); halved once if the device is full."""

    def __init__(self, max_tokens: int, num_processes: int = 1) -> None:
        """Start with the whole budget.

        Args:
            max_tokens: The budget.
            num_processes: Several cannot go on after one ran out of memory: their passes must
                stay in step.
        """
        if max_tokens < 1:
            raise ValueError(f"`max_tokens` (={max_tokens}) must be at least 1.")
        self.max_tokens = max_tokens
        self._may_halve = num_processes == 1

    def run(self, compute: Callable[[int], T], needed: int | None = None) -> T:
        """Return `compute(max_tokens)`; out of memory, halve the budget and compute again.

        Args:
            compute: Starts from the beginning whenever it is called.
            needed: Tokens of a pass that would hold everything; the half is of this if it is
                smaller than the budget.

        Raises:
            torch.cuda.OutOfMemoryError: It was halved before, or there are several processes.
        """
        try:
            return compute(self.max_tokens)
        except torch.cuda.OutOfMemoryError:
            if not self._may_halve:
                raise
        # Here the failed pass and its tensors are gone; inside `except` the traceback holds them.
        self._may_halve = False
        held = self.max_tokens if needed is None else min(self.max_tokens, needed)
        self.max_tokens = max(held // 2, 1)
        torch.cuda.empty_cache()
        warnings.warn(
            "out of memory: from here on a pass holds at most "
            f"{self.max_tokens} tokens, half as many (`max_tokens`).",
            RuntimeWarning,
            stacklevel=2,
        )
        return compute(self.max_tokens)


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Keep only the activations between layers while training; compute the others twice."""
    # transformers renamed it within version 5, and warns about the old name.
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable({"use_reentrant": False})
    else:
        model.gradient_checkpointing_enable({"use_reentrant": False})
