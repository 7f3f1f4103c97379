"""Ranking metrics with their uncertainty: hit rate, reciprocal rank, basket recall, coverage, and a bootstrap.

A worked table. Queries a, b, c have the lists a: 7 3 5, b: 1 2, c: (none). Four pairs (query, target):

| pair   | place | hit@1 | hit@3 | 1/place@3 |
|--------|-------|-------|-------|-----------|
| (a, 3) | 2     | 0     | 1     | 1/2       |
| (a, 7) | 1     | 1     | 1     | 1         |
| (b, 4) | none  | 0     | 0     | 0         |
| (c, 7) | none  | 0     | 0     | 0         |
| mean   |       | 0.25  | 0.5   | 0.375     |

>>> import numpy as np
>>> from retrieval.topk import TopK
>>> lists = TopK(np.array([0, 3, 5, 5]), np.array([7, 3, 5, 1, 2]), np.zeros(5, np.float32))
>>> place = places(lists, np.array([0, 0, 1, 2]), np.array([3, 7, 4, 7]))
>>> place.tolist()
[2, 1, 0, 0]
>>> float(hits(place, 1).mean()), float(hits(place, 3).mean()), float(reciprocal_ranks(place, 3).mean())
(0.25, 0.5, 0.375)
>>> coverage(lists, 3, n_items=10)
0.5
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieval.arrays import Rows
from retrieval.topk import TopK

Values = NDArray[np.float64]


def places(lists: TopK, query: Rows, target: Rows) -> Rows:
    """The place, from 1, of each target in the list of its query, 0 where it is not listed: (P,) int64.

    Args:
        lists: the ranked rows of n queries.
        query: (P,) int64, the list of each pair.
        target: (P,) int64, the row looked for, ≥ 0.
    """
    if not len(lists.rows) or not len(target):
        return np.zeros(len(target), np.int64)
    width = int(max(lists.rows.max(), target.max())) + 1
    counts = np.diff(lists.offsets)
    listed = np.repeat(np.arange(len(lists)), counts) * width + lists.rows
    place = np.arange(len(listed)) - np.repeat(lists.offsets[:-1], counts) + 1
    order = np.argsort(listed)
    wanted = query * width + target
    at = np.minimum(np.searchsorted(listed, wanted, sorter=order), len(listed) - 1)
    found = order[at]
    return np.where(listed[found] == wanted, place[found], 0).astype(np.int64)


def hits(place: Rows, k: int) -> Values:
    """HR@k of each pair: 1 if its target is among the first k, else 0."""
    return ((place > 0) & (place <= k)).astype(np.float64)


def reciprocal_ranks(place: Rows, k: int) -> Values:
    """MRR@k of each pair: 1/place if its target is among the first k, else 0."""
    return np.where((place > 0) & (place <= k), 1.0 / np.maximum(place, 1), 0.0)


def recalls(place: Rows, query: Rows, n_queries: int, k: int) -> Values:
    """Basket recall@k of each query, hits / min(k, targets): (n_queries,) float64, NaN for a query without a target.

    >>> import numpy as np
    >>> recalls(np.array([1, 0, 5]), np.array([0, 0, 2]), 3, k=3).tolist()
    [0.5, nan, 0.0]
    """
    targets = np.bincount(query, minlength=n_queries)
    found = np.bincount(query, weights=hits(place, k), minlength=n_queries)
    return np.where(targets > 0, found / np.maximum(1, np.minimum(k, targets)), np.nan)


def coverage(lists: TopK, k: int, n_items: int) -> float:
    """Share of n_items that stand among the first k of any list; rows from n_items on are none of them."""
    counts = np.diff(lists.offsets)
    place = np.arange(len(lists.rows)) - np.repeat(lists.offsets[:-1], counts)
    return len(np.unique(lists.rows[(place < k) & (lists.rows < n_items)])) / max(1, n_items)


def bootstrap(
    sums: Values, counts: Values, *, seed: int = 0, samples: int = 1000, level: float = 0.95
) -> tuple[Values, Values]:
    """Interval of Σ sums / Σ counts when whole groups (sessions, baskets) are drawn again with replacement.

    Args:
        sums, counts: (G, M) float64, for each of G groups the sum and the number of values of M metrics.
        level: share of the bootstrap distribution inside the interval, by percentiles.

    Returns:
        low, high: (M,) float64; NaN for a metric without values.
    """
    groups = len(sums)
    if not groups:
        nothing = np.full(sums.shape[1], np.nan)
        return nothing, nothing
    generator = np.random.default_rng(seed)
    drawn_values = np.empty((samples, sums.shape[1]))
    both = np.concatenate([sums, counts], axis=1)
    # As many samples at once as fit in a few MB of weights.
    step = max(1, 2_000_000 // groups)
    for start in range(0, samples, step):
        size = min(step, samples - start)
        drawn = generator.integers(0, groups, (size, groups)) + np.arange(size)[:, None] * groups
        weight = np.bincount(drawn.ravel(), minlength=size * groups).reshape(size, groups)
        total = weight @ both
        top, bottom = np.split(total, 2, axis=1)
        drawn_values[start : start + size] = np.where(bottom > 0, top / np.maximum(bottom, 1e-300), np.nan)
    low, high = np.full(sums.shape[1], np.nan), np.full(sums.shape[1], np.nan)
    tails = [(1 - level) / 2, (1 + level) / 2]
    for metric in np.flatnonzero(counts.sum(axis=0) > 0):
        values = drawn_values[:, metric]
        low[metric], high[metric] = np.quantile(values[~np.isnan(values)], tails)
    return low, high
