"""The exact primitive: inner products against rows of the (memory-mapped) matrix, and the top k of each query.

It serves small eligible sets, direct tail neighbours, the re-ranking of an index's shortlist, and evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]

# Scores held at once: small enough to stay near the cores, large enough for an efficient matrix product.
_CHUNK_SCORES = 8_000_000
# Columns folded into one maximum when the k-th best score is bounded from below.
_FOLD = 16
_LOWEST = np.finfo(np.float32).min


@dataclass(frozen=True, eq=False)
class TopK:
    """The best rows of every query, best first; a query with fewer candidates than k has a shorter list.

    Shapes: offsets (n_queries + 1,) int64; rows (offsets[-1],) int64; scores (offsets[-1],) float32.
    """

    offsets: Rows
    rows: Rows
    scores: Floats

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, query: int) -> tuple[Rows, Floats]:
        """Rows and scores of one query, best first."""
        span = slice(int(self.offsets[query]), int(self.offsets[query + 1]))
        return self.rows[span], self.scores[span]


def concatenate(parts: list[TopK]) -> TopK:
    """The lists of consecutive chunks of queries, as one."""
    counts = [np.diff(part.offsets) for part in parts] or [np.zeros(0, np.int64)]
    return TopK(
        np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64),
        np.concatenate([part.rows for part in parts] or [np.zeros(0, np.int64)]),
        np.concatenate([part.scores for part in parts] or [np.zeros(0, np.float32)]),
    )


def selected(lists: TopK, which: Rows) -> TopK:
    """The lists of some queries (n,) int64, in that order."""
    counts = np.diff(lists.offsets)[which]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    flat = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts) + np.repeat(lists.offsets[which], counts)
    return TopK(offsets, lists.rows[flat], lists.scores[flat])


def chunks(n_queries: int, n_columns: int) -> Iterator[slice]:
    """Slices of the queries whose score matrices stay within a fixed size."""
    step = max(1, _CHUNK_SCORES // max(1, n_columns))
    for start in range(0, n_queries, step):
        yield slice(start, min(start + step, n_queries))


def buffer(n_queries: int, n_columns: int) -> Floats:
    """Room for the scores of any one of the `chunks`: reused, it spares each product fresh pages."""
    longest = max((part.stop - part.start for part in chunks(n_queries, n_columns)), default=0)
    return np.empty((longest, n_columns), np.float32)


def top_k(score: Floats, k: int, rows: Rows | None = None) -> TopK:
    """The k best columns of each line of score (n, m) float32; ties go to the lower row; -inf is never returned.

    `rows` (m,), ascending, names the columns; without it a column is its own row number.
    """
    n, m = score.shape
    if n == 0 or m == 0 or k <= 0:
        return TopK(np.zeros(n + 1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    # Many times faster than np.nonzero over two dimensions.
    found = np.flatnonzero(score >= _lower_bound(score, k)[:, None])
    lines, columns = np.divmod(found, m)
    values = score.ravel()[found]
    # They come by line, then column, and lexsort is stable: equal scores stay in column order.
    order = np.lexsort((-values, lines))
    starts = np.searchsorted(lines, np.arange(n + 1))
    place = np.arange(len(lines)) - np.repeat(starts[:-1], np.diff(starts))
    order = order[place < k]
    counts = np.minimum(np.diff(starts), k)
    kept = columns[order].astype(np.int64)
    return TopK(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        kept if rows is None else rows[kept],
        values[order],
    )


def _lower_bound(score: Floats, k: int) -> Floats:
    """A value per line that at least the k best scores reach, and few others: (n,) float32.

    The k-th largest of the maxima of disjoint groups of columns is reached by k columns at least. It costs one
    vectorised pass where a selection over all columns costs ten.
    """
    m = score.shape[1]
    if k >= m:
        return np.full(len(score), _LOWEST, np.float32)
    groups = m // _FOLD
    best = score
    if groups >= 4 * k:
        best = score[:, : groups * _FOLD].reshape(len(score), _FOLD, groups).max(axis=1)
    bound = np.partition(best, best.shape[1] - k, axis=1)[:, best.shape[1] - k]
    return np.maximum(bound, _LOWEST)


def search(queries: Floats, matrix: Floats, k: int, rows: Rows | None = None) -> TopK:
    """The k rows with the largest inner product for each query (n, D), among `rows` (ascending) or all of matrix."""
    candidates = matrix if rows is None else matrix[rows]
    room = buffer(len(queries), len(candidates))
    parts = []
    for part in chunks(len(queries), len(candidates)):
        score = np.matmul(queries[part], candidates.T, out=room[: part.stop - part.start])
        parts.append(top_k(score, k, rows))
    return concatenate(parts)
