"""Exports to files for OpenSearch: mapping, bulk requests, a request that switches the alias, and a script to send all.

The bulk requests have the documented form: two lines per item, the action and the document.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import orjson

from retrieval.export.drivers import generation
from retrieval.export.folder import replaced_folder
from retrieval.export.rows import Batch, Export

# OpenSearch refuses bodies above 100 MB by default. Smaller requests are recommended.
_BULK_BYTES = 20_000_000
# The longest id of a document, in bytes of UTF-8.
_LONGEST_ID = 512
_KEYWORD: dict[str, Any] = {"type": "keyword", "ignore_above": 8191}
_STORED = {"index": False, "doc_values": False}

_SCRIPT = """\
#!/bin/sh
# Loads this export into OpenSearch, and then points the alias {name} to it. Until then, the alias stays as it was.
#   sh load.sh https://localhost:9200 [options of curl, such as -u admin:PASSWORD]
set -eu
cd "$(dirname "$0")"
url=${{1:?the URL of OpenSearch}}; shift
call() {{ curl --silent --show-error --fail-with-body "$@"; echo; }}
call "$@" -X PUT -H 'Content-Type: application/json' --data-binary @index.json "$url/{index}"
for part in bulk-*.ndjson; do
  answer=$(call "$@" -X POST -H 'Content-Type: application/x-ndjson' --data-binary "@$part" \\
    "$url/{index}/_bulk?filter_path=errors,items.*.error")
  case $answer in
    *'"errors":false'*) echo "$part: loaded" ;;
    *) echo "$part: $answer" >&2; call "$@" -X DELETE "$url/{index}"; exit 1 ;;
  esac
done
call "$@" -X POST "$url/{index}/_refresh"
call "$@" -X POST -H 'Content-Type: application/json' --data-binary @aliases.json "$url/_aliases"
echo "The alias {name} points to {index}. Earlier indices {name}_* can be deleted."
"""


def write(export: Export, target: str, name: str) -> None:
    """Write the folder; see `retrieval.export.stores.Writer`.

    Args:
        export: what to write.
        target: the path of the folder.
        name: the alias that the script points to the new index.

    Raises:
        ExportError: the folder cannot be written.
    """
    index = generation(name, export.version)
    aliases = [
        {"remove": {"index": f"{name}_*", "alias": name, "must_exist": False}},
        {"add": {"index": index, "alias": name}},
    ]
    with replaced_folder(target, export.description | {"index": index}) as folder:
        (folder / "index.json").write_text(json.dumps(mapping(export), indent=2) + "\n", encoding="utf-8")
        (folder / "aliases.json").write_text(json.dumps({"actions": aliases}, indent=2) + "\n", encoding="utf-8")
        (folder / "load.sh").write_text(_SCRIPT.format(name=name, index=index), encoding="utf-8")
        for part, body in enumerate(_bulk_requests(export)):
            (folder / f"bulk-{part:05d}.ndjson").write_bytes(body)


def mapping(export: Export) -> dict[str, Any]:
    """Return the body of the request that creates the index: its settings and its mapping."""
    words = ("ad_id", "campaign_id", "advertiser_id", "countries")
    numbers = {"starts_at": "long", "ends_at": "long", "bid": "double"}
    ad = {name: {"type": kind} for name, kind in numbers.items()}
    properties: dict[str, Any] = ad | dict.fromkeys(words, _KEYWORD)
    method = {
        "name": "hnsw",
        "engine": "faiss",
        "space_type": "innerproduct",
        "parameters": {"m": 16, "ef_construction": 128},
    }
    return {
        "settings": {"index": {"knn": True}},
        "mappings": {
            "_meta": export.description,
            "dynamic": "strict",
            "properties": {
                "item_id": _KEYWORD,
                "vector": {"type": "knn_vector", "dimension": export.dim, "method": method},
                "query_vector": {"type": "float", **_STORED},
                "category": {"type": "keyword", **_STORED},
                "categories": _KEYWORD,
                "brand": _KEYWORD,
                "price": {"type": "double"},
                "title": {"type": "text", "index": False},
                "popularity": {"type": "double"},
                "ads": {"type": "nested", "properties": properties},
                "direct": {"type": "object", "enabled": False},
            },
        },
    }


def _bulk_requests(export: Export) -> Iterator[bytearray]:
    """Yield the bodies of the requests; no item is split between two of them."""
    body = bytearray()
    for batch in export.batches():
        for lines in _items(batch):
            if body and len(body) + len(lines) > _BULK_BYTES:
                yield body
                body = bytearray()
            body += lines
    yield body


def _items(batch: Batch) -> Iterator[bytes]:
    """Yield the two lines of each item."""
    pairs = zip(batch.vectors, batch.query_vectors, strict=True)
    for document, (vector, query_vector) in zip(batch.documents(), pairs, strict=True):
        present = {key: value for key, value in document.items() if value is not None}
        action = {"index": {"_id": _document_id(document["item_id"])}}
        yield _line(action) + _line(present | {"vector": vector, "query_vector": query_vector})


def _line(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _document_id(item_id: str) -> str:
    encoded = item_id.encode()
    return item_id if len(encoded) <= _LONGEST_ID else hashlib.sha256(encoded).hexdigest()
