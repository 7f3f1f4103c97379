"""The tables that come in: what is refused, with which words, and what is done to rows that are merely bad."""

import datetime as dt
import json
from collections import Counter
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
from graph_build.ingest import spark_reader
from tests.graph_build.conftest import GOOD, at, config, event, events_of, parquet, table, write_events


def refused(out: Path) -> Counter[tuple[str, str]]:
    return Counter((row["input"], row["reason"]) for row in table(out / "quarantine"))


def test_bad_events_are_quarantined_with_their_reason_and_no_raw_user(built: Callable[..., Any]) -> None:
    rows = [
        *GOOD,
        event("s", at(4), "view", "c", user_id="u1"),
        event(None, at(1), "view", "a", user_id="somebody"),
        event(" ", at(1), "view", "a"),
        event("s", None, "view", "a"),
        event("s", at(1), "teleport", "a"),
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
        "after_date": 1,
    }
    assert refused(out) == {("events", reason): n for reason, n in expected.items()}
    assert summary.quarantined["events"] == expected
    assert summary.events["read"] == 13
    assert summary.events["valid"] == 5
    assert summary.as_of == at(4)
    lines = [row["row"] for row in table(out / "quarantine")]
    assert not any("somebody" in line for line in lines)
    assert any(json.loads(line)["event_type"] == "teleport" for line in lines)


def test_the_names_of_files_settle_equal_times_between_them(assembled: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "in two parts"
    for name, items in (("b c.parquet", "yuiop"), ("a.parquet", "qwert")):
        write_events(folder / name, [event("s", at(1), "view", item) for item in items])
    assert "".join(event["item_id"] for event in events_of(assembled(str(folder)))) == "qwertyuiop"
    # A file of another schema in between is read apart, and keeps its place.
    write_events(folder / "aa.parquet", [event("s", at(1), "view", "-", country="DE")])
    assert "".join(event["item_id"] for event in events_of(assembled(str(folder)))) == "qwert-yuiop"


def test_the_job_stops_past_the_share_of_bad_rows_but_late_rows_are_no_fault(checked: Callable[..., Any]) -> None:
    late = [event("s", at(i, day=3), "view", "a") for i in range(20)]
    assert checked([*GOOD, *late], date=at(0).date()).refused == {"after_date": 20}
    with pytest.raises(GraphInputError, match=r"type_unknown: 4.*max_bad_share = 0.5"):
        checked([*GOOD, *[event("s", at(1), "fly", "a")] * 4])


def test_no_events_and_nothing_usable_are_errors_that_leave_nothing_behind(
    built: Callable[..., Any], checked: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(GraphInputError, match="0 rows"):
        built([])
    assert [path.suffix for path in tmp_path.iterdir()] == [".parquet"]
    with pytest.raises(GraphInputError, match="bad"):
        checked([event(None, at(1), "view", "a")])
    with pytest.raises(GraphInputError, match="none of 1 events can be used"):
        checked([event("s", at(1), "search", query="x")])


def test_a_session_is_cut_at_midnight_utc(assembled: Callable[..., Any]) -> None:
    rows = [event("s", at(1439), "view", "a"), event("s", at(1441), "view", "b"), event("s", at(1442), "view", "c")]
    found = events_of(assembled(rows))
    assert sorted(Counter(event["session"] for event in found).values()) == [1, 2]
    assert sorted((event["item_id"], event["n"]) for event in found) == [("a", 1), ("b", 1), ("c", 2)]


def test_integer_ids_and_integer_or_naive_or_written_times_are_understood(
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
        got = rows.select("item_id", "time").orderBy("time").collect()
        assert [tuple(row) for row in got] == [
            ("10", seconds * 1_000_000),
            ("9007199254740993", (seconds + 60) * 1_000_000),
        ]


def test_event_types_of_other_names_are_mapped(checked: Callable[..., Any]) -> None:
    rows = [event("s", at(1), "PageView", "a"), event("s", at(2), "click", "b"), event("s", at(3), "buy", "b")]
    found = checked(rows, config(events={"types": {"pageview": "view", "Buy": "purchase"}}))
    assert found.by_type == {"view": 1, "click": 1, "purchase": 1}
    assert [row["type"] for row in found.usable.orderBy("time").select("type").collect()] == [0, 1, 3]
    with pytest.raises(ValueError, match="buy"):
        config(events={"types": {"x": "buy"}})


def test_events_of_our_own_ads_can_be_left_out(checked: Callable[..., Any]) -> None:
    rows = [*GOOD, event("s", at(5), "click", "ad-item", ad_id="7")]
    found = checked(rows, config(events={"exclude_ad_events": True}))
    assert (found.left_out, found.usable.count(), found.as_of) == (1, 3, at(3))


def test_the_default_date_is_the_last_valid_events_day(checked: Callable[..., Any]) -> None:
    found = checked([*GOOD, event("s", at(1, day=9), "teleport", "a")])
    assert found.as_of == at(3)
    assert found.as_of.tzinfo == dt.UTC


def test_csv_gives_what_parquet_gives(spark: Any, checked: Callable[..., Any], tmp_path: Path) -> None:
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
    picked = ("session", "time", "type", "item_id", "query")
    one = [tuple(row) for row in checked(log).rows.orderBy("row").select(*picked).collect()]
    two = [tuple(row) for row in checked(str(csv.parent)).rows.orderBy("row").select(*picked).collect()]
    assert one == two
    assert one[0][4] == "red, shoes"

    item = {"item_id": "007", "price": 1.5, "title": 'a "b"\nc', "embedding": "[1.0, 0.5]"}
    pcsv.write_csv(pa.Table.from_pylist([item]), tmp_path / "items.csv")
    ad = {"ad_id": "1", "item_id": "007", "campaign_id": "c", "countries": "DE;fr", "ends_at": at(99)}
    pcsv.write_csv(pa.Table.from_pylist([ad]), tmp_path / "ads.csv")
    (row,) = settled(spark, "items", str(tmp_path / "items.csv"), GraphConfig()).table.collect()
    assert row.asDict() == item | {"embedding": [1.0, 0.5]}
    (row,) = settled(spark, "ads", str(tmp_path / "ads.csv"), GraphConfig()).table.collect()
    assert row["countries"] == ["DE", "FR"]


def settled(spark: Any, name: Any, path: str, settings: GraphConfig, known: list[str] | None = None) -> Any:
    """The checked items or ads of one file."""
    from graph_build.ingest import checked_tables, spark_reader

    sources = spark_reader.sources(spark, name, [path], settings.input)
    if name == "items":
        return checked_tables.checked_items(spark, sources, settings)
    items = spark.createDataFrame([(item,) for item in known], "item_id string") if known else None
    return checked_tables.checked_ads(spark, sources, settings, items)


def as_dict(row: Any) -> dict[str, Any]:
    return row.asDict(recursive=True)  # type: ignore[no-any-return]


def test_items_with_doubts_are_settled_and_counted(spark: Any, tmp_path: Path) -> None:
    nan = float("nan")
    items = parquet(
        tmp_path / "items.parquet",
        [
            {"item_id": "a", "price": 1.0, "embedding": [1.0, 2.0], "colour": "red"},
            {"item_id": "a", "price": 1.0, "embedding": [1.0, 2.0], "colour": "red"},
            {"item_id": "a", "price": 2.0, "embedding": [1.0, 2.0], "colour": "red"},
            {"item_id": "b", "price": nan, "embedding": [1.0, 3.0], "colour": "red"},
            {"item_id": "c", "price": 1.0, "embedding": [nan, 2.0], "colour": "blue"},
            {"item_id": "d", "price": 1.0, "embedding": [1.0], "colour": None},
            {"item_id": None, "price": 1.0, "embedding": [1.0, 2.0], "colour": "red"},
            {"item_id": "e", "price": -3.0, "embedding": None, "colour": "red"},
        ],
    )
    found = settled(spark, "items", items, config(items={"features": ["colour"]}))
    rows = {row["item_id"]: row for row in map(as_dict, found.table.collect())}
    assert rows == {
        "a": {"item_id": "a", "price": 1.0, "embedding": [1.0, 2.0], "colour": "red"},
        "b": {"item_id": "b", "price": None, "embedding": [1.0, 3.0], "colour": "red"},
        "c": {"item_id": "c", "price": 1.0, "embedding": None, "colour": "blue"},
        "d": {"item_id": "d", "price": 1.0, "embedding": None, "colour": None},
        "e": {"item_id": "e", "price": -3.0, "embedding": None, "colour": "red"},
    }
    assert found.refused == {
        "duplicate_item_id": 1,
        "price_not_finite": 1,
        "embedding_not_finite": 1,
        "embedding_dimension": 1,
        "item_missing": 1,
    }


def test_prices_that_cannot_be_read_are_counted_and_their_items_stay(spark: Any, tmp_path: Path) -> None:
    rows = [{"item_id": "a", "price": "12,50"}, {"item_id": "b", "price": " "}, {"item_id": "c", "price": "3"}]
    found = settled(spark, "items", parquet(tmp_path / "items.parquet", rows), config(items={}))
    assert {row["item_id"]: row["price"] for row in found.table.collect()} == {"a": None, "b": None, "c": 3.0}
    assert found.refused == {"price_unreadable": 1}
    rows = [{"item_id": "a", "embedding": "[0.1 0.2]"}, {"item_id": "b", "embedding": "[0.1, 0.2]"}]
    found = settled(spark, "items", parquet(tmp_path / "vectors.parquet", rows), config(items={}))
    assert {row["item_id"]: row["embedding"] is None for row in found.table.collect()} == {"a": True, "b": False}
    assert found.refused == {"embedding_unreadable": 1}


def test_countries_of_a_categorical_column_that_cannot_be_read_are_not_everywhere(spark: Any, tmp_path: Path) -> None:
    countries = pa.array(['["DE"', "DE;FR"]).dictionary_encode()
    ads = {"ad_id": ["1", "2"], "item_id": ["x", "x"], "campaign_id": ["c", "c"], "countries": countries}
    pq.write_table(pa.table(ads), tmp_path / "ads.parquet")
    found = settled(spark, "ads", str(tmp_path / "ads.parquet"), config(max_bad_share=1.0))
    assert {row["ad_id"]: row["countries"] for row in found.table.collect()} == {"2": ["DE", "FR"]}
    assert found.refused == {"countries_unreadable": 1}


def test_features_may_be_called_anything_and_rows_that_differ_in_one_conflict(spark: Any, tmp_path: Path) -> None:
    names = ["rank", "file", "reason", "raw", "row", "unreadable", "content", "path", "Brand", "brand"]
    rows = [{"item_id": i} | {name: f"{name} {i}" for name in names} for i in "ab"]
    rows.append(rows[0] | {"rank": "another"})
    found = settled(spark, "items", parquet(tmp_path / "items.parquet", rows), config(items={"features": names}))
    assert sorted((row.asDict() for row in found.table.collect()), key=lambda row: row["item_id"]) == rows[:2]
    assert found.refused == {"duplicate_item_id": 1}


def test_names_that_differ_in_case_are_two_columns_in_csv_too(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,Color,color\na,red,blue\n")
    found = settled(spark, "items", str(tmp_path / "items.csv"), config(items={"features": ["color", "Color"]}))
    assert [row.asDict() for row in found.table.collect()] == [{"item_id": "a", "Color": "red", "color": "blue"}]


def test_a_missing_time_that_was_made_an_integer_is_none(spark: Any) -> None:
    frame = spark.createDataFrame([(-(2**63),), (1_700_000_000,)], "t bigint")
    rows = frame.select(spark_reader._time(F.col("t"), pa.int64(), "s").alias("t")).collect()
    assert [row["t"] is None for row in rows] == [True, False]


def test_an_ad_whose_limits_cannot_be_read_is_refused_not_limitless(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "ads.csv"
    path.write_text(
        "ad_id,item_id,campaign_id,starts_at,ends_at,countries,bid,version\n"
        "1,x,c,2026-01-01,2026-02-01,DE;fr,0.5,3\n"
        "2,x,c,soon,,,,\n3,x,c,,31.12.2025,,,\n4,x,c,,,Germany,,\n5,x,c,,,,cheap,\n6,x,c,,,,,x\n7,x,c,,,,,\n"
        '8,x,c,,,"[US, DE]",,\n'
    )
    found = settled(spark, "ads", str(path), config(max_bad_share=1.0))
    assert {row["ad_id"] for row in found.table.collect()} == {"1", "7"}
    assert found.refused == {
        "starts_at_unreadable": 1,
        "ends_at_unreadable": 1,
        "country_invalid": 1,
        "countries_unreadable": 1,
        "bid_unreadable": 1,
        "version_unreadable": 1,
    }


def test_ads_with_doubts_are_settled_and_counted(spark: Any, tmp_path: Path) -> None:
    def ad(ad_id: str | None, item: str | None = "x", **more: Any) -> dict[str, Any]:
        return {"ad_id": ad_id, "item_id": item, "campaign_id": "c", **more}

    schema = pa.schema(
        [
            ("ad_id", pa.string()),
            ("item_id", pa.string()),
            ("campaign_id", pa.string()),
            ("starts_at", pa.timestamp("us")),
            ("ends_at", pa.timestamp("ns", tz="UTC")),
            ("status", pa.string()),
            ("countries", pa.list_(pa.string())),
            ("version", pa.int64()),
        ]
    )
    ads = parquet(
        tmp_path / "ads.parquet",
        [
            ad("1", version=1, status="paused"),
            ad("1", version=2, status="Active", countries=["de", " Fr ", "de"]),
            ad("2", "a"),  # not in the catalogue, but somebody viewed it
            ad("3", "nobody"),
            ad(None),
            ad("4", None),
            ad("5", starts_at=at(5).replace(tzinfo=None), ends_at=at(4)),
            ad("6", starts_at=at(5).replace(tzinfo=None), ends_at=at(6)),
        ],
        schema,
    )
    found = settled(spark, "ads", ads, config(max_bad_share=1.0), known=["x", "y", "a"])
    rows = {row["ad_id"]: row for row in map(as_dict, found.table.collect())}
    assert set(rows) == {"1", "2", "6"}
    assert rows["1"]["countries"] == ["DE", "FR"]
    assert rows["1"]["status"] == "active"
    times = found.table.where("ad_id = 6").selectExpr("unix_micros(starts_at)", "unix_micros(ends_at)").collect()[0]
    assert tuple(times) == (int(at(5).timestamp() * 1e6), int(at(6).timestamp() * 1e6))
    assert rows["2"]["bid"] is None
    assert found.refused == {
        "duplicate_ad_id": 1,
        "item_unknown": 1,
        "ad_missing": 1,
        "item_missing": 1,
        "ends_before_start": 1,
    }
