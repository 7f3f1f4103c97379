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

# Of so many scopes what follows from them is kept.
SCOPES = 32


@dataclass(frozen=True, eq=False)
class Scope:
    """The rows (E,) that a request may return, ascending, and their winning ads (E,), or None without ads.

    `lasting`: other requests get this same object, so that what is derived from it is worth keeping.
    """

    rows: Rows
    ads: Rows | None
    n_rows: int
    lasting: bool = False

    @cached_property
    def mask(self) -> Mask:
        """(N,) bool."""
        mask = np.zeros(self.n_rows, bool)
        mask[self.rows] = True
        return mask

    def ads_of(self, rows: Rows) -> NDArray[np.signedinteger[Any]]:
        """The winning ads (n,) of rows (n,) of the scope, which has ads."""
        assert self.ads is not None
        # By halving, each of so many steps would wait for memory.
        return self._ad_of[rows] if self.lasting else self.ads[np.searchsorted(self.rows, rows)]

    @cached_property
    def _ad_of(self) -> NDArray[np.int32]:
        assert self.ads is not None
        found = np.full(self.n_rows, -1, np.int32)
        found[self.rows] = self.ads
        return found

    def within(self, passing: Mask, *, lasting: bool = False) -> Scope:
        """Only the rows that pass (N,) bool."""
        kept = passing[self.rows]
        return Scope(self.rows[kept], None if self.ads is None else self.ads[kept], self.n_rows, lasting)


class ScopeVectors:
    """Vectors and biases of scopes, gathered from the catalogue; of lasting ones they are kept, within `limit` bytes.

    Shapes: matrix (N, D), bias (N,) float32.
    """

    def __init__(self, matrix: Floats, bias: Floats, limit: int) -> None:
        self._matrix, self._bias, self._limit = matrix, bias, limit
        self._kept: OrderedDict[Scope, tuple[Floats, Floats]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def of(self, scope: Scope) -> tuple[Floats, Floats]:
        """(E, D) and (E,) float32."""
        if len(scope.rows) == len(self._matrix):
            return self._matrix, self._bias
        with self._lock:
            if scope in self._kept:
                self._kept.move_to_end(scope)
                return self._kept[scope]
            gathered = self._matrix[scope.rows], self._bias[scope.rows]
            if scope.lasting and _nbytes(gathered) <= self._limit:
                self._kept[scope] = gathered
                self._bytes += _nbytes(gathered)
                while self._bytes > self._limit:
                    self._bytes -= _nbytes(self._kept.popitem(last=False)[1])
            return gathered

    def keeps(self, scope: Scope) -> bool:
        """Whether the vectors of a scope lie side by side after it was asked for once."""
        per_row = self._matrix.dtype.itemsize * (self._matrix.shape[1] + 1)
        return len(scope.rows) == len(self._matrix) or (scope.lasting and len(scope.rows) * per_row <= self._limit)

    def clear(self) -> None:
        """Forget all scopes."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0


def _nbytes(gathered: tuple[Floats, Floats]) -> int:
    return sum(one.nbytes for one in gathered)
