"""Exports to Milvus: a new collection with one entity per item; an alias is then switched to the collection."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from retrieval.errors import ExportError, StoreFailedError
from retrieval.export.drivers import driver, generations, replaced_collections, without_password
from retrieval.export.rows import Batch, Export

_LONGEST_ID, _LONGEST_TEXT = 2048, 65_535
_INDEX = {"index_type": "HNSW", "metric_type": "IP", "params": {"M": 16, "efConstruction": 200}}


def write(export: Export, target: str, name: str) -> None:
    """Write a new collection, and switch the alias to it; see `retrieval.export.stores.Writer`.

    Args:
        export: what to write.
        target: the URL of a server, or a file of Milvus Lite, which ends in `.db`. The environment variable
            `MILVUS_TOKEN` holds the token of a server that needs one.
        name: the alias.

    Raises:
        ExportError: the driver is not installed, the target is neither of the two, or the name is that of a
            collection.
        StoreFailedError: the store cannot be reached, or refuses.
    """
    milvus = driver("pymilvus", "milvus")
    if target.endswith(".db") and "://" not in target:
        if find_spec("milvus_lite") is None:
            raise ExportError(f"{target}: a file of Milvus Lite needs the package milvus-lite: pip install milvus-lite")
        if not Path(target).absolute().parent.is_dir():
            raise ExportError(f"{target}: there is no folder {Path(target).parent}")
    elif not target.startswith(("http://", "https://", "tcp://", "unix:")):
        raise ExportError(f"{target}: expected the URL of Milvus, or the path of a file of Milvus Lite, NAME.db")
    try:
        client = milvus.MilvusClient(target, token=os.environ.get("MILVUS_TOKEN", ""), timeout=10)
        try:
            _write(client, milvus, export, name)
        finally:
            client.close()
    except milvus.MilvusException as error:
        raise StoreFailedError(f"Milvus at {without_password(target)}: {without_password(error.message)}") from error


def _write(client: Any, milvus: Any, export: Export, name: str) -> None:
    collections = client.list_collections()
    if name in collections:
        raise ExportError(f"{name} is a collection, not an alias; choose another --name, or drop the collection")
    earlier = generations(name, collections)
    is_switched = any(name in client.list_aliases(collection)["aliases"] for collection in earlier)
    with replaced_collections(name, export.version, earlier, client.drop_collection) as new:
        client.create_collection(new, schema=_schema(milvus, export), index_params=_index(client))
        for batch in export.batches(size=1000):
            client.insert(new, _entities(batch))
        client.flush(new)
        export.progress("waiting for the index", 1.0)
        client.load_collection(new)
        (client.alter_alias if is_switched else client.create_alias)(new, name)


def _schema(milvus: Any, export: Export) -> Any:
    kinds = milvus.DataType
    schema = milvus.MilvusClient.create_schema(description=json.dumps(export.description))
    text = {"datatype": kinds.VARCHAR, "max_length": _LONGEST_TEXT}
    words = {"datatype": kinds.ARRAY, "element_type": kinds.VARCHAR, "max_length": _LONGEST_ID}
    schema.add_field("item_id", kinds.VARCHAR, is_primary=True, max_length=_LONGEST_ID)
    schema.add_field("vector", kinds.FLOAT_VECTOR, dim=export.dim)
    # Not a vector field, because Milvus would demand an index over it. It is read by id and never searched.
    schema.add_field("query_vector", kinds.ARRAY, element_type=kinds.FLOAT, max_capacity=export.dim)
    for name in ("category", "brand", "title"):
        schema.add_field(name, nullable=True, **text)
    schema.add_field("categories", max_capacity=64, **words)
    schema.add_field("price", kinds.DOUBLE, nullable=True)
    schema.add_field("popularity", kinds.DOUBLE)
    schema.add_field("countries", max_capacity=512, **words)
    schema.add_field("starts_at", kinds.INT64)
    schema.add_field("ends_at", kinds.INT64)
    schema.add_field("ads", kinds.JSON)
    schema.add_field("direct", kinds.JSON)
    return schema


def _index(client: Any) -> Any:
    parameters = client.prepare_index_params()
    parameters.add_index("vector", **_INDEX)
    return parameters


def _entities(batch: Batch) -> list[dict[str, Any]]:
    """Return the entities of a batch, one per item.

    Milvus cannot filter by several fields of the same ad. So an entity also has the countries of all its ads, their
    earliest start and their latest end. Every item with an eligible ad passes a filter by these, and few others do.
    """
    entities = []
    pairs = zip(batch.vectors.tolist(), batch.query_vectors.tolist(), strict=True)
    for document, (vector, query_vector) in zip(batch.documents(), pairs, strict=True):
        ads = document["ads"]
        entities.append(
            document
            | {
                "vector": vector,
                "query_vector": query_vector,
                "countries": sorted({country for ad in ads for country in ad["countries"]}),
                "starts_at": min((ad["starts_at"] for ad in ads), default=0),
                "ends_at": max((ad["ends_at"] for ad in ads), default=0),
            }
        )
    return entities
