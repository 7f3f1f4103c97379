"""Files in the layouts that the engines do not read as they are: JSON lines, nested parquet, CSV of other dialects."""

import gzip
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.graph_build.ingest.file_cases import HEADER, NOON, START, FileCase, Row, csv, parquet, view


def nested(records: list[dict[str, Any]]) -> bytes:
    """Return a parquet file of records."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), sink)
    return sink.getvalue()


def quoted(value: Any) -> str:
    """Return a value as JSON, quoted as one value of CSV."""
    return '"' + json.dumps(value).replace('"', '""') + '"'


def lines(*records: Any) -> bytes:
    """Return lines of JSON. A text becomes a line without a change."""
    return b"".join((row if isinstance(row, str) else json.dumps(row)).encode() + b"\n" for row in records)


def record(item_id: Any, **more: Any) -> dict[str, Any]:
    """Return a record of a view."""
    return {"session_id": "s", "timestamp": "2026-03-14", "event_type": "view", "item_id": item_id, **more}


def zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


BASKETS = [
    {"visit": {"id": 7}, "at": "2026-03-14", "items": [{"sku": {"id": "1"}, "kind": "view"}, {"sku": {"id": "2"}}]},
    {"visit": {"id": 7}, "at": "2026-03-14", "items": []},
    {"visit": {"id": 7}, "at": "2026-03-14", "items": None},
    {"visit": {"id": 8}, "at": "2026-03-14", "items": [{"sku": None, "kind": "VIEW"}]},
    {"visit": None, "at": "2026-03-14", "items": [{"sku": {"id": "3"}, "kind": "click"}]},
]
BASKET_COLUMNS = {
    "session_id": "visit.id",
    "timestamp": "at",
    "item_id": "items.sku.id",
    "event_type": "items.kind",
    "sequence": "#",
    "query": "items.q",
}
BASKET_ROWS: list[Row] = [
    *[view("1"), ("2", None, None, "type_unknown"), (None, "view", None, "item_missing")],
    ("3", "click", None, "session_missing"),
]
PLAIN_LISTS = {"explode": "items", "columns": {"item_id": "items", "query": "#"}}

LAYOUT_CASES = [
    FileCase(
        "JSON lines, also compressed, with a mark, blank lines and keys that come late",
        {
            "a.json": lines(record(1), "", record("2", query="q"), record(3.0, session_id=True)),
            "b.JSONL": "\ufeff".encode() + lines(record("ä"), record("\u00e4\U0001f642")).replace(b"\n", b"\r\n"),
            "c.ndjson.gz": gzip.compress(lines(record("x"))),
            "d.json.zst": zstd(lines(record("y"))) + zstd(lines(record("z"))),
        },
        [view("1"), view("2", "q"), view("3"), *map(view, ("ä", "ä🙂", "x", "y", "z"))],
    ),
    FileCase(
        "values of JSON keep their words and lose their blanks; null, NaN and blank texts are null",
        {
            "a.json": lines(
                *[
                    record(" NA "),
                    record(None),
                    record("", query="None"),
                    record(False),
                    record(12345678901234567890123),
                ],
                *[record(0.5), record(1e300), record([1, "a"]), record("1", timestamp=None), record({"a": None})],
                '{"session_id": "s", "timestamp": "2026-03-14", "event_type": "view", "item_id": NaN}',
            )
        },
        [
            *[view("NA"), (None, "view", None, "item_missing"), (None, "view", "None", "item_missing"), view("false")],
            *[view("12345678901234567890123"), view("0.5"), view("1e+300"), view('[1,"a"]')],
            *[("1", "view", None, "time_invalid"), view('{"a":null}'), (None, "view", None, "item_missing")],
        ],
    ),
    FileCase(
        "damaged lines of JSON are refused one by one",
        {"a.json": lines(record(1), '{"item_id": ', "[1]", '"text"', record(2), '{"item_id": "\\ud800"}', "{}")},
        [
            *[view("1"), *[(None, None, None, "unreadable")] * 3, view("2"), (None, None, None, "unreadable")],
            (None, None, None, "session_missing"),
        ],
    ),
    FileCase(
        "records in JSON lines, one row for each element of a list",
        {"a.json": lines(*BASKETS)},
        BASKET_ROWS,
        {"events": {"explode": "items", "columns": BASKET_COLUMNS}},
    ),
    FileCase(
        "the same records as nested parquet, and with lists and records that are text",
        {
            "a.parquet": nested(BASKETS),
            "b.parquet": nested([row | {"items": json.dumps(row["items"])} for row in BASKETS]),
            "c.csv": csv(
                "visit,at,items",
                *(f"{quoted(row['visit'])},{row['at']},{quoted(row['items'])}" for row in BASKETS),
            ),
        },
        BASKET_ROWS * 3,
        {"events": {"explode": "items", "columns": BASKET_COLUMNS}},
    ),
    FileCase(
        "lists of plain values, of which each is a row with its position",
        {
            "a.json": lines(record(None, items=["1", 2]), record(None, items=3), record(None)),
            "b.parquet": parquet({"items": [["1", "2"]]}, without=("item_id",)),
            "c.csv": csv(
                "session_id,timestamp,event_type,items",
                *(f'{START},"{text}"' for text in ("['1' '2']", "[1, 2]", "1|2", '[""1"",""2""]', "", "[]")),
            ),
        },
        [view("1", "0"), view("2", "1"), view("3", "0"), *[view("1", "0"), view("2", "1")] * 5],
        {"events": PLAIN_LISTS},
    ),
    FileCase(
        "every row of the log is a session of its own",
        {"a.csv": csv("timestamp,event_type,item_id", "2026-03-14,view,1", "2026-03-14,view,2")},
        [view("1"), view("2")],
        {"events": {"columns": {"session_id": "#row"}}},
    ),
    FileCase(
        "tabs, and values with quotes and line breaks between them",
        {
            "a.tsv": csv(HEADER.replace(",", "\t"), 's\t2026-03-14\tview\t1,2\t"a\tb"', "s\t2026-03-14\tview\t3"),
            "b.tab.gz": gzip.compress(csv(HEADER.replace(",", "\t"), 's\t2026-03-14\tview\t4\t5" x')),
            "c.tsv": csv(HEADER.replace(",", "\t"), 's\t2026-03-14\tview\t5\t"two', 'lines"'),
        },
        [view("1,2", "a\tb"), view("3"), view("4", '5" x'), view("5", "two\nlines")],
    ),
    FileCase(
        "a separator of several characters, no quotes, no header",
        {
            "a.dat": csv('s::2026-03-14::view::"1"::q', "s::2026-03-14::view::2", "s::2026-03-14::view::3::::x"),
            "b.dat.zst": zstd(csv('s::2026-03-14::view::"::NULL', end="\r\n") + csv("s::2026-03-14::view::5")),
        },
        [view('"1"', "q"), view("2"), ("3", "view", None, "too_many_values"), view('"'), view("5")],
        {
            "events": {
                "separator": "::",
                "quote": "",
                "header": False,
                "names": ["session_id", "timestamp", "event_type", "item_id", "query"],
            }
        },
    ),
    FileCase(
        "a separator of several characters with quotes, and names in the place of those of the header",
        {
            "a.csv": csv("A||B||C||D||", "s||2026-03-14||view||'1||2'||x"),
            "b.csv": csv("A||B||C||D||E", "s||14.3.26||||3||"),
        },
        [view("1||2"), ("3", None, None, "time_invalid")],
        {
            "events": {
                "separator": "||",
                "quote": "'",
                "names": ["session_id", "timestamp", "event_type", "item_id", ""],
            }
        },
    ),
    FileCase(
        "semicolons, in other encodings",
        {
            "a.csv": csv(HEADER.replace(",", ";"), "s;2026-03-14;view;ä,1;NULL", encoding="utf-16"),
            "b.csv": csv(HEADER.replace(",", ";"), 's;2026-03-14;view;"ö;1";', encoding="utf-16-le"),
        },
        [view("ä,1"), view("ö;1")],
        {"encoding": "utf-16", "events": {"separator": ";"}},
    ),
    FileCase(
        "a date and a time in two columns",
        {
            "a.csv": csv("session_id,day,time,event_type,item_id", "s,2026-03-14, 9:30 ,view,1", "s,NULL,9:30,view,2"),
            "b.json": lines({"session_id": "s", "day": "20260314", "time": "0930", "event_type": "view", "item_id": 3}),
            "c.parquet": parquet(
                {"day": pa.array([NOON.date()]), "time": pa.array([34_200_000_000], pa.time64("us"))},
                without=("timestamp",),
            ),
        },
        [view("1"), ("2", "view", None, "time_invalid"), view("3"), view("i")],
        {"events": {"columns": {"timestamp": ["day", "time"]}}},
    ),
    FileCase(
        "constants for rows that have no value of their own, and types that mean nothing",
        {
            "a.csv": csv("session_id,timestamp,item_id", "s,2026-03-14,1", "s,2026-03-14,"),
            "b.csv": csv(HEADER, "s,2026-03-14,,1,", "s,2026-03-14,Scroll,,", ",,SCROLL,1,", "s,2026-03-14,login,1,"),
            "c.parquet": parquet(without=("event_type",)),
            "event_type=scroll/d.json": lines(record(1, event_type=None)),
        },
        [
            *[("1", "purchase", None, None), (None, "purchase", None, "item_missing"), ("1", "purchase", None, None)],
            *[(None, "ignore", None, "ignored"), ("1", "ignore", None, "ignored"), ("1", None, None, "type_unknown")],
            *[("i", "purchase", None, None), ("1", "ignore", None, "ignored")],
        ],
        {"events": {"constants": {"event_type": "purchase"}, "types": {"scroll": "ignore"}}},
    ),
    FileCase(
        "formats that the names of the files do not say",
        {"a": lines(record(1)), "b.log": lines(record(2)), "part-0.gz": gzip.compress(lines(record(3)))},
        [view("1"), view("2"), view("3")],
        {"events": {"format": "json"}},
    ),
    FileCase(
        "times that are numbers with a fraction",
        {
            "a.json": lines(
                *(record(n, timestamp=time) for n, time in enumerate((1.5, "-1.5", "1.", "1e9", "x", "1.5.2", ".")))
            ),
            "b.parquet": parquet({"timestamp": [1.75]}),
            "c.csv": csv(HEADER, "s,1773480307.25,view,7,", "s,1773480307,view,8,"),
        },
        [
            *[view("0"), view("1"), view("2"), *((str(n), "view", None, "time_invalid") for n in (3, 4, 5, 6))],
            *[view("i"), view("7"), view("8")],
        ],
        {"events": {"timestamp_unit": "s"}},
    ),
    *[
        FileCase(
            f"times in the unit {unit}, such as {number}",
            {
                "a.json": lines(
                    record(1, timestamp=number), record(2, timestamp=str(number)), record(3, timestamp="x")
                ),
                "b.parquet": parquet({"timestamp": [number]}),
                "c.csv": csv(HEADER, f"s,{number},view,5,"),
            },
            [view("1"), view("2"), ("3", "view", None, "time_invalid"), view("i"), view("5")],
            {"events": {"timestamp_unit": unit}},
        )
        for unit, number in (("ns", 1_773_000_000_123_456_789), ("day", 20_000), ("order", 0), ("order", -1))
    ],
]
