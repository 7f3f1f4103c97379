"""Exports to PostgreSQL with pgvector: a table of items and a table of ads, both replaced in one transaction."""

from __future__ import annotations

import json
from typing import Any

import orjson

from retrieval.arrays import Floats
from retrieval.errors import ExportError, StoreFailedError
from retrieval.export.drivers import driver, first_line
from retrieval.export.rows import AD_FIELDS, Batch, Export

# The largest dimension that pgvector's HNSW index takes.
_LARGEST_DIM = 2_000
_LONGEST_NAME = 63 - len("_items_next")
_ITEMS = """
CREATE TABLE {next} (
    item_id text PRIMARY KEY,
    vector vector({dim}) NOT NULL,
    query_vector vector({dim}) NOT NULL,
    category text, categories text[] NOT NULL, brand text, price double precision, title text,
    popularity double precision NOT NULL,
    direct jsonb NOT NULL
)"""
_ADS = """
CREATE TABLE {next} (
    item_id text NOT NULL,
    place integer NOT NULL,
    ad_id text, campaign_id text, advertiser_id text,
    starts_at timestamptz, ends_at timestamptz, countries text[] NOT NULL, bid double precision,
    PRIMARY KEY (item_id, place)
)"""
_ITEM_COLUMNS = ("item_id", "category", "categories", "brand", "price", "title", "popularity")


def write(export: Export, target: str, name: str) -> None:
    """Replace the tables `name_items` and `name_ads`; see `retrieval.export.stores.Writer`.

    Args:
        export: what to write.
        target: the URL of a database, or a connection string of libpq. The password may come from `PGPASSWORD` or
            `~/.pgpass`.
        name: what the names of the tables begin with.

    Raises:
        ExportError: the driver or pgvector is not installed, a table of that name was not made by an export, a name or
            a vector is too long, or the database refuses.
        StoreFailedError: the database cannot be reached, or fails.
    """
    psycopg = driver("psycopg", "pgvector")
    if export.dim > _LARGEST_DIM:
        raise ExportError(f"the vectors have {export.dim} dimensions; an index of pgvector takes {_LARGEST_DIM}")
    if len(name) > _LONGEST_NAME:
        raise ExportError(f"--name {name}: has more than {_LONGEST_NAME} characters, too many for a table")
    try:
        with psycopg.connect(target, connect_timeout=10, application_name="lightsage export") as connection:
            # If two exports have the same name, the second waits for the first.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"lightsage export {name}"])
            _write(connection, export, name)
    except psycopg.OperationalError as error:
        raise StoreFailedError(f"PostgreSQL: {first_line(error)}") from error
    except psycopg.Error as error:
        raise ExportError(f"PostgreSQL: {first_line(error)}") from error


def _write(connection: Any, export: Export, name: str) -> None:
    sql = driver("psycopg.sql", "pgvector")
    _require_vector(connection)
    for kind in ("items", "ads"):
        _check_ours(connection, f"{name}_{kind}")
    items, ads = (sql.Identifier(f"{name}_{kind}_next") for kind in ("items", "ads"))
    connection.execute(sql.SQL(_ITEMS).format(next=items, dim=sql.Literal(export.dim)))
    connection.execute(sql.SQL(_ADS).format(next=ads))
    columns = sql.SQL(", ").join(map(sql.Identifier, (*_ITEM_COLUMNS, "direct", "vector", "query_vector")))
    ad_columns = sql.SQL(", ").join(map(sql.Identifier, ("item_id", "place", *AD_FIELDS)))
    for batch in export.batches():
        with connection.cursor().copy(sql.SQL("COPY {} ({}) FROM STDIN").format(items, columns)) as copy:
            for row in _item_rows(batch):
                copy.write_row(row)
        with connection.cursor().copy(sql.SQL("COPY {} ({}) FROM STDIN").format(ads, ad_columns)) as copy:
            for row in _ad_rows(batch):
                copy.write_row(row)
    export.progress("building the index", 1.0)
    connection.execute(sql.SQL("CREATE INDEX ON {} USING hnsw (vector vector_ip_ops)").format(items))
    comment = sql.Literal(json.dumps({"lightsage": export.description}))
    for kind, following in (("items", items), ("ads", ads)):
        table = sql.Identifier(f"{name}_{kind}")
        connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(following, comment))
        connection.execute(sql.SQL("ANALYZE {}").format(following))
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
        connection.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(following, table))


def _require_vector(connection: Any) -> None:
    """Create the extension pgvector if the database does not have it."""
    if connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone():
        return
    if not connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone():
        raise ExportError("PostgreSQL: the server does not have pgvector; install it, then run the export again")
    connection.execute("CREATE EXTENSION vector")


def _check_ours(connection: Any, table: str) -> None:
    """Raise an error if there is a table of this name that no export has made."""
    query = "SELECT obj_description(oid, 'pg_class') FROM pg_class WHERE oid = to_regclass(quote_ident(%s))"
    row = connection.execute(query, [table]).fetchone()
    if row is not None and not (row[0] or "").startswith('{"lightsage"'):
        raise ExportError(f"PostgreSQL: {table} exists, and is no earlier export; choose another --name")


def _item_rows(batch: Batch) -> list[tuple[Any, ...]]:
    columns = [batch.columns[name].to_pylist() for name in _ITEM_COLUMNS]
    lists = (batch.columns["direct"].to_pylist(), batch.vectors, batch.query_vectors)
    return list(zip(*columns, *(list(map(_json, values)) for values in lists), strict=True))


def _json(value: Floats | list[Any]) -> str:
    """Return a list in JSON, which is also how pgvector writes a vector."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _ad_rows(batch: Batch) -> list[tuple[Any, ...]]:
    items = zip(batch.columns["item_id"].to_pylist(), batch.columns["ads"].to_pylist(), strict=True)
    return [(item, rank, *(ad[field] for field in AD_FIELDS)) for item, ads in items for rank, ad in enumerate(ads, 1)]
