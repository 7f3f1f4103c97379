"""The paired comparison of two rankers: how much more of the same targets the second one finds, with intervals.

Both rankers answer the same questions. Most of what makes one session easier than another is therefore the same for
both, and drops out of the difference. So the interval of the difference is much narrower than those of the two values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from retrieval.arrays import Mask, Rows
from retrieval.evaluation import metrics
from retrieval.evaluation.pairs import Pairs
from retrieval.evaluation.protocols import CUTS, grouped, metrics_of

LEAST_GROUPS = 20
"""A slice of fewer sessions or baskets has no interval, because resampling so few says nothing about others."""


def differences(
    first: Rows,
    second: Rows,
    pairs: Pairs,
    slices: Mapping[str, Mask],
    protocol: str = "item",
    *,
    samples: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return a row for each slice, metric and cut, with both values and their difference.

    The intervals hold 95% of the differences found by drawing whole sessions or baskets with replacement; each draw is
    used for both rankers.

    Args:
        first: (P,) int64, the rank that the first ranker gives each target, from 1; 0 = not listed.
        second: (P,) int64, the rank that the second ranker gives each target.
        pairs: the pairs that both answer; only their groups and questions are used.
        slices: name → (P,) bool, the pairs of each slice.
        protocol: the protocol of the pairs.
        samples: number of draws.
        seed: seed of the draws.

    Returns:
        Rows of slice, metric, k, a (the value of the first), b (that of the second), difference (b - a), low, high, n
        (as in `protocols.evaluate`) and groups (sessions or baskets in the slice). Values are None in a slice without
        pairs; low and high are also None in a slice of fewer than `LEAST_GROUPS` groups.
    """
    cells = [(part, name, k) for part in slices for name in metrics_of(protocol) for k in CUTS[name]]
    both = [[grouped(name, ranks, pairs, slices[part], k) for ranks in (first, second)] for part, name, k in cells]
    gains = np.stack([sums_of_second - sums for (sums, _), (sums_of_second, _) in both], axis=1)
    counts = np.stack([counts for (_, counts), _ in both], axis=1)
    low, high = metrics.bootstrap(gains, counts, seed=seed, samples=samples)
    rows = []
    for cell, (part, name, k) in enumerate(cells):
        total, groups = counts[:, cell].sum(), int(np.count_nonzero(counts[:, cell]))
        a, b = (float(sums.sum() / total) if total else None for sums, _ in both[cell])
        has_interval = groups >= LEAST_GROUPS
        rows.append(
            {
                "slice": part,
                "metric": name,
                "k": k,
                "a": a,
                "b": b,
                "difference": float(gains[:, cell].sum() / total) if total else None,
                "low": float(low[cell]) if has_interval else None,
                "high": float(high[cell]) if has_interval else None,
                "n": groups if name == "recall" else int(total),
                "groups": groups,
            }
        )
    return rows
