"""Reads the needed columns of a checked CSV file as text, block by block, from the whole file or from a part of it."""

import codecs
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv

from graph_build.ingest.compressed import open_bytes
from graph_build.ingest.contract import TOO_MANY_VALUES
from graph_build.ingest.csv_files import ONE_CHARACTER, CsvLayout, open_csv
from graph_build.ingest.record_rows import FAULT

_BLOCK = 1 << 23  # bytes
_RECORDS = 20_000


def csv_blocks(
    file: str, layout: CsvLayout, names: Sequence[str], start: int = 0, end: int | None = None
) -> Iterator[pa.Table]:
    """Yield the rows of a file: the columns as text, and `FAULT`, which is null for a good row.

    A row that is too short is filled up with nulls. A row that is too long has the fault `too_many_values`.

    Args:
        file: a path or URI.
        layout: how the file is written.
        names: the columns that are read.
        start: a byte; the rows that begin there or later are read. It may be above 0 only if `can_be_split`.
        end: a byte; only the rows that begin before it are read. None = all rows up to the end of the file.
    """
    if layout.has_line_breaks or layout.line_end == "\r":
        with open_csv(file, layout.encoding) as lines:
            for _ in islice(lines, layout.header_lines):
                pass
            yield from _by_record(lines, layout, names)
    elif _is_utf_8(layout):
        with open_bytes(file) as opened:
            for block in line_blocks(opened, start, end, layout.header_lines):
                yield _parsed(block, layout, names)
    else:
        for block in _text_blocks(file, layout):
            yield _parsed(block, layout, names)


def can_be_split(layout: CsvLayout) -> bool:
    """Return whether a part of the file can be read without the parts before it."""
    return _is_utf_8(layout) and not layout.has_line_breaks and layout.line_end == "\n"


def line_blocks(opened: IO[bytes], start: int, end: int | None, skip: int = 0) -> Iterator[bytes]:
    """Yield blocks of whole lines, from the first line that begins at `start` or later.

    Args:
        opened: a file; it must be seekable if `start` is above 0.
        start: a position in bytes.
        end: a position in bytes; only lines that begin before it are read. None = all lines up to the end of the file.
        skip: number of lines at the beginning of the file that are passed over; used only if `start` is 0.
    """
    if start:
        opened.seek(start - 1)
        position = start - 1 + len(opened.readline())
    else:
        position = sum(len(opened.readline()) for _ in range(skip))
    is_first = position == 0
    while end is None or position < end:
        block = opened.read(_BLOCK if end is None else min(_BLOCK, end - position))
        if not block:
            return
        if not block.endswith(b"\n"):
            block += opened.readline()
        position += len(block)
        yield block.removeprefix(codecs.BOM_UTF8) if is_first else block
        is_first = False


def _is_utf_8(layout: CsvLayout) -> bool:
    return layout.encoding in ("utf-8", "utf-8-sig", "ascii")


def _text_blocks(file: str, layout: CsvLayout) -> Iterator[bytes]:
    with open_csv(file, layout.encoding) as opened:
        lines = islice(opened, layout.header_lines, None)
        while block := "".join(islice(lines, _RECORDS)):
            yield block.encode()


def _by_record(lines: Iterable[str], layout: CsvLayout, names: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the rows of lines by Python's own reader, which takes rows of any length and values with line breaks."""
    records = (record for record in layout.dialect.reader(lines) if len(record) > 1 or any(map(str.strip, record)))
    width, places = len(layout.header), [layout.header.index(name) for name in names]
    while chunk := list(islice(records, _RECORDS)):
        columns = {
            name: [record[at] if at < len(record) else None for record in chunk]
            for name, at in zip(names, places, strict=True)
        }
        faults = [TOO_MANY_VALUES if any(map(str.strip, record[width:])) else None for record in chunk]
        yield pa.table(columns | {FAULT: faults}, schema=pa.schema([(name, pa.string()) for name in (*names, FAULT)]))


def _parsed(block: bytes, layout: CsvLayout, names: Sequence[str]) -> pa.Table:
    """Return the rows of a block of whole lines in which no value holds a line break."""
    is_ragged = False

    def note(_: pc_csv.InvalidRow) -> str:
        nonlocal is_ragged
        is_ragged = True
        return "skip"

    dialect, numbers = layout.dialect, [str(layout.header.index(name)) for name in names]
    one = dialect.separator if len(dialect.separator) == 1 else ONE_CHARACTER
    read = pc_csv.ReadOptions(column_names=list(map(str, range(len(layout.header)))), block_size=len(block) + 1)
    parse = pc_csv.ParseOptions(delimiter=one, quote_char=dialect.quote or False, invalid_row_handler=note)
    convert = pc_csv.ConvertOptions(column_types=dict.fromkeys(numbers, pa.string()), include_columns=numbers)
    joined = block if one == dialect.separator else block.replace(dialect.separator.encode(), one.encode())
    table = pc_csv.read_csv(io.BytesIO(joined), read, parse, convert).rename_columns(names) if block.strip() else None
    if is_ragged or table is None:
        tables = list(_by_record(io.StringIO(block.decode(), newline=""), layout, names))
        return (
            pa.concat_tables(tables)
            if tables
            else pa.table({name: pa.array([], pa.string()) for name in (*names, FAULT)})
        )
    if one != dialect.separator and dialect.quote:
        for n, name in enumerate(names):
            table = table.set_column(n, name, pc.replace_substring(table[name], one, dialect.separator))
    return table.append_column(FAULT, pa.nulls(len(table), pa.string()))
