"""Recognises how a file is written, by its first bytes: format, compression, encoding, separator, quotes, header."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from graph_build.config import TableInput
from graph_build.errors import GraphInputError
from graph_build.ingest.compressed import MAGIC_BYTES, compression_of, foreign, open_bytes
from graph_build.ingest.values import WRITTEN_NUMBER, WRITTEN_TIME
from graph_build.inspection.vocabulary import is_known_name
from graph_build.spark.storage import open_file

HEAD = 1 << 18  # bytes
SEPARATORS = ("\t", ",", ";", "|", "::", "\x01", "^")
_ROWS = 200
_MIN_SHARE = 0.9
_WEB_LOG = re.compile(r'^\S+ \S+ \S+ \[[^\]]+\] "[A-Z]+ \S+')
_NUMBER, _TIME = re.compile(WRITTEN_NUMBER), re.compile(WRITTEN_TIME)


@dataclass(frozen=True)
class Layout:
    """How a file is written.

    Args:
        format: `csv`, `json`, `parquet` or `weblog`.
        compression: `gzip`, `zstd`, or "" for none.
        encoding: Python's name of the encoding of text.
        separator: what stands between two values of CSV.
        quote: the mark around values of CSV; "" if there is none.
        header: whether the first line of CSV names the columns.
        names: the names of the columns of CSV by position; made up if the file has no header.
        decimal: the decimal mark of numbers in CSV.
    """

    format: str
    compression: str = ""
    encoding: str = "utf-8"
    separator: str = ","
    quote: str = '"'
    header: bool = True
    names: tuple[str, ...] = ()
    decimal: str = "."


def sniff(file: str, section: TableInput | None = None) -> Layout:
    """Return how a file is written.

    Args:
        file: a path or URI.
        section: settings of the table that are known already; they take precedence over what the file looks like.

    Raises:
        GraphInputError: no table can be read from the file, or it is empty or cut off.
    """
    with open_file(file) as opened:
        start = opened.read(MAGIC_BYTES)
    if not start:
        raise GraphInputError(f"{file}: the file is empty")
    if start[:4] in (b"PAR1", b"PARE"):
        return Layout("parquet")
    if what := foreign(start):
        raise GraphInputError(f"{file}: this is {what}")
    compression = compression_of(start)
    try:
        with open_bytes(file, compression) as content:
            head = content.read(HEAD)
    except (OSError, EOFError, pa.ArrowException) as error:
        raise GraphInputError(f"{file}: the file is damaged or cut off ({error}); write it anew") from error
    encoding = encoding_of(head)
    layout = Layout("csv", compression, encoding)
    lines = text_lines(head, encoding, is_all=len(head) < HEAD)
    if not any(line.strip() for line in lines):
        raise GraphInputError(f"{file}: the file is empty")
    if section is None or section.format in (None, "json"):
        if is_json(file, lines):
            return replace(layout, format="json")
        if _WEB_LOG.match(lines[0]):
            return replace(layout, format="weblog")
    return _csv_layout(layout, lines, section or TableInput())


def encoding_of(head: bytes) -> str:
    """Return the name of the encoding in which bytes of text are most likely written."""
    if head.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or head[:400].count(0) > len(head[:400]) // 4:
        return "utf-16"
    for name in ("utf-8", "cp1252"):
        try:
            head.decode(name)
        except UnicodeDecodeError as error:
            if name == "utf-8" and error.start >= len(head) - 3:  # cut inside a character
                return name
        else:
            return name
    return "latin-1"


def text_lines(head: bytes, encoding: str, *, is_all: bool) -> list[str]:
    """Return the whole lines at the beginning of a text, without their ends.

    Args:
        head: the first bytes.
        encoding: their encoding.
        is_all: whether these bytes are the whole text, so that its last line is complete.
    """
    text = head.decode(encoding, errors="replace").removeprefix("\ufeff")
    lines = re.split(r"\r\n|\n|\r", text)
    return lines if is_all or len(lines) == 1 else lines[:-1]


def is_json(file: str, lines: Sequence[str]) -> bool:
    """Return whether each line holds one JSON object.

    Args:
        file: the path, for the message.
        lines: the first lines.

    Raises:
        GraphInputError: the text is JSON, but one array, or one object over several lines.
    """
    first = next(line.strip() for line in lines if line.strip())
    if first[0] not in "[{":
        return False
    try:
        value: Any = json.loads(first)
    except ValueError:
        value = None
    if isinstance(value, dict):
        return True
    advice = f"jq -c '.[]' {file} > lines.jsonl" if first[0] == "[" else f"jq -c . {file} > lines.jsonl"
    if isinstance(value, list) or first in ("[", "{", "[{"):
        raise GraphInputError(f"{file}: this is JSON, but not one object a line; write it so: {advice}")
    return first.startswith('{"')  # a broken first line


def _csv_layout(layout: Layout, lines: Sequence[str], section: TableInput) -> Layout:
    filled = [line for line in lines if line.strip()][:_ROWS]
    chosen = section.model_fields_set
    quote = section.quote if "quote" in chosen else _quote(filled)
    separator = section.separator if section.separator is not None else _separator(filled, quote)
    rows = split_rows(filled, separator, quote)
    if quote and "quote" not in chosen and _reads_badly(filled, rows):
        rows, quote = split_rows(filled, separator, ""), ""
    header = section.header if "header" in chosen else _has_header(rows)
    names = tuple(name.strip(" \t\ufeff\xa0") for name in rows[0])
    if not header:
        names = tuple(f"column_{n}" for n in range(1, _usual_width(rows) + 1))
    if section.names:
        names = section.names
    decimal = section.decimal if "decimal" in chosen else _decimal(rows[header:], separator)
    return replace(layout, separator=separator, quote=quote, header=header, names=names, decimal=decimal)


def split_rows(lines: Sequence[str], separator: str, quote: str) -> list[list[str]]:
    """Return the values of lines of CSV.

    Args:
        lines: the lines.
        separator: what stands between two values.
        quote: the mark around values; "" for none.
    """
    if len(separator) == 1 and quote:
        reader = csv.reader(io.StringIO("\n".join(lines)), delimiter=separator, quotechar=quote)
        try:
            return [row for row in reader if row] or [[""]]
        except csv.Error:
            pass
    return [[value.strip(quote) if quote else value for value in line.split(separator)] for line in lines] or [[""]]


def _quote(lines: Sequence[str]) -> str:
    if any('"' in line for line in lines):
        return '"'
    marked = sum(line.count("'") >= 2 and bool(re.search(r"(^|[,;\t|])'[^']*'([,;\t|]|$)", line)) for line in lines)
    return "'" if marked > len(lines) / 2 else '"'


def _separator(lines: Sequence[str], quote: str) -> str:
    """Return the separator that cuts the first line and most others into the same number of values, two or more.

    If several separators do so for about as many lines, the one that gives the most values is returned. If no separator
    does, a comma is returned.
    """

    def score(separator: str) -> tuple[bool, float, int]:
        rows = split_rows(lines, separator, quote)
        widths = Counter(map(len, rows))
        width, n = widths.most_common(1)[0]
        return (width > 1 and len(rows[0]) == width, round(n / len(rows), 1) if width > 1 else 0.0, width)

    best = max(SEPARATORS, key=score)
    return best if score(best)[1] else ","


def _reads_badly(lines: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return whether quotes join lines that are rows of their own."""
    return len(rows) < _MIN_SHARE * len(lines)


def _usual_width(rows: Sequence[Sequence[str]]) -> int:
    return Counter(map(len, rows)).most_common(1)[0][0]


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    first, others = [cell.strip() for cell in rows[0]], rows[1:]
    if any(_is_value(cell) for cell in first) or not any(first):
        return False
    if any(is_known_name(cell) for cell in first) or not others:
        return True
    columns = [[row[at].strip() for row in others if at < len(row)] for at in range(len(first))]
    if any(column and sum(map(_is_value, column)) >= _MIN_SHARE * len(column) for column in columns):
        return True
    return not any(cell in column for cell, column in zip(first, columns, strict=True))


def _is_value(cell: str) -> bool:
    """Return whether a cell is a number or a time, and so not the name of a column."""
    return bool(_NUMBER.match(cell) or _TIME.match(cell))


def _decimal(rows: Sequence[Sequence[str]], separator: str) -> str:
    """Return the decimal mark of numbers.

    It is a comma if some column holds numbers with a comma and nearly all its other values are whole numbers; else a
    point. A file whose values are separated by commas always has a point.
    """
    if separator == ",":
        return "."
    for column in zip(*(row for row in rows if len(row) == _usual_width(rows)), strict=False):
        cells = [cell.strip() for cell in column if cell.strip()]
        with_comma = sum(bool(re.fullmatch(r"[+-]?\d+,\d+", cell)) for cell in cells)
        if cells and with_comma and with_comma + sum(cell.isdigit() for cell in cells) >= _MIN_SHARE * len(cells):
            return ","
    return "."
