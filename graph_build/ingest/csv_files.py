"""Reads how a CSV file is written, and checks the whole file for faults that a reader would pass over in silence.

The grammar is that of RFC 4180: a value that begins with a quote ends with one, and a quote inside it is doubled. A
value that does not begin with a quote may hold quotes as they are. All readers agree on a file that keeps to it.
"""

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TextIO, cast

from graph_build.errors import GraphInputError
from graph_build.ingest.contract import Table
from graph_build.spark.storage import open_file

# A longer value is taken for a quote that is never closed.
LONGEST_VALUE = 1 << 24
_CHUNK = 1 << 20
_BLANK = " \t\r\n\ufeff\u00a0"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_QUOTES = (
    "a value that begins with a quote must end with one, and a quote inside it must be doubled; correct the file, or "
    "write it anew with a CSV library"
)


@dataclass(frozen=True)
class CsvLayout:
    """How a CSV file is written.

    Args:
        header: the names of the columns by position; empty for a column without a name.
        header_lines: the number of lines up to the end of the header.
        encoding: Python's name of the encoding.
        has_line_breaks: whether quoted values hold line breaks, so that the file cannot be split at its lines.
        line_end: what ends a row; a line feed also stands for a carriage return with a line feed.
    """

    header: tuple[str, ...]
    header_lines: int
    encoding: str
    has_line_breaks: bool
    line_end: str


def open_csv(file: str, encoding: str) -> TextIO:
    """Open a CSV file, compressed or not, as text with its own line ends; the caller closes it.

    Args:
        file: a path or URI; compressed if its name ends in `.gz`.
        encoding: Python's name of the encoding.
    """
    return io.TextIOWrapper(open_csv_bytes(file), encoding=encoding, newline="")


def csv_layout(table: Table, file: str, encoding: str) -> CsvLayout:
    """Return how a CSV file is written, after a check of the whole file.

    Args:
        table: which table the file holds, for the message.
        file: a path or URI.
        encoding: the configured encoding; a byte-order mark of UTF-8 overrides it.

    Raises:
        GraphInputError: the file is empty, cut off or compressed otherwise than its name says, is not in the encoding,
            names a column twice, has quotes out of place, or ends its lines in different ways.
    """
    try:
        name = _encoding_of(table, file, encoding)
        try:
            return _Scan(table, file, name).layout()
        except UnicodeDecodeError as error:
            raise GraphInputError(_wrong_encoding(table, file, error)) from error
    except GraphInputError:
        raise
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise GraphInputError(f"{file}: {table} cannot be read as CSV ({error})") from error


def open_csv_bytes(file: str) -> IO[bytes]:
    """Open a CSV file to read its bytes, which are decompressed if its name ends in `.gz`; the caller closes it."""
    opened = open_file(file)
    return cast(IO[bytes], gzip.open(opened)) if file.lower().endswith(".gz") else opened


def _encoding_of(table: Table, file: str, configured: str) -> str:
    with open_csv_bytes(file) as opened:
        head = opened.read(4)
    if not head:
        raise GraphInputError(f"{file}: the {table} file is empty; expected a CSV header line with the column names")
    if head == b"PAR1":
        raise GraphInputError(f"{file}: the {table} file is parquet, but its name ends in .csv; rename it")
    if head[:2] == b"\x1f\x8b":
        raise GraphInputError(f"{file}: the {table} file is compressed with gzip; its name must end in .csv.gz")
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
    with open_csv_bytes(file) as opened:
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

    Below the header, only lines with quotes, and lines inside quoted values, are parsed: of the others, only the last
    can have a fault.
    """

    def __init__(self, table: Table, file: str, encoding: str) -> None:
        self._table, self._file, self._encoding = table, file, encoding
        self._line = 0
        self._last = ""
        self._begin: int | None = None  # the line on which the record that is being read began
        self._has_line_breaks = False
        self._ends: set[str] = set()
        csv.field_size_limit(LONGEST_VALUE)

    def layout(self) -> CsvLayout:
        with open_csv(self._file, self._encoding) as opened:
            try:
                header = self._header(opened)
                header_lines = self._line
                if not self._skip_without_quotes():
                    for record in csv.reader(self._quoted_lines(opened), strict=True):
                        self._check_record(record, len(header))
            except csv.Error as error:
                raise self._fault(self._begin or self._line, f"has quotes out of place ({error}): {_QUOTES}") from error
        self._check_end(len(header))
        if self._has_line_breaks and "\r" in self._ends and len(self._ends) > 1:
            raise self._fault(self._line, "is the last of a file whose lines end in different ways; let all end alike")
        line_end = "\r" if self._ends == {"\r"} else "\n"
        return CsvLayout(header, header_lines, self._encoding, self._has_line_breaks, line_end)

    def _skip_without_quotes(self) -> bool:
        """Return whether the file has no quotes. If so, all of it was decoded, and its last line is the current one."""
        lines, end = 0, ""
        with open_csv(self._file, self._encoding) as opened:
            while chunk := opened.read(_CHUNK):
                if '"' in chunk:
                    return False
                lines += chunk.count("\n") or chunk.count("\r")
                end = (end + chunk)[-_CHUNK:]
        self._last = list(io.StringIO(end, newline=""))[-1]
        self._line = lines + (not _line_end(self._last))
        return True

    def _header(self, opened: TextIO) -> tuple[str, ...]:
        records = csv.reader(self._lines(opened), strict=True)
        names = next((tuple(name.strip(_BLANK) for name in record) for record in records if record), ())
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
        self._has_line_breaks = any("\n" in name or "\r" in name for name in names)
        self._ends.add(_line_end(self._last))
        return names

    def _lines(self, opened: TextIO) -> Iterator[str]:
        for line in opened:
            self._line += 1
            self._last = line if self._line > 1 else line.removeprefix("\ufeff")
            yield self._last

    def _quoted_lines(self, opened: TextIO) -> Iterator[str]:
        """Yield the lines with quotes, and those inside a quoted value."""
        for line in self._lines(opened):
            if self._begin is not None or '"' in line:
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
        is_plain = '"' not in self._last
        if _line_end(self._last) or not self._last.strip(_BLANK) or not is_plain:
            return
        if (values := self._last.count(",") + 1) < width:
            raise self._fault(
                self._line,
                f"is the last, and has {values} of {width} values and no line end: the file seems to be "
                "cut off; write it anew",
            )

    def _fault(self, line: int, what: str) -> GraphInputError:
        return GraphInputError(f"{self._file}: line {line} of {self._table} {what}")


def _line_end(line: str) -> str:
    """Return what ends a line: LF (also for CR LF), CR, or nothing."""
    return "\n" if line.endswith("\n") else line[-1:] if line.endswith("\r") else ""
