"""Finished semantic IDs: how evenly their codes are used, and groups of items by a shared prefix."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def code_usage(codes: NDArray[np.integer], size: int) -> dict[str, Any]:
    """How (N, L) codes of K entries a level are used.

    Returns:
        usage and perplexity: of each level, as shares of K; collisions: the share of items that have another's ID
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
    codes: NDArray[np.integer], events: NDArray[np.integer], rows: NDArray[np.int64], evidence: int
) -> NDArray[np.int64]:
    """Group items by as long a prefix as has enough evidence: (T,) int64 group numbers 0…G−1.

    Level by level from the whole code to its first number, the items that are not yet grouped and share a prefix are a
    group if they have `evidence` events together; what is left at the first level is grouped there however little
    there is.

    Args:
        codes: (N, L); events: (N,) training events; rows: (T,) the items to group
    """
    codes, events = codes[rows], events[rows]
    group, count = np.full(len(rows), -1, np.int64), 0
    for length in range(codes.shape[1], 0, -1):
        left = np.flatnonzero(group < 0)
        if len(left) == 0:
            break
        _, prefix = np.unique(codes[left, :length], axis=0, return_inverse=True)
        enough = np.bincount(prefix, weights=events[left]) >= (evidence if length > 1 else 0)
        number = np.cumsum(enough) - 1 + count
        chosen = enough[prefix]
        group[left[chosen]] = number[prefix[chosen]]
        count += int(enough.sum())
    return group
