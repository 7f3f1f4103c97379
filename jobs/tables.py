"""Small tables that commands read without Spark: test events and queries. Problems name the file, column and row."""

import glob
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv
import pyarrow.dataset as ds

from jobs.errors import TableError


def read_table(path: str) -> pa.Table:
    """A parquet or CSV file, or a folder of either (date-partitioned or not), as it is.

    Raises:
        TableError: the path is missing, or a file is not what its name says.
    """
    found = Path(path)
    if not found.exists():
        raise TableError(f"{path} does not exist; give a parquet or CSV file, or a folder of them")
    names = [str(found)] if found.is_file() else sorted(glob.glob(f"{path}/**/*.*", recursive=True))
    csv = [name for name in names if name.endswith((".csv", ".csv.gz"))]
    try:
        if csv:
            return pa.concat_tables([pc_csv.read_csv(name) for name in csv], promote_options="permissive")
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
    return path.name.endswith(".parquet") if path.is_file() else not glob.glob(f"{path}/**/*.csv*", recursive=True)


def read_events(paths: Sequence[str], columns: Mapping[str, str], timestamp_unit: str | None = None) -> pa.Table:
    """Test events in the contract's names and types.

    Args:
        columns: contract name → name in the file, as in `[input.events.columns]`.
        timestamp_unit: of integer times: s, ms or us.

    Raises:
        TableError: a column is missing or of a type that cannot be read as the contract's.
    """
    tables = [_events(path, columns, timestamp_unit) for path in paths]
    return pa.concat_tables(tables, promote_options="permissive")


def _events(path: str, columns: Mapping[str, str], timestamp_unit: str | None) -> pa.Table:
    table = read_table(path)
    out: dict[str, pa.ChunkedArray] = {}
    for name in ("session_id", "timestamp", "event_type", "item_id"):
        out[name] = _column(table, columns.get(name, name), path)
    for name in ("session_id", "event_type", "item_id"):
        out[name] = _as_string(out[name], columns.get(name, name), path)
    out["timestamp"] = _as_time(out["timestamp"], columns.get("timestamp", "timestamp"), path, timestamp_unit)
    sequence = columns.get("sequence", "sequence")
    if sequence in table.column_names and pa.types.is_integer(table[sequence].type):
        out["sequence"] = table[sequence]
    return pa.table(out)


def _column(table: pa.Table, name: str, path: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise TableError(
            f"{path} has no column {name!r}, it has {', '.join(table.column_names)}; "
            "map it in the configuration: [input.events.columns]"
        )
    return table[name]


def _as_string(column: pa.ChunkedArray, name: str, path: str) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind):
        return column.cast(pa.string())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    raise TableError(f"{path}: column {name!r} has type {kind}, expected string")


def _as_time(column: pa.ChunkedArray, name: str, path: str, unit: str | None) -> pa.ChunkedArray:
    target = pa.timestamp("us", "UTC")
    kind = column.type
    try:
        if pa.types.is_timestamp(kind):
            naive = kind.tz is None
            return (
                pc.assume_timezone(column.cast(pa.timestamp("us"), safe=False), "UTC")
                if naive
                else column.cast(target, safe=False)
            )
        if pa.types.is_string(kind) or pa.types.is_date(kind):
            return pc.assume_timezone(column.cast(pa.timestamp("us")), "UTC")
        if pa.types.is_integer(kind) and unit is not None:
            return column.cast(pa.int64()).cast(pa.timestamp(unit, "UTC")).cast(target)
    except pa.ArrowInvalid as error:
        raise TableError(f"{path}: column {name!r} cannot be read as times: {error}") from error
    hint = "; say what its integers count in [input.events] timestamp_unit" if pa.types.is_integer(kind) else ""
    raise TableError(f"{path}: column {name!r} has type {kind}, expected timestamp[us, tz=UTC]{hint}")
