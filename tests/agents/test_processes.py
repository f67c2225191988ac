"""Rows dealt out to processes, and put together again."""

from types import SimpleNamespace

import numpy as np
import pytest

from agents.processes import dealt_order, everyone, part, share


def place(process, num_processes):
    """All that dealing asks of an accelerator."""
    return SimpleNamespace(process_index=process, num_processes=num_processes)


@pytest.mark.parametrize(("num_rows", "num_processes"), [(1, 1), (7, 1), (7, 2), (7, 3), (8, 4)])
def test_no_row_is_dropped(num_rows, num_processes):
    """Shares differ by one row at most, and in the order of `dealt_order` are the rows."""
    rows = np.arange(num_rows) + 10
    shares = [share(rows, place(p, num_processes)) for p in range(num_processes)]
    sizes = [len(own) for own in shares]
    assert max(sizes) - min(sizes) <= 1
    assert np.concatenate(shares)[dealt_order(sizes)].tolist() == rows.tolist()


def test_fewer_rows_than_processes_are_refused():
    """The error names both, and what to do."""
    with pytest.raises(ValueError, match=r"a step of 2 examples .* by 3 processes; use a larger"):
        share(np.arange(2), place(0, 3))


@pytest.mark.parametrize(("num_rows", "num_processes"), [(1, 1), (1, 3), (4, 3), (6, 3)])
def test_weights_make_the_mean_of_the_processes_the_sum_of_the_rows(num_rows, num_processes):
    """Each row counts once, whoever has it; one that is lent counts nothing."""
    counted = np.zeros(num_rows)
    for process in range(num_processes):
        rows, weight = part(num_rows, place(process, num_processes))
        assert len(rows) > 0
        counted[rows] += weight / num_processes
    assert counted.tolist() == [1.0] * num_rows


def test_a_process_alone_is_everyone():
    """With or without an accelerator."""
    assert everyone("x", None) == everyone("x", place(0, 1)) == ["x"]
