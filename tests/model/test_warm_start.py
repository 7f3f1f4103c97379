"""Warm starts match the rows of the table by what they represent; alignment is the best rotation."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from model.align import align_embeddings, procrustes_rotation
from model.artefact import save_model
from model.config import FeatureConfig, ModelConfig, TrainConfig
from model.embeddings import Embeddings
from model.errors import ModelFormatError
from model.features import fit_features
from model.network import LightSAGE
from model.trained import Trained
from model.trainer import train
from model.warm_start import WarmStart


def shop(make_graph: Any, names: list[str], brands: list[str | None], prices: list[float]) -> Any:
    n = len(names)
    items = pa.table({"item_id": [f"i{i:03}" for i in range(n)], "brand": brands, "price": prices, "title": names})
    pairs = [(i, (i + 1) % n) for i in range(n)] * 20
    edges = [(i, (i + 1) % n, "strong_click", 1.0) for i in range(n)]
    return make_graph(n, edges=edges, pairs=pairs, items=items)


CONFIG = ModelConfig(
    dim=8,
    members=2,
    train=TrainConfig(batch_size=16, max_epochs=2, threads=1),
    features=FeatureConfig(price_buckets=3, title_dim=2),
)


@pytest.fixture
def before(make_graph: Any) -> tuple[Any, Trained]:
    graph = shop(make_graph, ["red shoe", "blue shoe", "red hat", "hat"], ["a", "a", "b", "b"], [1, 2, 3, 4])
    return graph, train(graph, CONFIG)


def test_rows_are_joined_by_item_level_and_bucket(make_graph: Any, before: tuple[Any, Trained]) -> None:
    graph, trained = before
    start = WarmStart(trained.network, trained.features, graph.item_ids)
    # i000 is gone, i004 is new; brand "b" is gone, "c" is new.
    items = pa.table(
        {
            "item_id": ["i001", "i002", "i003", "i004"],
            "brand": ["a", "a", "c", "c"],
            "price": [1.0, 2.0, 3.0, 40.0],
            "title": ["blue shoe", "red hat", "hat", "coat"],
        }
    )
    features = fit_features(items, CONFIG.features, earlier=trained.features)
    matrix = features.transform(items, items["item_id"].combine_chunks(), np.ones(4, bool))
    network = LightSAGE(matrix.sparse.shape[1], matrix.dense.shape[1], CONFIG.dim, members=CONFIG.members)
    untouched = network.table.detach().clone()
    share = start.copy_into(network, features, items["item_id"].combine_chunks())

    old, new = trained.network.table, network.table
    by_name = {v.name: v for v in features.vocabularies}
    assert by_name["price"].bounds == next(v for v in trained.features.vocabularies if v.name == "price").bounds
    # Rows that were copied | new rows. Ids: i001, i002, i003 | i004. Brands: a | c. The three buckets were copied.
    assert torch.equal(new[:3], old[1:4])
    assert torch.equal(new[3], untouched[3])
    brands = 4 + sum(v.size for v in features.vocabularies[: [v.name for v in features.vocabularies].index("brand")])
    place = 4 + sum(
        v.size for v in trained.features.vocabularies[: [v.name for v in trained.features.vocabularies].index("brand")]
    )
    assert torch.equal(new[brands], old[place])
    assert torch.equal(new[brands + 1], untouched[brands + 1])
    assert torch.equal(new[-3:], old[-3:])
    assert share == pytest.approx(7 / 9)
    np.testing.assert_array_equal(features.title_basis, trained.features.title_basis)
    assert torch.equal(network.content, trained.network.content)
    for name, weight in trained.network.heads.state_dict().items():
        assert torch.equal(network.heads.state_dict()[name], weight)


def test_content_weights_of_another_title_basis_are_not_taken_over(before: tuple[Any, Trained]) -> None:
    graph, trained = before
    start = WarmStart(trained.network, trained.features, graph.item_ids)
    other = CONFIG.features.model_copy(update={"title_hash_bits": CONFIG.features.title_hash_bits - 1})
    for config, taken in ((CONFIG.features, True), (other, False)):
        features = fit_features(graph.items, config, earlier=trained.features)
        network = LightSAGE(
            len(trained.network.table), len(trained.network.content), CONFIG.dim, members=CONFIG.members
        )
        start.copy_into(network, features, graph.item_ids)
        assert torch.equal(network.content, trained.network.content) == taken


def test_a_warm_start_begins_where_the_earlier_model_ended_and_is_shorter(before: tuple[Any, Trained]) -> None:
    graph, trained = before
    start = WarmStart(trained.network, trained.features, graph.item_ids)
    cold, warm = train(graph, CONFIG), train(graph, CONFIG, start=start)
    assert warm.record.schedule_steps == max(1, round(cold.record.schedule_steps * CONFIG.train.warm_share))
    assert warm.record.curve[0][1] < cold.record.curve[0][1]


def test_a_model_of_another_size_is_trained_from_scratch_with_a_warning(
    before: tuple[Any, Trained], caplog: pytest.LogCaptureFixture
) -> None:
    graph, trained = before
    start = WarmStart(trained.network, trained.features, graph.item_ids)
    other = CONFIG.model_copy(update={"dim": 12})
    result = train(graph, other, start=start)
    assert "no warm start: the earlier model has a different size" in caplog.text
    cold = train(graph, other)
    assert result.record.schedule_steps == cold.record.schedule_steps


def test_a_start_is_read_from_a_version_and_refused_when_its_parts_differ(
    tmp_path: Path, before: tuple[Any, Trained]
) -> None:
    import pyarrow.parquet as pq

    graph, trained = before
    save_model(tmp_path / "model", trained, CONFIG)
    nodes = pa.table({"item_id": graph.item_ids, "events": graph.events})
    (tmp_path / "full" / "nodes").mkdir(parents=True)
    pq.write_table(nodes, tmp_path / "full" / "nodes" / "part.parquet")
    start = WarmStart.load(tmp_path / "model", tmp_path / "full")
    assert start.ids.to_pylist() == graph.item_ids.to_pylist()
    pq.write_table(nodes.slice(1), tmp_path / "full" / "nodes" / "part.parquet")
    with pytest.raises(ModelFormatError, match=r"table rows.*without a warm start"):
        WarmStart.load(tmp_path / "model", tmp_path / "full")
    with pytest.raises(ModelFormatError, match="without a warm start"):
        WarmStart.load(tmp_path / "model", tmp_path / "nothing")


def unit(rng: np.random.Generator, n: int, d: int) -> Any:
    vectors = rng.standard_normal((n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def embeddings(ids: list[str], query: Any, item: Any) -> Embeddings:
    return Embeddings(pa.array(ids), query, item, np.array([1]), item[[1]], np.zeros(len(ids), np.float32))


def test_a_rotation_that_was_made_is_found() -> None:
    rng = np.random.default_rng(0)
    old = unit(rng, 40, 6)
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    result = procrustes_rotation((old @ turn).astype(np.float32), old)
    np.testing.assert_allclose(result, turn.T, atol=1e-5)
    np.testing.assert_allclose(result @ result.T, np.eye(6), atol=1e-6)


def test_no_rotation_comes_nearer() -> None:
    rng = np.random.default_rng(1)
    of, onto = unit(rng, 30, 4), unit(rng, 30, 4)
    best = np.linalg.norm(of @ procrustes_rotation(of, onto) - onto)
    for _ in range(200):
        assert np.linalg.norm(of @ np.linalg.qr(rng.standard_normal((4, 4)))[0] - onto) >= best - 1e-6


def test_alignment_joins_by_item_and_changes_no_score() -> None:
    rng = np.random.default_rng(2)
    query, item = unit(rng, 20, 5), unit(rng, 20, 5)
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0].astype(np.float32)
    old = embeddings([f"i{i:02}" for i in range(20)], query, item)
    new_query, new_item = unit(rng, 20, 5), unit(rng, 20, 5)
    new_query[:18], new_item[:18] = query[2:] @ turn, item[2:] @ turn
    new = embeddings([f"i{i:02}" for i in range(2, 22)], new_query, new_item)
    result = align_embeddings(new, old)
    assert result is not None
    turned, cosine = result
    assert cosine == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(turned.query[:18], query[2:], atol=1e-5)
    np.testing.assert_allclose(turned.query @ turned.item.T, new.query @ new.item.T, atol=1e-5)
    np.testing.assert_allclose(turned.item_unaveraged, turned.item[[1]], atol=1e-6)
    within, _ = align_embeddings(new, old, prefixes=(2,)) or pytest.fail("turned by nothing")
    for part in (slice(0, 2), slice(2, 5)):  # a prefix keeps its own inner products
        np.testing.assert_allclose(
            within.query[:, part] @ within.item[:, part].T, new.query[:, part] @ new.item[:, part].T, atol=1e-5
        )
    assert align_embeddings(new, dataclasses.replace(old, query=query[:, :4], item=item[:, :4])) is None
    assert align_embeddings(new, embeddings([f"x{i}" for i in range(20)], query, item)) is None
