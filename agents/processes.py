"""What the processes of a run deal out and tell each other; alone, everything stays what it is.

Rows are dealt out like cards: of n processes, process p gets rows p, p + n, p + 2n, ... Training on
n processes is training on one with the rows dealt out: what a step is made of, and what it divides
by, never depends on n. Knows nothing of models, groups or losses.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray

from rere_env.types import IntArray

__all__ = ["dealt_order", "everyone", "part", "share"]

T = TypeVar("T")


def everyone(value: T, accelerator: Accelerator | None) -> list[T]:
    """Return what every process passes here, by process; all of them must call it.

    Args:
        value: On the CPU; the others get copies.
        accelerator: The processes; None: this one alone.
    """
    if accelerator is None or accelerator.num_processes == 1:
        return [value]
    values: list[T] = gather_object([value])
    return values


def share(rows: IntArray, accelerator: Accelerator) -> IntArray:
    """Return this process's rows of a step: all are dealt out, so some may get one more.

    Raises:
        ValueError: There are fewer rows than processes.
    """
    num_processes = accelerator.num_processes
    if len(rows) < num_processes:
        raise ValueError(
            f"a step of {len(rows)} examples cannot be shared by {num_processes} processes; "
            "use a larger batch or fewer processes."
        )
    return rows[accelerator.process_index :: num_processes]


def part(num_rows: int, accelerator: Accelerator) -> tuple[NDArray[np.int64], float]:
    """Return which of a step's rows this process learns from, and the weight of their loss.

    The loss of a step is a sum over its rows divided by totals of the whole step, so that of the
    rows of each process add up to it, L = sum_p L_p, however unevenly they are dealt. What an
    optimiser sees is the mean of the processes' gradients, 1/n sum_p grad(w_p L_p): it is that of
    L if w_p = n. A process without a row must join that mean all the same: it gets the first row,
    with weight 0.

    Args:
        num_rows: Rows of the step, at least 1.
        accelerator: The processes.
    """
    rows = np.arange(num_rows)[accelerator.process_index :: accelerator.num_processes]
    if len(rows) == 0:
        return np.arange(1), 0.0
    return rows, float(accelerator.num_processes)


def dealt_order(sizes: Sequence[int]) -> NDArray[np.int64]:
    """Return the order that puts dealt rows, process after process, back into that of the step.

    >>> dealt_order([3, 2]).tolist()  # rows 0 2 4 and 1 3
    [0, 3, 1, 4, 2]
    """
    num_processes = len(sizes)
    places = [process + num_processes * np.arange(size) for process, size in enumerate(sizes)]
    return np.argsort(np.concatenate(places), kind="stable")
