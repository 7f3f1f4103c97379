"""Small tables that commands read without Spark: test events and queries. Problems name the file, column and row."""

import datetime as dt
import glob
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv
import pyarrow.dataset as ds

from graph_build.config import EventType, InputConfig
from jobs.errors import TableError

log = logging.getLogger(__name__)

_NEEDED = ("session_id", "timestamp", "event_type", "item_id")
_TYPES = get_args(EventType)


def read_table(path: str, text: Iterable[str] = ()) -> pa.Table:
    """A parquet or CSV file, or a folder of either (date-partitioned or not), as it is.

    Args:
        text: columns that are text in a CSV file, whatever they look like: 007 is not 7.

    Raises:
        TableError: the path is missing, or a file is not what its name says.
    """
    found = Path(path)
    if not found.exists():
        raise TableError(f"{path} does not exist; give a parquet or CSV file, or a folder of them")
    names = [str(found)] if found.is_file() else sorted(glob.glob(f"{glob.escape(path)}/**/*.*", recursive=True))
    csv = [name for name in names if name.endswith((".csv", ".csv.gz"))]
    try:
        if csv:
            kinds = pc_csv.ConvertOptions(column_types=dict.fromkeys(text, pa.string()))
            tables = [pc_csv.read_csv(name, convert_options=kinds) for name in csv]
            return pa.concat_tables(tables, promote_options="permissive")
        return ds.dataset(path, format="parquet", partitioning="hive").to_table()
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path} is not readable as parquet or CSV: {error}") from error


def stream_table(path: str, rows: int = 65_536) -> tuple[int, Iterator[pa.Table]]:
    """(rows in all, tables of at most so many rows) of parquet, read as they are asked for; of CSV, one table.

    Raises:
        TableError: as `read_table`; of a file that is damaged further on, when that is reached.
    """
    if not Path(path).exists() or not _is_parquet(Path(path)):
        table = read_table(path)
        return len(table), iter([table])
    try:
        data = ds.dataset(path, format="parquet", partitioning="hive")
        total = data.count_rows()
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path} is not readable as parquet or CSV: {error}") from error

    def tables() -> Iterator[pa.Table]:
        try:
            for batch in data.to_batches(batch_size=rows):
                yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise TableError(f"{path} is not readable to its end: {error}") from error

    return total, tables() if total else iter([data.schema.empty_table()])


def _is_parquet(path: Path) -> bool:
    return (
        path.name.endswith(".parquet")
        if path.is_file()
        else not glob.glob(f"{glob.escape(str(path))}/**/*.csv*", recursive=True)
    )


def read_events(paths: Sequence[str], config: InputConfig) -> pa.Table:
    """Test events in the contract's names and types, read by the rules of the graph build.

    Rows without a session, a readable time, a known type or an item are left out, counted, and warned of; so are, if
    the configuration says so, events on our own ads.

    Raises:
        TableError: a column is missing or of a type that cannot be read as the contract's, or more than
            `max_bad_share` of a file's rows are bad.
    """
    return pa.concat_tables([_events(path, config) for path in paths], promote_options="permissive")


def _events(path: str, config: InputConfig) -> pa.Table:
    # File by file: the days of a folder may differ in columns and types.
    parts = [_converted(file, config) for file in _event_files(path)]
    table = pa.concat_tables([converted for converted, _ in parts], promote_options="permissive")
    good = _good_rows(table, [given for _, given in parts], path, config.max_bad_share)
    if "ad_id" in table.column_names:
        good = pc.and_(good, pc.is_null(table["ad_id"]))
        table = table.drop_columns(["ad_id"])
    return table.filter(good)


def _event_files(path: str) -> list[str]:
    from graph_build.errors import GraphInputError
    from graph_build.ingest.contract import files_of

    if not Path(path).is_dir():
        return [path]
    try:
        return [str(file) for file in files_of("events", Path(path))]
    except GraphInputError as error:
        raise TableError(str(error)) from None


def _converted(file: str, config: InputConfig) -> tuple[pa.Table, dict[str, pa.ChunkedArray]]:
    """(a file's columns in the contract's names and types, ad_id if it is asked for; the needed ones as they were)."""
    own = {name: config.events.columns.get(name, name) for name in (*_NEEDED, "sequence", "ad_id")}
    table = read_table(file, text=own.values())
    given = {name: _column(table, own[name], file) for name in _NEEDED}
    out = {name: _as_string(given[name], own[name], file) for name in ("session_id", "event_type", "item_id")}
    out["event_type"] = _contract_types(out["event_type"], config.events.types)
    out["timestamp"] = _as_time(given["timestamp"], own["timestamp"], file, config.events.timestamp_unit)
    if own["sequence"] in table.column_names and not pa.types.is_null(table[own["sequence"]].type):
        out["sequence"] = _as_number(table[own["sequence"]])
    if config.events.exclude_ad_events and own["ad_id"] in table.column_names:
        out["ad_id"] = _as_string(table[own["ad_id"]], own["ad_id"], file)
    return pa.table(out), given


def _good_rows(
    out: pa.Table, given: Sequence[Mapping[str, pa.ChunkedArray]], path: str, most: float
) -> pa.ChunkedArray:
    search = pc.equal(out["event_type"], "search")
    late = pa.scalar(dt.datetime.now(dt.UTC) + dt.timedelta(days=1), pa.timestamp("us", "UTC"))
    faults = {
        "session_missing": ("session_id", pc.is_null(out["session_id"])),
        "time_invalid": ("timestamp", pc.is_null(out["timestamp"])),
        "time_in_future": ("timestamp", pc.fill_null(pc.greater(out["timestamp"], late), False)),
        "type_unknown": ("event_type", pc.invert(pc.is_in(out["event_type"], value_set=pa.array(_TYPES)))),
        "item_missing": ("item_id", pc.and_not(pc.is_null(out["item_id"]), pc.fill_null(search, False))),
    }
    good = pa.chunked_array([pa.repeat(True, len(search))])
    said, worst = [], (0, "")
    for reason, (name, bad) in faults.items():
        rows = pc.indices_nonzero(pc.and_(good, bad))
        good = pc.and_not(good, bad)
        if len(rows):
            first = rows[0].as_py()
            said.append(f"{reason}: {len(rows):,}")
            worst = max(worst, (len(rows), f"{reason} in row {first + 1}: {_given(given, name, first)!r}"))
    bad_rows = len(good) - (pc.sum(good).as_py() or 0)
    if bad_rows:
        message = f"{path}: {bad_rows:,} of {len(good):,} events cannot be used ({', '.join(said)}), e.g. {worst[1]}"
        if bad_rows > most * len(good):
            raise TableError(f"{message}; more than [input] max_bad_share = {most:g} allows")
        log.warning("%s; they are left out", message)
    return good


def _given(parts: Sequence[Mapping[str, pa.ChunkedArray]], name: str, row: int) -> object:
    """What stands in a row of all parts together."""
    for part in parts:
        if row < len(part[name]):
            return part[name][row].as_py()
        row -= len(part[name])
    raise IndexError(row)


def _contract_types(column: pa.ChunkedArray, types: Mapping[str, str]) -> pa.ChunkedArray:
    own = pc.utf8_lower(column)
    named = own
    for name, kind in types.items():
        named = pc.if_else(pc.equal(own, name.lower()), kind, named)
    return named


def _column(table: pa.Table, name: str, path: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise TableError(
            f"{path} has no column {name!r}, it has {', '.join(table.column_names)}; "
            "map it in the configuration: [input.events.columns]"
        )
    return table[name]


def _as_string(column: pa.ChunkedArray, name: str, path: str) -> pa.ChunkedArray:
    """Trimmed; what is blank is null."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_null(kind):
        return column.cast(pa.string())
    if not (_is_text(kind) or pa.types.is_integer(kind)):
        raise TableError(f"{path}: column {name!r} has type {column.type}, expected string")
    text = pc.utf8_trim_whitespace(column.cast(kind).cast(pa.string()))
    return pc.if_else(pc.equal(text, ""), None, text)


def _as_number(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whole numbers (int64), null where there is none."""
    if _is_text(column.type):
        text = pc.utf8_trim_whitespace(column.cast(pa.string()))
        column = pc.if_else(pc.match_substring_regex(text, r"^-?\d{1,18}$"), text, None)
    elif not pa.types.is_integer(column.type):  # pandas writes integers with a gap as doubles
        column = column.cast(pa.float64())
        column = pc.if_else(pc.is_finite(column), column, None)
    return column.cast(pa.int64(), safe=False)


def _as_time(column: pa.ChunkedArray, name: str, path: str, unit: str | None) -> pa.ChunkedArray:
    """Null where a text holds none. Without an offset times are in UTC."""
    target = pa.timestamp("us", "UTC")
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    column = column.cast(kind)
    if pa.types.is_timestamp(kind):
        plain = column.cast(pa.timestamp("us", kind.tz), safe=False)
        return pc.assume_timezone(plain, "UTC") if kind.tz is None else plain.cast(target)
    if pa.types.is_date(kind):
        return pc.assume_timezone(column.cast(pa.timestamp("us")), "UTC")
    if unit is not None and (pa.types.is_integer(kind) or _is_text(kind)):
        whole = column.cast(pa.int64()) if pa.types.is_integer(kind) else _as_number(column)
        limit = 9_000_000_000_000_000 // {"s": 1_000_000, "ms": 1_000, "us": 1}[unit]
        readable = pc.and_(pc.greater_equal(whole, -limit), pc.less_equal(whole, limit))
        whole = pc.if_else(readable, whole, None)
        return whole.cast(pa.timestamp(unit, "UTC")).cast(target)
    if _is_text(kind):
        return pa.chunked_array([pa.array(map(_time, column.to_pylist()), target)])
    hint = "; say what its integers count in [input.events] timestamp_unit" if pa.types.is_integer(kind) else ""
    raise TableError(f"{path}: column {name!r} has type {kind}, expected timestamp[us, tz=UTC]{hint}")


def _time(text: str | None) -> dt.datetime | None:
    try:
        time = dt.datetime.fromisoformat((text or "").strip())
        return time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time.astimezone(dt.UTC)
    except (ValueError, OverflowError):  # the latter: the first or the last hours of the calendar, in UTC beyond it
        return None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
