"""The rows that a request may return, and their vectors side by side for exact scans."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .exact import Floats, Mask, Rows


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

    def within(self, passing: Mask, *, lasting: bool = False) -> Scope:
        """Only the rows that pass (N,) bool."""
        kept = passing[self.rows]
        return Scope(self.rows[kept], None if self.ads is None else self.ads[kept], self.n_rows, lasting)


class ScopeVectors:
    """The vectors of scopes, gathered from the catalogue's; those of lasting scopes are kept, within `limit` bytes."""

    def __init__(self, matrix: Floats, limit: int) -> None:
        self._matrix, self._limit = matrix, limit
        self._kept: OrderedDict[Scope, Floats] = OrderedDict()
        self._bytes = 0

    def of(self, scope: Scope) -> Floats:
        """(E, D) float32."""
        if len(scope.rows) == len(self._matrix):
            return self._matrix
        if scope in self._kept:
            self._kept.move_to_end(scope)
            return self._kept[scope]
        vectors = self._matrix[scope.rows]
        if scope.lasting and vectors.nbytes <= self._limit:
            self._kept[scope] = vectors
            self._bytes += vectors.nbytes
            while self._bytes > self._limit:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return vectors

    def clear(self) -> None:
        """Forget all scopes."""
        self._kept.clear()
        self._bytes = 0
