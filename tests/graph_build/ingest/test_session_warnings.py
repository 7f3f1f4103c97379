"""Warnings about sessions: ids that name users, sessions of one item, missing session ids, and times near 1970."""

from collections.abc import Callable
from typing import Any

import pytest

from graph_build.config import InputConfig
from graph_build.ingest.session_warnings import session_doubts
from graph_build.ingest.warnings import event_doubts, without_sessions
from tests.graph_build.conftest import at, event

Rows = list[dict[str, Any]]


def visits(n: int, days: int, hours: float) -> Rows:
    """Return n sessions of two events for each day; the ids are the same on every day."""
    times = [(day, s, minute) for day in range(days) for s in range(n) for minute in (0, 60 * hours)]
    return [event(f"s{s}", at(s + minute, day=day), "view", f"i{s}-{minute}") for day, s, minute in times]


def test_session_ids_that_behave_like_those_of_users_are_told_with_the_lines_to_write(
    assembled: Callable[..., Any],
) -> None:
    config = InputConfig.model_validate({"events": {"columns": {"user_id": "member"}}})
    (doubt,) = session_doubts(assembled(visits(20, days=4, hours=7)), config)
    assert doubt.startswith(
        "80 of 80 sessions last longer than 6 hours and 100% of the sessions have ids that are used on 3 days or more; "
        "does 'session_id' name users, not visits?"
    )
    assert 'session_id = "", and user_id = "session_id" unless' in doubt


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        (visits(60, days=2, hours=1), None),
        (visits(19, days=1, hours=9), None),
        (
            [event(f"s{s}", at(s + n), "view", f"i{s}") for s in range(30) for n in range(3)],
            "session_id a new one for every item",
        ),
        (
            [event(None, at(40 * s), "view", f"i{s}", user_id="u") for s in range(30)],
            "is user_id a new one for every event",
        ),
    ],
)
def test_ordinary_sessions_are_not_doubted_and_those_of_one_item_are(
    assembled: Callable[..., Any], rows: Rows, part: str | None
) -> None:
    doubts = session_doubts(assembled(rows), InputConfig())
    assert len(doubts) == (part is not None)
    assert part is None or part in doubts[0]


def test_early_times_and_missing_session_ids_are_told_with_their_numbers() -> None:
    nothing: Any = None
    (all_early,) = event_doubts(nothing, {0: 3, 5: 1}, "UTC")
    assert all_early.startswith("the log ends on 1970-01-06: do its times have the unit")
    (some,) = event_doubts(nothing, {0: 1234, 20514: 1, 20515: 8765}, "UTC")
    assert some.startswith("1,234 of 10,000 events lie near 1970, up to 1970-01-01; did the log write 0")
    assert event_doubts(nothing, {20515: 9}, "UTC") == []
    (partly,) = without_sessions(12, 1000, 30.0)
    assert partly.startswith(
        "12 of 1,000 events have a user_id but no session_id; their sessions are cut at pauses of 30"
    )
    assert without_sessions(0, 9, 30.0) == without_sessions(9, 9, 30.0) == []
