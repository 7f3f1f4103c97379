"""Finds out how a CSV file is written, and checks the whole file for faults that a reader would not report.

The grammar is that of RFC 4180, with any separator and any quote or none: a value that begins with a quote ends with a
quote, and a quote inside it is doubled. A value that does not begin with a quote may hold quotes as they are. If a file
keeps to this grammar, all readers read the same values.
"""

import codecs
import csv
import io
import json
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from graph_build.config import TableInput
from graph_build.errors import GraphInputError
from graph_build.ingest.compressed import MAGIC_BYTES, open_bytes, what_it_is, without_compression
from graph_build.ingest.contract import Table
from graph_build.paths import is_local, local_path

# If a value is longer, its quote is taken for one that is never closed.
LONGEST_VALUE = 1 << 24
_CHUNK = 1 << 20
_BLANK = " \t\r\n\ufeff\u00a0"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_QUOTES = (
    "a value that begins with a quote must end with one, and a quote inside it must be doubled; correct the file, or "
    'write it anew with a CSV library; if quotes mean nothing in it, set quote = "" in the table\'s [input] section'
)
# The separators that a file may have if it seems to have only one column.
_SEPARATORS = (";", "\t", "|", "::", ",")
# Replaces a separator of several characters in a line that is parsed. No text holds this character.
ONE_CHARACTER = "\x1f"


@dataclass(frozen=True)
class CsvDialect:
    """How CSV files are written, according to the configuration.

    Args:
        separator: the text between two values of a row, of one character or more.
        quote: the mark around values that hold separators; empty if there is none.
        has_header: whether the first row of a file names the columns.
        names: the names of the columns by position; empty if they are those of the header.
    """

    separator: str = ","
    quote: str = '"'
    has_header: bool = True
    names: tuple[str, ...] = ()

    def reader(self, lines: Iterable[str], **options: Any) -> Iterator[list[str]]:
        """Return the records of lines, read by Python's `csv` module; the lines still have their line ends."""
        csv.field_size_limit(LONGEST_VALUE)
        separator = self.separator
        if len(separator) > 1:
            lines, separator = (line.replace(self.separator, ONE_CHARACTER) for line in lines), ONE_CHARACTER
        if not self.quote:
            return csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE, **options)
        records = csv.reader(lines, delimiter=separator, quotechar=self.quote, **options)
        if len(self.separator) == 1:
            return records
        return ([value.replace(ONE_CHARACTER, self.separator) for value in record] for record in records)


PLAIN_CSV = CsvDialect()


def dialect_of(file: str, section: TableInput) -> CsvDialect:
    """Return how the configuration says that a CSV file is written.

    Args:
        file: a path or URI. If its name ends in `.tsv` or `.tab`, the separator is a tab unless another one is set.
        section: the table's part of the configuration.
    """
    tabs = without_compression(file).endswith((".tsv", ".tab"))
    separator = section.separator or ("\t" if tabs else ",")
    return CsvDialect(separator, section.quote, section.header, section.names)


@dataclass(frozen=True)
class CsvLayout:
    """How a CSV file is written.

    Args:
        header: the names of the columns by position; empty for a column without a name.
        header_lines: the number of lines up to the end of the header; 0 if the file has none.
        encoding: Python's name of the encoding.
        has_line_breaks: whether quoted values hold line breaks, so that the file cannot be split at its lines.
        line_end: the character that ends a row. A line feed also stands for a carriage return with a line feed.
        dialect: the separator and the quotes.
    """

    header: tuple[str, ...]
    header_lines: int
    encoding: str
    has_line_breaks: bool
    line_end: str
    dialect: CsvDialect = PLAIN_CSV


def open_csv(file: str, encoding: str) -> TextIO:
    """Open a CSV file, compressed or not, as text with its own line ends; the caller closes it.

    Args:
        file: a path or URI; compressed if its name ends in `.gz` or `.zst`.
        encoding: Python's name of the encoding.
    """
    return io.TextIOWrapper(open_bytes(file), encoding=encoding, newline="")


def csv_layout(table: Table, file: str, encoding: str, dialect: CsvDialect = PLAIN_CSV) -> CsvLayout:
    """Return how a CSV file is written, after a check of the whole file.

    Args:
        table: which table the file holds, for the message.
        file: a path or URI.
        encoding: the configured encoding; a byte-order mark of UTF-8 overrides it.
        dialect: the configured separator, quotes and names.

    Raises:
        GraphInputError: the file is empty, cut off or compressed otherwise than its name says, is not in the encoding,
            names a column twice, seems to have another separator, has other columns than the configured names, has
            quotes out of place, or ends its lines in different ways.
    """
    return _checked(table, file, encoding, dialect, _stamp(file))


def _stamp(file: str) -> tuple[float, ...]:
    """Return numbers that change when a local file changes; for a remote file, numbers that are new at every call."""
    if not is_local(file):
        return (time.monotonic(),)
    try:
        status = Path(local_path(file)).stat()
    except OSError:
        return (time.monotonic(),)
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@lru_cache(maxsize=4096)  # called by the check of the input, and again by the build
def _checked(table: Table, file: str, encoding: str, dialect: CsvDialect, _: tuple[float, ...]) -> CsvLayout:
    try:
        name = _encoding_of(table, file, encoding)
        try:
            return _Scan(table, file, name, dialect).layout()
        except UnicodeDecodeError as error:
            raise GraphInputError(_wrong_encoding(table, file, error)) from error
    except GraphInputError:
        raise
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise GraphInputError(f"{file}: {table} cannot be read as CSV ({error})") from error


def _encoding_of(table: Table, file: str, configured: str) -> str:
    with open_bytes(file) as opened:
        head = opened.read(MAGIC_BYTES)
    if not head:
        raise GraphInputError(f"{file}: the {table} file is empty; expected CSV")
    if other := what_it_is(head):
        raise GraphInputError(f"{file}: the {table} file is {other}")
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    name = codecs.lookup(configured).name
    if name == "utf-16":  # without a mark, Python and Java assume different byte orders
        return "utf-16-be" if head.startswith(codecs.BOM_UTF16_BE) else "utf-16-le"
    if head.startswith(_UTF_16) and not name.startswith(("utf-16", "utf-32")):
        raise GraphInputError(
            f"{file}: the {table} file is written in UTF-16, expected {configured}; if all CSV files are, set "
            '[input] encoding = "utf-16"'
        )
    return name


def _wrong_encoding(table: Table, file: str, error: UnicodeDecodeError) -> str:
    """Return the message that names the first line that is not in the encoding."""
    with open_bytes(file) as opened:
        decoder = codecs.getincrementaldecoder(error.encoding)()
        line = next((n for n, part in enumerate(opened, 1) if not _is_valid(decoder, part)), 0)
    byte = error.object[error.start]
    return (
        f"{file}: line {line} of {table} is not valid {error.encoding.upper()} (byte 0x{byte:02x}); write the file in "
        'UTF-8, or name its encoding: [input] encoding = "latin-1"'
    )


def _is_valid(decoder: codecs.IncrementalDecoder, part: bytes) -> bool:
    try:
        decoder.decode(part)
    except UnicodeDecodeError:
        return False
    return True


class _Scan:
    """Checks one CSV file.

    Below the header, only lines with quotes and lines inside quoted values are parsed. Among all other lines, only the
    last can have a fault.
    """

    def __init__(self, table: Table, file: str, encoding: str, dialect: CsvDialect) -> None:
        self._table, self._file, self._encoding, self._dialect = table, file, encoding, dialect
        self._line = 0
        self._last = ""
        self._begin: int | None = None  # the line on which the current record began
        self._has_line_breaks = False
        self._ends: set[str] = set()

    def layout(self) -> CsvLayout:
        with open_csv(self._file, self._encoding) as opened:
            try:
                header = self._header(opened)
                header_lines = self._line if self._dialect.has_header else 0
                if not self._skip_without_quotes():
                    for record in self._dialect.reader(self._quoted_lines(opened), strict=True):
                        self._check_record(record, len(header))
            except csv.Error as error:
                raise self._fault(self._begin or self._line, f"has quotes out of place ({error}): {_QUOTES}") from error
        self._check_end(len(header))
        if self._has_line_breaks and "\r" in self._ends and len(self._ends) > 1:
            raise self._fault(self._line, "is the last of a file whose lines end in different ways; let all end alike")
        line_end = "\r" if self._ends == {"\r"} else "\n"
        return CsvLayout(header, header_lines, self._encoding, self._has_line_breaks, line_end, self._dialect)

    def _skip_without_quotes(self) -> bool:
        """Return whether the file has no quotes. If so, all of it was decoded, and the current line is its last one."""
        lines, end = 0, ""
        with open_csv(self._file, self._encoding) as opened:
            while chunk := opened.read(_CHUNK):
                if self._dialect.quote and self._dialect.quote in chunk:
                    return False
                lines += chunk.count("\n") or chunk.count("\r")
                end = (end + chunk)[-_CHUNK:]
        self._last = list(io.StringIO(end, newline=""))[-1]
        self._line = lines + (not _line_end(self._last))
        return True

    def _header(self, opened: TextIO) -> tuple[str, ...]:
        records = self._dialect.reader(self._lines(opened), strict=True)
        first = next((record for record in records if record), [])
        self._has_line_breaks = any("\n" in value or "\r" in value for value in first)
        self._ends.add(_line_end(self._last))
        names = tuple(name.strip(_BLANK) for name in first)
        if self._dialect.names:
            return self._configured_names(first)
        named = [name for name in names if name]
        if not named:
            raise GraphInputError(
                f"{self._file}: the {self._table} file has no header; expected a CSV header line with the column names"
            )
        if any(name[0] == name[-1] == '"' for name in named):
            raise self._fault(self._line, "has a blank before a quote; write no blanks around values in quotes")
        if "\0" in "".join(named):
            raise self._fault(self._line, 'holds zero bytes: is it UTF-16? If so, set [input] encoding = "utf-16"')
        if repeated := [name for name in named if named.count(name) > 1]:
            raise GraphInputError(f"{self._file}: the header of {self._table} names {repeated[0]!r} twice; rename one")
        separator = next((one for one in _SEPARATORS if one in names[0]), None)
        if len(names) == 1 and separator not in (None, self._dialect.separator):
            raise GraphInputError(
                f"{self._file}: the header of {self._table} is one column, {names[0]!r}; if {separator!r} stands "
                f"between the values, set [input.{self._table}] separator = {json.dumps(separator)}"
            )
        return names

    def _configured_names(self, first: list[str]) -> tuple[str, ...]:
        """Return the configured names of the columns, which must be as many as the values of the first row."""
        names = self._dialect.names
        if len(first) < len(names) or any(value.strip(_BLANK) for value in first[len(names) :]):
            raise GraphInputError(
                f"{self._file}: the first row of {self._table} has {len(first)} values, but [input.{self._table}] "
                f'names lists {len(names)}; name every column ("" = not needed), or correct the separator'
            )
        return names

    def _lines(self, opened: TextIO) -> Iterator[str]:
        for line in opened:
            self._line += 1
            self._last = line if self._line > 1 else line.removeprefix("\ufeff")
            yield self._last

    def _quoted_lines(self, opened: TextIO) -> Iterator[str]:
        """Yield the lines that hold quotes or lie inside a quoted value."""
        for line in self._lines(opened):
            if self._begin is not None or self._dialect.quote in line:
                self._begin = self._begin or self._line
                yield line

    def _check_record(self, record: list[str], width: int) -> None:
        first, self._begin = self._begin, None
        self._ends.add(_line_end(self._last))
        if first == self._line:
            return
        self._has_line_breaks = True
        if len(record) != width:  # a missing quote joins rows up to the next quote
            raise self._fault(
                first or 1,
                f"begins a value in quotes that ends on line {self._line}, with {len(record)} values in "
                f"the row instead of {width}: {_QUOTES}",
            )

    def _check_end(self, width: int) -> None:
        """Refuse a file that ends in the middle of a row."""
        is_plain = not self._dialect.quote or self._dialect.quote not in self._last
        if _line_end(self._last) or not self._last.strip(_BLANK) or not is_plain:
            return
        if (values := self._last.count(self._dialect.separator) + 1) < width:
            raise self._fault(
                self._line,
                f"is the last, and has {values} of {width} values and no line end: the file seems to be "
                "cut off; write it anew",
            )

    def _fault(self, line: int, what: str) -> GraphInputError:
        return GraphInputError(f"{self._file}: line {line} of {self._table} {what}")


def _line_end(line: str) -> str:
    """Return the end of a line: LF (also for CR LF), CR, or nothing."""
    return "\n" if line.endswith("\n") else line[-1:] if line.endswith("\r") else ""
