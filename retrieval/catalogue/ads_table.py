"""The ads table as it is read: its columns and types, and the rule that picks one of an ad's rows."""

from __future__ import annotations

import pyarrow as pa

from retrieval.errors import CatalogueError

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
    return pa.table(columns, schema=SCHEMA)


def newest_rows(table: pa.Table) -> pa.Table:
    """Return one row for each ad_id: the row with the highest version (null = 0), or the last of several such rows."""
    version = table["version"].fill_null(0).to_pylist()
    newest: dict[str, int] = {}
    for row, ad in enumerate(table["ad_id"].to_pylist()):
        if ad not in newest or version[row] >= version[newest[ad]]:
            newest[ad] = row
    return table.take(pa.array(sorted(newest.values()), pa.int64()))
