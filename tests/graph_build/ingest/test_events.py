"""Checked events: mapped types, sessions by UTC day, and events of our own ads."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.graph_build.conftest import GOOD, at, config, event, events_of


def test_other_names_of_event_types_are_mapped_in_any_case(checked: Callable[..., Any]) -> None:
    rows = [event("s", at(1), "PageView", "a"), event("s", at(2), "click", "b"), event("s", at(3), "buy", "b")]
    events = checked(rows, config(events={"types": {"pageview": "view", "Buy": "purchase"}}))
    assert events.by_type == {"view": 1, "click": 1, "purchase": 1}
    assert [row["type"] for row in events.usable.orderBy("time").select("type").collect()] == [0, 1, 3]
    with pytest.raises(ValueError, match="buy"):
        config(events={"types": {"x": "buy"}})


def test_a_session_ends_at_midnight_utc(assembled: Callable[..., Any]) -> None:
    rows = [event("s", at(1439), "view", "a"), event("s", at(1441), "view", "b"), event("s", at(1442), "view", "c")]
    events = events_of(assembled(rows))
    assert sorted(Counter(event["session"] for event in events).values()) == [1, 2]
    assert sorted((event["item_id"], event["n"]) for event in events) == [("a", 1), ("b", 1), ("c", 2)]


def test_events_of_our_own_ads_can_be_left_out(checked: Callable[..., Any]) -> None:
    rows = [*GOOD, event("s", at(5), "click", "ad-item", ad_id="7")]
    events = checked(rows, config(events={"exclude_ad_events": True}))
    assert (events.left_out, events.usable.count(), events.as_of) == (1, 3, at(3))
