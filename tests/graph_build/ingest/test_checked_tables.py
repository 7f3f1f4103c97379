"""Checked events as a whole: quarantine, the share of bad rows that stops a job, and the as-of time."""

import datetime as dt
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph_build.errors import GraphInputError
from graph_build.ingest.arrow_reader import read_events
from tests.graph_build.conftest import GOOD, at, config, event, table


def test_bad_events_are_quarantined_with_their_reason_and_without_the_raw_user_id(built: Callable[..., Any]) -> None:
    rows = [
        *GOOD,
        event("s", at(4), "view", "c", user_id="u1"),
        event(None, at(1), "view", "a"),
        event(" ", at(1), "view", "a"),
        event("s", None, "view", "a"),
        event("s", at(1), "teleport", "a", user_id="somebody"),
        event("s", at(1), "view", None),
        event("s", at(1), "view", ""),
        event("s", at(1), "search"),
        event("s", at(1), "search", query="boots"),
        event("s", at(1, day=1), "view", "z"),
    ]
    summary, out = built(rows, date=at(0).date(), config=config(max_bad_share=0.9))
    expected = {
        "session_missing": 2,
        "time_invalid": 1,
        "type_unknown": 1,
        "item_missing": 2,
        "query_missing": 1,
    }
    quarantine = table(out / "quarantine")
    assert Counter((row["input"], row["reason"]) for row in quarantine) == {
        ("events", reason): n for reason, n in expected.items()
    }
    assert summary.quarantined["events"] == expected
    assert summary.events["read"] == 13
    assert summary.events["other_days"] == 1, "an event after the date is no fault, and is not kept"
    assert summary.events["valid"] == 5
    assert summary.as_of == at(4)
    lines = [row["row"] for row in quarantine]
    assert not any("somebody" in line for line in lines)
    assert any(json.loads(line)["event_type"] == "teleport" for line in lines)


def test_a_job_stops_above_the_share_of_bad_rows_and_rows_after_the_date_are_not_bad(
    checked: Callable[..., Any],
) -> None:
    after_date = [event("s", at(i, day=3), "view", "a") for i in range(20)]
    events = checked([*GOOD, *after_date], date=at(0).date())
    assert (events.refused, events.unused) == ({}, 20)
    with pytest.raises(GraphInputError, match=r"type_unknown: 4.*max_bad_share = 0.5"):
        checked([*GOOD, *[event("s", at(1), "fly", "a")] * 4])


def test_a_log_without_usable_events_is_an_error_and_leaves_no_output(
    built: Callable[..., Any], checked: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(GraphInputError, match="0 rows"):
        built([])
    assert [path.suffix for path in tmp_path.iterdir()] == [".parquet"]
    with pytest.raises(GraphInputError, match="bad"):
        checked([event(None, at(1), "view", "a")])
    with pytest.raises(GraphInputError, match="none of 1 events can be used"):
        checked([event("s", at(1), "search", query="x")])


def test_the_as_of_time_is_that_of_the_last_valid_event(checked: Callable[..., Any]) -> None:
    events = checked([*GOOD, event("s", at(1, day=9), "teleport", "a")])
    assert events.as_of == at(3)
    assert events.as_of.tzinfo == dt.UTC


def test_an_event_from_the_future_is_refused_and_does_not_move_the_as_of_time(checked: Callable[..., Any]) -> None:
    now = dt.datetime.now(dt.UTC)
    events = checked([*GOOD, event("s", now + dt.timedelta(days=2), "view", "a")])
    assert events.refused == {"time_in_future": 1}
    assert events.as_of == at(3)


def test_a_search_without_a_query_is_refused(checked: Callable[..., Any]) -> None:
    events = checked([*(event("s", at(0), "search", query=query) for query in (None, "  ")), *GOOD])
    assert events.refused == {"query_missing": 2}
    assert events.usable.where("event_type = 'search'").count() == 0


def counted_events(unit: int) -> list[dict[str, Any]]:
    """Return events with times in seconds that were read as if a second were `unit` microseconds."""
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    seconds = int(at(0).timestamp())
    return [event("s", epoch + dt.timedelta(microseconds=(seconds + n) * unit), "view", f"{n}") for n in range(3)]


def test_times_of_a_unit_that_is_too_small_stop_the_job_and_the_message_names_the_unit(
    checked: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(GraphInputError, match=r"1970-01-21.*1,000 times as large.*2026-03-02.*unit of their type"):
        checked(counted_events(unit=1_000))
    seconds = int(at(0).timestamp())
    columns = {"session_id": ["s"], "timestamp": [seconds], "event_type": ["view"], "item_id": ["a"]}
    pq.write_table(pa.table(columns), tmp_path / "seconds.parquet")
    settings = config(events={"timestamp_unit": "ms"})
    with pytest.raises(GraphInputError, match=r'2026-03-02.*set \[input.events\] timestamp_unit = "s"'):
        checked(str(tmp_path / "seconds.parquet"), settings)
    with pytest.raises(GraphInputError, match=r'timestamp_unit = "s"'):
        read_events([str(tmp_path / "seconds.parquet")], settings.input)
    assert checked(counted_events(unit=1_000_000)).as_of == at(0) + dt.timedelta(seconds=2)
    # No unit makes these times plausible; they may be made up.
    early = [event("s", dt.datetime(1970, 1, 1, 0, 0, n, tzinfo=dt.UTC), "view", "a") for n in range(3)]
    assert checked(early).as_of.year == 1970
