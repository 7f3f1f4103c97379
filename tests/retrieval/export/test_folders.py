"""Exports to folders: parquet is read back as it was written, and OpenSearch's files have their documented forms."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from retrieval.errors import ExportError
from retrieval.export import opensearch_folder, parquet_folder
from retrieval.export.opensearch_folder import mapping
from retrieval.export.stores import write_to
from tests.retrieval.export.exported import CATALOGUE, N, documented, folder_content, interrupted, small_export
from tests.stub_server import run_without_proxy, stub_server


def test_parquet_is_read_back_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_folder, "_ROWS_PER_FILE", N)
    export = small_export()
    write_to("parquet", export, str(tmp_path / "shop"), "lightsage")
    assert json.loads((tmp_path / "shop" / "export.json").read_text()) == export.description
    table = pq.read_table(tmp_path / "shop" / "items")
    [batch] = export.batches()
    assert np.array_equal(np.array(table["vector"].to_pylist(), np.float32), batch.vectors)
    assert np.array_equal(np.array(table["query_vector"].to_pylist(), np.float32), batch.query_vectors)
    assert table.select(batch.columns.column_names).to_pylist() == batch.columns.to_pylist()


def test_many_items_are_split_over_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_folder, "_ROWS_PER_FILE", 25)
    export = small_export()
    batches = list(export.batches(size=10))
    monkeypatch.setattr(type(export), "batches", lambda self: batches)
    write_to("parquet", export, str(tmp_path / "shop"), "lightsage")
    files = sorted((tmp_path / "shop" / "items").iterdir())
    assert [pq.read_metadata(file).num_rows for file in files] == [30, 20, 10]
    assert pq.read_table(tmp_path / "shop" / "items")["item_id"].to_pylist() == CATALOGUE.item_ids.tolist()


@pytest.mark.parametrize("store", ["parquet", "opensearch"])
def test_an_earlier_export_is_replaced_or_stays_whole(store: str, tmp_path: Path) -> None:
    target = tmp_path / "shop"
    write_to(store, small_export(), str(target), "lightsage")
    write_to(store, small_export(with_ads=False), str(target), "lightsage")
    content = folder_content(target)
    assert json.loads(content["export.json"])["advertised_items"] == N
    with pytest.raises(KeyboardInterrupt):
        write_to(store, replace(small_export(), progress=interrupted(1)), str(target), "lightsage")
    assert folder_content(target) == content
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ExportError, match="no earlier export"):
        write_to("parquet", small_export(), str(tmp_path), "lightsage")
    with pytest.raises(ExportError, match="is a file"):
        write_to("opensearch", small_export(), str(tmp_path / "notes.txt"), "lightsage")
    with pytest.raises(ExportError, match=r"notes.txt/shop: cannot be written"):
        write_to("parquet", small_export(), str(tmp_path / "notes.txt" / "shop"), "lightsage")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_name_that_no_store_takes_is_refused(tmp_path: Path) -> None:
    for name in ("", "Shop", "1shop", "shop-1", "shop;"):
        with pytest.raises(ExportError, match="--name"):
            write_to("parquet", small_export(), str(tmp_path / "shop"), name)


def bulk_lines(folder: Path) -> list[dict[str, Any]]:
    lines = []
    for part in sorted(folder.glob("bulk-*.ndjson")):
        content = part.read_bytes()
        assert content.endswith(b"\n"), "a bulk request ends with a newline"
        assert content.count(b"\n") % 2 == 0, "no item is split over two requests"
        lines += [json.loads(line) for line in content.splitlines()]
    return lines


def is_typed(value: Any, field: dict[str, Any]) -> bool:
    """Return whether a value has the type of a mapped field, as OpenSearch's strict mapping requires."""
    kind = field["type"]
    if kind == "object":
        return field["enabled"] is False
    if kind == "nested":
        return all(
            key in field["properties"] and (part is None or is_typed(part, field["properties"][key]))
            for each in value
            for key, part in each.items()
        )
    if kind == "knn_vector":
        return len(value) == field["dimension"] and all(isinstance(number, float) for number in value)
    types = {"keyword": str, "text": str, "double": float, "float": float, "long": int}
    values = value if isinstance(value, list) else [value]
    return all(isinstance(each, types[kind]) for each in values)


def test_bulk_requests_have_the_documented_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opensearch_folder, "_BULK_BYTES", 5_000)
    export = small_export()
    write_to("opensearch", export, str(tmp_path / "shop"), "lightsage")
    assert len(list((tmp_path / "shop").glob("bulk-*.ndjson"))) > 3
    lines = bulk_lines(tmp_path / "shop")
    actions, documents = lines[::2], lines[1::2]
    assert actions == [{"index": {"_id": item}} for item in CATALOGUE.item_ids]
    body = json.loads((tmp_path / "shop" / "index.json").read_text())
    assert body == mapping(export)
    fields = body["mappings"]["properties"]
    [batch] = export.batches()
    for number, document in enumerate(documents):
        assert set(document) <= set(fields)
        assert all(is_typed(value, fields[key]) for key, value in document.items())
        assert np.array_equal(np.float32(document["vector"]), batch.vectors[number])
        assert np.array_equal(np.float32(document["query_vector"]), batch.query_vectors[number])
    assert fields["vector"]["method"]["space_type"] == "innerproduct"
    assert body["settings"]["index"]["knn"] is True


def test_a_long_id_is_hashed_because_opensearch_takes_512_bytes() -> None:
    assert opensearch_folder._document_id("é" * 256) == "é" * 256
    assert len(opensearch_folder._document_id("é" * 257)) == 64


def test_the_documented_search_asks_for_fields_of_the_mapping() -> None:
    fields = mapping(small_export())["mappings"]["properties"]
    search = json.loads(documented("OpenSearch", "json"))
    [(field, knn)] = search["query"]["knn"].items()
    assert fields[field]["type"] == "knn_vector"
    assert set(search["_source"]) <= set(fields)
    nested, term = knn["filter"]["bool"]["must"]
    assert fields[nested["nested"]["path"]]["type"] == "nested"
    conditions = nested["nested"]["query"]["bool"]["filter"]
    names = [key for condition in conditions for part in condition.values() for key in part]
    assert names == ["ads.starts_at", "ads.ends_at", "ads.countries"]
    assert {name.split(".")[1] for name in names} <= set(fields["ads"]["properties"])
    assert set(term["term"]) <= set(fields)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_script_loads_every_part_and_then_switches_the_alias(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opensearch_folder, "_BULK_BYTES", 20_000)
    folder = tmp_path / "shop"
    write_to("opensearch", small_export(), str(folder), "lightsage")
    index = json.loads((folder / "export.json").read_text())["index"]
    assert index.startswith("lightsage_20240501t120000_0123abcd_")
    with stub_server((200, b'{"errors":false}')) as opensearch:
        script = run_without_proxy(["sh", str(folder / "load.sh"), opensearch.url])
    assert script.returncode == 0, script.stderr
    parts = sorted(folder.glob("bulk-*.ndjson"))
    bulk = f"/{index}/_bulk?filter_path=errors,items.*.error"
    assert opensearch.requests == [
        ("PUT", f"/{index}", (folder / "index.json").read_bytes()),
        *(("POST", bulk, part.read_bytes()) for part in parts),
        ("POST", f"/{index}/_refresh", b""),
        ("POST", "/_aliases", (folder / "aliases.json").read_bytes()),
    ]
    assert json.loads(opensearch.requests[-1][2])["actions"] == [
        {"remove": {"index": "lightsage_*", "alias": "lightsage", "must_exist": False}},
        {"add": {"index": index, "alias": "lightsage"}},
    ]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_script_deletes_the_index_and_leaves_the_alias_if_an_item_is_refused(tmp_path: Path) -> None:
    write_to("opensearch", small_export(), str(tmp_path / "shop"), "lightsage")
    with stub_server((200, b'{"errors":true,"items":[]}')) as opensearch:
        script = run_without_proxy(["sh", str(tmp_path / "shop" / "load.sh"), opensearch.url])
    assert script.returncode == 1
    assert [request[0] for request in opensearch.requests] == ["PUT", "POST", "DELETE"]
    assert '"errors":true' in script.stderr
