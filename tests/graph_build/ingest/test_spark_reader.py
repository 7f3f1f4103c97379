"""The Spark reader: the order of files, paths that Spark cannot read, times and ids of every type, CSV."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from graph_build.config import GraphConfig
from graph_build.errors import GraphInputError
from graph_build.ingest import spark_values
from graph_build.ingest.files import find_sources
from graph_build.ingest.spark_files import check_paths
from tests.graph_build.conftest import GOOD, at, check_table, config, event, events_of, write_events


def test_a_file_with_a_colon_in_its_name_is_refused_because_spark_cannot_read_it(tmp_path: Path) -> None:
    (source,) = find_sources("events", [write_events(tmp_path / "10:00.parquet", GOOD)], config().input)
    with pytest.raises(GraphInputError, match=re.escape("10:00.parquet: Spark cannot read a file with a colon")):
        check_paths(source)


def test_the_names_of_files_decide_among_equal_times_in_different_files(
    assembled: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "in two parts"
    for name, items in (("b c.parquet", "yuiop"), ("a.parquet", "qwert")):
        write_events(folder / name, [event("s", at(1), "view", item) for item in items])
    assert "".join(event["item_id"] for event in events_of(assembled(str(folder)))) == "qwertyuiop"
    # A file of another schema is read on its own, but its events keep their place among the events of other files.
    write_events(folder / "aa.parquet", [event("s", at(1), "view", "-", country="DE")])
    assert "".join(event["item_id"] for event in events_of(assembled(str(folder)))) == "qwert-yuiop"


def test_integer_ids_and_times_as_integers_timestamps_or_text_are_read(
    checked: Callable[..., Any], tmp_path: Path
) -> None:
    seconds = int(at(1).timestamp())
    columns = {"session_id": [1, 1], "event_type": ["view", "view"], "item_id": [10, 9_007_199_254_740_993]}
    times: list[tuple[pa.Array, dict[str, Any]]] = [
        (pa.array([seconds, seconds + 60]), {"timestamp_unit": "s"}),
        (pa.array([seconds * 1000, seconds * 1000 + 60_000]), {"timestamp_unit": "ms"}),
        (pa.array([at(1), at(2)], pa.timestamp("ns")), {}),
        (pa.array([seconds * 10**9 + 999, (seconds + 60) * 10**9 + 1], pa.timestamp("ns")), {}),
        (pa.array([at(1).isoformat(), "2026-03-02 01:02:00+01:00"]), {}),
    ]
    for n, (time, settings) in enumerate(times):
        pq.write_table(pa.table({**columns, "timestamp": time}), tmp_path / f"t{n}.parquet")
        rows = checked(str(tmp_path / f"t{n}.parquet"), config(events=settings)).rows
        read = rows.select("item_id", "time").orderBy("time").collect()
        assert [tuple(row) for row in read] == [
            ("10", seconds * 1_000_000),
            ("9007199254740993", (seconds + 60) * 1_000_000),
        ]


def test_csv_events_are_read_as_parquet_events_are(checked: Callable[..., Any], tmp_path: Path) -> None:
    rows = [
        event("s", at(1), "search", query="red, shoes"),
        event("s", at(1), "view", "007"),
        event("s", at(2.5), "view", "007"),
        event("t", at(9), "purchase", "8"),
    ]
    log = write_events(tmp_path / "events.parquet", rows)
    csv = tmp_path / "day=2026-03-02" / "events.csv"
    csv.parent.mkdir()
    pcsv.write_csv(pq.read_table(log), csv)
    columns = ("session", "time", "type", "item_id", "query")
    from_parquet = [tuple(row) for row in checked(log).rows.orderBy("row").select(*columns).collect()]
    from_csv = [tuple(row) for row in checked(str(csv.parent)).rows.orderBy("row").select(*columns).collect()]
    assert from_csv == from_parquet
    assert from_parquet[0][4] == "red, shoes"


def test_items_and_ads_are_read_from_csv(spark: Any, tmp_path: Path) -> None:
    item = {"item_id": "007", "price": 1.5, "title": 'a "b"\nc', "embedding": "[1.0, 0.5]"}
    pcsv.write_csv(pa.Table.from_pylist([item]), tmp_path / "items.csv")
    ad = {"ad_id": "1", "item_id": "007", "campaign_id": "c", "countries": "DE;fr", "ends_at": at(99)}
    pcsv.write_csv(pa.Table.from_pylist([ad]), tmp_path / "ads.csv")
    (row,) = check_table(spark, "items", str(tmp_path / "items.csv"), GraphConfig()).table.collect()
    assert row.asDict() == item | {"embedding": [1.0, 0.5]}
    (row,) = check_table(spark, "ads", str(tmp_path / "ads.csv"), GraphConfig()).table.collect()
    assert row["countries"] == ["DE", "FR"]


def test_csv_columns_whose_names_differ_only_in_case_are_two_columns(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,Color,color\na,red,blue\n")
    items = check_table(spark, "items", str(tmp_path / "items.csv"), config(items={"features": ["color", "Color"]}))
    assert [row.asDict() for row in items.table.collect()] == [{"item_id": "a", "Color": "red", "color": "blue"}]


def test_the_smallest_integer_is_no_time(spark: Any) -> None:
    # pandas writes a missing time as this integer.
    frame = spark.createDataFrame([(-(2**63),), (1_700_000_000,)], "t bigint")
    rows = frame.select(spark_values.read_value(F.col("t"), "time", pa.int64(), "s").alias("t")).collect()
    assert [row["t"] is None for row in rows] == [True, False]
