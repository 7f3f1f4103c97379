"""The table of queries that a batch answers; each part is checked against its contract before it is answered."""

from __future__ import annotations

from difflib import get_close_matches

import pyarrow as pa
import pyarrow.compute as pc

from retrieval.catalogue.ads_table import A_COUNTRY, COUNTRY_PATTERN
from retrieval.errors import QueriesError

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


def conform_queries(queries: pa.Table, source: str = "the queries", *, rows_before: int = 0) -> pa.Table:
    """Return the queries with the columns and types of `QUERIES`.

    The columns `at`, `country` and `query` are optional. Integers are accepted as ids, and ISO 8601 text as times; a
    time without an offset is UTC.

    Args:
        queries: the table as it was read.
        source: what error messages call the table, e.g. its file name.
        rows_before: the number of rows of the source that come before this part of it.

    Raises:
        QueriesError: a column is missing, unknown or of another type, a query has no id, or a country is not a code.
    """
    _check_names(queries, source)
    columns = {}
    for field in QUERIES:
        if field.name in queries.column_names:
            columns[field.name] = _cast(queries[field.name], field, source)
        else:
            columns[field.name] = pa.nulls(queries.num_rows, field.type)
    if missing := columns["query_id"].null_count:
        row = rows_before + pc.index(pc.is_null(columns["query_id"]), True).as_py() + 1
        raise QueriesError(f"{source}: column 'query_id', row {row}: {missing} queries have no id")
    country = columns["country"]
    wrong = pc.index(pc.fill_null(pc.match_substring_regex(country, COUNTRY_PATTERN), True), False).as_py()
    if wrong >= 0:
        row = rows_before + wrong + 1
        raise QueriesError(f"{source}: column 'country', row {row}: got {country[wrong].as_py()!r}, {A_COUNTRY}")
    return pa.table(columns, schema=QUERIES)


def _check_names(queries: pa.Table, source: str) -> None:
    expected = ", ".join(QUERIES.names)
    for name in queries.column_names:
        if name not in QUERIES.names:
            raise QueriesError(f"{source}: unknown column {name!r}, expected {expected}{_suggestion(name)}")
    for name in _REQUIRED:
        if name not in queries.column_names:
            got = ", ".join(queries.column_names)
            raise QueriesError(f"{source}: column {name!r} is missing, got {got}; expected {expected}")


def _cast(column: pa.ChunkedArray, field: pa.Field, source: str) -> pa.ChunkedArray:
    """Cast a column to the type of its field, or reject it if its own type has another meaning."""
    kind = column.type
    expected = str(field.type).replace("item: ", "")
    problem = f"{source}: column {field.name!r} has type {kind}, expected {expected}"
    if field.name == "at":
        try:
            if _is_text(kind):
                return _parse_times(column.cast(pa.string()))
            if pa.types.is_timestamp(kind) or pa.types.is_null(kind):
                return column.cast(field.type, safe=False)
        except pa.ArrowInvalid as error:
            raise QueriesError(f"{source}: column 'at' has values that are not ISO 8601 times: {error}") from error
        raise QueriesError(f"{problem} or ISO 8601 text, e.g. 2026-03-14T09:30:00Z")
    if field.name == "item_ids":
        if pa.types.is_null(kind) or (_is_list(kind) and _is_id(kind.value_type)):
            return column.cast(field.type)
        hint = "; a CSV file has no lists: give parquet" if source.endswith((".csv", ".csv.gz")) else ""
        raise QueriesError(problem + hint)
    if not _is_id(kind):
        raise QueriesError(problem)
    return column.cast(field.type)


def _parse_times(column: pa.ChunkedArray) -> pa.ChunkedArray:
    # Arrow parses a column of texts only if either all of them or none have an offset.
    zoned = pc.match_substring_regex(column, r":\S*(Z|[+-]\d\d(:?\d\d)?)$")
    with_offset = pc.if_else(zoned, column, None).cast(QUERIES.field("at").type)
    without_offset = pc.if_else(zoned, None, column).cast(pa.timestamp("us"))
    return pc.coalesce(with_offset, pc.assume_timezone(without_offset, "UTC"))


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
