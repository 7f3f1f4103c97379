"""Swing scores from Spark equal those that plain Python computes with the caps and the formula."""

import random
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from graph_build.config import SwingConfig
from graph_build.edges.swing import fixed_point, pack_user_lists, score_pairs
from graph_build.edges.swing_lists import user_day_key, user_lists
from tests.graph_build.conftest import entries_of, levels_of
from tests.oracles.swing import capped, swing_scores


@pytest.mark.parametrize("buckets", [1, 3])
def test_scores_equal_the_formula_in_plain_python_in_both_graphs(spark: Any, buckets: int) -> None:
    rng = random.Random(buckets)
    config = SwingConfig(max_item_users=9, max_user_items=4)
    log = []
    for _ in range(400):
        level = rng.randrange(1, 4)
        user = int(user_day_key(np.array([rng.randrange(40) << 40]), np.array([rng.randrange(2)]))[0])
        log.append((user, rng.randrange(15), level, level if rng.random() < 0.8 else 0))
    by_item = [(*pair, *levels) for pair, levels in capped(log, "item", 9, config.seed).items()]
    levels_by_user = levels_of(user_lists(entries_of(by_item), 4, config.seed)[0])
    assert len({user & 65535 for user, _ in levels_by_user}) == 2, "the log has users that are split by day"
    expected = {}
    for graph in (0, 1):
        users: dict[int, dict[int, int]] = defaultdict(dict)
        for (user, item), levels in levels_by_user.items():
            if levels[graph]:
                users[user][item] = levels[graph]
        expected[graph] = swing_scores([user for user in users.values() if len(user) > 1], 1.0, 0.0, 0.5)
    entries = entries_of(log)
    columns = [entries.user.tolist(), entries.item.tolist(), entries.code.tolist()]
    frame = spark.createDataFrame(list(zip(*columns, strict=True)), "user bigint, item bigint, code tinyint")
    pairs = score_pairs(pack_user_lists(frame, config, 2, buckets), config, buckets).collect()
    for graph, name in enumerate(("full_up", "fit_down")):
        scores = {(row["low"], row["high"]): row[name] / fixed_point(config) for row in pairs if row[name]}
        below = {pair: score for pair, score in expected[graph].items() if pair[0] < pair[1]}
        assert scores == pytest.approx(below, abs=1e-9)
