"""Reads rows of files that no engine can read as they are: JSON, web logs, nested parquet, CSV of other dialects.

This is the one reader of such files. `arrow_reader` calls it directly; `spark_files` calls it on Spark's executors, for
parts of files side by side. It needs no engine. The contract's rules for values are applied later, as for any file.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from graph_build.ingest.compressed import is_compressed, open_bytes
from graph_build.ingest.csv_files import CsvLayout
from graph_build.ingest.csv_rows import can_be_split, csv_blocks, line_blocks
from graph_build.ingest.fields import Fields, column_of
from graph_build.ingest.nested_rows import rows_of_columns
from graph_build.ingest.parquet_files import open_parquet
from graph_build.ingest.record_rows import FAULT, rows_of_lines, rows_of_web_log
from graph_build.spark.storage import size_of

# A longer file of lines is read in parts of this many bytes, unless it cannot be split.
PART_BYTES = 1 << 26
_ROWS = 8192  # records that are read at once


@dataclass(frozen=True)
class RecordLayout:
    """How the rows of files are read.

    Args:
        format: the format of the files. JSON and logs of web servers have one record in each line. A `table` is a table
            of Spark, and Spark reads it.
        fields: the columns by the log's own names, and where they stand in a record.
        types: the columns that the files have, with the types in which they are read.
        csv: how CSV files are written; None for other files.
    """

    format: Literal["json", "weblog", "csv", "parquet", "table"]
    fields: Fields
    types: tuple[tuple[str, pa.DataType], ...]
    csv: CsvLayout | None = None


@dataclass(frozen=True)
class FilePart:
    """A part of a file: the lines that begin at a byte from `start` up to, but not including, `end`.

    For parquet, the two are numbers of row groups. Without an `end` the part goes to the end of the file.
    """

    file: str
    start: int = 0
    end: int | None = None


def parts_of(file: str, layout: RecordLayout) -> list[FilePart]:
    """Return the parts of a file, which can be read side by side.

    Args:
        file: a path or URI.
        layout: how its rows are read.
    """
    if layout.format == "parquet":
        with open_parquet(file) as opened:
            return [FilePart(file, group, group + 1) for group in range(opened.num_row_groups)]
    if is_compressed(file) or (layout.csv is not None and not can_be_split(layout.csv)):
        return [FilePart(file)]
    size = size_of(file)
    return [FilePart(file, start, min(start + PART_BYTES, size)) for start in range(0, size, PART_BYTES)]


def read_part(part: FilePart, layout: RecordLayout, names: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the rows of a part of a file in order: the columns, and `FAULT`, which is null for a good row.

    Args:
        part: the part of the file.
        layout: how its rows are read.
        names: the log's own names of the columns.
    """
    for table in _rows(part, layout, layout.fields.only(names)):
        yield in_types(table, layout, names)


def in_types(table: pa.Table, layout: RecordLayout, names: Sequence[str]) -> pa.Table:
    """Return some columns of rows in the layout's types, and `FAULT`.

    Args:
        table: rows of records.
        layout: how they were read.
        names: the log's own names of the columns.
    """
    types = dict(layout.types)
    schema = pa.schema([*((name, types[name]) for name in names), (FAULT, pa.string())])
    return table.select(schema.names).cast(schema) if len(table) else schema.empty_table()


def _rows(part: FilePart, layout: RecordLayout, fields: Fields) -> Iterator[pa.Table]:
    digest = hashlib.blake2b(f"{part.file}:{part.start}".encode(), digest_size=6).hexdigest()
    first = 0
    if layout.format in ("json", "weblog"):
        rows_of = rows_of_lines if layout.format == "json" else rows_of_web_log
        for lines in _lines(part):
            yield rows_of(lines, fields, digest, first)
            first += len(lines)
        return
    tables = _columns_of_csv(part, layout.csv, fields) if layout.csv is not None else _columns_of_parquet(part, fields)
    for table in tables:
        yield rows_of_columns(table, fields, digest, first)
        first += len(table)


def _lines(part: FilePart) -> Iterator[list[bytes]]:
    with open_bytes(part.file) as opened:
        for block in line_blocks(opened, part.start, part.end):
            lines = [line for line in block.split(b"\n") if line and not line.isspace()]
            for n in range(0, len(lines), _ROWS):
                yield lines[n : n + _ROWS]


def _columns_of_csv(part: FilePart, layout: CsvLayout, fields: Fields) -> Iterator[pa.Table]:
    yield from csv_blocks(part.file, layout, needed_roots(fields, layout.header), part.start, part.end)


def _columns_of_parquet(part: FilePart, fields: Fields) -> Iterator[pa.Table]:
    with open_parquet(part.file) as opened:
        roots = needed_roots(fields, opened.schema_arrow.names)
        groups = range(part.start, opened.num_row_groups if part.end is None else part.end)
        for batch in opened.iter_batches(_ROWS, row_groups=groups, columns=roots):
            yield pa.Table.from_batches([batch])


def needed_roots(fields: Fields, names: Sequence[str]) -> list[str]:
    """Return the columns in which the fields' paths begin.

    Args:
        fields: the values that are read.
        names: all columns.
    """
    ways = [column_of(path, names) for path in fields.paths]
    return list(dict.fromkeys(way[0] for way in ways if way is not None))
