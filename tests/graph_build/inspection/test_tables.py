"""What inspection finds in tables and which settings it suggests; the check of a build names all faults at once."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph_build.config import InputConfig
from graph_build.ingest.arrow_reader import read_events
from graph_build.inspection.sample import spans
from graph_build.inspection.tables import check_tables, inspect_paths
from tests.graph_build.inspection.logs import BEGIN, millis, plain_log, seven_faults, write_rows


def only(path: Path, config: InputConfig | None = None) -> Any:
    """Return the findings of the one table behind a path."""
    (findings,) = inspect_paths([str(path)], config or InputConfig()).tables
    return findings


def test_seven_faults_of_a_log_of_100_000_rows_are_told_in_one_go(tmp_path: Path) -> None:
    faults = check_tables({"events": [str(seven_faults(tmp_path / "log.csv"))]}, InputConfig())
    told = " | ".join(map(str, faults))
    for line in (
        "separated by ';': [input.events] separator = \";\"",
        'not UTF-8, but seems to be cp1252: [input] encoding = "cp1252"',
        "'sku' seems to hold it: [input.events.columns] item_id = \"sku\"",
        'are numbers, e.g. 1772409600000: [input.events] timestamp_unit = "ms"',
        '[input.events.types] "detail" = "view", "zzz" = "ignore"',
        "1,429 of 100,000 rows hold more values than there are columns; line 3: 'v0;",
        "have no time that can be read in column 'timestamp', e.g. 'gestern'",
        "have no item in column 'sku' (the value is missing)",
    ):
        assert line in told
    assert len(faults) == 8  # the seven, and one for the names of all event types
    assert [fault.stops for fault in faults].count(False) == 3


def test_what_is_to_be_written_makes_the_next_check_pass(tmp_path: Path) -> None:
    path = seven_faults(tmp_path / "log.csv", 3000)
    findings = only(path)
    config = InputConfig.model_validate(findings.input_settings | {"events": findings.settings})
    left = check_tables({"events": [str(path)]}, config)
    assert [fault for fault in left if fault.stops] == []
    assert len(left) == 3


def test_bad_rows_are_counted_as_the_reader_of_events_counts_them(tmp_path: Path) -> None:
    path = seven_faults(tmp_path / "log.csv", 3000)
    findings = only(path)
    config = InputConfig.model_validate(findings.input_settings | {"events": findings.settings})
    counts = {fault.cause: int(str(fault).split(": ", 1)[1].split(" of ")[0]) for fault in only(path, config).faults}
    refused = read_events([str(path)], config).refused
    assert counts == {
        "lines": refused["too_many_values"],
        "time_invalid": refused["time_invalid"],
        "item_missing": refused["item_missing"],
    }


def test_a_log_that_needs_nothing_has_no_fault(tmp_path: Path) -> None:
    path = plain_log(tmp_path / "log.csv")
    assert check_tables({"events": [str(path)]}, InputConfig()) == []
    findings = only(path)
    assert (findings.table, findings.settings, findings.faults) == ("events", {}, [])
    assert findings.counts == {"sessions": 750, "items": 80}
    assert findings.is_all


def test_items_and_ads_are_told_from_events(tmp_path: Path) -> None:
    items = write_rows(
        tmp_path / "a.csv", 90, lambda n: [f"p{n}", "home/kitchen", f"{n}.5", f"T{n}"], "sku,cat,price,title"
    )
    ads = write_rows(
        tmp_path / "b.csv", 30, lambda n: [f"a{n}", f"p{n}", "c1", "2026-03-01", "0.5"], "ad_id,sku,campaign,start,cpc"
    )
    events = plain_log(tmp_path / "c.csv", 1200)
    inspection = inspect_paths([str(tmp_path)], InputConfig())
    assert [findings.table for findings in inspection.tables] == ["events", "items", "ads"]
    assert [findings.paths for findings in inspection.tables] == [[str(path)] for path in (events, items, ads)]
    assert inspection.tables[1].settings["columns"]["item_id"] == "sku"
    assert inspection.tables[2].mapping == {
        "ad_id": "ad_id",
        "item_id": "sku",
        "campaign_id": "campaign",
        "starts_at": "start",
        "bid": "cpc",
    }


def test_a_file_without_a_header_is_read_by_its_values(tmp_path: Path) -> None:
    def row(n: int) -> list[Any]:
        # The rows of a session stand together, items recur, and no column has a name.
        return [
            n // 4 + 1,
            f"{BEGIN + dt.timedelta(minutes=n):%Y-%m-%dT%H:%M:%S.123Z}",
            214_500_000 + n * 7 % 60,
            n % 3,
        ]

    findings = only(write_rows(tmp_path / "log.dat", 400, row, ""))
    assert findings.settings == {
        "format": "csv",
        "header": False,
        "names": ["session_id", "timestamp", "item_id", "column_4"],
        "constants": {"event_type": "view"},
    }


def test_events_inside_of_lists_are_found(tmp_path: Path) -> None:
    records = [
        {"session": n, "events": [{"aid": n % 9 + k, "ts": millis(n * 4 + k), "type": "clicks"} for k in range(3)]}
        for n in range(50)
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    findings = only(path)
    assert findings.settings["explode"] == "events"
    assert findings.settings["columns"]["item_id"] == "events.aid"
    assert findings.settings["types"] == {"clicks": "click"}
    assert findings.settings["timestamp_unit"] == "ms"
    assert check_tables({"events": [str(path)]}, InputConfig(events=findings.settings)) == []
    (note,) = inspect_paths([str(path)], InputConfig()).notes
    assert note.startswith("there are only 150 events")


def test_lists_of_records_in_parquet_are_found(tmp_path: Path) -> None:
    item = pa.struct([("sku", pa.string()), ("price", pa.float64())])
    rows = [
        {
            "user": f"u{n % 9}",
            "time": BEGIN + dt.timedelta(minutes=n),
            "action": "view",
            "products": [{"sku": f"p{n % 7}"}],
        }
        for n in range(60)
    ]
    schema = pa.schema(
        [
            ("user", pa.string()),
            ("time", pa.timestamp("us", "UTC")),
            ("action", pa.string()),
            ("products", pa.list_(item)),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "log.parquet")
    findings = only(tmp_path / "log.parquet")
    assert findings.settings["explode"] == "products"
    assert findings.mapping["item_id"] == "products.sku"
    assert "there is no session id" in findings.notes[0]


@pytest.mark.parametrize(("day", "time"), [("2026-03-02", "09:05:07"), ("20260302", "9:05")])
def test_a_date_and_a_time_of_day_in_two_columns_are_joined(tmp_path: Path, day: str, time: str) -> None:
    path = write_rows(
        tmp_path / "log.csv", 50, lambda n: [f"u{n % 5}", day, time, f"p{n % 7}"], "user_id,date,time_of_day,item_id"
    )
    findings = only(path)
    assert findings.mapping["timestamp"] == ("date", "time_of_day")
    assert (
        findings.times.first
        == round(dt.datetime(2026, 3, 2, 9, 5, 7 * (len(time) > 4), tzinfo=dt.UTC).timestamp()) * 1_000_000
    )


def test_a_session_id_that_lasts_for_days_is_taken_for_a_user(tmp_path: Path) -> None:
    def row(n: int) -> list[Any]:
        return [f"s{n % 40}", f"{BEGIN + dt.timedelta(minutes=13 * n):%Y-%m-%dT%H:%M:%SZ}", "view", f"p{n % 9}"]

    findings = only(write_rows(tmp_path / "log.csv", 2000, row, "session_id,timestamp,event_type,item_id"))
    assert any("last longer than 12 hours: are these users?" in note for note in findings.notes)


def test_baskets_that_stand_in_for_sessions_are_noted(tmp_path: Path) -> None:
    def row(n: int) -> list[Any]:
        return [f"o{n // 3}", f"{BEGIN + dt.timedelta(minutes=n):%Y-%m-%dT%H:%M:%SZ}", "purchase", f"p{n % 9}"]

    findings = only(write_rows(tmp_path / "log.csv", 60, row, "order_id,timestamp,event_type,item_id"))
    assert findings.mapping["session_id"] == "order_id"
    assert any("each basket is a session of its own" in note for note in findings.notes)


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 1000)])
def test_times_that_are_numbers_with_a_fraction_are_recognised(tmp_path: Path, unit: str, factor: int) -> None:
    def row(n: int) -> list[Any]:
        return [f"s{n // 3}", f"{factor * (BEGIN.timestamp() + n / 8):.1f}", "view", f"p{n % 9}"]

    findings = only(write_rows(tmp_path / "log.csv", 60, row, "session_id,ts,event_type,item_id"))
    assert findings.mapping["timestamp"] == "ts"
    assert findings.settings["timestamp_unit"] == unit
    assert findings.times.first == round(BEGIN.timestamp()) * 1_000_000


def test_the_quiet_hours_of_a_log_tell_the_zone_of_its_days(tmp_path: Path) -> None:
    def row(n: int) -> list[Any]:
        # Shoppers nine hours ahead of UTC sleep from 23 to 7 o'clock local time, which is from 14 to 22 UTC.
        day, minute = divmod(n * 9, 16 * 60)
        time = BEGIN + dt.timedelta(days=day, hours=22, minutes=minute)
        return [f"s{n // 3}", f"{time:%Y-%m-%dT%H:%M:%SZ}", "view", f"p{n % 9}"]

    findings = only(write_rows(tmp_path / "log.csv", 1500, row, "session_id,timestamp,event_type,item_id"))
    assert any('[input] day_zone = "Etc/GMT-1' in note or '"Etc/GMT-9"' in note for note in findings.notes)


def test_ids_that_meet_nothing_in_the_catalogue_are_told(tmp_path: Path) -> None:
    events = plain_log(tmp_path / "log.csv", 1200)
    items = write_rows(tmp_path / "items.csv", 80, lambda n: [f"0{n}", "x", "T"], "item_id,category,title")
    faults = check_tables({"events": [str(events)], "items": [str(items)]}, InputConfig())
    assert len(faults) == 1
    assert "only 0% of the items that events name are among the items" in str(faults[0])
    assert not faults[0].stops


def test_faults_of_all_tables_are_told_at_once(tmp_path: Path) -> None:
    events = write_rows(
        tmp_path / "log.csv", 1200, lambda n: [f"s{n}", millis(n), f"p{n % 9}"], "session_id,ts,product"
    )
    items = write_rows(tmp_path / "items.csv", 9, lambda n: [f"p{n}", "x"], "product,category")
    told = " | ".join(
        map(
            str,
            check_tables(
                {"events": [str(events)], "items": [str(items)], "ads": [str(tmp_path / "no")]}, InputConfig()
            ),
        )
    )
    for text in (
        'timestamp = "ts"',
        'item_id = "product"',
        'timestamp_unit = "ms"',
        'event_type = "view"',
        '[input.items.columns] item_id = "product"',
        f"{tmp_path / 'no'} does not exist",
    ):
        assert text in told


def test_a_column_of_a_wrong_type_is_told_with_the_others(tmp_path: Path) -> None:
    table = pa.table(
        {"session_id": ["a"] * 9, "timestamp": [BEGIN] * 9, "event_type": ["view"] * 9, "item_id": [1.5] * 9}
    )
    pq.write_table(table, tmp_path / "log.parquet")
    faults = [
        fault for fault in check_tables({"events": [str(tmp_path / "log.parquet")]}, InputConfig()) if fault.stops
    ]
    assert len(faults) == 1
    assert "column 'item_id' of events has type double, expected string" in str(faults[0])


def test_a_header_that_names_a_column_twice_is_told(tmp_path: Path) -> None:
    def row(n: int) -> list[Any]:
        return ["s", "2026-03-02", "view", n, n]

    path = write_rows(tmp_path / "log.csv", 9, row, "session_id,timestamp,event_type,item_id,item_id")
    assert any("names 'item_id' twice; rename one" in note for note in only(path).notes)
    (fault,) = check_tables({"events": [str(path)]}, InputConfig())
    assert "the header of events names 'item_id' twice; rename one" in str(fault)


def test_a_spark_table_is_not_looked_at(tmp_path: Path) -> None:
    assert check_tables({"events": ["table:shop.events"]}, InputConfig()) == []


@pytest.mark.parametrize("size", [13 << 20, 1 << 30, (1 << 30) + 1, 1 << 40])
def test_spans_are_in_order_apart_and_cover_both_ends(size: int) -> None:
    chosen = spans(size, 3 << 20)
    ends = [begin + length for begin, length in chosen]
    assert chosen[0][0] == 0
    assert ends[-1] == size
    assert all(end <= begin for end, (begin, _) in zip(ends, chosen[1:], strict=False))
    assert sum(length for _, length in chosen) < 11 << 20


def test_a_large_file_is_sampled_at_its_beginning_middle_and_end(tmp_path: Path) -> None:
    def row(n: int) -> list[Any]:
        kind = "view" if n < 300_000 else "search_late"
        return [f"v{n // 4}", f"{BEGIN + dt.timedelta(seconds=n):%Y-%m-%dT%H:%M:%SZ}", kind, f"p{n % 80}", "x" * 20]

    path = write_rows(tmp_path / "log.csv", 320_000, row, "session_id,timestamp,event_type,item_id,filler")
    findings = only(path)
    assert not findings.is_all
    assert findings.n_rows == pytest.approx(320_000, rel=0.02)
    assert "search_late" in findings.event_types
    last = BEGIN + dt.timedelta(seconds=319_999)
    assert findings.times.last == round(last.timestamp() * 1e6)
