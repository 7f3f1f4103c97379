"""Items and ads: which rows are refused, which rows lose only a value, and how values are read."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from graph_build.ingest import item_tables
from tests.graph_build.conftest import at, check_table, config, parquet


def test_bad_items_are_refused_or_lose_the_bad_value_and_are_counted(spark: Any, tmp_path: Path) -> None:
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
    checked = check_table(spark, "items", items, config(items={"features": ["colour"]}))
    rows = {row["item_id"]: row.asDict() for row in checked.table.collect()}
    assert rows == {
        "a": {"item_id": "a", "price": 2.0, "embedding": [1.0, 2.0], "colour": "red"},
        "b": {"item_id": "b", "price": None, "embedding": [1.0, 3.0], "colour": "red"},
        "c": {"item_id": "c", "price": 1.0, "embedding": None, "colour": "blue"},
        "d": {"item_id": "d", "price": 1.0, "embedding": None, "colour": None},
        "e": {"item_id": "e", "price": -3.0, "embedding": None, "colour": "red"},
    }
    assert checked.refused == {
        "duplicate_item_id": 2,
        "price_not_finite": 1,
        "embedding_not_finite": 1,
        "embedding_dimension": 1,
        "item_missing": 1,
    }


def test_items_stay_without_a_price_or_an_embedding_that_cannot_be_read(spark: Any, tmp_path: Path) -> None:
    rows = [{"item_id": "a", "price": "12,50"}, {"item_id": "b", "price": " "}, {"item_id": "c", "price": "3"}]
    checked = check_table(spark, "items", parquet(tmp_path / "items.parquet", rows), config(items={}))
    assert {row["item_id"]: row["price"] for row in checked.table.collect()} == {"a": None, "b": None, "c": 3.0}
    assert checked.refused == {"price_unreadable": 1}
    rows = [{"item_id": "a", "embedding": "[0.1 x]"}, {"item_id": "b", "embedding": "[0.1, 0.2]"}]
    checked = check_table(spark, "items", parquet(tmp_path / "vectors.parquet", rows), config(items={}))
    assert {row["item_id"]: row["embedding"] is None for row in checked.table.collect()} == {"a": True, "b": False}
    assert checked.refused == {"embedding_unreadable": 1}


def test_items_of_a_table_with_decimal_commas_own_levels_and_vectors_as_text(spark: Any, tmp_path: Path) -> None:
    vectors = ["0.5 -1e0", "[0.5;-1]", "(0.5,-1.0)", "[ 0.5\n -1. ]", "{0.5, -1}", "[0.5, -1]"]
    lines = [f'{n};"{vector}";1234,5; Shoes/ Boots //Red ;{n},5' for n, vector in enumerate(vectors)]
    path = tmp_path / "items.csv"
    path.write_text("\n".join(["item_id;embedding;price;category;size", *lines, "6;;12.50;/;NA"]) + "\n")
    table = {"separator": ";", "decimal": ",", "category_separator": "/", "features": ["size"]}
    checked = check_table(spark, "items", str(path), config(items=table))
    rows = {row["item_id"]: row for row in checked.table.collect()}
    for n in range(len(vectors)):
        row = rows[str(n)]
        assert row["embedding"] == [0.5, -1.0], vectors[n]
        assert (row["price"], row["category"], row["size"]) == (1234.5, "Shoes > Boots > Red", f"{n}.5")
    assert (rows["6"]["price"], rows["6"]["category"], rows["6"]["size"]) == (None, None, None)
    assert checked.refused == {"price_unreadable": 1}


def test_features_are_trimmed_and_have_the_words_for_null_of_other_columns(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item_id,colour\na,NULL\nb,  red\u00a0\nc,\nd,e\u0301\n", encoding="utf-8")
    checked = check_table(spark, "items", str(path), config(items={"features": ["colour"]}))
    colours = {row["item_id"]: row["colour"] for row in checked.table.collect()}
    assert colours == {"a": None, "b": "red", "c": None, "d": "\u00e9"}


def test_features_may_have_any_name_and_rows_that_differ_in_a_feature_conflict(spark: Any, tmp_path: Path) -> None:
    names = ["rank", "file", "reason", "raw", "row", "unreadable", "content", "path", "Brand", "brand"]
    rows = [{"item_id": i} | {name: f"{name} {i}" for name in names} for i in "ab"]
    rows.insert(0, rows[0] | {"rank": "another"})
    checked = check_table(spark, "items", parquet(tmp_path / "items.parquet", rows), config(items={"features": names}))
    assert sorted((row.asDict() for row in checked.table.collect()), key=lambda row: row["item_id"]) == rows[1:]
    assert checked.refused == {"duplicate_item_id": 1}


def test_bad_ads_are_refused_and_counted_and_the_highest_version_stays(spark: Any, tmp_path: Path) -> None:
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
    checked = check_table(spark, "ads", ads, config(max_bad_share=1.0), known=["x", "y", "a"])
    rows = {row["ad_id"]: row.asDict() for row in checked.table.collect()}
    assert set(rows) == {"1", "2", "6"}
    assert rows["1"]["countries"] == ["DE", "FR"]
    assert rows["1"]["status"] == "active"
    times = checked.table.where("ad_id = 6").selectExpr("unix_micros(starts_at)", "unix_micros(ends_at)").collect()[0]
    assert tuple(times) == (int(at(5).timestamp() * 1e6), int(at(6).timestamp() * 1e6))
    assert rows["2"]["bid"] is None
    assert checked.refused == {
        "duplicate_ad_id": 1,
        "item_unknown": 1,
        "ad_missing": 1,
        "item_missing": 1,
        "ends_before_start": 1,
    }


def test_an_ad_with_a_limit_that_cannot_be_read_is_refused(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "ads.csv"
    path.write_text(
        "ad_id,item_id,campaign_id,starts_at,ends_at,countries,bid,version\n"
        "1,x,c,2026-01-01,2026-02-01,DE;fr,0.5,3\n"
        "2,x,c,soon,,,,\n3,x,c,,31.12.2025,,,\n4,x,c,,,Germany,,\n5,x,c,,,,cheap,\n6,x,c,,,,,x\n7,x,c,,,,,\n"
        '8,x,c,,,"[US, DE]",,\n'
    )
    checked = check_table(spark, "ads", str(path), config(max_bad_share=1.0))
    assert {row["ad_id"] for row in checked.table.collect()} == {"1", "7"}
    assert checked.refused == {
        "starts_at_unreadable": 1,
        "ends_at_unreadable": 1,
        "country_invalid": 1,
        "countries_unreadable": 1,
        "bid_unreadable": 1,
        "version_unreadable": 1,
    }


def test_an_ad_with_countries_in_a_categorical_column_that_cannot_be_read_is_refused(
    spark: Any, tmp_path: Path
) -> None:
    countries = pa.array(['["DE"', "DE;FR"]).dictionary_encode()
    ads = {"ad_id": ["1", "2"], "item_id": ["x", "x"], "campaign_id": ["c", "c"], "countries": countries}
    pq.write_table(pa.table(ads), tmp_path / "ads.parquet")
    checked = check_table(spark, "ads", str(tmp_path / "ads.parquet"), config(max_bad_share=1.0))
    assert {row["ad_id"]: row["countries"] for row in checked.table.collect()} == {"2": ["DE", "FR"]}
    assert checked.refused == {"countries_unreadable": 1}


def test_ads_are_counted_by_status_and_by_what_can_be_shown_at_the_as_of_time(spark: Any, tmp_path: Path) -> None:
    ads = [
        {"status": None},
        {"status": "Active", "starts_at": at(0), "ends_at": at(11)},
        {"status": "active", "starts_at": at(10)},
        {"status": "active", "starts_at": at(11)},
        {"status": "active", "ends_at": at(10)},
        {"status": "paused"},
        {"status": "active", "item_id": "nowhere"},
    ]
    rows = [{"ad_id": str(n), "item_id": "a", "campaign_id": "c", **ad} for n, ad in enumerate(ads)]
    times = [(name, pa.timestamp("us", "UTC")) for name in ("starts_at", "ends_at")]
    texts = [(name, pa.string()) for name in ("ad_id", "item_id", "campaign_id", "status")]
    checked = check_table(spark, "ads", parquet(tmp_path / "ads.parquet", rows, pa.schema(texts + times)), config())
    nodes = spark.createDataFrame([("a",)], "item_id string")
    assert item_tables.count_ads(checked.table, nodes, at(10)) == {
        "total": 7,
        "by_status": {"active": 6, "paused": 1},
        "in_flight": 3,
        "without_item": 1,
    }


def snapshots(folder: Path, table: str, days: list[list[dict[str, Any]]]) -> str:
    """Write a folder of daily files, and return its path."""
    for day, rows in enumerate(days, start=5):
        (folder / table / f"date=2026-03-{day:02d}").mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / table / f"date=2026-03-{day:02d}" / "part-0.parquet")
    return str(folder / table)


def test_the_newest_of_daily_snapshots_counts_and_the_replaced_rows_are_not_bad(spark: Any, tmp_path: Path) -> None:
    def ad(ad_id: str, status: str | None, bid: str = "1") -> dict[str, Any]:
        return {"ad_id": ad_id, "item_id": "x", "campaign_id": "c", "status": status, "bid": bid}

    days = [
        [ad("1", "active"), ad("2", "paused"), ad("3", "active"), ad("4", "active")],
        [ad("1", "active"), ad("2", "paused"), ad("3", "active")],
        [ad("1", "paused"), ad("2", "active"), ad("3", "paused", bid="cheap"), ad("2", " Active\r\n")],
    ]
    checked = check_table(spark, "ads", snapshots(tmp_path, "ads", days), config())
    assert {row["ad_id"]: row["status"] for row in checked.table.collect()} == {
        "1": "paused",
        "2": "active",
        "4": "active",
    }
    # The newest row of the third ad cannot be read, and an older row must not bring the ad back.
    assert checked.refused == {"duplicate_ad_id": 7, "bid_unreadable": 1}

    items = [[{"item_id": "a", "price": 1.0}, {"item_id": "b", "price": 1.0}], [{"item_id": "a", "price": 2.0}]]
    checked = check_table(spark, "items", snapshots(tmp_path, "items", items), config())
    assert {row["item_id"]: row["price"] for row in checked.table.collect()} == {"a": 2.0, "b": 1.0}
    assert checked.refused == {"duplicate_item_id": 1}


ENDS = {
    # (starts_at, ends_at) as written → both as read, or the reason why the ad is refused
    ("2026-01-01", "9999-12-31T23:59:59-05:00"): ("2026-01-01 00:00:00", None),
    ("0001-01-01T00:00:00+05:00", "2026-01-01"): (None, "2026-01-01 00:00:00"),
    ("1899-12-31T23:59:59Z", "3000-01-01"): (None, None),
    ("1900-01-01", "2999-12-31T23:59:59"): ("1900-01-01 00:00:00", "2999-12-31 23:59:59"),
    ("5000-01-01", ""): ("5000-01-01 00:00:00", None),
    ("", "0001-01-01T00:00:00+05:00"): "ends_at_unreadable",
    ("9999-12-31T23:59:59-05:00", ""): "starts_at_unreadable",
    ("", "infinity"): "ends_at_unreadable",
    ("", "+294247-01-10T04:00:54Z"): "ends_at_unreadable",
    ("0000-01-01", "NULL"): (None, None),
    ("", "1800-01-01"): (None, "1800-01-01 00:00:00"),
}


def test_starts_and_ends_outside_the_calendar_are_open_or_refused(spark: Any, tmp_path: Path) -> None:
    lines = [f"{n},x,c,{start},{end}" for n, (start, end) in enumerate(ENDS)]
    (tmp_path / "ads.csv").write_text("\n".join(["ad_id,item_id,campaign_id,starts_at,ends_at", *lines]))
    checked = check_table(spark, "ads", str(tmp_path / "ads.csv"), config(max_bad_share=1.0))
    text = checked.table.selectExpr("ad_id", "cast(starts_at as string)", "cast(ends_at as string)").collect()
    assert {int(row[0]): (row[1], row[2]) for row in text} == {
        n: read for n, read in enumerate(ENDS.values()) if isinstance(read, tuple)
    }
    assert checked.refused == {"ends_at_unreadable": 3, "starts_at_unreadable": 1}

    for unit in ("us", "ms"):
        of_calendar = pa.array([2**63 - 1, -(2**63), 0], pa.timestamp(unit, "UTC"))
        columns = {"ad_id": ["1", "2", "3"], "item_id": ["x"] * 3, "campaign_id": ["c"] * 3}
        for name, (is_open, is_bad) in {"ends_at": ("1", "2"), "starts_at": ("2", "1")}.items():
            path = tmp_path / f"{name}-{unit}.parquet"
            pq.write_table(pa.table(columns | {name: of_calendar}), path)
            checked = check_table(spark, "ads", str(path), config(max_bad_share=1.0))
            assert {row["ad_id"] for row in checked.table.where(f"{name} is null").collect()} == {is_open}
            assert checked.refused == {f"{name}_unreadable": 1}
            assert is_bad not in {row["ad_id"] for row in checked.table.collect()}
