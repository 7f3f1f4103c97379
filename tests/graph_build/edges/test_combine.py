"""The quota of edges per item, and the factors that scale edge types."""

import itertools
import random
from typing import Any

import pytest

from graph_build.decay import ONE
from graph_build.edges.combine import scale_factors, within_quota


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_the_quota_keeps_edges_that_are_strong_for_either_end(spark: Any, seed: int) -> None:
    rng = random.Random(seed)
    pairs = {(rng.randrange(12), rng.randrange(12)) for _ in range(70)}
    rows = [(a, b, *(rng.randrange(4) for _ in range(4))) for a, b in sorted(pairs) if a < b]
    frame = spark.createDataFrame(
        rows, "low bigint, high bigint, full_up bigint, full_down bigint, fit_up bigint, fit_down bigint"
    )
    for quota in (1, 3):
        expected: set[tuple[int, int, int, int]] = set()
        for graph in (0, 1):
            edges = [(row[0], row[1], row[2 + 2 * graph]) for row in rows]
            edges += [(row[1], row[0], row[3 + 2 * graph]) for row in rows]
            for end, node in itertools.product((0, 1), range(12)):
                of_node = [edge for edge in edges if edge[end] == node and edge[2]]
                best = sorted(of_node, key=lambda edge: (-edge[2], edge[1 - end]))[:quota]
                expected |= {(graph, *edge) for edge in best}
        remaining = set()
        for low, high, *raw in (tuple(row) for row in within_quota(frame, quota).collect()):
            for graph in (0, 1):
                remaining |= {(graph, low, high, raw[2 * graph]), (graph, high, low, raw[2 * graph + 1])}
        assert {edge for edge in remaining if edge[3]} == expected


def test_a_mean_edge_of_every_type_weighs_as_much_as_a_mean_strong_click() -> None:
    factors = scale_factors({"strong_click": (6 * ONE, 3), "swing": (50, 5)}, ONE)
    assert factors["strong_click"] * ONE == 1.0
    assert factors["swing"] * 50 / 5 == pytest.approx(2.0)


def test_without_strong_clicks_a_mean_edge_weighs_one() -> None:
    assert scale_factors({"swing": (50, 5)}, ONE)["swing"] * 10 == pytest.approx(1.0)
