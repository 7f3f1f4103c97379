"""Generated input files: known rows, written in one of the many ways in which logs are written.

`written_tables` is a strategy for the fuzz tests. It draws a table, then a way to write it, and then perhaps a fault.
"""

import csv
import datetime as dt
import gzip
import io
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from tests.graph_build.ingest.file_cases import UNNEEDED
from tests.graph_build.ingest.layout_cases import zstd

Cell = str | int | float | dt.datetime | list[Any] | None
Rows = list[dict[str, Cell]]

_TIMES = st.datetimes(dt.datetime(1970, 1, 2), dt.datetime(2026, 3, 31), timezones=st.just(dt.UTC))
# Values have no blanks at their ends. No value is a word for null, but a null may be written as such a word.
_WORD = st.text(st.sampled_from("ab7Z0-_/%=+.äß語🙂'\"\\;|#& ,"), max_size=8).map(lambda text: f"i{text}e")
_TITLE = st.one_of(_WORD, st.lists(_WORD, min_size=2, max_size=3).map("\n".join))
COLUMNS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "events": {
        "session_id": _WORD,
        "timestamp": _TIMES,
        "event_type": st.sampled_from(["view", "click", "add_to_cart", "purchase", "impression"]),
        "item_id": _WORD,
        "query": st.none() | _TITLE,
        "position": st.none() | st.integers(-(2**31), 2**31 - 1),
        "price": st.none() | st.floats(-1000, 1000, width=16),
    },
    "items": {
        "item_id": _WORD,
        "title": st.none() | _TITLE,
        "image_url": st.none() | _WORD,
        "brand": st.none() | _WORD,
        "price": st.none() | st.floats(-1000, 1000, width=16),
        "embedding": st.lists(st.floats(-8, 8, width=16), min_size=2, max_size=2),
    },
    "ads": {
        "ad_id": _WORD,
        "item_id": _WORD,
        "campaign_id": _WORD,
        "status": st.sampled_from(["active", "paused"]),
        "ends_at": st.none() | _TIMES,
        "bid": st.none() | st.floats(-1000, 1000, width=16),
        "version": st.none() | st.integers(0, 2**31 - 1),
    },
}
REQUIRED = {
    "events": ["session_id", "timestamp", "event_type", "item_id"],
    "items": ["item_id"],
    "ads": ["ad_id", "item_id", "campaign_id"],
}
_TYPES: dict[str, list[pa.DataType]] = {
    "text": [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
    "time": [pa.timestamp(unit, zone) for unit in ("us", "ns") for zone in (None, "UTC", "Asia/Tokyo")] + [pa.string()],
    "integer": [pa.int32(), pa.int64(), pa.float64(), pa.decimal128(12, 1), pa.string()],
    "number": [pa.float16(), pa.float32(), pa.float64(), pa.decimal128(30, 20), pa.string()],
    "vector": [
        *(pa.list_(inner) for inner in (pa.float16(), pa.float32(), pa.float64())),
        *(pa.large_list(pa.float32()), pa.list_(pa.float32(), 2), pa.string()),
    ],
}
_KINDS = {
    "timestamp": "time",
    "ends_at": "time",
    "position": "integer",
    "version": "integer",
    "price": "number",
    "bid": "number",
    "embedding": "vector",
}
_NULL_WORDS = ["NULL", "null", r"\N", "None", "nan", "N/A", "<NA>", " NULL "]
_CODECS = ["snappy", "zstd", "gzip", "lz4", "none"]
FAULTS = ["unclosed quote", "undecodable byte", "cut off", "surplus value", "zeroed bytes"]


@dataclass(frozen=True)
class Written:
    """A file of a table, and the rows that it holds. If there is a `fault`, it came in after the rows were written."""

    name: str
    content: bytes
    rows: Rows
    fault: str | None = None
    input: dict[str, Any] = field(default_factory=dict)


@st.composite
def written_tables(draw: st.DrawFn, table: str, *, faults: bool) -> Written:
    """Return a strategy for one file of a table."""
    strategies = COLUMNS[table]
    optional = draw(st.sets(st.sampled_from([name for name in strategies if name not in REQUIRED[table]])))
    names = draw(st.permutations([*REQUIRED[table], *sorted(optional)]))
    rows: Rows = draw(
        st.lists(st.fixed_dictionaries({name: strategies[name] for name in names}), min_size=1, max_size=8)
    )
    folders = _moved_to_folders(draw, rows, names)
    columns = [name for name in names if name not in folders]
    kind = draw(st.sampled_from(["parquet", "csv", "json"]))
    file = "/".join([*(f"{key}={quote(text, safe='')}" for key, text in folders.items()), "f"])
    if kind == "parquet":
        content = _as_parquet(draw, rows, columns)
        written = Written(f"{file}.parquet", content, rows)
    elif kind == "json":
        written = _as_json(draw, table, file, rows, columns)
    else:
        written = _as_csv(draw, table, file, rows, columns)
    return _with_fault(draw, written) if faults and draw(st.booleans()) else written


def _moved_to_folders(draw: st.DrawFn, rows: Rows, names: list[str]) -> dict[str, str]:
    """Give all rows the same values in some columns, and return these columns as the names of folders."""
    movable = [name for name in names if name not in ("embedding", "query", "title")]
    folders = {"dt": "2026-03-14"} if draw(st.booleans()) else {}
    for name in draw(st.lists(st.sampled_from(movable), max_size=2, unique=True)):
        for row in rows:
            row[name] = rows[0][name]
        text = _as_text(rows[0][name])
        null = draw(st.sampled_from(["__HIVE_DEFAULT_PARTITION__", *_NULL_WORDS]))
        folders[name] = null if text is None else text
    return folders


def _as_text(value: Cell) -> str | None:
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    return value if isinstance(value, str) or value is None else str(value)


def _as_parquet(draw: st.DrawFn, rows: Rows, columns: list[str]) -> bytes:
    arrays: dict[str, pa.Array] = {}
    for name in columns:
        type_ = draw(st.sampled_from(_TYPES[_KINDS.get(name, "text")]))
        values = [row[name] for row in rows]
        if type_ == pa.string():
            values = [_as_text(value) for value in values]
        elif pa.types.is_decimal(type_):
            arrays[name] = pa.array(values, pa.float64()).cast(type_)
            continue
        elif pa.types.is_dictionary(type_):
            arrays[name] = pa.array(values, pa.string()).dictionary_encode()
            continue
        arrays[name] = pa.array(values, type_)
    for name in draw(st.sets(st.sampled_from(sorted(set(UNNEEDED) - {""})), max_size=3)):
        one = UNNEEDED[name]
        arrays[name] = pa.concat_arrays([one if isinstance(one, pa.Array) else pa.array(one)] * len(rows))
    sink = io.BytesIO()
    options: dict[str, Any] = {"compression": draw(st.sampled_from(_CODECS)), "row_group_size": draw(st.integers(1, 9))}
    options["use_deprecated_int96_timestamps"] = draw(st.booleans())
    options["use_dictionary"] = draw(st.booleans())
    options["data_page_version"] = draw(st.sampled_from(["1.0", "2.0"]))
    pq.write_table(pa.table(arrays) if arrays else pa.table({"none": pa.nulls(len(rows))}), sink, **options)
    return sink.getvalue()


def _as_json(draw: st.DrawFn, table: str, file: str, rows: Rows, columns: list[str]) -> Written:
    """Write lines of JSON: flat records, or records that hold several rows each, in a list."""
    is_ascii, with_numbers = draw(st.booleans()), draw(st.booleans())

    def cell(value: Cell) -> Any:
        as_text = isinstance(value, dt.datetime) or (isinstance(value, float | int) and not with_numbers)
        return _as_text(value) if as_text else value

    records: list[Any] = [{name: cell(row[name]) for name in columns} for row in rows]
    settings: dict[str, Any] = {}
    if draw(st.booleans()):
        size = draw(st.integers(1, len(records)))
        records = [{"no": n, "a": {"b": records[n : n + size]}} for n in range(0, len(records), size)]
        settings[table] = {"explode": "a.b", "columns": {name: f"a.b.{name}" for name in columns}}
        records += draw(st.lists(st.sampled_from([{"a": {"b": []}}, {"a": None}, {}]), max_size=2))
    end = draw(st.sampled_from(["\n", "\r\n", "\n\n"]))
    content = "".join(json.dumps(record, ensure_ascii=is_ascii) + end for record in records).encode()
    name, compress = draw(st.sampled_from([("jsonl", bytes), ("json.gz", gzip.compress), ("ndjson.zst", zstd)]))
    return Written(f"{file}.{name}", compress(content), rows, input=settings)


def _as_csv(draw: st.DrawFn, table: str, file: str, rows: Rows, columns: list[str]) -> Written:
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"]))
    sink = io.StringIO()
    end = draw(st.sampled_from(["\n", "\r\n"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    separator, quote = draw(st.sampled_from([(",", '"'), (",", '"'), (";", '"'), ("\t", "'"), ("::", '"')]))
    one = separator if len(separator) == 1 else "\x1f"
    writer = csv.writer(sink, lineterminator=end, quoting=quoting, delimiter=one, quotechar=quote)
    has_numbers, has_comma = draw(st.booleans()), draw(st.booleans())
    header = [f" {name} " if draw(st.booleans()) else name for name in columns] or ["none"]
    writer.writerow([*([""] if has_numbers else []), *header, *([""] if has_comma else [])])
    null_words = st.sampled_from([None, *_NULL_WORDS])
    for n, row in enumerate(rows):
        cells = [draw(null_words) if row[name] is None else _as_text(row[name]) for name in columns] or ["x"]
        writer.writerow([*([n] if has_numbers else []), *cells, *([""] if has_comma else [])])
    content = sink.getvalue().replace(one, separator).encode(encoding)
    settings: dict[str, Any] = {} if encoding.startswith("utf-8") else {"encoding": encoding}
    if (separator, quote) != (",", '"'):
        settings[table] = {"separator": separator, "quote": quote}
    if draw(st.booleans()):
        return Written(f"{file}.csv.gz", gzip.compress(content, mtime=0), rows, input=settings)
    return Written(f"{file}.csv", content, rows, input=settings)


def _with_fault(draw: st.DrawFn, written: Written) -> Written:
    fault, content = draw(st.sampled_from(FAULTS)), written.content
    compressed = written.name.endswith(".gz")
    if written.name.endswith(".zst"):
        fault = "zeroed bytes"
    if compressed and fault != "zeroed bytes":
        content = gzip.decompress(content)
    place = draw(st.integers(0, len(content)))
    if fault == "unclosed quote":
        at = content.find(b"\n", place) + 1
        content = content[:at] + b'"' + content[at:]
    elif fault == "undecodable byte":
        content = content[:place] + b"\xff" + content[place:]
    elif fault == "cut off":
        content = content[:place]
    elif fault == "surplus value":
        at = content.find(b"\n", place)
        at -= content[:at].endswith(b"\r")
        content = content[:at] + b",x" + content[at:] if at > 0 else content
    else:
        content = content[:place] + bytes(len(content[place : place + 9])) + content[place + 9 :]
    if compressed and fault != "zeroed bytes":
        content = gzip.compress(content, mtime=0)
    return Written(written.name, content, written.rows, fault, written.input)
