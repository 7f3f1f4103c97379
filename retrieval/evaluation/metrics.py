"""Ranking metrics with their uncertainty: hit rate, reciprocal rank, basket recall, coverage, and a bootstrap.

A worked table. The queries a, b, c have the lists a: 7 3 5, b: 1 2, c: (none). There are four pairs (query, target):

| pair   | rank | hit@1 | hit@3 | 1/rank@3 |
|--------|------|-------|-------|----------|
| (a, 3) | 2    | 0     | 1     | 1/2      |
| (a, 7) | 1    | 1     | 1     | 1        |
| (b, 4) | none | 0     | 0     | 0        |
| (c, 7) | none | 0     | 0     | 0        |
| mean   |      | 0.25  | 0.5   | 0.375    |

>>> import numpy as np
>>> from retrieval.topk import TopK
>>> lists = TopK(np.array([0, 3, 5, 5]), np.array([7, 3, 5, 1, 2]), np.zeros(5, np.float32))
>>> rank = ranks(lists, np.array([0, 0, 1, 2]), np.array([3, 7, 4, 7]))
>>> rank.tolist()
[2, 1, 0, 0]
>>> float(hits(rank, 1).mean()), float(hits(rank, 3).mean()), float(reciprocal_ranks(rank, 3).mean())
(0.25, 0.5, 0.375)
>>> coverage(lists, 3, n_items=10)
0.5
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieval.arrays import Rows, positions_in_lists
from retrieval.topk import TopK

Values = NDArray[np.float64]
# Number of weights of bootstrap samples that are held in memory at once.
_CHUNK_WEIGHTS = 2_000_000


def ranks(lists: TopK, query: Rows, target: Rows) -> Rows:
    """Return each target's rank, from 1, in the list of its query, or 0 if it is not listed: (P,) int64.

    Args:
        lists: the ranked rows of n queries.
        query: (P,) int64, the query of each pair.
        target: (P,) int64, the row to look for, ≥ 0.
    """
    if not len(lists.rows) or not len(target):
        return np.zeros(len(target), np.int64)
    width = int(max(lists.rows.max(), target.max())) + 1
    lengths = np.diff(lists.offsets)
    listed = np.repeat(np.arange(len(lists)), lengths) * width + lists.rows
    rank = positions_in_lists(lists.offsets) + 1
    order = np.argsort(listed)
    pair = query * width + target
    position = np.minimum(np.searchsorted(listed, pair, sorter=order), len(listed) - 1)
    line = order[position]
    return np.where(listed[line] == pair, rank[line], 0).astype(np.int64)


def hits(rank: Rows, k: int) -> Values:
    """Return HR@k of each pair: 1 if its target is among the first k, else 0.

    Args:
        rank: (P,) int64, the rank of each target from 1, 0 = not listed.
        k: the cut.
    """
    return ((rank > 0) & (rank <= k)).astype(np.float64)


def reciprocal_ranks(rank: Rows, k: int) -> Values:
    """Return MRR@k of each pair: 1/rank if its target is among the first k, else 0.

    Args:
        rank: (P,) int64, the rank of each target from 1, 0 = not listed.
        k: the cut.
    """
    return np.where((rank > 0) & (rank <= k), 1.0 / np.maximum(rank, 1), 0.0)


def recalls(rank: Rows, query: Rows, n_queries: int, k: int) -> Values:
    """Return basket recall@k of each query, hits / min(k, targets): (n_queries,) float64, NaN without a target.

    Args:
        rank: (P,) int64, the rank of each target from 1, 0 = not listed.
        query: (P,) int64, the query of each target.
        n_queries: number of queries.
        k: the cut.

    >>> import numpy as np
    >>> recalls(np.array([1, 0, 5]), np.array([0, 0, 2]), 3, k=3).tolist()
    [0.5, nan, 0.0]
    """
    targets = np.bincount(query, minlength=n_queries)
    hits_of_query = np.bincount(query, weights=hits(rank, k), minlength=n_queries)
    return np.where(targets > 0, hits_of_query / np.maximum(1, np.minimum(k, targets)), np.nan)


def coverage(lists: TopK, k: int, n_items: int) -> float:
    """Return the share of items that stand among the first k of any list.

    Args:
        lists: the ranked rows.
        k: the cut.
        n_items: number of items; rows from n_items on are not counted.
    """
    first = positions_in_lists(lists.offsets) < k
    return len(np.unique(lists.rows[first & (lists.rows < n_items)])) / max(1, n_items)


def bootstrap(
    sums: Values, counts: Values, *, seed: int = 0, samples: int = 1000, level: float = 0.95
) -> tuple[Values, Values]:
    """Return the interval of Σ sums / Σ counts, found by drawing whole groups (sessions, baskets) with replacement.

    Args:
        sums: (G, M) float64, the sum of the values of M metrics in each of G groups.
        counts: (G, M) float64, the number of these values.
        seed: seed of the random draws.
        samples: number of draws.
        level: share of the bootstrap distribution inside the interval, by percentiles.

    Returns:
        (low, high), both (M,) float64; NaN for a metric without values.
    """
    groups = len(sums)
    if not groups:
        undefined = np.full(sums.shape[1], np.nan)
        return undefined, undefined
    generator = np.random.default_rng(seed)
    ratios = np.empty((samples, sums.shape[1]))
    sums_and_counts = np.concatenate([sums, counts], axis=1)
    step = max(1, _CHUNK_WEIGHTS // groups)
    for start in range(0, samples, step):
        size = min(step, samples - start)
        drawn = generator.integers(0, groups, (size, groups)) + np.arange(size)[:, None] * groups
        weight = np.bincount(drawn.ravel(), minlength=size * groups).reshape(size, groups)
        top, bottom = np.split(weight @ sums_and_counts, 2, axis=1)
        ratios[start : start + size] = np.where(bottom > 0, top / np.maximum(bottom, 1e-300), np.nan)
    low, high = np.full(sums.shape[1], np.nan), np.full(sums.shape[1], np.nan)
    tails = [(1 - level) / 2, (1 + level) / 2]
    for metric in np.flatnonzero(counts.sum(axis=0) > 0):
        values = ratios[:, metric]
        low[metric], high[metric] = np.quantile(values[~np.isnan(values)], tails)
    return low, high
