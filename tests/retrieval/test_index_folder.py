"""The index folder is read back as it was written, and errors name damaged files."""

import json
import shutil
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from retrieval import topk
from retrieval.ann.tuning import build
from retrieval.catalogue.edges import Edges
from retrieval.catalogue.items import Catalogue
from retrieval.config import RetrievalConfig
from retrieval.errors import CatalogueError, IndexFolderError
from retrieval.index_folder import FORMAT, IndexContents, build_index, read_index
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Retriever


@pytest.fixture(scope="module")
def built(tmp_path_factory, world: SimpleNamespace, catalogue: Catalogue, edges: Edges) -> Path:
    folder = tmp_path_factory.mktemp("built") / "index"
    ads = world.ads_table(world.random_ads(60, 120, 3))
    config = RetrievalConfig(exact_below=5, target_recall=1.0, train_rows_per_list=2, index_kinds=("ivf_sq8",))
    build_index(folder, IndexContents(catalogue, edges, ads, world.AS_OF), config)
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "index")
    return tmp_path / "index"


def test_an_index_read_from_disk_answers_as_the_retriever_in_memory(built: Path, world, catalogue, edges) -> None:
    index = read_index(built)
    assert index.as_of == world.AS_OF
    assert index.catalogue.item_ids.tolist() == catalogue.item_ids.tolist()
    assert index.edges.type_names == edges.type_names
    config = RetrievalConfig(exact_below=5)
    read = Retriever.of(index, config)
    fresh = Retriever(catalogue, edges, index.ads, None, as_of=world.AS_OF)
    for view in catalogue.item_ids[:20]:
        for hours in (-3, 0, 3):
            at = world.AS_OF + timedelta(hours=hours)
            results, expected = (
                r.retrieve(RetrievalRequest([view], 60, at=at, country="de")).results for r in (read, fresh)
            )
            assert [result[:2] for result in results] == [result[:2] for result in expected]
            assert [result[3] for result in results] == [result[3] for result in expected]


def test_only_items_with_an_ad_that_ends_after_as_of_are_indexed(built: Path, world, catalogue) -> None:
    index = read_index(built)
    rows = world.random_ads(60, 120, 3)
    newest = {}
    for ad in rows:
        if ad["ad_id"] not in newest or (ad["version"] or 0) >= (newest[ad["ad_id"]]["version"] or 0):
            newest[ad["ad_id"]] = ad
    items = {ad["item_id"] for ad in newest.values() if ad["ends_at"] is None or ad["ends_at"] > world.AS_OF}
    assert {catalogue.item_ids[row] for row in index.ann.rows} == items & set(catalogue.item_ids)
    assert index.meta["kind"] == "ivf_sq8"
    assert index.meta["recall_at_100"] == 1.0
    assert index.meta["ads"]["unknown_items"] > 0


def test_nprobe_is_raised_until_recall_reaches_the_target(world: SimpleNamespace) -> None:
    catalogue = world.small_catalogue(4000, 16, seed=9)
    config = RetrievalConfig(exact_below=100, target_recall=0.9, tuning_queries=50)
    rows = np.arange(0, 4000, 2)
    built, tried = build(catalogue.item, catalogue.query, rows, config)
    assert [tuned.kind for tuned in tried] == ["ivf_sq8", "ivf_pq4"]
    sq8, pq4 = tried
    assert all(tuned.recall >= 0.9 for tuned in tried)
    assert built.kind == (pq4 if 1.25 * pq4.microseconds < sq8.microseconds else sq8).kind
    assert 0.9 <= built.recall <= 1.0
    assert 1 < built.parameters["nprobe"] < built.parameters["nlist"]
    # The recorded recall equals the recall of searches through the public functions.
    for seed in range(3):
        probes = np.sort(np.random.default_rng(seed).choice(4000, 50, replace=False))
        truth = topk.search(catalogue.query[probes], catalogue.item, 100, rows).rows.reshape(50, 100)
        lists = built.search(catalogue.query[probes], 100 * built.shortlist)
        share = np.mean([np.isin(true, rows_of_query).mean() for true, rows_of_query in zip(truth, lists, strict=True)])
        assert share == pytest.approx(built.recall, abs=0.05)


@pytest.mark.parametrize(
    "name",
    [
        "meta.json",
        "vectors.faiss",
        "indexed_rows.npy",
        "query.npy",
        "item.npy",
        "tail_rows.npy",
        "item_own.npy",
        "edges.npz",
        "items.parquet",
        "ads.parquet",
    ],
)
@pytest.mark.parametrize("damage", ["missing", "garbage", "truncated"])
def test_a_missing_or_damaged_file_is_named(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    if damage == "missing":
        path.unlink()
    elif damage == "garbage":
        path.write_bytes(b"garbage" * 9)
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(IndexFolderError, match=name.replace(".", r"\.")):
        read_index(folder)


def edit_meta(folder: Path, change: Callable[[dict], None]) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    change(meta)
    (folder / "meta.json").write_text(json.dumps(meta))


def test_another_format_names_both_versions(folder: Path) -> None:
    edit_meta(folder, lambda meta: meta.update(format=99))
    with pytest.raises(IndexFolderError, match=r"meta\.json: format version 99, this code reads 2"):
        read_index(folder)


def test_files_of_another_version_are_refused(folder: Path) -> None:
    edit_meta(folder, lambda meta: meta.update(rows=61))
    with pytest.raises(IndexFolderError, match="rows 61, the files hold 60"):
        read_index(folder)
    edit_meta(folder, lambda meta: meta.update(rows=60))
    np.save(folder / "indexed_rows.npy", np.arange(3))
    edit_meta(folder, lambda meta: meta.update(indexed=3))
    with pytest.raises(IndexFolderError, match=r"vectors\.faiss: holds \d+ vectors"):
        read_index(folder)


def test_edges_of_another_catalogue_are_refused(tmp_path: Path, world, catalogue) -> None:
    with pytest.raises(CatalogueError, match="edges cover 9 rows, the catalogue has 60"):
        build_index(tmp_path / "index", IndexContents(catalogue, Edges.empty(9), None, world.AS_OF))
    assert not (tmp_path / "index").exists()


def test_without_ads_every_item_is_indexed_and_advertised(tmp_path: Path, world, catalogue, edges) -> None:
    meta = build_index(tmp_path, IndexContents(catalogue, edges, None, world.AS_OF))
    assert (meta["kind"], meta["indexed"]) == ("flat", 60)
    results = Retriever.of(read_index(tmp_path)).retrieve(RetrievalRequest(["item00001"], 99)).results
    assert len(results) == 59
    assert {result.ad_id for result in results} == {None}


def test_ads_that_all_ended_leave_an_empty_index_that_still_answers(tmp_path: Path, world, catalogue, edges) -> None:
    ad = {"ad_id": "a", "item_id": "item00005", "campaign_id": "c", "ends_at": world.AS_OF}
    meta = build_index(tmp_path, IndexContents(catalogue, edges, world.ads_table([ad]), world.AS_OF))
    assert meta["indexed"] == 0
    retriever = Retriever.of(read_index(tmp_path))
    assert retriever.retrieve(RetrievalRequest(["item00001"], 5)).results == []
    before = retriever.retrieve(RetrievalRequest(["item00001"], 5, at=world.AS_OF - timedelta(hours=1))).results
    assert [(result.item_id, result.ad_id) for result in before] == [("item00005", "a")]


@pytest.mark.parametrize("kind", ["flat", "ivf_sq8", "ivf_pq4", "flat of a prefix", "ivf_sq8 of a prefix"])
def test_every_kind_of_index_is_memory_mapped_and_answers_as_when_it_was_built(tmp_path: Path, world, kind) -> None:
    catalogue = world.small_catalogue(3000, 16, seed=9)
    kind, _, of_prefix = kind.partition(" ")
    config = RetrievalConfig(exact_below=5000, tuning_queries=50)
    if kind != "flat" or of_prefix:
        prefix = 8 if of_prefix else None
        config = RetrievalConfig(exact_below=0, index_kinds=(kind,), index_prefix=prefix, tuning_queries=50)
    build_index(tmp_path, IndexContents(catalogue, Edges.empty(3000), None, world.AS_OF), config)
    index = read_index(tmp_path)
    assert (index.ann.kind, index.ann.prefix) == (kind, 8 if of_prefix else 0)
    fresh, _ = build(
        catalogue.item, catalogue.query, index.ann.rows, config, bias=catalogue.bias, events=catalogue.events
    )
    for query in catalogue.query[:20]:
        assert index.ann.search_one(query, 50).tolist() == fresh.search(query[None], 50)[0].tolist()
    if sys.platform == "linux":
        assert str(tmp_path / "vectors.faiss") in Path("/proc/self/maps").read_text()


def test_an_index_keeps_its_recall_when_few_rows_are_eligible(world) -> None:
    """The items form tight clusters of 40. Few items of a cluster are eligible, and the others are far away."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((400, 16))
    item = centres[np.arange(16_000) % 400] + 0.3 * rng.standard_normal((16_000, 16))
    item = (item / np.linalg.norm(item, axis=1, keepdims=True)).astype(np.float32)
    rows = np.arange(16_000)
    config = RetrievalConfig(exact_below=100, target_recall=0.95, tuning_queries=100)
    ann, _ = build(item, item, rows, config)
    visited = [ann.rows_to_visit(count) for count in (16_000, 4_800, 1_600)]
    assert visited[1] > ann.visited, "a filter makes the search visit more rows"
    assert all(count <= total for count, total in zip(visited, (16_000, 4_800, 1_600), strict=True))
    for share in (0.5, 0.3, 0.1):
        mask = rng.random(16_000) < share
        eligible = np.flatnonzero(mask)
        queries = item[rng.choice(16_000, 60, replace=False)]
        truth = topk.search(queries, item, 100, eligible).rows.reshape(60, 100)
        lists = [ann.search_one(query, 100 * ann.shortlist, ann.selection(mask)) for query in queries]
        assert all(mask[line].all() for line in lists)
        assert np.mean([np.isin(true, line).mean() for true, line in zip(truth, lists, strict=True)]) > 0.92


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.glob("fixtures/index_v*/")), ids=lambda path: path.name)
def test_an_index_folder_of_every_past_format_still_gives_the_same_answers(path: Path, world) -> None:
    """Each folder, and the answers beside it, was written by the code of its time and is never rewritten."""
    index = read_index(path)
    assert (index.meta["format"], index.ann.kind, index.as_of) == (2, "ivf_sq8", world.AS_OF)
    assert index.session_encoder is not None
    assert index.reranker is not None
    assert index.reranker.weights == pytest.approx(world.small_reranker().weights)
    retriever = Retriever.of(index, RetrievalConfig(exact_below=5))
    at = world.AS_OF + timedelta(minutes=30)
    for expected in json.loads((path.parent / f"{path.name}_answers.json").read_text()):
        request = RetrievalRequest(expected["items"], 8, at=at, country=expected["country"], query="red shoes")
        results = retriever.retrieve(request).results
        assert [(r.item_id, r.ad_id, r.reason) for r in results] == [
            (i, a, why) for i, a, _, why in expected["results"]
        ]
        assert [r.score for r in results] == pytest.approx([score for _, _, score, _ in expected["results"]], abs=1e-4)


def test_a_fixture_folder_of_todays_format_exists() -> None:
    assert (Path(__file__).parent / "fixtures" / f"index_v{FORMAT}" / "meta.json").exists()
