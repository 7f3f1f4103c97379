"""The only cache of a retriever: data that later requests can use again, up to a number of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Hashable
from itertools import count, islice
from typing import Any

ENTRY_BYTES = 2_000
"""Bytes that an entry takes besides the values of its arrays: key, objects and headers of the arrays, rounded up."""
# The number of entries that are freed at once. To free all entries of a full cache would take half a second.
_FREED_AT_ONCE = 64


class ByteCache:
    """Keeps values up to a number of bytes, and drops first those that were used longest ago.

    A value above the limit is not kept. Threads may share the cache. The cache computes nothing itself, so no thread
    waits for the computations of another one.

    Args:
        limit: the greatest number of bytes; 0 keeps nothing.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._cleared: deque[OrderedDict[Hashable, tuple[Any, int]]] = deque()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """The number of bytes that the entries take."""
        return self._bytes

    def get(self, key: Hashable) -> Any:
        """Return the value of a key; None if it is not kept."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def latest(self, n: int) -> list[tuple[Any, Any]]:
        """Return the keys and values of the n entries that were used last, the latest first."""
        with self._lock:
            return [(key, self._entries[key][0]) for key in islice(reversed(self._entries), n)]

    def put(self, key: Hashable, value: Any, nbytes: int) -> Any:
        """Keep a value whose arrays take `nbytes`. Return the value to use.

        That is the value which the key has already, or else this one.
        """
        nbytes += ENTRY_BYTES
        with self._lock:
            if key in self._entries:
                return self._entries[key][0]
            if nbytes > self.limit:
                return value
            self._entries[key] = value, nbytes
            self._bytes += nbytes
        self._free()
        return value

    def grow(self, key: Hashable, value: Any, nbytes: int) -> bool:
        """Count further bytes that a kept value takes from now on. Return False if it may not take them."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry[0] is not value or entry[1] + nbytes > self.limit:
                return False
            self._entries[key] = value, entry[1] + nbytes
            self._entries.move_to_end(key)
            self._bytes += nbytes
        self._free()
        return True

    def clear(self) -> None:
        """Forget everything. The memory of many entries is freed little by little, as new entries are added or grow."""
        with self._lock:
            if self._entries:
                self._cleared.append(self._entries)
                self._entries = OrderedDict()
        self._free()

    def _free(self) -> None:
        """Free some of the cleared entries, and those used longest ago until the rest is within the limit."""
        for number in count():
            with self._lock:
                if not (self._bytes > self.limit or (self._cleared and number < _FREED_AT_ONCE)):
                    return
                entries = self._cleared[0] if self._cleared else self._entries
                value, nbytes = entries.popitem(last=False)[1]
                self._bytes -= nbytes
                if self._cleared and not self._cleared[0]:
                    self._cleared.popleft()
            del value  # outside the lock, for which others may wait
