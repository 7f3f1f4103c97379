"""Turns records into flat rows: a field of an inner record gets a name with points (`item.id`)."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

_MOST_COLUMNS = 300


def lists_of(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the paths of all lists in records, each with its elements.

    Args:
        records: objects.
    """
    lists: dict[str, list[Any]] = {}

    def walk(record: Mapping[str, Any], path: str) -> None:
        for key, value in record.items():
            if isinstance(value, dict):
                walk(value, f"{path}{key}.")
            elif isinstance(value, list):
                lists.setdefault(f"{path}{key}", []).extend(value)

    for record in records:
        walk(record, "")
    return lists


def is_nested(records: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether any of the records holds a record or a list."""
    return any(isinstance(value, dict | list) for record in records for value in record.values())


def flat_table(records: Sequence[Mapping[str, Any]], explode: str | None) -> pa.Table:
    """Return records as flat rows. Lists that hold records or lists are left out, unless they are exploded.

    Args:
        records: objects.
        explode: the path of a list whose elements become rows; None if no list is exploded.
    """
    rows = [row | {"#row": n} for n, record in enumerate(records) for row in _flat_rows(record, explode)]
    names = list(dict.fromkeys(name for row in rows for name in row))[:_MOST_COLUMNS]
    return pa.table({name: _array([row.get(name) for row in rows]) for name in names})


def _flat_rows(record: Mapping[str, Any], explode: str | None) -> Iterator[dict[str, Any]]:
    outer: dict[str, Any] = {}
    _flatten(record, "", outer.__setitem__)
    if explode is None:
        yield outer
        return
    elements: Any = record
    for key in explode.split("."):
        elements = elements.get(key) if isinstance(elements, dict) else None
    for position, element in enumerate(elements if isinstance(elements, list) else []):
        row = {name: value for name, value in outer.items() if name != explode} | {"#": position}
        if isinstance(element, dict):
            _flatten(element, f"{explode}.", row.__setitem__)
        else:
            row[explode] = element
        yield row


def _flatten(record: Mapping[str, Any], path: str, put: Callable[[str, Any], None]) -> None:
    for key, value in record.items():
        if isinstance(value, dict):
            _flatten(value, f"{path}{key}.", put)
        elif not (isinstance(value, list) and any(isinstance(element, dict | list | tuple) for element in value)):
            put(f"{path}{key}", value)
            for position, element in enumerate(value if key == "path" and isinstance(value, list) else []):
                put(f"{path}{key}.{position}", element)


def _array(values: list[Any]) -> pa.Array:
    """Return values as an array of one Arrow type; they become text if they have several types."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list | bool) else str(value)
