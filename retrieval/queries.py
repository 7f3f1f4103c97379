"""Queries as lists of viewed rows, and the protocol of the rankers that answer them.

Models, baselines, batches and the evaluation all use these types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from retrieval.arrays import Mask, Rows, offsets_from_lengths, spans
from retrieval.errors import RetrievalError
from retrieval.topk import TopK


@dataclass(frozen=True, eq=False)
class Queries:
    """n lists of viewed rows, most recent last; no list is empty.

    Shapes: rows (V,) int64, all lists one after the other; offsets (n + 1,) int64, the start of each list, then V.

    Raises:
        RetrievalError: a list is empty.
    """

    rows: Rows
    offsets: Rows

    def __post_init__(self) -> None:
        if np.any(np.diff(self.offsets) < 1):
            raise RetrievalError(
                "a query holds no known item, so it cannot be ranked; leave it out, or fall back to popular items"
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def single(cls, rows: Rows) -> Queries:
        """Return one query for each of the rows (n,) int64."""
        return cls(rows, np.arange(len(rows) + 1, dtype=np.int64))

    @property
    def last(self) -> Rows:
        """The most recent row of each query: (n,) int64."""
        return self.rows[self.offsets[1:] - 1]

    @property
    def query(self) -> Rows:
        """The query of each viewed row: (V,) int64."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def part(self, which: slice) -> Queries:
        """Return a run of consecutive queries."""
        offsets = self.offsets[which.start : which.stop + 1]
        return Queries(self.rows[offsets[0] : offsets[-1]], offsets - offsets[0])

    def take(self, which: Rows) -> Queries:
        """Return the queries with the given numbers (m,) int64, in that order."""
        lengths = np.diff(self.offsets)[which]
        return Queries(self.rows[spans(self.offsets[which], lengths)], offsets_from_lengths(lengths))

    def recent(self, n: int) -> Queries:
        """Return the queries, each cut to its n most recent rows."""
        lengths = np.diff(self.offsets)
        ends = np.repeat(self.offsets[1:], lengths)
        offsets = offsets_from_lengths(np.minimum(lengths, n))
        return Queries(self.rows[ends - np.arange(len(self.rows)) <= n], offsets)


class Ranker(Protocol):
    """A model or a baseline that ranks rows of the catalogue for queries."""

    def rank(self, queries: Queries, k: int, *, eligible: Mask | None = None, include_current: bool = False) -> TopK:
        """Return the k best rows of each query; a list is shorter where the ranker finds no more.

        Args:
            queries: the viewed rows of n queries.
            k: length of the lists.
            eligible: (N,) bool, the rows that may be returned; None = the whole catalogue.
            include_current: whether a query's last viewed item may be returned.
        """
        ...
