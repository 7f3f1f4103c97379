"""Finished semantic IDs: how evenly their codes are used, and groups of items that share a prefix."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def code_usage(codes: NDArray[np.integer], size: int) -> dict[str, Any]:
    """Return how well the codes use their codebooks.

    Args:
        codes: (N, L) codes in [0, K)
        size: K, entries per level
    Returns:
        `usage`: the share of entries in use, per level; `perplexity`: exp(entropy) / K, per level; `collisions`: the
        share of items whose ID another item has too
    """
    usage, perplexity = [], []
    for column in codes.T:
        share = np.bincount(column, minlength=size) / len(codes)
        used = share[share > 0]
        usage.append(round(len(used) / size, 4))
        perplexity.append(round(float(np.exp(-(used * np.log(used)).sum())) / size, 4))
    _, times = np.unique(codes, axis=0, return_counts=True)
    return {
        "usage": usage,
        "perplexity": perplexity,
        "collisions": round(float(times[times > 1].sum() / len(codes)), 4),
    }


def prefix_groups(
    codes: NDArray[np.integer], events: NDArray[np.integer], rows: NDArray[np.int64], min_events: int
) -> NDArray[np.int64]:
    """Group items by their longest prefix with enough events, and return (T,) int64 group numbers 0…G−1.

    Prefixes are tried from the whole code down to its first number. Items that are not grouped yet and share the prefix
    become a group if they have at least `min_events` events together. At the first number, the remaining items are
    grouped regardless of their events.

    Args:
        codes: (N, L) semantic IDs
        events: (N,) training events
        rows: (T,) the items to group
        min_events: events that the items of a group must have together
    """
    codes, events = codes[rows], events[rows]
    group, count = np.full(len(rows), -1, np.int64), 0
    for length in range(codes.shape[1], 0, -1):
        remaining = np.flatnonzero(group < 0)
        if len(remaining) == 0:
            break
        _, prefix = np.unique(codes[remaining, :length], axis=0, return_inverse=True)
        enough = np.bincount(prefix, weights=events[remaining]) >= (min_events if length > 1 else 0)
        number = np.cumsum(enough) - 1 + count
        chosen = enough[prefix]
        group[remaining[chosen]] = number[prefix[chosen]]
        count += int(enough.sum())
    return group
