"""Reads a sample of the rows of a file.

A small file is read as a whole. A large file is read at its beginning, middle and end and, if it is on this host, in
short pieces between them. A large compressed file is read at its beginning only, and a parquet file at the beginning of
its first, middle and last row group. The rows are flat, and their values are text or have the file's own types. A field
of an inner record gets a name with points (`item.id`).
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from graph_build.errors import GraphInputError
from graph_build.ingest.compressed import open_bytes
from graph_build.ingest.contract import is_list
from graph_build.ingest.record_rows import as_list
from graph_build.ingest.web_log import parse_line
from graph_build.inspection.flat_records import flat_table, is_nested
from graph_build.inspection.layout import Layout, encoding_of, split_rows
from graph_build.paths import is_local
from graph_build.spark.storage import open_file

WHOLE = 12 << 20  # bytes up to which a file is read as a whole
_SMALL_SPAN, _SMALL_SPANS = 4 << 10, 240
_FIRST = 1 << 17  # a sample of at most this many bytes is the beginning of the file alone
_JSON_SHARE = 4  # JSON and web logs take longer to read, so a sample of them is this many times smaller
_PARQUET_ROWS, _NESTED_ROWS = 60_000, 3_000
_MOST_COLUMNS = 300
_MOST_LINES = 5_000


@dataclass
class Sample:
    """Some rows of a table.

    Args:
        rows: the rows; columns of CSV are text.
        is_all: whether these are all rows of the table.
        total: the number of all rows of the table; an estimate, unless `is_all` or the file states the number.
        surplus: rows with more values than there are columns, as (line number, text); the number is 0 if unknown.
        short: the number of rows with fewer values than there are columns; nulls fill them up.
        broken: lines that cannot be read, as (line number, text); the number is 0 if unknown.
        records: the records from which `rows` were made, if they hold inner records or lists.
        encoding: the encoding of the whole sample; the first bytes of the file may suggest another one.
    """

    rows: pa.Table
    is_all: bool
    total: int
    surplus: list[tuple[int, str]] = field(default_factory=list)
    short: int = 0
    broken: list[tuple[int, str]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    encoding: str = "utf-8"

    @property
    def n_seen(self) -> int:
        """Return the number of rows that were looked at, including those that cannot be read."""
        return len(self.rows) + len(self.surplus) + len(self.broken)


@dataclass(frozen=True)
class _Text:
    """Whole lines of a file; `first_line` is the number of the first one, 0 if unknown."""

    text: str
    first_line: int


def read_sample(file: str, layout: Layout, explode: str | None = None, *, most_bytes: int = WHOLE) -> Sample:
    """Return some rows of a file.

    Args:
        file: a path or URI.
        layout: how the file is written.
        explode: the path of a list; each of its elements becomes a row.
        most_bytes: about how many bytes of a CSV file are read; for JSON and web logs, a quarter of that.

    Raises:
        GraphInputError: the file cannot be read.
    """
    if layout.format == "parquet":
        return _parquet_sample(file, explode, most_bytes)
    whole = most_bytes if layout.format == "csv" else most_bytes // _JSON_SHARE
    try:
        parts, scale = _compressed_part(file, layout, whole) if layout.compression else _parts(file, whole)
    except (OSError, EOFError, pa.ArrowException) as error:
        raise GraphInputError(f"{file}: the file is damaged or cut off ({error}); write it anew") from error
    encoding = _common_encoding([content for content, _ in parts], layout.encoding)
    texts = [_Text(_decoded(content, encoding, begin), 0 if begin else 1) for content, begin in parts]
    sample = (_csv_sample if layout.format == "csv" else _line_sample)(texts, layout, explode)
    sample.is_all = scale == 1.0
    sample.total = round(sample.n_seen * scale)
    sample.encoding = encoding
    return sample


def exploded(sample: Sample, explode: str | None) -> Sample:
    """Return a sample of the same records with another list exploded.

    Args:
        sample: a sample with records.
        explode: the path of the list; None for none.
    """
    before = max(1, len(sample.rows))
    rows = flat_table(sample.records, explode)
    return replace(sample, rows=rows, total=round(sample.total * len(rows) / before))


def with_written_lists(sample: Sample, names: Sequence[str]) -> Sample:
    """Return a sample with its rows as records, and parse the lists that some columns hold as text.

    Args:
        sample: a sample of flat rows.
        names: the columns with such lists.
    """
    if not names:
        return sample
    records = sample.rows.slice(0, _NESTED_ROWS).to_pylist()
    for record in records:
        record.update({name: as_list(record[name]) for name in names})
    return replace(sample, records=records)


def spans(size: int, large: int, n_small: int = _SMALL_SPANS) -> list[tuple[int, int]]:
    """Return the parts of a large file that are read, as (begin, length): beginning, middle, end, and pieces between.

    Args:
        size: the size of the file.
        large: the length of the beginning, the middle and the end.
        n_small: the number of the pieces between.
    """
    chosen = [(0, large), (size // 2, large), (size - large, large)]
    step = size / (n_small + 1)
    chosen += [(round(step * n), _SMALL_SPAN) for n in range(1, n_small + 1)]
    chosen_spans: list[tuple[int, int]] = []
    for begin, length in sorted(chosen, key=lambda span: (span[0], -span[1])):
        if not chosen_spans or begin >= chosen_spans[-1][0] + chosen_spans[-1][1]:
            chosen_spans.append((begin, min(length, size - begin)))
    return chosen_spans


def _parts(file: str, whole: int) -> tuple[list[tuple[bytes, int]], float]:
    """Return parts of a file as (whole lines, begin), and how many times larger the file is than these parts."""
    with open_file(file) as opened:
        size = opened.seek(0, io.SEEK_END)
        opened.seek(0)
        if size <= whole:
            return [(opened.read(), 0)], 1.0
        parts, n_read = [], 0
        n_small = _SMALL_SPANS if is_local(file) else 0  # a store takes as long for a few bytes as for many
        for begin, length in spans(size, whole // 4, n_small) if whole > _FIRST else [(0, whole)]:
            opened.seek(begin)
            content = opened.read(length)
            n_read += len(content)
            parts.append((_whole_lines(content, at_begin=not begin, at_end=begin + length >= size), begin))
    return [part for part in parts if part[0]], size / n_read


def _compressed_part(file: str, layout: Layout, whole: int) -> tuple[list[tuple[bytes, int]], float]:
    """Return the same as `_parts` for a compressed file: the first lines alone, because none of it can be skipped."""
    with open_file(file) as raw, open_bytes(file, layout.compression) as opened:
        size = raw.seek(0, io.SEEK_END)
        content = opened.read(whole + 1)
    if len(content) <= whole:
        return [(content, 0)], 1.0
    # Text is usually packed to about a fifth of its size.
    return [(_whole_lines(content, at_begin=True, at_end=False), 0)], max(1.01, 5 * size / whole)


def _whole_lines(content: bytes, *, at_begin: bool, at_end: bool) -> bytes:
    """Return the whole lines of some bytes of a file."""
    end_of_line = b"\n" if b"\n" in content else b"\r"
    if not at_begin:
        content = content.partition(end_of_line)[2]
    if not at_end:
        head, end, _ = content.rpartition(end_of_line)
        content = head + end
    return content


def _common_encoding(contents: Sequence[bytes], first: str) -> str:
    """Return the encoding that suits all parts of a text; the first part alone may hold nothing but ASCII."""
    if first not in ("utf-8", "utf-8-sig"):
        return first
    others = {encoding_of(content) for content in contents} - {"utf-8", "utf-8-sig"}
    return "latin-1" if "latin-1" in others else "cp1252" if others else first


def _decoded(content: bytes, encoding: str, begin: int) -> str:
    if encoding == "utf-16" and begin:
        content, encoding = content[1:] if not content[:1].strip(b"\0") else content, "utf-16-le"
    return content.decode(encoding, errors="replace").removeprefix("\ufeff")


def _csv_sample(parts: Sequence[_Text], layout: Layout, explode: str | None) -> Sample:
    sample = Sample(pa.table({}), is_all=True, total=0)
    columns = [name or f"column_{n}" for n, name in enumerate(layout.names, 1)]
    columns = [name if name not in columns[:n] else f"{name} ({n + 1})" for n, name in enumerate(columns)]
    schema = pa.schema([(name, pa.string()) for name in columns])
    tables = []
    for part in parts:
        text, skipped = part.text, 0
        if layout.header and part.first_line:
            text, skipped = _without_header(text)
        if text.strip():
            table = _parsed(text, columns, layout, sample, part.first_line and part.first_line + skipped)
            tables.append(table.cast(schema))
    sample.rows = pa.concat_tables(tables) if tables else schema.empty_table()
    unnamed = [name for name, own in zip(columns, layout.names, strict=True) if not own]
    sample.rows = sample.rows.drop_columns(unnamed)
    if explode in sample.rows.column_names:
        sample = with_written_lists(sample, [str(explode)])
        sample.rows = flat_table(sample.records, explode)
    return sample


def _without_header(text: str) -> tuple[str, int]:
    lines = io.StringIO(text, newline=None)
    skipped = 0
    for line in lines:
        skipped += 1
        if line.strip():
            break
    return lines.read(), skipped


def _parsed(text: str, columns: Sequence[str], layout: Layout, sample: Sample, first_line: int) -> pa.Table:
    """Return the rows of CSV lines, all values as text; note in the sample the rows with too many or too few values."""
    separator, short = layout.separator, []
    if len(separator) > 1:
        text, separator = text.replace(separator, "\x1f"), "\x1f"

    def note(row: pc_csv.InvalidRow) -> str:
        line = first_line + row.number - 1 if first_line and row.number else 0
        if row.actual_columns > len(columns):
            cells = split_rows([row.text], separator, layout.quote)[0]
            if any(map(str.strip, cells[len(columns) :])):
                sample.surplus.append((line, row.text[:200]))
        else:
            short.append(row.text)
        return "skip"

    try:
        table = pc_csv.read_csv(
            io.BytesIO(text.encode(errors="replace")),
            read_options=pc_csv.ReadOptions(column_names=list(columns), use_threads=False, block_size=1 << 25),
            parse_options=pc_csv.ParseOptions(
                delimiter=separator,
                quote_char=layout.quote or False,
                newlines_in_values=bool(layout.quote) and layout.quote in text,
                invalid_row_handler=note,
            ),
            convert_options=pc_csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string())),
        )
    except (pa.ArrowException, ValueError):  # quotes out of place; the check of the whole file names the line
        reader = csv.reader(io.StringIO(text[: WHOLE // 8]), delimiter=separator)
        return _cells([row for row in reader if len(row) == len(columns)], columns)
    if not short:
        return table
    sample.short += len(short)
    rows = split_rows(short, separator, layout.quote)
    return pa.concat_tables([table, _cells([[*row, *[None] * (len(columns) - len(row))] for row in rows], columns)])


def _cells(rows: Sequence[Sequence[str | None]], columns: Sequence[str]) -> pa.Table:
    """Return rows of the same width as a table of text."""
    cells = list(zip(*rows, strict=True)) or [()] * len(columns)
    return pa.table({name: pa.array(values, pa.string()) for name, values in zip(columns, cells, strict=True)})


def _line_sample(parts: Sequence[_Text], layout: Layout, explode: str | None) -> Sample:
    records: list[dict[str, Any]] = []
    broken: list[tuple[int, str]] = []
    for part in parts:
        for number, line in enumerate(part.text.splitlines()):
            if not line.strip():
                continue
            record = parse_line(line.encode()) if layout.format == "weblog" else _json(line)
            if isinstance(record, dict):
                records.append(record)
            elif len(broken) < _MOST_LINES:
                broken.append((part.first_line and part.first_line + number, line[:200]))
    rows = flat_table(records, explode)
    return Sample(rows, is_all=True, total=len(rows), broken=broken, records=records if is_nested(records) else [])


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _parquet_sample(file: str, explode: str | None, most_bytes: int) -> Sample:
    try:
        with pq.ParquetFile(open_file(file), coerce_int96_timestamp_unit="us", pre_buffer=False) as opened:
            total, n_groups = opened.metadata.num_rows, opened.num_row_groups
            schema = opened.schema_arrow
            names = [name for name in schema.names[:_MOST_COLUMNS] if schema.names.count(name) == 1]
            nested = any(_holds_records(schema.field(name).type) for name in names)
            groups = sorted({0, n_groups // 2, n_groups - 1}) if n_groups else []
            limit = max(300, round((_NESTED_ROWS if nested else _PARQUET_ROWS) * most_bytes / WHOLE))
            batches = [
                batch
                for group in groups
                for batch in _first(opened.iter_batches(limit, row_groups=[group], columns=names))
            ]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise GraphInputError(f"{file}: the parquet file cannot be read ({str(error).splitlines()[0]})") from error
    table = pa.Table.from_batches(batches, pa.schema([schema.field(name) for name in names]) if not batches else None)
    table = _plain_types(table)
    if not nested:
        return Sample(table, len(table) == total, total)
    records = table.to_pylist()
    rows = flat_table(records, explode)
    return Sample(rows, len(records) == total, round(total * len(rows) / max(1, len(records))), records=records)


def _first(batches: Iterator[Any]) -> Iterable[Any]:
    return [batch] if (batch := next(batches, None)) is not None else []


def _plain_types(table: pa.Table) -> pa.Table:
    """Replace the codes of dictionary columns by their values, and times in nanoseconds by times in microseconds."""
    columns = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
        columns[name] = column
    return pa.table(columns)


def _holds_records(type_: pa.DataType) -> bool:
    if pa.types.is_map(type_) or pa.types.is_struct(type_):
        return True
    return is_list(type_) and _holds_records(type_.value_type)
