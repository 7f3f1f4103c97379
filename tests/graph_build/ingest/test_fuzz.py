"""Every generated file is read right, or its bad rows are counted, or it is refused by name; nothing else happens.

The fast tests read files with Arrow, or only check them; the slow tests read many files in one job of Spark.
"""

import datetime as dt
import tempfile
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F

from graph_build.config import InputConfig
from graph_build.errors import GraphInputError
from graph_build.ingest import arrow_reader, events, item_tables, spark_reader
from graph_build.ingest.contract import column_kinds, mapped
from graph_build.ingest.files import find_sources
from tests.graph_build.ingest.cases import NOW
from tests.graph_build.ingest.generated import REQUIRED, Rows, Written, written_tables

EXAMPLES = 150
FUZZ: dict[str, Any] = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
TABLES = ("events", "items", "ads")


def write(written: Written, folder: Path) -> tuple[str, InputConfig]:
    """Write a generated file; return the folder to read, and the configuration to read it with."""
    (folder / written.name).parent.mkdir(parents=True, exist_ok=True)
    (folder / written.name).write_bytes(written.content)
    return str(folder), InputConfig(**written.input, max_bad_share=1.0)


def comparable(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return a row without nulls, in a form in which equal rows compare as equal, whatever types they came in."""

    def value(cell: Any) -> Any:
        if isinstance(cell, dt.datetime):
            return cell.replace(tzinfo=cell.tzinfo or dt.UTC).timestamp()
        if isinstance(cell, list):
            return tuple(map(value, cell))
        if isinstance(cell, str):
            return cell.replace("\r\n", "\n")
        return round(float(cell), 6)

    return tuple((name, value(cell)) for name, cell in sorted(row.items()) if cell is not None)


def check(written: Written, table: str, read: Rows, refused: int) -> None:
    """Compare the rows that were read from a file with those that were written to it."""
    expected = [comparable(row) for row in written.rows]
    if written.fault is None:
        assert [comparable(row) for row in read] == expected
        assert not refused
        return
    if not set(written.input) and ".csv" in written.name and written.fault != "zeroed bytes":
        # A query or title with line breaks may hold text that the fault brought in. In a file that was cut off, the
        # last row may be wrong too.
        without = {"query", "title"}
        expected = [comparable({k: v for k, v in row.items() if k not in without}) for row in written.rows]
        certain = read[:-1] if written.fault == "cut off" else read
        for row in certain:
            assert comparable({k: v for k, v in row.items() if k not in without}) in expected
    if written.fault == "surplus value" and ".csv" in written.name and not written.input:
        assert len(read) + refused == len(expected)


def check_refusal(written: Written, path: str, error: GraphInputError) -> None:
    """Check that the refused file has a fault, and that the error names it."""
    assert written.fault is not None, error
    assert written.name in str(error) or path in str(error)


@settings(max_examples=EXAMPLES, **FUZZ)
@given(written_tables("events", faults=True))
def test_events_are_read_by_arrow_right_or_counted_or_refused(written: Written) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, config = write(written, Path(folder))
        try:
            read = arrow_reader.read_events([path], config, NOW)
        except GraphInputError as error:
            check_refusal(written, path, error)
            return
        assert len(read.rows) + sum(read.refused.values()) == read.read
        names = list(column_kinds("events"))
        check(written, "events", read.rows.select(names).to_pylist(), sum(read.refused.values()))


@settings(max_examples=EXAMPLES, **FUZZ)
@given(
    st.sampled_from(["items", "ads"]).flatmap(
        lambda table: st.tuples(st.just(table), written_tables(table, faults=True))
    )
)
def test_the_files_of_items_and_ads_fit_the_contract_or_are_refused(drawn: tuple[Any, Written]) -> None:
    table, written = drawn
    with tempfile.TemporaryDirectory() as folder:
        path, config = write(written, Path(folder))
        try:
            [source] = find_sources(table, [path], config)
        except GraphInputError as error:
            check_refusal(written, path, error)
            return
        assert all(source.has(mapped(table, config)[name]) or written.fault for name in REQUIRED[table])


@pytest.mark.slow
@settings(max_examples=2, **FUZZ)
@pytest.mark.parametrize("table", TABLES)
@given(data=st.data())
def test_spark_reads_generated_files_right_or_counts_their_rows_or_refuses_them(
    spark: Any, table: Any, data: st.DataObject
) -> None:
    drawn = data.draw(st.lists(written_tables(table, faults=True), min_size=12, max_size=12))
    # A damaged parquet file ends the whole job; other tests try that.
    files = [written for written in drawn if written.fault is None or ".csv" in written.name]
    names = list(column_kinds(table))
    reason = {
        "events": events.reason(None, {}, NOW),
        "items": item_tables.item_reason(),
        "ads": item_tables.ad_reason(),
    }[table]
    frames, kept = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for n, written in enumerate(files):
            path, config = write(written, Path(folder) / str(n))
            try:
                sources = spark_reader.sources(table, [path], config)
            except GraphInputError as error:
                check_refusal(written, path, error)
                continue
            kept[n] = written
            rows = spark_reader.read(spark, table, sources, config, reason)
            rows = rows.withColumn("reason", F.coalesce("reason", "unreadable"))
            frames.append(rows.select(F.lit(n).alias("n"), "reason", *names, "file", "block", "row"))
        if not frames:
            return
        union = reduce(lambda one, other: one.unionByName(other), frames)
        read = [row.asDict() for row in union.orderBy("n", "file", "block", "row").collect()]
    for n, written in kept.items():
        of_file = [row for row in read if row["n"] == n]
        good = [{name: row[name] for name in names} for row in of_file if row["reason"] is None]
        check(written, table, good, len(of_file) - len(good))
