"""An export to Qdrant in its embedded mode answers with the items and ads of exact search."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid5

import numpy as np
import pytest

from retrieval.errors import ExportError, StoreFailedError
from retrieval.export.qdrant import NAMESPACE
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

qdrant_client = pytest.importorskip("qdrant_client", reason="the extra [qdrant] is not installed")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qdrant") / "database"
    write_to("qdrant", small_export(with_ads=False), str(folder), "lightsage")
    write_to("qdrant", small_export(), str(folder), "lightsage")
    return folder


@pytest.fixture
def client(database: Path) -> Iterator[Any]:
    client = qdrant_client.QdrantClient(path=str(database))
    yield client
    client.close()


def viewed_vectors(client: Any, views: list[int]) -> np.ndarray:
    ids = [str(uuid5(NAMESPACE, CATALOGUE.item_ids[row])) for row in views]
    points = {point.id: point.vector for point in client.retrieve("lightsage", ids, with_vectors=["query_vector"])}
    return np.array([points[each]["query_vector"] for each in ids])


@pytest.mark.parametrize(("views", "country"), SEARCHES)
def test_the_documented_search_finds_what_exact_search_finds(
    client: Any, views: list[int], country: str | None
) -> None:
    search = documented_search("Qdrant", client)
    assert_finds_what_exact_search_finds(search, viewed_vectors(client, views), views, country)


def test_the_namespace_is_that_of_the_page() -> None:
    from tests.source_tree import ROOT

    assert f'uuid.UUID("{NAMESPACE}")' in (ROOT / "docs" / "export.md").read_text()


def test_the_alias_points_to_the_last_export_and_earlier_ones_are_deleted(client: Any) -> None:
    [collection] = client.get_collections().collections
    [alias] = client.get_aliases().aliases
    assert (alias.alias_name, alias.collection_name) == ("lightsage", collection.name)
    info = client.get_collection("lightsage")
    assert info.points_count == N
    assert info.config.metadata["advertised_items"] < N


def test_an_interrupted_export_leaves_the_earlier_one(tmp_path: Path) -> None:
    write_to("qdrant", small_export(), str(tmp_path), "lightsage")
    with pytest.raises(KeyboardInterrupt):
        write_to("qdrant", replace(small_export(with_ads=False), progress=interrupted(1)), str(tmp_path), "lightsage")
    client = qdrant_client.QdrantClient(path=str(tmp_path))
    assert len(client.get_collections().collections) == 1
    assert client.get_collection("lightsage").config.metadata["advertised_items"] < N
    client.close()


def test_a_collection_of_that_name_is_left_alone(tmp_path: Path) -> None:
    client = qdrant_client.QdrantClient(path=str(tmp_path))
    size = qdrant_client.models.VectorParams(size=2, distance="Dot")
    client.create_collection("mine", vectors_config=size)
    client.close()
    with pytest.raises(ExportError, match="mine is a collection"):
        write_to("qdrant", small_export(), str(tmp_path), "mine")


def test_an_alias_of_something_else_is_left_alone(tmp_path: Path) -> None:
    models = qdrant_client.models
    client = qdrant_client.QdrantClient(path=str(tmp_path))
    client.create_collection("mine", vectors_config=models.VectorParams(size=2, distance="Dot"))
    create = models.CreateAlias(collection_name="mine", alias_name="lightsage")
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=create)])
    client.close()
    with pytest.raises(ExportError, match="points to mine"):
        write_to("qdrant", small_export(), str(tmp_path), "lightsage")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ExportError, match="no database of Qdrant"):
        write_to("qdrant", small_export(), str(tmp_path), "lightsage")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_server_that_cannot_be_reached_is_one_line() -> None:
    with pytest.raises(StoreFailedError) as failure:
        write_to("qdrant", small_export(), "http://key:secret@127.0.0.1:9", "lightsage")
    assert str(failure.value).startswith("Qdrant at http://key:***@127.0.0.1:9: ")
    assert "\n" not in str(failure.value)
