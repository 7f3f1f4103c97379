"""The rows that a request may return, and the data derived from them, which requests with the same conditions share."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from retrieval.arrays import Mask, Rows
from retrieval.byte_cache import ByteCache

T = TypeVar("T")


class Scope:
    """The rows that a request may return, and the winning ad of each.

    Args:
        rows: (E,) int64, ascending.
        ads: (E,) int64, slots of the ads table, or None without ads.
        n_rows: the number of items N.
        shared: whether other requests get this same object, so that data derived from it is worth keeping.

    Attributes:
        used_at: the time, in µs since 1970, of the last request that asked for this scope, if it is shared.
    """

    def __init__(self, rows: Rows, ads: Rows | None, n_rows: int, *, shared: bool = False) -> None:
        self.rows, self.ads, self.n_rows, self.shared = rows, ads, n_rows, shared
        self.used_at = 0
        self._derived: dict[str, Any] = {}
        self._nbytes = rows.nbytes + (0 if ads is None else ads.nbytes)
        self._cache: ByteCache | None = None
        self._key: Hashable = None

    def keep_in(self, cache: ByteCache, key: Hashable) -> Scope:
        """Put a shared scope into a cache, which then counts all data derived from it; return the scope to use."""
        self._cache, self._key = cache, key
        scope: Scope = cache.put(key, self, self._nbytes)
        return scope

    def derived(self, name: str, make: Callable[[], T], nbytes: Callable[[T], int]) -> T:
        """Return data that belongs to the scope, and keep it with the scope unless the cache has no room for both.

        Args:
            name: what the data is.
            make: computes it.
            nbytes: returns how many bytes it takes.
        """
        if name in self._derived:
            value: T = self._derived[name]
            return value
        value = make()
        size = nbytes(value)
        if self._cache is None or self._cache.grow(self._key, self, size):
            self._derived[name] = value
            self._nbytes += size
        return value

    def has(self, name: str) -> bool:
        """Return whether derived data is at hand."""
        return name in self._derived

    @property
    def mask(self) -> Mask:
        """(N,) bool: whether each row of the catalogue is in the scope."""
        return self.derived("mask", self._make_mask, lambda mask: mask.nbytes)

    def _make_mask(self) -> Mask:
        mask = np.zeros(self.n_rows, bool)
        mask[self.rows] = True
        return mask

    def ads_of(self, rows: Rows) -> NDArray[np.signedinteger[Any]]:
        """Return the winning ads (n,) of rows (n,) of this scope, which must have ads."""
        assert self.ads is not None
        # A table costs one memory access per row, and a binary search many. But the table has a line for every item.
        if not self.shared or 16 * len(self.rows) < self.n_rows:
            return self.ads[np.searchsorted(self.rows, rows)]
        return self.derived("ad_of", self._make_ad_of, lambda table: table.nbytes)[rows]

    def _make_ad_of(self) -> NDArray[np.int32]:
        assert self.ads is not None
        ad_of = np.full(self.n_rows, -1, np.int32)
        ad_of[self.rows] = self.ads
        return ad_of

    def within(self, passing: Mask, *, shared: bool = False) -> Scope:
        """Return a scope of the rows that pass; `passing` is (N,) bool."""
        selected = passing[self.rows]
        ads = None if self.ads is None else self.ads[selected]
        return Scope(self.rows[selected], ads, self.n_rows, shared=shared)
