"""Finds out whether a file holds JSON lines, which columns they have, and which types the columns have."""

import json
import zlib
from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa

from graph_build.errors import GraphInputError
from graph_build.ingest.compressed import is_compressed, open_bytes, what_it_is
from graph_build.ingest.contract import Table
from graph_build.ingest.csv_rows import line_blocks
from graph_build.ingest.fields import POSITION, ROW, Fields
from graph_build.ingest.record_rows import as_list, reader_of, record

# The types of columns are those of at most this many lines at the beginning of a file.
_HEAD_LINES = 2000
_CHUNK = 1 << 24


def json_types(table: Table, file: str, fields: Fields, texts: Collection[str]) -> dict[str, pa.DataType]:
    """Return the columns that a file of JSON lines has, with the types of their values in the first lines.

    A column of mixed types is text. A column that is missing in the first lines is text too, if its key stands anywhere
    in the file.

    Args:
        table: which table the file holds, for the message.
        file: a path or URI.
        fields: the values that are read.
        texts: the columns whose numbers are read as text.

    Raises:
        GraphInputError: the file is empty, cut off or of another format, or a path leads into a list that is not
            exploded.
    """
    try:
        records = _first_records(table, file)
        types = _types_at(table, file, records, fields)
        missing = {path for path in fields.paths if path not in types}
        keys = {path: path.rpartition(".")[2] for path in missing}
        later = _keys_in(file, set(keys.values()))
    except GraphInputError:
        raise
    except (pa.ArrowException, OSError, EOFError, ValueError, zlib.error) as error:
        raise GraphInputError(f"{file}: {table} cannot be read as JSON ({error})") from error
    types |= {path: pa.string() for path in missing if keys[path] in later}
    if fields.explode is not None and fields.explode not in types:
        raise GraphInputError(
            f"{file}: [input.{table}] explode names {fields.explode!r}, which no record of {table} has; the first ones "
            f"have {', '.join(keys_of(table, file))}"
        )
    columns = {}
    for name, parts in fields.columns:
        if all(part in types for part in parts):
            is_text = len(parts) > 1 or (name in texts and not pa.types.is_nested(types[parts[0]]))
            columns[name] = pa.string() if is_text else types[parts[0]]
    return columns


def keys_of(table: Table, file: str) -> list[str]:
    """Return the keys of the first records of a file of JSON lines, as paths.

    Args:
        table: which table the file holds, for the message.
        file: a path or URI.

    Raises:
        GraphInputError: the file does not hold JSON lines.
    """
    return list(dict.fromkeys(path for value in _first_records(table, file) for path in _paths(value)))


def _paths(value: dict[str, Any]) -> list[str]:
    below = [(key, inner[0] if isinstance(inner, list) and inner else inner) for key, inner in value.items()]
    return [
        path
        for key, inner in below
        for path in ([f"{key}.{name}" for name in _paths(inner)] if isinstance(inner, dict) and inner else [key])
    ]


def _first_records(table: Table, file: str) -> list[dict[str, Any]]:
    with open_bytes(file) as opened:
        block = next(line_blocks(opened, 0, None), b"")
    if other := what_it_is(block):
        raise GraphInputError(f"{file}: the {table} file is {other}")
    lines = [line for line in block.splitlines() if line.strip()][:_HEAD_LINES]
    if not lines:
        raise GraphInputError(f"{file}: the {table} file is empty; expected one JSON object per line")
    first = lines[0].strip()
    records = [value for line in lines if (value := record(line)) is not None]
    if first.startswith(b"[") or not records:
        expected = "expected one JSON object per line"
        if first.startswith(b"["):
            raise GraphInputError(
                f"{file}: the {table} file holds one JSON array, {expected}; write it anew: "
                f"jq -c '.[]' {file} > new.jsonl"
            )
        if first.startswith(b"{"):
            raise GraphInputError(
                f"{file}: the {table} file holds objects that cannot be read line by line, {expected}; if they are "
                f"JSON, write them anew: jq -c . {file} > new.jsonl"
            )
        raise GraphInputError(f'{file}: the {table} file is not JSON, {expected}; if it is CSV, set format = "csv"')
    return records


def _types_at(table: Table, file: str, records: Sequence[dict[str, Any]], fields: Fields) -> dict[str, pa.DataType]:
    """Return path → type, for each path that at least one record has."""
    types = {POSITION: pa.string(), ROW: pa.string()}
    elements: list[Any] = []
    if fields.explode is not None:
        lists = list(map(reader_of(fields.explode), records))
        if any(value is not None for value in lists):
            types[fields.explode] = pa.string()
        elements = [element for value in lists for element in as_list(value)]
    for path in dict.fromkeys(path for _, parts in fields.columns for path in parts if path not in (POSITION, ROW)):
        inside = fields.in_element(path)
        sources, below = (records, path) if inside is None else (elements, inside)
        values = list(map(reader_of(below), sources)) if below else sources
        if any(value is not None for value in values):
            types[path] = type_of(values)
        else:
            _check_lists(table, file, sources, path, below)
    return types


def _check_lists(table: Table, file: str, sources: Sequence[Any], path: str, below: str) -> None:
    """Refuse a path that leads into a list as if it were a record."""
    keys = below.split(".")
    for n in range(1, len(keys)):
        outer = ".".join(keys[:n])
        if any(isinstance(value, list) for value in map(reader_of(outer), sources)):
            raise GraphInputError(
                f"{file}: the column {path!r} of {table} leads into a list; set [input.{table}] explode to the list "
                f'(here {outer!r}), or name a place in it, such as "{outer}.0.{".".join(keys[n:])}"'
            )


def type_of(values: Sequence[Any]) -> pa.DataType:
    """Return the type of JSON values. Booleans, and values of several types other than numbers, are text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {list}:
        inner = type_of([element for value in values for element in value or ()])
        return pa.string() if pa.types.is_null(inner) else pa.list_(inner)
    if kinds == {dict}:
        return pa.struct([(key, pa.null()) for key in next(value for value in values if value)])
    if kinds and kinds <= {int, float}:
        is_whole = all(float(value).is_integer() for value in values if value is not None and value == value)
        return pa.int64() if is_whole else pa.float64()
    return pa.string() if kinds else pa.null()


def _keys_in(file: str, keys: set[str]) -> set[str]:
    """Return the keys that stand anywhere in a file. A compressed file is read to its end, to see if it is whole."""
    missing = {key: _writings(key) for key in keys}
    tail = max((len(text) + 2 for texts in missing.values() for text in texts), default=0)
    with open_bytes(file) as opened:
        before = b""
        while (is_compressed(file) or missing) and (chunk := opened.read(_CHUNK)):
            window = before + chunk
            missing = {key: texts for key, texts in missing.items() if not any(_has_key(window, x) for x in texts)}
            before = window[-tail:]
    return keys - missing.keys()


def _has_key(text: bytes, beginning: bytes) -> bool:
    """Return whether a key stands in JSON, or in JSON within a text.

    If the beginning of the key stands nowhere, one search is enough.
    """
    return beginning in text and (beginning + b'"' in text or beginning + b'\\"' in text)


def _writings(key: str) -> set[bytes]:
    """Return the ways in which a key may be written, each with the quote before it."""
    return {json.dumps(key, ensure_ascii=is_ascii)[:-1].encode() for is_ascii in (True, False)}
