"""Exports to Qdrant: a new collection with one point per item; an alias is then switched to the collection."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retrieval.errors import ExportError, StoreFailedError
from retrieval.export.drivers import driver, first_line, generations, replaced_collections, without_password
from retrieval.export.rows import Export

NAMESPACE = uuid.UUID("9b5f2f55-3d0e-5c43-8d5c-1f3f8ad6a5a4")
"""A point's id is `uuid.uuid5(NAMESPACE, item_id)`, because Qdrant accepts no text as an id except a UUID."""
_INDEXED = {
    "item_id": "keyword",
    "categories": "keyword",
    "brand": "keyword",
    "price": "float",
    "ads[].starts_at": "integer",
    "ads[].ends_at": "integer",
    "ads[].countries": "keyword",
    "ads[].advertiser_id": "keyword",
    "ads[].campaign_id": "keyword",
}
# The file that every folder of a local database has.
_META = "meta.json"
_POLL_SECONDS = 0.5


def write(export: Export, target: str, name: str) -> None:
    """Write a new collection, and switch the alias to it; see `retrieval.export.stores.Writer`.

    Args:
        export: what to write.
        target: the URL of a server, or the folder of a local database. The environment variable `QDRANT_API_KEY` holds
            the key of a server that needs one.
        name: the alias.

    Raises:
        ExportError: the driver is not installed, the folder holds other files, the name is that of a collection or of
            somebody else's alias, or the driver refuses.
        StoreFailedError: the store cannot be reached, or refuses.
    """
    qdrant = driver("qdrant_client", "qdrant")
    is_remote = target.startswith(("http://", "https://"))
    if not is_remote and (folder := Path(target)).is_dir() and any(folder.iterdir()) and not (folder / _META).exists():
        raise ExportError(f"{target}: holds other files, and no database of Qdrant; name a new folder, or http://…")
    with _one_line(target):
        if is_remote:
            key = os.environ.get("QDRANT_API_KEY")
            client = qdrant.QdrantClient(url=target, api_key=key, timeout=60, check_compatibility=False)
        else:
            client = qdrant.QdrantClient(path=target)
        try:
            _write(client, export, name, is_remote)
        finally:
            client.close()


def _write(client: Any, export: Export, name: str, is_remote: bool) -> None:
    models = driver("qdrant_client.models", "qdrant")
    collections = [collection.name for collection in client.get_collections().collections]
    if name in collections:
        raise ExportError(f"{name} is a collection, not an alias; choose another --name, or delete the collection")
    earlier = generations(name, collections)
    aliases = [alias for alias in client.get_aliases().aliases if alias.alias_name == name]
    for alias in aliases:
        if alias.collection_name not in earlier:
            raise ExportError(f"the alias {name} points to {alias.collection_name}, which no export has made")
    with replaced_collections(name, export.version, earlier, client.delete_collection) as new:
        _create(client, models, export, new, is_remote)
        for batch in export.batches():
            documents = batch.documents()
            client.upload_collection(
                new,
                vectors={"vector": batch.vectors, "query_vector": batch.query_vectors},
                payload=documents,
                ids=[str(uuid.uuid5(NAMESPACE, document["item_id"])) for document in documents],
                wait=True,
            )
        _wait_for_index(client, models, export, new)
        operations = [models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=name)) for _ in aliases]
        create = models.CreateAlias(collection_name=new, alias_name=name)
        client.update_collection_aliases([*operations, models.CreateAliasOperation(create_alias=create)])


def _create(client: Any, models: Any, export: Export, collection: str, is_remote: bool) -> None:
    dot = {"size": export.dim, "distance": models.Distance.DOT}
    # Query vectors are read by id and never searched, so they need no index.
    unsearched = models.VectorParams(**dot, on_disk=True, hnsw_config=models.HnswConfigDiff(m=0))
    client.create_collection(
        collection,
        vectors_config={"vector": models.VectorParams(**dot), "query_vector": unsearched},
        metadata=export.description,
    )
    # These are created before the vectors arrive, so that the vector index gets the links that filtered searches need.
    for field, kind in _INDEXED.items() if is_remote else ():
        client.create_payload_index(collection, field, models.PayloadSchemaType(kind))


def _wait_for_index(client: Any, models: Any, export: Export, collection: str) -> None:
    """Wait until the collection is indexed, so that searches are fast from the first on."""
    states = models.CollectionStatus
    while (state := client.get_collection(collection).status) == states.YELLOW:
        export.progress("waiting for the index", 1.0)
        time.sleep(_POLL_SECONDS)
    if state == states.RED:
        raise StoreFailedError(f"Qdrant cannot index the collection {collection}; its log says why")


@contextlib.contextmanager
def _one_line(target: str) -> Iterator[None]:
    from qdrant_client.http.exceptions import ApiException

    where = without_password(target)
    try:
        yield
    except (ExportError, KeyboardInterrupt):
        raise
    except ApiException as error:
        cause = getattr(error, "source", error)
        raise StoreFailedError(f"Qdrant at {where}: {first_line(cause)}") from error
    except (RuntimeError, ValueError, OSError) as error:
        raise ExportError(f"Qdrant at {where}: {first_line(error)}") from error
