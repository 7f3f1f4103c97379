"""An export to Milvus Lite, the embedded form of Milvus, answers with the items and ads of exact search."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.errors import ExportError, StoreFailedError
from retrieval.export.stores import write_to
from tests.retrieval.export.exported import (
    CATALOGUE,
    SEARCHES,
    N,
    assert_finds_what_exact_search_finds,
    documented_search,
    interrupted,
    small_export,
)

pymilvus = pytest.importorskip("pymilvus", reason="the extra [milvus] is not installed")
pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    database = str(tmp_path_factory.mktemp("milvus") / "shop.db")
    write_to("milvus", small_export(with_ads=False), database, "lightsage")
    write_to("milvus", small_export(), database, "lightsage")
    with pytest.raises(KeyboardInterrupt):
        write_to("milvus", replace(small_export(with_ads=False), progress=interrupted(1)), database, "lightsage")
    client = pymilvus.MilvusClient(database)
    client.create_collection("mine", dimension=2)
    with pytest.raises(ExportError, match="mine is a collection"):
        write_to("milvus", small_export(), database, "mine")
    client.drop_collection("mine")
    yield client
    client.close()


def viewed_vectors(client: Any, views: list[int]) -> np.ndarray:
    ids = [CATALOGUE.item_ids[row] for row in views]
    rows = client.get("lightsage", sorted(set(ids)), output_fields=["item_id", "query_vector"])
    vectors = {row["item_id"]: row["query_vector"] for row in rows}
    return np.array([list(vectors[each]) for each in ids])


@pytest.mark.parametrize(("views", "country"), SEARCHES)
def test_the_documented_search_finds_what_exact_search_finds(
    client: Any, views: list[int], country: str | None
) -> None:
    search = documented_search("Milvus", client)
    assert_finds_what_exact_search_finds(search, viewed_vectors(client, views), views, country)


def test_the_alias_points_to_the_last_whole_export_and_earlier_ones_are_dropped(client: Any) -> None:
    [collection] = client.list_collections()
    assert client.describe_alias("lightsage")["collection_name"] == collection
    assert client.get_collection_stats(collection)["row_count"] == N


def test_a_target_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"NAME\.db"):
        write_to("milvus", small_export(), "shop", "lightsage")
    with pytest.raises(ExportError, match="there is no folder"):
        write_to("milvus", small_export(), str(tmp_path / "none" / "shop.db"), "lightsage")


@pytest.mark.slow
@pytest.mark.thorough
def test_a_server_that_cannot_be_reached_is_one_line() -> None:
    with pytest.raises(StoreFailedError) as failure:
        write_to("milvus", small_export(), "http://127.0.0.1:9", "lightsage")
    assert str(failure.value).startswith("Milvus at http://127.0.0.1:9: ")
    assert "\n" not in str(failure.value)
