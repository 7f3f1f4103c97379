"""Training pairs, lists of items and counts of sessions are those that the rules give in plain Python."""

import datetime as dt
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from graph_build.config import CoPurchaseConfig, GraphConfig, StrongClickConfig
from graph_build.sessions.rows import count_events, session_lists, transitions
from tests.graph_build.conftest import at, event, events_of
from tests.oracles import sessions as oracle


def strong_clicks(rows: Any, config: StrongClickConfig) -> oracle.Rows:
    """Return the strong clicks among the transitions, with times in UTC."""
    from pyspark.sql import functions as F

    pairs = transitions(rows, config, CoPurchaseConfig()).where("kind = 'strong_click'")
    utc = F.to_timestamp_ntz(F.col("time").cast("string"))
    return [row.asDict() for row in pairs.withColumn("time", utc).collect()]


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_strong_clicks_equal_the_rules_in_plain_python(assembled: Callable[..., Any], seed: int) -> None:
    log = oracle.random_log(seed)
    config = StrongClickConfig(max_steps=3)
    pairs = strong_clicks(assembled(log), config)
    counts = Counter((row["src"], row["dst"], row["steps"], row["time"].replace(tzinfo=dt.UTC)) for row in pairs)
    assert counts == oracle.strong_click_pairs(log, config)


@pytest.mark.parametrize("seed", [5])
def test_sessions_list_the_items_that_were_opened_or_bought(assembled: Callable[..., Any], seed: int) -> None:
    log = oracle.random_log(seed)
    lists = session_lists(assembled(log), CoPurchaseConfig()).collect()
    assert sorted((row["kind"], row["items"]) for row in lists) == sorted(oracle.item_lists(log))
    assert all(len(row["times"]) == len(row["items"]) and row["times"] == sorted(row["times"]) for row in lists)


def co_purchases(rows: Any) -> list[tuple[str, str]]:
    pairs = transitions(rows, StrongClickConfig(), CoPurchaseConfig()).where("kind = 'co_purchase'")
    return [(row["src"], row["dst"]) for row in pairs.collect()]


def test_each_item_of_a_basket_is_paired_with_the_same_number_of_others(assembled: Callable[..., Any]) -> None:
    pairs = co_purchases(assembled([event("big", at(1), "purchase", f"i{i}") for i in range(10)]))
    assert Counter(src for src, _ in pairs) == {f"i{i}": 3 for i in range(10)}
    assert Counter(dst for _, dst in pairs) == {f"i{i}": 3 for i in range(10)}
    assert all(src != dst for src, dst in pairs)


def test_a_repeated_item_of_a_basket_counts_once(assembled: Callable[..., Any]) -> None:
    rows = assembled([event("pair", at(1), "purchase", item) for item in ("x", "y", "x")])
    assert sorted(co_purchases(rows)) == [("x", "y"), ("y", "x")]


def test_a_single_purchase_and_a_session_with_views_are_no_baskets(assembled: Callable[..., Any]) -> None:
    log = [event("single", at(1), "purchase", "z")]
    log += [event("viewed", at(1), "view", "i1"), event("viewed", at(2), "view", "i2")]
    log += [event("viewed", at(3), "purchase", "i1"), event("viewed", at(3), "purchase", "i2")]
    assert co_purchases(assembled(log)) == []


def test_a_bot_like_session_is_cut_at_the_cap(assembled: Callable[..., Any]) -> None:
    config = GraphConfig(strong_click=StrongClickConfig(max_session_items=4, max_steps=1))
    rows = assembled([event("bot", at(i / 60), "view", f"i{i}") for i in range(9)], config)
    pairs = strong_clicks(rows, config.strong_click)
    assert {(row["src"], row["dst"]) for row in pairs} == {("i0", "i1"), ("i1", "i2"), ("i2", "i3")}
    assert count_events(rows).capped["session_items"] == 5


def test_the_cap_holds_for_bot_like_sessions_that_log_their_sources(assembled: Callable[..., Any]) -> None:
    config = GraphConfig(strong_click=StrongClickConfig(max_session_items=4))
    log = [event("bot", at(i / 60), "click", f"i{i}", source_item_id="home") for i in range(9)]
    pairs = strong_clicks(assembled(log, config), config.strong_click)
    assert {(row["src"], row["dst"]) for row in pairs} == {("home", f"i{i}") for i in range(4)}


def test_in_a_session_that_logs_sources_only_the_logged_links_count(assembled: Callable[..., Any]) -> None:
    log = [
        event("logs", at(1), "view", "a"),
        event("logs", at(2), "view", "b"),
        event("logs", at(3), "click", "c", source_item_id="a"),
        event("does not", at(1), "view", "a"),
        event("does not", at(2), "view", "b"),
    ]
    pairs = strong_clicks(assembled(log), StrongClickConfig())
    assert sorted((row["src"], row["dst"], row["steps"]) for row in pairs) == [("a", "b", 1), ("a", "c", 1)]


def test_a_click_and_the_view_that_it_opens_count_once(assembled: Callable[..., Any]) -> None:
    log = [
        event("s", at(1), "click", "a"),
        event("s", at(1.1), "view", "a"),
        event("s", at(2), "view", "a"),
        event("s", at(3), "view", "b"),
    ]
    assert [event["counted"] for event in events_of(assembled(log))] == [True, False, True, True]
