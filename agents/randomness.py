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
