"""How Spark reads vectors of any numbers, features whose types differ by file, its own tables, and refused rows."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph_build.errors import GraphInputError
from tests.graph_build.conftest import GOOD, at, check_table, config, parquet
from tests.graph_build.ingest.file_cases import UNNEEDED
from tests.graph_build.ingest.layout_cases import BASKET_COLUMNS, BASKETS, lines, nested, record

HALVES = [0.0, -0.0, 1.5, -2.25, 65504.0, 6.103515625e-05, 5.960464477539063e-08, 0.333251953125]


def test_vectors_of_all_number_types_and_features_of_differing_types_are_read(spark: Any, tmp_path: Path) -> None:
    vectors: dict[str, pa.DataType] = {
        "half": pa.list_(pa.float16()),
        "double": pa.list_(pa.float64()),
        "large": pa.large_list(pa.float32()),
        "fixed": pa.list_(pa.float16(), len(HALVES)),
        "int": pa.list_(pa.int16()),
        "unsigned": pa.large_list(pa.uint64()),
        "decimal": pa.list_(pa.decimal128(38, 20)),
    }
    features: dict[str, pa.Array] = {
        "half": pa.array(["12"]),
        "double": pa.array([2**64 - 1], pa.uint64()),
        "large": pa.array([1.5], pa.float16()),
        "decimal": pa.array([Decimal("2.50")]),
    }
    whole = {"int", "unsigned"}
    for name, type_ in vectors.items():
        numbers = [1] * len(HALVES) if name in whole else HALVES
        if name == "decimal":
            numbers = [Decimal(number).quantize(Decimal(10) ** -20) for number in HALVES]  # type: ignore[misc]
        columns = {
            "item_id": [name],
            "embedding": pa.array([numbers], type_),
            "size": features.get(name, pa.nulls(1)),
            "half `size`.": pa.array([1.5], pa.float16()),
            **{key: values for key, values in UNNEEDED.items() if key not in ("item_id ", "")},
        }
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    settings = config(items={"features": ["size", "half `size`."]})
    checked = check_table(spark, "items", str(tmp_path), settings)
    assert not checked.refused
    rows = {row["item_id"]: row for row in checked.table.collect()}
    assert rows.keys() == vectors.keys()
    for name, row in rows.items():
        assert row["embedding"] == ([1.0] * len(HALVES) if name in whole else HALVES)
        assert row["half `size`."] == 1.5
    # In one file the feature is text, so all its values are text.
    sizes = {name: row["size"] for name, row in rows.items() if row["size"] is not None}
    assert sizes == {"half": "12", "double": "18446744073709551615", "large": "1.5", "decimal": "2.50"}


def test_a_table_of_spark_is_read_as_a_file_of_the_same_columns(checked: Any, spark: Any, tmp_path: Path) -> None:
    (tmp_path / "baskets.parquet").write_bytes(nested(BASKETS))
    spark.read.parquet(str(tmp_path / "baskets.parquet")).createOrReplaceTempView("baskets")
    settings = config(events={"explode": "items", "columns": BASKET_COLUMNS}, max_bad_share=0.9)
    by_table = checked("table:baskets", settings)
    by_file = checked(str(tmp_path / "baskets.parquet"), settings)
    assert (by_table.read, by_table.refused, by_table.by_type) == (by_file.read, by_file.refused, by_file.by_type)
    spark.read.parquet(parquet(tmp_path / "good.parquet", GOOD)).createOrReplaceTempView("good")
    assert checked("table:good").by_type == {"view": 3}
    with pytest.raises(GraphInputError, match=r"^table:nowhere: Spark cannot read the table"):
        checked("table:nowhere")


def test_events_of_types_that_mean_nothing_are_counted_and_unknown_types_are_named(
    checked: Any, tmp_path: Path
) -> None:
    kinds = ["view", "scroll", "SCROLL", "login", "login", "Hover", None]
    (tmp_path / "a.json").write_bytes(lines(*(record(1, event_type=kind) for kind in kinds), "bad"))
    settings = config(events={"types": {"scroll": "ignore"}}, max_bad_share=0.9)
    events = checked(str(tmp_path / "a.json"), settings)
    assert (events.read, events.ignored, events.by_type) == (8, 2, {"view": 1})
    assert events.refused == {"type_unknown": 4, "unreadable": 1}
    assert events.unknown_types == {"login": 2, "": 1, "Hover": 1}
    (row,) = [row for row in events.quarantine.collect() if row["reason"] == "unreadable"]
    assert json.loads(row["row"]) == {"where": f"row 8 of {tmp_path / 'a.json'}"}
    with pytest.raises(GraphInputError, match=r"e\.g\. type_unknown: 'login': 2, no type: 1, 'Hover': 1; event"):
        checked(str(tmp_path / "a.json"), config(events={"types": {"scroll": "ignore"}}))


def test_a_row_in_quarantine_holds_what_was_read_with_its_user_hashed(checked: Any, tmp_path: Path) -> None:
    log = tmp_path / "log" / "event_type=fly"
    log.mkdir(parents=True)
    refused = {"session_id": "s", "timestamp": at(1), "item_id": "i", "user_id": "me"}
    parquet(log / "a.parquet", [refused])
    parquet(tmp_path / "log" / "b.parquet", GOOD)
    (row,) = checked(str(tmp_path / "log")).quarantine.collect()
    raw = json.loads(row["row"])
    assert row["reason"] == "type_unknown"
    assert raw.pop("user_id") not in ("me", None)
    assert raw == {"event_type": "fly", "session_id": "s", "timestamp": "2026-03-02T00:01:00.000Z", "item_id": "i"}
