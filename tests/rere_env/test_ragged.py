"""Ragged arrays against plain lists."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rere_env.ragged import dense, offsets, owners, places, stretches

rows_strategy = st.lists(st.lists(st.integers(0, 4), max_size=5, unique=True), max_size=6)


@given(rows_strategy)
def test_ragged_arrays_say_what_nested_lists_say(rows):
    """Rows may be empty, and there may be none."""
    indptr = offsets(np.array([len(row) for row in rows], np.int64))
    values = np.array([value for row in rows for value in row], np.int64)
    assert [values[a:b].tolist() for a, b in pairwise(indptr)] == rows
    assert owners(indptr).tolist() == [i for i, row in enumerate(rows) for _ in row]
    assert places(indptr).tolist() == [place for row in rows for place in range(len(row))]
    start = np.arange(len(rows)) * 10
    assert stretches(start, indptr).tolist() == [
        10 * i + place for i, row in enumerate(rows) for place in range(len(row))
    ]
    marked = [[int(column in row) for column in range(5)] for row in rows]
    assert dense(indptr, values, 5).tolist() == marked
