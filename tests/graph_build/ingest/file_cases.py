"""Files that both readers must read alike: their content, and the events read from it, refused ones included."""

import datetime as dt
import gzip
import io
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

# (item_id, event_type, query, the reason why the row is refused). Rows are in the order of the files.
Row = tuple[str | None, str | None, str | None, str | None]


@dataclass(frozen=True)
class FileCase:
    """Files of one log by their names, and the rows read from them. `input` holds keys of the `[input]` section."""

    name: str
    files: dict[str, bytes]
    rows: list[Row]
    input: dict[str, Any] = field(default_factory=dict)


NOON = dt.datetime(2026, 3, 14, 12, tzinfo=dt.UTC)
REQUIRED = {"session_id": ["s"], "timestamp": [NOON], "event_type": ["view"], "item_id": ["i"]}
HEADER = "session_id,timestamp,event_type,item_id,query"
START = "s,2026-03-14,view"


def view(item_id: str | None, query: str | None = None) -> Row:
    """Return the row of a view that is not refused."""
    return item_id, "view", query, None


def csv(*lines: str, end: str = "\n", encoding: str = "utf-8") -> bytes:
    """Return a CSV file of these lines."""
    return "".join(line + end for line in lines).encode(encoding)


def parquet(columns: dict[str, Any] | None = None, **options: Any) -> bytes:
    """Return a parquet file of one event, with the required columns and these."""
    without = options.pop("without", ())
    table = {name: values for name, values in (REQUIRED | (columns or {})).items() if name not in without}
    sink = io.BytesIO()
    pq.write_table(pa.table(table), sink, **options)
    return sink.getvalue()


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
]
