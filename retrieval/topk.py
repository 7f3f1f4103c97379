"""Exact search: inner products against rows of the (memory-mapped) matrix, and the top k of each query.

It serves the exact scans of single requests and batches, the tuning of the index, and evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from retrieval.arrays import Floats, Rows, offsets_from_lengths, positions_in_lists, spans

# Number of scores held in memory at once: small enough for the cache, large enough for an efficient matrix product.
_CHUNK_SCORES = 8_000_000
# Number of columns that share one maximum when the k-th best score is bounded from below.
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
        """Return the rows and the scores of one query, best first."""
        span = slice(int(self.offsets[query]), int(self.offsets[query + 1]))
        return self.rows[span], self.scores[span]

    def take(self, which: Rows) -> TopK:
        """Return the lists of the queries with the given numbers (m,) int64, in that order."""
        lengths = np.diff(self.offsets)[which]
        flat = spans(self.offsets[which], lengths)
        return TopK(offsets_from_lengths(lengths), self.rows[flat], self.scores[flat])


def concatenate(parts: list[TopK]) -> TopK:
    """Join the lists of consecutive chunks of queries."""
    lengths = [np.diff(part.offsets) for part in parts] or [np.zeros(0, np.int64)]
    return TopK(
        offsets_from_lengths(np.concatenate(lengths)),
        np.concatenate([part.rows for part in parts] or [np.zeros(0, np.int64)]),
        np.concatenate([part.scores for part in parts] or [np.zeros(0, np.float32)]),
    )


def chunks(n_queries: int, n_columns: int) -> Iterator[slice]:
    """Yield slices of the queries whose score matrices stay within a fixed size.

    Args:
        n_queries: number of queries.
        n_columns: number of candidates that each query is scored against.
    """
    step = max(1, _CHUNK_SCORES // max(1, n_columns))
    for start in range(0, n_queries, step):
        yield slice(start, min(start + step, n_queries))


def buffer(n_queries: int, n_columns: int) -> Floats:
    """Allocate one array that holds the scores of any of the `chunks`, so that no product needs an array of its own.

    Args:
        n_queries: number of queries.
        n_columns: number of candidates that each query is scored against.

    Returns:
        (number of queries in the largest chunk, n_columns) float32, not initialised.
    """
    longest = max((part.stop - part.start for part in chunks(n_queries, n_columns)), default=0)
    return np.empty((longest, n_columns), np.float32)


def top_k(score: Floats, k: int, rows: Rows | None = None) -> TopK:
    """Return the k best columns of each query; ties go to the lower row, and -inf is never returned.

    Args:
        score: (n, m) float32, one line per query.
        k: length of the lists.
        rows: (m,) int64, ascending, the row that each column stands for; None = the column's own number.
    """
    n, m = score.shape
    if n == 0 or m == 0 or k <= 0:
        return TopK(np.zeros(n + 1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    # This is many times faster than np.nonzero over two dimensions.
    flat = np.flatnonzero(score >= _lower_bound(score, k)[:, None])
    lines, columns = np.divmod(flat, m)
    values = score.ravel()[flat]
    # The values are ordered by line, then column, and lexsort is stable, so equal scores stay in column order.
    order = np.lexsort((-values, lines))
    starts = np.searchsorted(lines, np.arange(n + 1))
    order = order[positions_in_lists(starts) < k]
    best = columns[order].astype(np.int64)
    return TopK(
        offsets_from_lengths(np.minimum(np.diff(starts), k)),
        best if rows is None else rows[best],
        values[order],
    )


def _lower_bound(score: Floats, k: int) -> Floats:
    """Return for each line a value that its k best scores reach, and that few of its other scores do: (n,) float32.

    The value is the k-th largest maximum of disjoint groups of columns, so at least k columns reach it. This costs one
    vectorised pass; a selection over all columns would cost ten.
    """
    m = score.shape[1]
    if k >= m:
        return np.full(len(score), _LOWEST, np.float32)
    groups = m // _FOLD
    maxima = score
    if groups >= 4 * k:
        maxima = score[:, : groups * _FOLD].reshape(len(score), _FOLD, groups).max(axis=1)
    bound = np.partition(maxima, maxima.shape[1] - k, axis=1)[:, maxima.shape[1] - k]
    return np.maximum(bound, _LOWEST)


def search(queries: Floats, matrix: Floats, k: int, rows: Rows | None = None) -> TopK:
    """Return the k rows with the largest inner product for each query.

    Args:
        queries: (n, D) float32.
        matrix: (N, D) float32, the vectors of all rows.
        k: length of the lists.
        rows: (m,) int64, ascending, the rows that may be returned; None = all of them.
    """
    candidates = matrix if rows is None else matrix[rows]
    scores = buffer(len(queries), len(candidates))
    parts = []
    for part in chunks(len(queries), len(candidates)):
        score = np.matmul(queries[part], candidates.T, out=scores[: part.stop - part.start])
        parts.append(top_k(score, k, rows))
    return concatenate(parts)
