"""Files that both readers must read alike: what is written, and the events read from it, with those refused."""

import datetime as dt
import gzip
import io
import json
import uuid
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

# Of each row in the order of the files: item_id, event_type and query, and why it is refused.
Row = tuple[str | None, str | None, str | None, str | None]


@dataclass(frozen=True)
class FileCase:
    """Files of one log by their names, and the rows read from them. `input` holds keys of the `[input]` section.

    Spark reads those that are not `quick` only in the slow tests.
    """

    name: str
    files: dict[str, bytes]
    rows: list[Row]
    input: dict[str, Any] = field(default_factory=dict)
    quick: bool = True


NOON = dt.datetime(2026, 3, 14, 12, tzinfo=dt.UTC)
REQUIRED = {"session_id": ["s"], "timestamp": [NOON], "event_type": ["view"], "item_id": ["i"]}
HEADER = "session_id,timestamp,event_type,item_id,query"
START = "s,2026-03-14,view"


def view(item_id: str | None, query: str | None = None) -> Row:
    """Return a view that is read."""
    return item_id, "view", query, None


def csv(*lines: str, end: str = "\n", encoding: str = "utf-8") -> bytes:
    """Return a CSV file of these lines."""
    return "".join(line + end for line in lines).encode(encoding)


def parquet(columns: dict[str, Any] | None = None, **options: Any) -> bytes:
    """Return a parquet file of one event in these columns, on top of those that are required."""
    without = options.pop("without", ())
    table = {name: values for name, values in (REQUIRED | (columns or {})).items() if name not in without}
    sink = io.BytesIO()
    pq.write_table(pa.table(table), sink, **options)
    return sink.getvalue()


def nested(records: list[dict[str, Any]]) -> bytes:
    """Return a parquet file of records."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), sink)
    return sink.getvalue()


def quoted(value: Any) -> str:
    """Return a value as JSON in one value of CSV."""
    return '"' + json.dumps(value).replace('"', '""') + '"'


UNNEEDED = {
    "uuid": pa.array([uuid.UUID(int=1).bytes], pa.uuid()),
    "time": pa.array([1], pa.time64("us")),
    "nanoseconds": pa.array([1], pa.time64("ns")),
    "half": pa.array([1.5], pa.float16()),
    "long": pa.array([Decimal(1)], pa.decimal256(50, 2)),
    "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32())),
    "struct": pa.array([{"a.b": 1}]),
    "duration": pa.array([1], pa.duration("us")),
    "vector": pa.array([[1.0]], pa.list_(pa.float64())),
    "odd`name": ["x"],
    "a.b": ["x"],
    "item_id ": ["x"],
    "ITEM_ID": ["x"],
    "x y;{}()\n\t=": ["x"],
    "": ["x"],
}


def lines(*records: Any) -> bytes:
    """Return lines of JSON. A text is a line as it stands."""
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

QUICK = (
    "damaged lines of JSON are refused one by one",
    "the same records as nested parquet, and with lists and records that are text",
    "constants for rows that have no value of their own, and types that mean nothing",
)

FILE_CASES = [
    FileCase(
        "headers are read by name, file by file",
        {
            "a.csv": csv(HEADER, f"{START},1,"),
            "b.csv": csv(f",{HEADER}", f"0,{START},2,"),
            "c.csv": csv("query,item_id,event_type,timestamp,session_id", "q,3,view,2026-03-14,s"),
            "d.csv": csv('\ufeff session_id ,"timestamp ",event_type,"item_id"', f"{START},4"),
            "e.csv": csv("more,session_id,timestamp,event_type,item_id,", f"x,{START},5,"),
            "f.CSV": csv(HEADER, f"{START},6,"),
            "g.Csv.GZ": gzip.compress(csv(HEADER, f"{START},7,")),
        },
        [view("1"), view("2"), view("3", "q"), view("4"), view("5"), view("6"), view("7")],
    ),
    FileCase(
        "quotes",
        {
            "a.csv": csv(HEADER, f'{START},5" screen,"a ""b"", c"', f'{START}, "x" ,7"x8"', f'"s",{START[2:]},"",""""'),
            "b.csv": csv(HEADER, f'{START},1,"two', 'lines"', f"{START},2,one"),
            "c.csv": csv(HEADER, f'{START},1,"two', 'lines"', f'{START},"2",one', f"{START},3,x", end="\r\n"),
            "d.csv": csv(HEADER, f"{START},1,x", f"{START},2,y", end="\r"),
        },
        [
            *[view('5" screen', 'a "b", c'), view('"x"', '7"x8"'), (None, "view", '"', "item_missing")],
            *[view("1", "two\nlines"), view("2", "one")],
            *[view("1", "two\r\nlines"), view("2", "one"), view("3", "x")],
            *[view("1", "x"), view("2", "y")],
        ],
    ),
    FileCase(
        "rows with other numbers of values than the header",
        {
            "a.csv": csv(
                HEADER, f"{START},1", f"{START},2,q,,", f"{START},3,red, shoes", f"{START},4,,,x", "", f"{START},5"
            ),
            "b.csv": csv(HEADER, f'{START},1,"q"', "   ", f"{START},2,q,"),
        },
        [
            *[
                view("1"),
                view("2", "q"),
                ("3", "view", "red", "too_many_values"),
                ("4", "view", None, "too_many_values"),
            ],
            *[view("5"), view("1", "q"), view("2", "q")],
        ],
    ),
    FileCase(
        "latin-1, and a mark of UTF-8 that overrides it",
        {
            "a.csv": csv(HEADER, f"{START},ä1,", f"{START},ö1,é", encoding="latin-1"),
            "b.csv": csv(f"\ufeff{HEADER}", f"{START},ä1,"),
        },
        [view("ä1"), view("ö1", "é"), view("ä1")],
        {"encoding": "latin-1"},
    ),
    FileCase(
        "windows-1252", {"a.csv": csv(HEADER, f"{START},€,", encoding="cp1252")}, [view("€")], {"encoding": "cp1252"}
    ),
    FileCase(
        "UTF-16 with and without a mark",
        {
            "a.csv": csv(HEADER, f"{START},ä1,", encoding="utf-16"),
            "b.csv": csv(HEADER, f"{START},ö1,", encoding="utf-16-le"),
            "c.csv": csv(f"\ufeff{HEADER}", f"{START},ü1,", f"{START},€,", end="\r\n", encoding="utf-16-be"),
        },
        [view("ä1"), view("ö1"), view("ü1"), view("€")],
        {"encoding": "UTF-16"},
    ),
    FileCase(
        "names of folders that are columns",
        {
            "dt=2026-03-14/event_type=VIEW/item_id=007/a.parquet": parquet(without=("event_type", "item_id")),
            "event_type=view/item_id=a%2Fb%20c/a.csv": csv("session_id,timestamp", "s,2026-03-14"),
            "event_type=view/item_id=__HIVE_DEFAULT_PARTITION__/b.csv": csv("session_id,timestamp", "s,2026-03-14"),
            "event_type=view/item_id=3/timestamp=2026-03-14 12%3A00/_item_id=3/c.csv": csv("session_id", "s"),
            "event_type=view/x=1/item_id=x=y/d.parquet": parquet(without=("event_type", "item_id")),
        },
        [view("007"), view("3"), (None, "view", None, "item_missing"), view("a/b c"), view("x=y")],
    ),
    FileCase(
        "columns that stand in the file and in the names of its folders",
        {
            "item_id=1/a.csv": csv("session_id,timestamp,event_type,item_id", f"{START},1", f"{START},", f"{START},2"),
            "item_id=1/b.parquet": parquet({"item_id": pa.nulls(1, pa.string())}),
            "item_id=1/event_type=VIEW/timestamp=2026-01-01/c.parquet": parquet({"item_id": [1]}),
        },
        [view("1"), view("1"), ("2", "view", None, "folder_mismatch"), view("1"), view("1")],
    ),
    FileCase(
        "names of folders that are words for null",
        {
            "event_type=view/item_id=1/country=NULL/query= None /a.parquet": parquet(without=("event_type", "item_id")),
            "event_type=view/item_id=2/country=NA/b.parquet": parquet(without=("event_type", "item_id")),
            "event_type=view/item_id=nan/c.csv": csv("session_id,timestamp", "s,2026-03-14"),
        },
        [view("1"), view("2"), (None, "view", None, "item_missing")],
    ),
    FileCase(
        "names of folders that are mapped to columns",
        {"kind=view/sku=7/e.csv": csv("session_id,timestamp,item_id", "s,2026-03-14,other")},
        [view("7")],
        {"events": {"columns": {"item_id": "sku", "event_type": "kind"}}},
    ),
    FileCase(
        "unneeded columns of any type",
        {
            "a.parquet": parquet(UNNEEDED),
            "b.parquet": parquet({"query": [None], "unneeded": pa.array([1], pa.time32("s"))}),
        },
        [view("i"), view("i")],
    ),
    FileCase(
        "needed columns of uncommon types and names",
        {
            "a.parquet": parquet(
                {
                    "sku`1.`": pa.array(["i"]).dictionary_encode(),
                    "query": pa.array(["q"], pa.string_view()),
                    "timestamp": pa.array([NOON.replace(tzinfo=None)], pa.timestamp("ns")),
                    "position": pa.array([2**63], pa.uint64()),
                    "price": pa.array([-2.5], pa.float16()),
                }
            )
        },
        [view("i", "q")],
        {"events": {"columns": {"item_id": "sku`1.`"}}},
    ),
    FileCase(
        "times of the type INT96",
        {
            f"{year}.parquet": parquet({"timestamp": [NOON.replace(year=year)]}, use_deprecated_int96_timestamps=True)
            for year in (1, 1582, 2026, 9999)
        },
        [view("i"), view("i"), view("i"), ("i", "view", None, "time_in_future")],
    ),
    FileCase(
        "codecs, encodings and names of files",
        {
            "a [1]{b}*?.parquet": parquet(compression="zstd"),
            "b\\%20#ü.parquet": parquet(compression="lz4", data_page_version="2.0"),
            "c/part-0": parquet(compression="gzip", use_dictionary=False, version="1.0"),
            "d.parquet/e[f]/x.snappy.parquet": parquet(),
            "e [1]{b}*?.csv": csv(HEADER, f"{START},5,"),
            "f%.PARQUET": parquet(column_encoding={"item_id": "DELTA_BYTE_ARRAY"}, use_dictionary=False),
            "_SUCCESS": b"",
            ".part-0.crc": b"x",
        },
        [view("i")] * 4 + [view("5"), view("i")],
    ),
    *(replace(case, quick=case.name in QUICK) for case in LAYOUT_CASES),
]
