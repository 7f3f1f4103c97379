"""The input contract: the columns of events, items and ads, their kinds, and the check of a file's columns.

This module reads no data: it uses Arrow's types only to describe columns. `arrow_reader` and `spark_reader` both use
it. `values` defines how values are written, and `refusals` which events are refused.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import pyarrow as pa

from graph_build.config import InputConfig, TableInput
from graph_build.errors import GraphInputError

Kind = Literal["id", "text", "time", "number", "integer", "vector", "words"]
Table = Literal["events", "items", "ads"]

REQUIRED: dict[str, dict[str, Kind]] = {
    "events": {"timestamp": "time", "event_type": "text", "item_id": "id"},
    "items": {"item_id": "id"},
    "ads": {"ad_id": "id", "item_id": "id", "campaign_id": "id"},
}
OPTIONAL: dict[str, dict[str, Kind]] = {
    "events": {
        "session_id": "id",
        "user_id": "id",
        "source_item_id": "id",
        "query": "text",
        "event_id": "id",
        "sequence": "integer",
        "request_id": "id",
        "position": "integer",
        "price": "number",
        "ad_id": "id",
        "country": "text",
    },
    "items": {
        "category": "text",
        "brand": "text",
        "price": "number",
        "title": "text",
        "image_url": "text",
        "embedding": "vector",
    },
    "ads": {
        "advertiser_id": "id",
        "starts_at": "time",
        "ends_at": "time",
        "status": "text",
        "countries": "words",
        "bid": "number",
        "version": "integer",
    },
}
EXPECTED: dict[Kind, str] = {
    "id": "string (or an integer)",
    "text": "string",
    "time": "timestamp, date, or a string holding one",
    "number": "double (any number)",
    "integer": "int64 (any integer)",
    "vector": "list<float>",
    "words": "list<string>",
}

ITEM_TYPES = ("view", "click", "add_to_cart", "purchase")
# The types of events that sessions hold. The position of a type is its number (`sessions.kernel.VIEW` and the others).
SESSION_TYPES = (*ITEM_TYPES, "search")
TYPES = ("impression", *SESSION_TYPES)

# An event needs one of these ids. If it has only a user_id, its session is cut from the events of that user.
SESSION_COLUMNS = ("session_id", "user_id")
FEATURE = "text, a number, a boolean, a date or a timestamp"
LONGEST_DECIMAL = 38  # the most digits of a decimal in Spark
# Reasons to refuse a row before its values are checked.
TOO_MANY_VALUES = "too_many_values"
FOLDER_MISMATCH = "folder_mismatch"

# Where a row stands in the input. It orders events that tie in time.
PLACE = ("file", "block", "row")


def column_kinds(table: Table) -> dict[str, Kind]:
    """Return every column that the contract knows for `table`, required ones first, with its kind."""
    return REQUIRED[table] | OPTIONAL[table]


def needed_columns(table: Table, config: InputConfig) -> list[str]:
    """Return the columns that are read, by the log's own names: those of the contract, then the features of items.

    Args:
        table: which of the three tables.
        config: the `[input]` section.
    """
    features = config.items.features if table == "items" else ()
    return list(dict.fromkeys([*mapped(table, config).values(), *features]))


def mapped(table: Table, config: InputConfig) -> dict[str, str]:
    """Return the log's own name of every column of `table`. Joined columns have one name, such as "date + time".

    Args:
        table: which of the three tables.
        config: the `[input]` section, which maps names.

    Raises:
        GraphInputError: the mapping, or a constant, names a column that the contract does not know.
    """
    section: TableInput = getattr(config, table)
    for key, names in (("columns", section.columns), ("constants", section.constants)):
        if unknown := sorted(set(names) - set(column_kinds(table))):
            raise GraphInputError(
                f"[input.{table}.{key}] names {unknown[0]!r}, which is not a column of {table}; "
                f"known are {', '.join(column_kinds(table))}"
            )
    return {name: own_name(section.columns.get(name, name)) for name in column_kinds(table)}


def own_name(column: str | tuple[str, ...]) -> str:
    """Return the name of a column of the log, or one name for several columns that are joined.

    >>> own_name(("date", "time"))
    'date + time'
    """
    return column if isinstance(column, str) else " + ".join(column)


def check_columns(table: Table, file: str, types: Mapping[str, pa.DataType], config: InputConfig) -> None:
    """Check the columns of one file.

    Args:
        table: which of the three tables the file holds.
        file: the path that the error message names.
        types: the file's own column names with their Arrow types.
        config: the `[input]` section.

    Raises:
        GraphInputError: a required column is missing, events have neither of SESSION_COLUMNS, a known column has a type
            that the contract cannot read, or a configured item feature is missing or has a wrong type. Each fault is a
            line of the message.
    """
    if faults := list(_column_faults(table, file, types, config)):
        raise GraphInputError("\n".join(faults))


def _column_faults(table: Table, file: str, types: Mapping[str, pa.DataType], config: InputConfig) -> Iterator[str]:
    names = mapped(table, config)
    if table == "events" and not any(names[name] in types for name in SESSION_COLUMNS):
        yield (
            f"{file}: events need a column {' or '.join(repr(names[name] or name) for name in SESSION_COLUMNS)} "
            f"({EXPECTED['id']}), and have neither; found the columns {', '.join(types) or 'none'}. Name the column "
            'of visits, [input.events.columns] session_id = "your_column", or that of users, from whose events '
            'sessions are cut at long pauses, [input.events.columns] user_id = "your_column"'
        )
    for name in REQUIRED[table]:
        if names[name] not in types:
            origin = "" if names[name] == name else f" (mapped from {name!r})"
            yield (
                f"{file}: {table} need a column {names[name]!r}{origin}, expected type "
                f"{EXPECTED[column_kinds(table)[name]]}; "
                f"found the columns {', '.join(types) or 'none'}. If the log calls it otherwise, map it: "
                f'[input.{table}.columns] {name} = "your_column"'
            )
    for name, kind in column_kinds(table).items():
        if (type_ := types.get(names[name])) is not None:
            yield from _type_faults(table, file, name, kind, type_, config)
    for feature in config.items.features if table == "items" else ():
        if feature not in types:
            yield (
                f"{file}: the configuration names the item feature {feature!r}, which is not among the columns "
                f"{', '.join(types)}; correct [input.items] features"
            )
        elif feature not in names.values() and not _is_feature(types[feature]):
            yield (
                f"{file}: the item feature {feature!r} has type {types[feature]}, expected {FEATURE}; cast it, or "
                "leave it out of [input.items] features"
            )


def _type_faults(
    table: Table, file: str, name: str, kind: Kind, type_: pa.DataType, config: InputConfig
) -> Iterator[str]:
    if _fits(kind, type_):
        return
    if kind == "time" and is_number(type_):
        if table == "events" and config.events.timestamp_unit is not None:
            return
        advice = (
            "if these are numbers counted from 1970, set [input.events] timestamp_unit to "
            '"s", "ms", "us", "ns" or "day"'
            if table == "events"
            else "write it as a timestamp"
        )
    elif pa.types.is_struct(type_):
        inner = f"{mapped(table, config)[name]}.{type_.field(0).name}" if type_.num_fields else "record.key"
        advice = f'map a value in it: [input.{table}.columns] {name} = "{inner}"'
    elif is_list(type_):
        advice = f'make a row of each element: [input.{table}] explode = "{mapped(table, config)[name]}"'
    else:
        advice = f'cast it, or map another column: [input.{table}.columns] {name} = "your_column"'
    yield (
        f"{file}: column {mapped(table, config)[name]!r} of {table} has type {type_}, expected {EXPECTED[kind]}; "
        f"{advice}"
    )


def _fits(kind: Kind, type_: pa.DataType) -> bool:
    """Return whether values of an Arrow type can be read as the kind."""
    is_ = pa.types
    type_ = value_type(type_)
    if is_.is_null(type_):
        return True
    if kind == "id":
        return is_text(type_) or bool(is_.is_integer(type_))
    if kind == "text":
        return is_text(type_)
    if kind == "time":
        return is_text(type_) or is_.is_timestamp(type_) or is_.is_date(type_)
    if kind in ("number", "integer"):  # pandas writes integers as doubles if one is missing
        return is_text(type_) or is_number(type_)
    if not is_list(type_):
        return is_text(type_)  # CSV has no lists: they are written as text
    inner = value_type(type_.value_type)
    if kind == "vector":
        return is_number(inner)
    return is_text(inner) or bool(is_.is_null(inner))


def is_number(type_: pa.DataType) -> bool:
    """Return whether an Arrow type holds numbers that both readers can read."""
    is_ = pa.types
    return bool(
        is_.is_integer(type_)
        or is_.is_floating(type_)
        or (is_.is_decimal(type_) and type_.precision <= LONGEST_DECIMAL)
    )


def _is_feature(type_: pa.DataType) -> bool:
    is_, type_ = pa.types, value_type(type_)
    others = (is_.is_null, is_.is_boolean, is_.is_date, is_.is_timestamp)
    return is_text(type_) or is_number(type_) or any(test(type_) for test in others)


def is_list(type_: pa.DataType) -> bool:
    """Return whether an Arrow type holds lists."""
    is_ = pa.types
    return bool(is_.is_list(type_) or is_.is_large_list(type_) or is_.is_fixed_size_list(type_))


def value_type(type_: pa.DataType) -> pa.DataType:
    """Return the type of a column's values; for a categorical column, the type of its categories."""
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def is_text(type_: pa.DataType) -> bool:
    """Return whether an Arrow type holds strings."""
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))
