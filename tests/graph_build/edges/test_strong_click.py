"""Weights of strong clicks equal exact sums in plain Python."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from graph_build.config import GraphConfig, StrongClickConfig
from graph_build.decay import day_number
from graph_build.edges.strong_click import daily_clicks, weigh_clicks
from graph_build.graphs import AsOf
from graph_build.sessions.holdout import HoldoutCutoff
from tests.graph_build.conftest import at, directed_weights
from tests.oracles import sessions as oracle


@pytest.mark.parametrize("seed", [3])
def test_weights_are_exact_sums_of_decayed_counts(assembled: Callable[..., Any], seed: int) -> None:
    log = oracle.random_log(seed)
    config = GraphConfig(strong_click=StrongClickConfig(half_life_days=1.0, backward=0.25))
    rows = assembled(log)
    begin = at(600, day=1)
    cutoff = HoldoutCutoff(round(begin.timestamp() * 1_000_000), -(2**63))
    last = at(0, day=2).date()
    as_of = AsOf(day_number(last), day_number(last) - 1)
    weighted = weigh_clicks(daily_clicks(rows, cutoff, config), as_of, config.strong_click)
    before = [row for session in oracle.sessions_of(log).values() if session[0]["timestamp"] < begin for row in session]
    assert 0 < len(before) < len(log)
    expected = {
        "full": oracle.strong_click_weights(log, config.strong_click, last),
        "fit": oracle.strong_click_weights(before, config.strong_click, last - dt.timedelta(days=1)),
    }
    for graph, weights in expected.items():
        assert directed_weights(weighted, rows, graph) == weights
