"""Swing and its caps in plain Python: loops over every pair of users and over every entry."""

import itertools
import math
from collections import defaultdict

import numpy as np

from graph_build.edges.swing_lists import sampling_hash

Lists = list[dict[int, int]]  # for each user: item → level, which is also its strength
Log = list[tuple[int, int, int, int]]  # user, item, level in the full graph, level in the fit graph
Levels = dict[tuple[int, int], tuple[int, int]]  # (user, item) → level in the full graph and in the fit graph


def swing_scores(users: Lists, alpha: float, offset: float, exponent: float) -> dict[tuple[int, int], float]:
    """Return the score of each (i, j) by the formula of `graph_build.edges.swing_kernel`."""
    scores: dict[tuple[int, int], float] = defaultdict(float)
    for u, v in itertools.combinations(users, 2):
        common = set(u) & set(v)
        w = (offset + len(u)) ** -exponent * (offset + len(v)) ** -exponent
        for i, j in itertools.permutations(common, 2):
            scores[i, j] += w * math.sqrt(u[i] * u[j]) * math.sqrt(v[i] * v[j]) / (alpha + len(common))
    return dict(scores)


def capped(rows: Log, by: str, cap: int, seed: int) -> Levels:
    """Return the entries that remain under a cap per user or per item; each graph is capped on its own."""
    remaining: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    for graph in (0, 1):
        groups: dict[int, dict[tuple[int, int], int]] = defaultdict(dict)
        for user, item, *levels in rows:
            if levels[graph]:
                group = groups[user if by == "user" else item]
                group[user, item] = max(levels[graph], group.get((user, item), 0))
        for group in groups.values():
            for pair in sorted(group, key=lambda p: sampling_hash(np.array([p[0]]), np.array([p[1]]), seed)[0])[:cap]:
                remaining[pair][graph] = group[pair]
    return {pair: (levels[0], levels[1]) for pair, levels in remaining.items()}
