"""The rows that a request may return, and their vectors side by side for exact scans."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.arrays import Floats, Mask, Rows

# Each cache of scopes, or of data derived from them, holds at most this many entries.
CACHED_SCOPES = 32


@dataclass(frozen=True, eq=False)
class Scope:
    """The rows that a request may return, and the winning ad of each.

    rows: (E,) int64, ascending. ads: (E,) int64, slots of the ads table, or None without ads. n_rows: the number of
    items N. shared: whether other requests get this same object, so that data derived from it is worth caching.
    """

    rows: Rows
    ads: Rows | None
    n_rows: int
    shared: bool = False

    @cached_property
    def mask(self) -> Mask:
        """(N,) bool: whether each row of the catalogue is in the scope."""
        mask = np.zeros(self.n_rows, bool)
        mask[self.rows] = True
        return mask

    def ads_of(self, rows: Rows) -> NDArray[np.signedinteger[Any]]:
        """Return the winning ads (n,) of rows (n,) of this scope, which must have ads."""
        assert self.ads is not None
        # A table costs one memory access per row, a binary search many.
        return self._ad_of[rows] if self.shared else self.ads[np.searchsorted(self.rows, rows)]

    @cached_property
    def _ad_of(self) -> NDArray[np.int32]:
        assert self.ads is not None
        ad_of = np.full(self.n_rows, -1, np.int32)
        ad_of[self.rows] = self.ads
        return ad_of

    def within(self, passing: Mask, *, shared: bool = False) -> Scope:
        """Return a scope of the rows that pass; `passing` is (N,) bool."""
        selected = passing[self.rows]
        return Scope(self.rows[selected], None if self.ads is None else self.ads[selected], self.n_rows, shared)


class ScopeVectors:
    """The vectors and biases of scopes, gathered from the catalogue; those of shared scopes are cached.

    Args:
        matrix: (N, D) float32, the vectors of all items.
        bias: (N,) float32, their biases.
        limit: the size of the cache in bytes.
    """

    def __init__(self, matrix: Floats, bias: Floats, limit: int) -> None:
        self._matrix, self._bias, self._limit = matrix, bias, limit
        self._cache: OrderedDict[Scope, tuple[Floats, Floats]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def of(self, scope: Scope) -> tuple[Floats, Floats]:
        """Return the vectors (E, D) and the biases (E,) of a scope, float32."""
        if len(scope.rows) == len(self._matrix):
            return self._matrix, self._bias
        with self._lock:
            if scope in self._cache:
                self._cache.move_to_end(scope)
                return self._cache[scope]
            gathered = self._matrix[scope.rows], self._bias[scope.rows]
            if scope.shared and _nbytes(gathered) <= self._limit:
                self._cache[scope] = gathered
                self._bytes += _nbytes(gathered)
                while self._bytes > self._limit:
                    self._bytes -= _nbytes(self._cache.popitem(last=False)[1])
            return gathered

    def keeps(self, scope: Scope) -> bool:
        """Return whether a later request will find the vectors of a scope already side by side."""
        per_row = self._matrix.dtype.itemsize * (self._matrix.shape[1] + 1)
        return len(scope.rows) == len(self._matrix) or (scope.shared and len(scope.rows) * per_row <= self._limit)

    def clear(self) -> None:
        """Empty the cache."""
        with self._lock:
            self._cache.clear()
            self._bytes = 0


def _nbytes(arrays: tuple[Floats, Floats]) -> int:
    return sum(array.nbytes for array in arrays)
