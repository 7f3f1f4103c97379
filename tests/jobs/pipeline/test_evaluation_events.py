"""Test events are read by the rules of the graph build: names, types, case, times, ids, and which rows are left out."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph_build.config import EventsInput, InputConfig
from jobs.errors import TableError
from jobs.pipeline.evaluation_events import read_events, sessions_of
from retrieval.errors import EvaluationError

NOON = dt.datetime(2026, 3, 14, 12, 0, tzinfo=dt.UTC)
GOOD = {"session_id": "s", "timestamp": "2026-03-14T12:00:00Z", "event_type": "view", "item_id": "7"}


def write_table(path: Path, rows: list[dict[str, object]]) -> list[str]:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return [str(path)]


def test_configured_columns_and_types_are_read_in_any_case_and_ids_are_stripped(tmp_path):
    rows = [
        {"visit": " s ", "timestamp": "2026-03-14 12:00:00", "event_type": "PageView", "item_id": " 7 ", "ad_id": None},
        {"visit": "s", "timestamp": "2026-03-14T14:00:00+02:00", "event_type": "CLICK", "item_id": "8", "ad_id": None},
        {"visit": "s", "timestamp": "2026-03-14T12:00:00Z", "event_type": "view", "item_id": "9", "ad_id": "a"},
    ]
    events = EventsInput(columns={"session_id": "visit"}, types={"pageview": "view"}, exclude_ad_events=True)
    table = read_events(write_table(tmp_path / "e.parquet", rows), InputConfig(events=events))
    assert table["session_id"].to_pylist() == ["s", "s"]
    assert table["event_type"].to_pylist() == ["view", "click"]
    assert table["item_id"].to_pylist() == ["7", "8"]
    assert table["timestamp"].to_pylist() == [NOON, NOON]


def test_ids_in_csv_are_text(tmp_path):
    file = tmp_path / "e.csv"
    file.write_text("session_id,timestamp,event_type,item_id,sequence\n01,2026-03-14T12:00:00Z,view,007,3\n")
    [row] = read_events([str(file)], InputConfig()).to_pylist()
    present = {name: value for name, value in row.items() if value is not None and name not in ("file", "block", "row")}
    assert present == {"session_id": "01", "event_type": "view", "item_id": "007", "timestamp": NOON, "sequence": 3}


def test_the_files_of_a_folder_may_differ_in_columns_and_types(tmp_path):
    log = tmp_path / "log"
    (log / "_temporary").mkdir(parents=True)
    write_table(log / "1.parquet", [GOOD | {"item_id": 7, "ad_id": None}])
    write_table(log / "2.parquet", [GOOD | {"item_id": "i8", "ad_id": "a", "sequence": 2}, GOOD | {"sequence": 1}])
    (log / "3.csv").write_text("session_id,timestamp,event_type,item_id,user_id\ns,2026-03-14T12:00:00Z,view,9,u\n")
    write_table(log / "_temporary" / "4.parquet", [GOOD])
    table = read_events([str(log)], InputConfig(events=EventsInput(exclude_ad_events=True)))
    assert table["item_id"].to_pylist() == ["7", "7", "9"]
    assert table["sequence"].to_pylist() == [None, 1, None]


def test_integer_times_outside_the_calendar_are_bad_rows(tmp_path, caplog):
    times = [1_773_489_600, -(2**63), 1_773_489_600_000_000, 250_000_000_000 - 1]
    path = write_table(tmp_path / "e.parquet", [GOOD | {"timestamp": time} for time in times])
    table = read_events(path, InputConfig(events=EventsInput(timestamp_unit="s"), max_bad_share=0.9))
    assert table["timestamp"].to_pylist() == [NOON]
    assert "3 of 4 test events cannot be used (time_invalid: 3)" in caplog.text


@pytest.mark.parametrize("times", [["1773489600000"], [1773489600000]])
def test_times_since_1970_may_be_numbers_or_text(tmp_path, times):
    path = write_table(tmp_path / "e.parquet", [GOOD | {"timestamp": times[0]}])
    table = read_events(path, InputConfig(events=EventsInput(timestamp_unit="ms")))
    assert table["timestamp"].to_pylist() == [NOON]


def test_bad_rows_are_left_out_counted_and_the_first_is_named(tmp_path, caplog):
    bad = [{"timestamp": "14.3.2026"}, {"timestamp": None}, {"event_type": "glance"}, {"item_id": " "}]
    bad.append({"timestamp": "0001-01-01T00:00+14:00"})  # before the year 1 in UTC
    search = GOOD | {"event_type": "search", "item_id": None, "query": "red shoes"}
    path = write_table(
        tmp_path / "e.parquet", [GOOD | {"query": None}, *(GOOD | fault for fault in bad), *[GOOD] * 4, search]
    )
    assert len(read_events(path, InputConfig())) == 6
    [message] = caplog.messages
    assert "5 of 11 test events cannot be used (item_missing: 1, time_invalid: 3, type_unknown: 1)" in message
    assert f"time_invalid: timestamp = '14.3.2026' in row 2 of {path[0]}" in message
    with pytest.raises(
        TableError, match=r"5 of 11 events rows are bad .* input.max_bad_share = 0.3 .* = '14.3.2026' in row 2"
    ):
        read_events(path, InputConfig(max_bad_share=0.3))


def test_a_column_that_is_missing_or_of_another_type_is_named(tmp_path):
    path = write_table(
        tmp_path / "e.parquet", [{"session_id": "s", "timestamp": 1.5, "event_type": "view", "item_id": "7"}]
    )
    with pytest.raises(TableError, match="'timestamp' of events has type double"):
        read_events(path, InputConfig())
    with pytest.raises(TableError, match=r"need a column 'product'.*\[input.events.columns\]"):
        read_events(path, InputConfig(events=EventsInput(columns={"item_id": "product"})))


EVENT = {"session_id": "s", "timestamp": NOON, "event_type": "view", "item_id": "a", "sequence": None}


def at(seconds: int, event_type: str, item: str | None, **columns: object) -> dict[str, object]:
    return (
        EVENT | {"timestamp": NOON + dt.timedelta(seconds=seconds), "event_type": event_type, "item_id": item} | columns
    )


def test_sessions_are_ordered_and_a_view_after_its_click_counts_once(tmp_path):
    rows = [
        at(0, "view", "b", sequence=2),
        at(0, "click", "a", sequence=1),
        at(0, "view", "b", sequence=2),
        at(0, "view", "z", session_id="t"),
        at(2, "view", "d"),
        at(1, "click", "c", sequence=0),
        at(1, "view", "c", sequence=1),
        at(3, "view", "d"),
        at(4, "search", None),
        at(5, "purchase", "d"),
    ]
    sessions = sessions_of(read_events(write_table(tmp_path / "e.parquet", rows), InputConfig()))
    assert sessions.session_ids.to_pylist() == ["s", "t"]
    # The identical views of b count once, and so do the click on c and the view that it opened. Both views of d count.
    assert sessions.item_ids.to_pylist() == ["a", "b", "c", "d", "d", "z"]
    assert sessions.offsets.tolist() == [0, 5, 6]


def test_events_that_were_delivered_again_count_once(tmp_path):
    first = [at(0, "view", "a", event_id="1"), at(1, "view", "b", event_id="2"), at(2, "view", "a", event_id="3")]
    rows = [*first, *first[1:], at(3, "view", "a", event_id="4")]
    sessions = sessions_of(read_events(write_table(tmp_path / "e.parquet", rows), InputConfig()))
    assert sessions.item_ids.to_pylist() == ["a", "b", "a", "a"]


def test_baskets_have_at_least_two_distinct_items(tmp_path):
    baskets = {"s0": ["a", "b", "a"], "s1": ["c", "c"], "s2": ["d"], "s3": ["e", "f"]}
    rows = [
        at(second, "purchase", item, session_id=session)
        for session, items in baskets.items()
        for second, item in enumerate(items)
    ]
    rows.append(at(99, "view", "x", session_id="s3"))
    sessions = sessions_of(read_events(write_table(tmp_path / "e.parquet", rows), InputConfig()), "basket")
    assert sessions.session_ids.to_pylist() == ["s0", "s3"]
    assert sessions.item_ids.to_pylist() == ["a", "b", "e", "f"]


def test_events_without_a_session_of_the_kind_are_refused(tmp_path):
    events = read_events(
        write_table(tmp_path / "e.parquet", [at(0, "view", "a"), at(1, "purchase", "a")]), InputConfig()
    )
    assert len(sessions_of(events)) == 1
    with pytest.raises(EvaluationError, match="no session with a valid row of type purchase"):
        sessions_of(events, "basket")
    with pytest.raises(EvaluationError, match="of type view or click"):
        sessions_of(events.slice(1))
