"""Names of the array types, and arithmetic on ragged arrays: lists of different lengths, stored one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
_VALUES_AT_ONCE = 10_000
Lengths = Sequence[int] | NDArray[np.integer[Any]] | NDArray[np.bool_]


def python_values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return the values of a column as Python objects, and give other threads a turn every few milliseconds.

    `to_pylist` alone would keep them waiting until it is done, so a server would stand still while it loads a version.
    """
    values: list[Any] = []
    for begin in range(0, len(column), _VALUES_AT_ONCE):
        values += column.slice(begin, _VALUES_AT_ONCE).to_pylist()
    return values


def offsets_from_lengths(lengths: Lengths) -> Rows:
    """Return the start of each of n lists, followed by the end of the last one: (n + 1,) int64.

    >>> offsets_from_lengths([2, 0, 3]).tolist()
    [0, 2, 2, 5]
    """
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, dtype=np.int64, out=offsets[1:])
    return offsets


def positions_in_lists(offsets: Rows) -> Rows:
    """Return every element's position in its own list, counted from 0: (offsets[-1],) int64.

    >>> positions_in_lists(np.array([0, 2, 2, 5])).tolist()
    [0, 1, 0, 1, 2]
    """
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))


def spans(starts: Rows, lengths: NDArray[np.integer[Any]]) -> Rows:
    """Return the indices of the stretches [start, start + length) of an array, one after the other.

    Args:
        starts: (n,) int64, the first index of each stretch.
        lengths: (n,) integers, how many indices each stretch has.

    Returns:
        (sum of lengths,) int64.

    >>> spans(np.array([7, 0]), np.array([2, 3])).tolist()
    [7, 8, 0, 1, 2]
    """
    return positions_in_lists(offsets_from_lengths(lengths)) + np.repeat(starts, lengths)
