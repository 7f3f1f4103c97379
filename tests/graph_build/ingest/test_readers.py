"""The Arrow reader and the Spark reader read the column of every case alike, and refuse the same rows."""

import csv
import datetime as dt
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from graph_build.config import EventsInput, InputConfig
from graph_build.ingest import arrow_reader, events, spark_reader
from graph_build.ingest.contract import column_kinds
from graph_build.ingest.values import END_OF_TIMES, FIRST_TIME
from tests.graph_build.ingest.cases import CASES, NOW, REASON_OF_NULL, Case

Read = list[tuple[Any, str | None]]
Reader = Callable[[Any, str, InputConfig, str], Read]


def read_by_arrow(spark: Any, path: str, config: InputConfig, column: str) -> Read:
    """Return (value, reason) of each row, in the order of the file."""
    lenient = config.model_copy(update={"max_bad_share": 1.0})
    valid_rows = arrow_reader.read_events([path], lenient, NOW).rows["row"].to_pylist()
    [source] = arrow_reader.find_sources("events", [path], lenient)
    rows = arrow_reader._read_file(source, path, 0, lenient)
    reasons = arrow_reader._reasons(rows, NOW).to_pylist()
    assert [row for row, reason in enumerate(reasons) if reason is None] == valid_rows
    value = rows[column].cast(pa.int64()) if column == "timestamp" else rows[column]
    return [(read_value(value, column), reason) for value, reason in zip(value.to_pylist(), reasons, strict=True)]


def read_by_spark(spark: Any, path: str, config: InputConfig, column: str) -> Read:
    """Return (value, reason) of each row, in the order of the file."""
    sources = spark_reader.sources("events", [path], config)
    reason = events.reason(None, config.events.types, NOW)
    rows = spark_reader.read(spark, "events", sources, config, reason).orderBy("file", "block", "row")
    value = F.unix_micros(column) if column == "timestamp" else F.col(column)
    if column == "event_type":
        value = events.event_type(config.events.types)
    return [(read_value(value, column), reason) for value, reason in rows.select(value, "reason").collect()]


def read_value(value: Any, column: str) -> Any:
    """Return a time as text, or None if it lies outside the years 1 to 9999; return other values as they are."""
    if column != "timestamp" or value is None:
        return value
    if not FIRST_TIME <= value < END_OF_TIMES:
        return None
    return (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=value)).isoformat()


READERS = [pytest.param(read_by_arrow, id="arrow"), pytest.param(read_by_spark, id="spark")]


def table_of(case: Case) -> pa.Table:
    n = len(case.written)
    columns = {
        "session_id": pa.array(["s"] * n),
        "timestamp": pa.array(["2026-03-14T12:00:00Z"] * n),
        "event_type": pa.array(["view"] * n),
        "item_id": pa.array(["i"] * n),
    }
    if case.column == "timestamp" or "timestamp_unit" not in case.events:
        return pa.table(columns | {"query": pa.array(["q"] * n), case.column: case.written})
    raise ValueError(f"{case.name}: timestamp_unit is only for cases of the timestamp column")


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("case", [case for case in CASES if case.parquet], ids=lambda case: case.name)
def test_a_parquet_column_is_read_as_the_contract_says(spark: Any, tmp_path: Path, case: Case, read: Reader) -> None:
    pq.write_table(table_of(case), tmp_path / "e.parquet")
    config = InputConfig(events=EventsInput(**case.events))
    assert read(spark, str(tmp_path / "e.parquet"), config, case.column) == expected(case)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("case", [case for case in CASES if case.csv], ids=lambda case: case.name)
def test_a_csv_column_is_read_as_the_contract_says(spark: Any, tmp_path: Path, case: Case, read: Reader) -> None:
    write_csv(tmp_path / "e.csv", table_of(case))
    config = InputConfig(events=EventsInput(**case.events))
    assert read(spark, str(tmp_path / "e.csv"), config, case.column) == expected(case)


def expected(case: Case) -> Read:
    return [(value, reason_of(value, case.column)) for value in case.read]


def reason_of(value: Any, column: str) -> str | None:
    if value is None:
        return REASON_OF_NULL.get(column)
    is_in_future = column == "timestamp" and value > (NOW + dt.timedelta(days=1)).isoformat()
    return "time_in_future" if is_in_future else None


def write_csv(path: Path, table: pa.Table) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table.column_names)
        writer.writerows(row.values() for row in table.to_pylist())


FAULTS: list[tuple[dict[str, Any], str | None]] = [
    ({}, None),
    ({"event_type": "search", "item_id": None, "query": "q"}, None),
    ({"event_type": "impression"}, None),
    ({"timestamp": NOW + dt.timedelta(days=1)}, None),
    ({"session_id": None, "user_id": "u"}, None),
    ({"session_id": None, "user_id": " "}, "session_missing"),
    ({"session_id": None, "timestamp": None, "event_type": "fly", "item_id": None}, "session_missing"),
    ({"timestamp": None, "event_type": "fly", "item_id": None}, "time_invalid"),
    ({"event_type": "fly", "item_id": None, "timestamp": NOW + dt.timedelta(days=9)}, "type_unknown"),
    ({"event_type": "search", "query": " ", "timestamp": NOW + dt.timedelta(days=9)}, "query_missing"),
    ({"item_id": "", "timestamp": NOW + dt.timedelta(days=9)}, "item_missing"),
    ({"timestamp": NOW + dt.timedelta(days=1, microseconds=1)}, "time_in_future"),
]


@pytest.mark.parametrize("read", READERS)
def test_a_row_gets_the_first_reason_that_applies(spark: Any, tmp_path: Path, read: Reader) -> None:
    valid = {"session_id": "s", "user_id": None, "timestamp": NOW, "event_type": "view", "item_id": "i", "query": None}
    pq.write_table(pa.Table.from_pylist([valid | fault for fault, _ in FAULTS]), tmp_path / "e.parquet")
    rows = read(spark, str(tmp_path / "e.parquet"), InputConfig(), "session_id")
    assert [reason for _, reason in rows] == [reason for _, reason in FAULTS]


RAGGED = """\ufeffsession_id,timestamp,event_type,item_id,query,,note

s,2026-03-14,view,007,,1,n
s,2026-03-14,view,8
s,2026-03-14
s,2026-03-14,search,,"red, ""new"" shoes",1,n,too,much
,,,,,,
"""


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_csv_rows_with_too_few_or_too_many_fields_are_read(spark: Any, tmp_path: Path, read: Reader, ends: str) -> None:
    (tmp_path / "e.csv").write_text(RAGGED, encoding="utf-8", newline=ends)
    assert read(spark, str(tmp_path / "e.csv"), InputConfig(), "item_id") == [
        ("007", None),
        ("8", None),
        (None, "type_unknown"),
        (None, "too_many_values"),
        (None, "session_missing"),
    ]
    assert read(spark, str(tmp_path / "e.csv"), InputConfig(), "query")[3][0] == 'red, "new" shoes'


def test_the_cases_have_distinct_names_and_cover_every_kind_of_column() -> None:
    kinds = column_kinds("events")
    assert {kinds[case.column] for case in CASES} == set(kinds.values())
    assert Counter(case.name for case in CASES).most_common(1)[0][1] == 1
