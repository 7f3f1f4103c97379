"""Co-search pairs are counted as plain Python counts them by the rules, and a search is cut at its cap."""

import datetime as dt
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from graph_build.config import CoSearchConfig
from graph_build.edges.co_search import count_cut_items, daily_searches, search_pairs, searched_items
from tests.graph_build.conftest import at, event, named_pairs
from tests.oracles import sessions as oracle


@pytest.mark.parametrize("seed", [4])
def test_counts_equal_the_rules_in_plain_python(assembled: Callable[..., Any], seed: int) -> None:
    log = oracle.random_log(seed)
    rows = assembled(log)
    counts: Counter[Any] = Counter()
    for row in named_pairs(daily_searches(search_pairs(searched_items(rows, None), CoSearchConfig())), rows):
        assert row["full"] == row["fit"]
        day = dt.date(1970, 1, 1) + dt.timedelta(days=row["day"])
        counts[day, row["low_id"], row["high_id"]] += row["full"]
        counts[day, row["high_id"], row["low_id"]] += row["full"]
    assert counts == oracle.co_search_counts(log)


def test_a_search_counts_at_most_its_cap(assembled: Callable[..., Any]) -> None:
    log = [event("s", at(1), "search", query="x")]
    log += [event("s", at(2 + i), "view", f"i{i}") for i in range(8)]
    config = CoSearchConfig(max_items_per_search=3)
    pairs = search_pairs(searched_items(assembled(log), None), config)
    assert daily_searches(pairs).count() == 3
    assert count_cut_items(pairs, config) == 5
