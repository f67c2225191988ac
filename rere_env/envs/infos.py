"""Infos of a vector environment in Gymnasium's form: arrays [N, ...] with masks `_key`."""

from typing import Any

import numpy as np

from rere_env.types import BoolArray, IntArray

__all__ = ["spread"]


def spread(values: dict[str, Any], rows: IntArray, num_rows: int) -> dict[str, Any]:
    """Spread values of some rows over all; elsewhere zeros, which the mask `_key` disowns.

    The masks of one call are one array: they say the same.

    Args:
        values: Arrays [m, ...] by key, or dicts of them.
        rows: [m] which rows they belong to.
        num_rows: N.

    >>> spread({"hit": np.array([True])}, np.array([1]), 2)
    {'hit': array([False,  True]), '_hit': array([False,  True])}
    """
    is_row = np.zeros(num_rows, np.bool_)
    is_row[rows] = True
    return _spread(values, rows, is_row)


def _spread(values: dict[str, Any], rows: IntArray, is_row: BoolArray) -> dict[str, Any]:
    infos: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            infos[key] = _spread(value, rows, is_row)
        else:
            infos[key] = column = np.zeros((len(is_row), *value.shape[1:]), value.dtype)
            if column.size == len(is_row):  # NumPy is several times as fast on flat arrays
                column, value = column.reshape(-1), value.reshape(-1)
            column[rows] = value
        infos[f"_{key}"] = is_row
    return infos
