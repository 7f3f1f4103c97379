"""The table of queries that a batch answers; each part of the table is checked before it is answered."""

from __future__ import annotations

import re
from difflib import get_close_matches

import pyarrow as pa
import pyarrow.compute as pc

from retrieval.catalogue.ads_table import A_COUNTRY, COUNTRY_PATTERN
from retrieval.errors import QueriesError
from retrieval.values import A_TIME, END_OF_TIMES, FIRST_TIME, clean_text, parse_time

QUERIES = pa.schema(
    [
        ("query_id", pa.string()),
        ("item_ids", pa.list_(pa.string())),
        ("at", pa.timestamp("us", "UTC")),
        ("country", pa.string()),
        ("query", pa.string()),
    ]
)
_REQUIRED = ("query_id", "item_ids")
_PANDAS_INDEX = re.compile(r"__index_level_\d+__|Unnamed: \d+|")


def conform_queries(queries: pa.Table, source: str = "the queries", *, rows_before: int = 0) -> pa.Table:
    """Return the queries with the columns and types of `QUERIES`.

    The columns `at`, `country` and `query` are optional. Integers are accepted as ids, and ISO 8601 text as times; a
    time without an offset is UTC. Columns in which pandas writes its index are ignored. Blanks around item ids are
    removed, and so are ids that are then empty or null.

    Args:
        queries: the table as it was read.
        source: the table's name in error messages, e.g. its file name.
        rows_before: the number of rows of the source that come before this part of it.

    Raises:
        QueriesError: a column is missing, unknown or of another type, a query has no id, a country is not a code, or a
            time cannot be read.
    """
    queries = queries.drop_columns([name for name in queries.column_names if _PANDAS_INDEX.fullmatch(name)])
    _check_names(queries, source)
    columns = {}
    for field in QUERIES:
        if field.name in queries.column_names:
            columns[field.name] = _cast(queries[field.name], field, source, rows_before)
        else:
            columns[field.name] = pa.nulls(queries.num_rows, field.type)
    if missing := columns["query_id"].null_count:
        row = rows_before + pc.index(pc.is_null(columns["query_id"]), True).as_py() + 1
        raise QueriesError(f"{source}: column 'query_id', row {row}: {missing} queries have no id")
    country = columns["country"] = pc.utf8_trim_whitespace(columns["country"])
    wrong = pc.index(pc.fill_null(pc.match_substring_regex(country, COUNTRY_PATTERN), True), False).as_py()
    if wrong >= 0:
        row = rows_before + wrong + 1
        raise QueriesError(f"{source}: column 'country', row {row}: got {country[wrong].as_py()!r}, {A_COUNTRY}")
    return pa.table(columns, schema=QUERIES)


def _check_names(queries: pa.Table, source: str) -> None:
    expected = ", ".join(QUERIES.names)
    for name in queries.column_names:
        if queries.column_names.count(name) > 1:
            raise QueriesError(f"{source}: column {name!r} is there twice; rename or remove one")
        if name not in QUERIES.names:
            raise QueriesError(f"{source}: unknown column {name!r}, expected {expected}{_suggestion(name)}")
    for name in _REQUIRED:
        if name not in queries.column_names:
            got = ", ".join(queries.column_names)
            raise QueriesError(f"{source}: column {name!r} is missing, got {got}; expected {expected}")


def _cast(column: pa.ChunkedArray, field: pa.Field, source: str, rows_before: int) -> pa.ChunkedArray:
    """Cast a column to the type of its field, or reject it if its own type has another meaning."""
    kind = column.type
    expected = str(field.type).replace("item: ", "")
    problem = f"{source}: column {field.name!r} has type {kind}, expected {expected}"
    if field.name == "at":
        if _is_text(kind) or (pa.types.is_dictionary(kind) and _is_text(kind.value_type)):
            return _parse_times(column.cast(pa.string()), source, rows_before)
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_null(kind):
            return column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(field.type)
        raise QueriesError(f"{problem} or ISO 8601 text, e.g. 2026-03-14T09:30:00Z")
    if field.name == "item_ids":
        if pa.types.is_null(kind) or (_is_list(kind) and _is_id(kind.value_type)):
            return _clean_lists(column.cast(field.type))
        raise QueriesError(problem)
    if not _is_id(kind):
        raise QueriesError(problem)
    return column.cast(field.type)


def _parse_times(column: pa.ChunkedArray, source: str, rows_before: int) -> pa.ChunkedArray:
    written = column.combine_chunks().dictionary_encode()
    times = [parse_time(text) for text in written.dictionary.to_pylist()]
    wrong = [time is None or not FIRST_TIME <= time < END_OF_TIMES for time in times]
    if any(wrong):
        number = wrong.index(True)
        row = rows_before + pc.index(written.indices, number).as_py() + 1
        raise QueriesError(f"{source}: column 'at', row {row}: got {written.dictionary[number].as_py()!r}, {A_TIME}")
    return pa.chunked_array([pa.array(times, pa.int64()).take(written.indices).cast(QUERIES.field("at").type)])


def _clean_lists(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return lists of ids without blanks around the ids, and without ids that are null or blank."""
    lists = column.combine_chunks()
    ids = lists.flatten()
    if not ids.null_count and pc.all(pc.match_substring_regex(ids, r"^[!-~]+$")).as_py() is not False:
        return column
    cleaned = [None if ids is None else [clean_text(item) for item in ids if item] for ids in lists.to_pylist()]
    return pa.chunked_array([pa.array([ids and [item for item in ids if item] for ids in cleaned], lists.type)])


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_id(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _suggestion(name: str) -> str:
    close = get_close_matches(name, QUERIES.names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
