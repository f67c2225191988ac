"""How much memory a computation holds at its worst moment, exactly, on the CPU."""

from collections.abc import Callable

import numpy as np
import torch

__all__ = ["peak_bytes"]


def peak_bytes(run: Callable[[], object]) -> int:
    """Return the most bytes that tensors made by `run` hold at one moment.

    Every allocation of torch's CPU allocator counts, as its profiler records them; what stood
    before does not, nor does scratch space that a library allocates by itself.

    >>> ten = lambda: [torch.zeros(1000) for _ in range(10)]
    >>> peak_bytes(ten)
    40000
    """
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        run()
    # The recorded events in full; `profile.events()` would build an object for every operation.
    recorded = profile.profiler.kineto_results.events()
    memory = sorted((e for e in recorded if e.name() == "[memory]"), key=lambda e: e.start_ns())
    held = np.cumsum([event.nbytes() for event in memory])
    return int(held.max(initial=0))
