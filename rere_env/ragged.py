"""Ragged arrays (CSR): row i owns the values `indptr[i]:indptr[i + 1]`. Knows NumPy alone.

    indptr    0 2 2 5         three rows, of 2, 0 and 3 values
    owners    0 0 2 2 2       whose each value is
    places    0 1 0 1 2       which of its row's each value is

Legend: n rows, total values.
"""

import numpy as np
from numpy.typing import NDArray

from rere_env.types import IntArray

__all__ = ["dense", "offsets", "owners", "places", "stretches"]


def offsets(counts: IntArray) -> NDArray[np.int64]:
    """Return the `indptr` [n + 1] of rows that own so many values [n] each."""
    indptr = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=indptr[1:])
    return indptr


def owners(indptr: IntArray) -> NDArray[np.int64]:
    """Return the row [total] that owns each value."""
    return np.repeat(np.arange(len(indptr) - 1), indptr[1:] - indptr[:-1])


def places(indptr: IntArray) -> NDArray[np.int64]:
    """Return the place [total] of each value within its row, from 0."""
    return stretches(np.zeros(len(indptr) - 1, np.int64), indptr)


def stretches(start: IntArray, indptr: IntArray) -> NDArray[np.int64]:
    """Return `start[i], start[i] + 1, ...` [total], as many numbers as row i owns values.

    >>> stretches(np.array([10, 0, 7]), np.array([0, 2, 2, 5])).tolist()
    [10, 11, 7, 8, 9]
    """
    begin = indptr[:-1]
    numbers: NDArray[np.int64] = np.arange(indptr[-1]) + np.repeat(
        start - begin, indptr[1:] - begin
    )
    return numbers


def dense(indptr: IntArray, columns: IntArray, width: int) -> NDArray[np.int8]:
    """Return an int8 [n, width] that is 1 in the columns [total] that each row owns."""
    marked = np.zeros((len(indptr) - 1, width), np.int8)
    marked[owners(indptr), columns] = 1
    return marked
