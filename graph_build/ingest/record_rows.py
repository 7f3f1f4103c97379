"""Reads needed values, as text, from records that are Python's objects: JSON lines, JSON in other files, web logs.

A text stays as it is. Numbers, true and false become the text that JSON has for them; whole numbers have no fraction.
A list or a record becomes JSON. If a path leads into a text, the text is read as JSON.
"""

import datetime as dt
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from graph_build.ingest.fields import POSITION, ROW, Fields, split_path
from graph_build.ingest.refusals import UNREADABLE
from graph_build.ingest.values import BLANKS
from graph_build.ingest.web_log import parse_line

try:
    from orjson import loads as _loads
except ImportError:  # Python's own parser reads the same values, but several times slower
    _loads = None  # type: ignore[assignment]

FAULT = "#fault"  # the column with the reason to refuse a row before its values are checked
Record = dict[str, Any] | None
_EXACT = 2.0**53  # whole numbers beyond this are not exact as floats
_LONG = 1e18  # whole numbers beyond this may have been rounded by the fast parser
# The elements of a list that is written as text without being JSON: ['a' 'b'], a|b, a, b.
_ELEMENT = re.compile(r"""'([^']*)'|"([^"]*)"|([^\s,;|]+)""")


class _Rounded(Exception):  # noqa: N818
    """A number has more digits than the fast parser keeps."""


def rows_of_web_log(lines: Sequence[bytes], fields: Fields, row_prefix: str, first: int) -> pa.Table:
    """Return the rows of lines of a web server's log (`rows_of_records`).

    Args:
        lines: lines that are not blank. A line that cannot be read is a row of nulls with the fault `unreadable`.
        fields: the values that are read.
        row_prefix: the beginning of every text for `#row`.
        first: the number of the first line.
    """
    return rows_of_records(list(map(parse_line, lines)), fields, row_prefix, first)


def rows_of_lines(lines: Sequence[bytes], fields: Fields, row_prefix: str, first: int) -> pa.Table:
    """Return the rows of lines of JSON (`rows_of_records`).

    Args:
        lines: lines that are not blank. A line without a record is a row of nulls with the fault `unreadable`.
        fields: the values that are read.
        row_prefix: the beginning of every text for `#row`.
        first: the number of the first line.
    """
    if _loads is not None:
        try:
            return rows_of_records([_fast_record(line) for line in lines], fields, row_prefix, first, is_exact=False)
        except _Rounded:
            pass
    return rows_of_records([record(line) for line in lines], fields, row_prefix, first)


def record(line: bytes) -> Record:
    """Return the record that a line of JSON holds; None if it holds no record."""
    try:
        value = parse_json(line.decode("utf-8"))
    except UnicodeDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _fast_record(line: bytes) -> Record:
    try:
        value = _loads(line)
    except ValueError:
        return record(line)
    return value if isinstance(value, dict) else None


def parse_json(text: str) -> Any:
    """Return a JSON value, NaN and Infinity included; None if the text is no JSON, or holds half a surrogate pair."""
    try:
        value = json.loads(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


def rows_of_records(
    records: Sequence[Record], fields: Fields, row_prefix: str, first: int, *, is_exact: bool = True
) -> pa.Table:
    """Return the rows of records: a text column for each field, and `FAULT`, which is null for a good row.

    Args:
        records: the records; None for a record that cannot be read. A record may hold its own `FAULT`.
        fields: the values that are read from each record.
        row_prefix: the beginning of every text for `#row`.
        first: the number of the first record.
        is_exact: whether whole numbers have all their digits.
    """
    rows = _Rows(records, fields, is_exact)
    columns: dict[str, pa.Array] = {}
    for name, parts in fields.columns:
        texts = [rows.texts(path, fields, row_prefix, first) for path in parts]
        if len(texts) > 1:
            texts = [list(map(_joined, zip(*(map(_cleaned(fields), part) for part in texts), strict=True)))]
        columns[name] = pa.array(texts[0], pa.string())
    faults = [UNREADABLE if record is None else record.get(FAULT) for record in records]
    faults = [faults[n] for n in rows.parents]
    return pa.table({**columns, FAULT: pa.array(faults, pa.string())})


class _Rows:
    """The rows of records. `parents` holds the number of each row's record.

    If no list is exploded, each record is a row. Otherwise each element of a record's list is a row, and an empty list
    gives no row. A single record or value counts as a list of one element.
    """

    def __init__(self, records: Sequence[Record], fields: Fields, is_exact: bool) -> None:
        self._records, self._is_exact = records, is_exact
        self.parents: Sequence[int] = range(len(records))
        if fields.explode is not None:
            nulls = ("null", *fields.null_words)
            values = zip(records, self._values(fields.explode), strict=True)
            lists = [
                [None]
                if record is None
                else []
                if isinstance(value, str) and value.strip() in nulls
                else as_list(value)
                for record, value in values
            ]
            self.parents = [n for n, elements in enumerate(lists) for _ in elements]
            self._elements = [element for elements in lists for element in elements]
            self._positions = [position for elements in lists for position in range(len(elements))]

    def texts(self, path: str, fields: Fields, row_prefix: str, first: int) -> list[str | None]:
        """Return the texts of one path, one for each row."""
        if path == POSITION:
            return list(map(str, self._positions))
        if path == ROW:
            return [f"{row_prefix}-{first + n}" for n in self.parents]
        inside = fields.in_element(path)
        if inside is not None:
            values = self._elements if not inside else [reader_of(inside)(element) for element in self._elements]
            return self._as_texts(values)
        texts = self._as_texts(self._values(path))
        return texts if fields.explode is None else [texts[n] for n in self.parents]

    def _values(self, path: str) -> list[Any]:
        if "." not in path:
            return [record.get(path) if record else None for record in self._records]
        return list(map(reader_of(path), self._records))

    def _as_texts(self, values: list[Any]) -> list[str | None]:
        types = set(map(type, values))
        if types <= {str, type(None)}:
            return values
        if types == {int}:
            return list(map(str, values))
        if float in types and not self._is_exact and any(type(x) is float and abs(x) >= _LONG for x in values):
            raise _Rounded
        return list(map(text_of, values))


def reader_of(path: str) -> Callable[[Any], Any]:
    """Return a function that returns the value at a path in a record, or None if the path leads nowhere."""
    if "." not in path:
        return lambda record: _step(record, path)
    ways = split_path(path)

    def read(record: Any) -> Any:
        record = parse_json(record) if isinstance(record, str) else record
        for name, below in ways:
            if isinstance(record, dict) and name in record:
                value = record[name]
                for key in below:
                    value = _step(value, key)
                return value
        return None

    return read


def _step(value: Any, key: str) -> Any:
    if isinstance(value, str):
        value = parse_json(value)
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
        return value[int(key)]
    return None


def as_list(value: Any) -> list[Any]:
    """Return the elements of a list, or of a text that holds a list.

    None has no elements; any other value counts as a list of one element.
    """
    if isinstance(value, str):
        parsed = parse_json(value) if value.lstrip()[:1] in ("[", "{") else None
        return written_list(value) if parsed is None else as_list(parsed)
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def written_list(text: str) -> list[str]:
    """Return the elements of a list that is text but no JSON. Blanks, commas, semicolons or vertical bars divide them.

    >>> written_list("['a' 'b']"), written_list("7|8")
    (['a', 'b'], ['7', '8'])
    """
    inside = text.strip(BLANKS)
    if inside[:1] in ("[", "(", "{") and inside[-1:] in ("]", ")", "}"):
        inside = inside[1:-1]
    return ["".join(groups) for groups in _ELEMENT.findall(inside)]


def text_of(value: Any) -> str | None:
    """Return a value of a record as text; None for null and NaN.

    >>> text_of(7.0), text_of(True), text_of([1, "a"])
    ('7', 'true', '[1,"a"]')
    """
    if value is None or value != value:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=text_of)
    return value.isoformat(" ") if isinstance(value, dt.datetime) else str(value)


def _cleaned(fields: Fields) -> Callable[[str | None], str | None]:
    def clean(text: str | None) -> str | None:
        text = None if text is None else text.strip(BLANKS)
        return None if not text or text in fields.null_words else text

    return clean


def _joined(parts: tuple[str | None, ...]) -> str | None:
    return None if None in parts else " ".join(parts)  # type: ignore[arg-type]
