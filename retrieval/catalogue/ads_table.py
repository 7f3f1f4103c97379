"""The ads table as it is read: its columns and types, and the rule that picks one of an ad's rows."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from retrieval.arrays import python_values
from retrieval.errors import CatalogueError
from retrieval.values import END_OF_TIMES, FIRST_TIME, NO_END_FROM, NO_START_BEFORE

COUNTRY_PATTERN = "^[A-Za-z]{2}$"
A_COUNTRY = "expected two letters, an ISO 3166 alpha-2 country code, e.g. DE"

SCHEMA = pa.schema(
    [
        ("ad_id", pa.string()),
        ("item_id", pa.string()),
        ("campaign_id", pa.string()),
        ("advertiser_id", pa.string()),
        ("starts_at", pa.timestamp("us", "UTC")),
        ("ends_at", pa.timestamp("us", "UTC")),
        ("status", pa.string()),
        ("countries", pa.list_(pa.string())),
        ("bid", pa.float64()),
        ("version", pa.int64()),
    ]
)
_REQUIRED = ("ad_id", "item_id", "campaign_id")


def conform(table: pa.Table) -> pa.Table:
    """Return the table with exactly the columns of `SCHEMA`; optional columns that are missing become null.

    An end from the year 3000 on means no end, and a start before 1900 means no start. Any other time outside the
    calendar becomes the first or last moment of the calendar: then the ad has ended, or never starts, and the time can
    be printed.

    Raises:
        CatalogueError: a required column is missing, or a column cannot be cast to its type.
    """
    columns = {}
    for field in SCHEMA:
        if field.name in table.column_names:
            try:
                columns[field.name] = table[field.name].cast(field.type)
            except pa.ArrowException as error:
                raise CatalogueError(
                    f"ads.{field.name} has type {table[field.name].type}, expected {field.type} ({error})"
                ) from error
        elif field.name in _REQUIRED:
            raise CatalogueError(f"ads: column {field.name} is missing, got {table.column_names}")
        else:
            columns[field.name] = pa.nulls(table.num_rows, field.type)
    for name, is_open in (("starts_at", _is_before_1900), ("ends_at", _is_after_2999)):
        time = columns[name].cast(pa.int64())
        within = pc.min_element_wise(pc.max_element_wise(time, FIRST_TIME), END_OF_TIMES - 1)
        is_null = pc.or_kleene(pc.is_null(time), is_open(time))
        columns[name] = pc.if_else(is_null, None, within).cast(pa.timestamp("us", "UTC"))
    return pa.table(columns, schema=SCHEMA)


def _is_before_1900(time: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.less(time, NO_START_BEFORE)


def _is_after_2999(time: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.greater_equal(time, NO_END_FROM)


def newest_rows(table: pa.Table) -> pa.Table:
    """Return one row for each ad_id: the row with the highest version (null = 0), or the last of several such rows."""
    if pc.count_distinct(table["ad_id"]).as_py() == table.num_rows:
        return table
    version = python_values(table["version"].fill_null(0))
    newest: dict[str, int] = {}
    for row, ad in enumerate(python_values(table["ad_id"])):
        if ad not in newest or version[row] >= version[newest[ad]]:
            newest[ad] = row
    return table.take(pa.array(sorted(newest.values()), pa.int64()))
