"""Assembled sessions: duplicates, the order of events, and the hash of queries that retrieval shares."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from graph_build.sessions.assemble import hash_queries
from graph_build.sessions.rows import count_events
from tests.graph_build.conftest import at, event, events_of

# Each row: query, normalised text, hash of the normalised text.
GOLDEN = Path(__file__).parents[1] / "ingest" / "golden_queries.json"


def test_queries_are_hashed_as_in_the_golden_file() -> None:
    rows = json.loads(GOLDEN.read_text(encoding="utf-8"))
    hashes, has_query = hash_queries(pa.array([query for query, _, _ in rows]))
    assert len(rows) > 5
    assert has_query.tolist() == [expected is not None for _, _, expected in rows]
    assert hashes[has_query].tolist() == [expected for _, _, expected in rows if expected is not None]


def test_duplicates_are_dropped_and_clicks_that_were_logged_twice_are_merged(assembled: Callable[..., Any]) -> None:
    rows = [
        event("a", at(1), "view", "i", event_id="1"),
        event("a", at(1), "view", "i", event_id="1"),
        event("a", at(1), "view", "i", event_id="2"),
        # Without an event_id, only identical rows right after each other are duplicates.
        event("b", at(1), "view", "i"),
        event("b", at(1), "view", "i"),
        event("b", at(1), "view", "j"),
        event("b", at(1), "view", "i"),
        # One click that was logged with and without its request.
        event("c", at(1), "click", "i", query="q"),
        event("c", at(1), "click", "j"),
        event("c", at(1), "click", "i", request_id="r"),
        event("c", at(2), "click", "i"),
    ]
    sessions = assembled(rows)
    events = events_of(sessions)
    assert len(events) == 2 + 3 + 3
    assert [event["item_id"] for event in events if event["search"] is not None] == ["i"]
    assert count_events(sessions).duplicates == 3


def test_the_order_in_the_file_decides_among_equal_times_however_spark_splits_it(
    assembled: Callable[..., Any],
) -> None:
    rows = [event("s", at(1), "view", item) for item in "qwertyuiop"]
    assert "".join(event["item_id"] for event in events_of(assembled(rows))) == "qwertyuiop"
