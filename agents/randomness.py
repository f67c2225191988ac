"""The global random generators of Python, NumPy and torch, which libraries seed and draw from."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["own_generators"]


@contextmanager
def own_generators(seed: int | None = None) -> Iterator[None]:
    """Give the global generators back as they were, whatever is drawn from them inside.

    Args:
        seed: What they begin with inside; None: as they are.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
