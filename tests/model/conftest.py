"""Tiny item graphs written by hand, dense formulas to check sparse ones with, and a model of known weights."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from model.config import ModelConfig
from model.embed import embed
from model.encoder_input import EncoderInput, encoder_input
from model.features import FeatureMatrix, FittedFeatures, Vocabulary
from model.graph import EDGE_TYPES, ItemGraph
from model.network import LightSAGE
from model.propagation import in_neighbours
from model.tail import TailGroups
from model.trainer import Trained, TrainingRecord

Edge = tuple[int, int, str, float]
MakeGraph = Callable[..., ItemGraph]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_graph() -> MakeGraph:
    """Items i000, i001, …: a graph from (src, dst, type, weight) edges and (query, target) pairs of row numbers."""

    def make(
        n: int,
        edges: Sequence[Edge] = (),
        pairs: Sequence[tuple[int, int]] = (),
        events: Sequence[int] | None = None,
        tail: Sequence[int] = (),
        items: pa.Table | None = None,
        steps: Sequence[int] | None = None,
    ) -> ItemGraph:
        ids = pa.array([f"i{i:03}" for i in range(n)])
        return ItemGraph(
            item_ids=ids,
            events=np.array([10] * n if events is None else events, np.int64),
            is_tail=np.isin(np.arange(n), tail),
            src=np.array([e[0] for e in edges], np.int32),
            dst=np.array([e[1] for e in edges], np.int32),
            edge_type=np.array([EDGE_TYPES.index(e[2]) for e in edges], np.uint8),
            weight=np.array([e[3] for e in edges], np.float32),
            pairs=np.array(pairs, np.int32).reshape(-1, 2),
            pair_steps=np.array([1] * len(pairs) if steps is None else steps, np.int32),
            items=pa.table({"item_id": ids}) if items is None else items,
        )

    return make


def _random_encoder(make_graph: MakeGraph, seed: int, config: ModelConfig) -> tuple[ItemGraph, EncoderInput]:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 9))
    edges = [
        (int(a), int(b), EDGE_TYPES[int(rng.integers(3))], float(rng.uniform(0.1, 2)))
        for a in range(n - 1)  # the last item is cold: nothing leads to it or from it
        for b in range(n - 1)
        if a != b and rng.random() < 0.4
    ]
    tail = [1, 2, n - 1]
    events = [10] * (n - 1) + [0]
    graph = make_graph(n, edges, events=events, tail=tail)
    sparse = sp.random(n, 5, density=0.5, format="csr", dtype=np.float32, rng=rng)
    features = FeatureMatrix(sparse, rng.standard_normal((n, 3)).astype(np.float32), num_ids=2)
    groups = TailGroups(np.array(tail), np.array([0, 1, 0]), 2) if config.tail.enabled else TailGroups(*_NO_GROUPS)
    return graph, encoder_input(graph, features, in_neighbours(graph, config.propagation), groups)


_NO_GROUPS = (np.zeros(0, np.int64), np.zeros(0, np.int64), 0)


@pytest.fixture(scope="session")
def random_encoder(make_graph: MakeGraph) -> Callable[..., tuple[ItemGraph, EncoderInput]]:
    """Seed → a small random graph with two tail items, a cold one and five table rows, and its encoder input."""
    return lambda seed, config=None: _random_encoder(make_graph, seed, config or ModelConfig())


@pytest.fixture(scope="session")
def dense_rows() -> Callable[[EncoderInput, LightSAGE], NDArray[np.float64]]:
    """(R, D) features of every row of an encoder input by dense matrices: s = X E + d C."""

    def rows(encoder: EncoderInput, network: LightSAGE) -> NDArray[np.float64]:
        table = network.table.detach().numpy().astype(np.float64)
        matrix = np.zeros((encoder.num_rows, len(table)))
        for r in range(encoder.num_rows):
            for e in range(int(encoder.offsets[r]), int(encoder.offsets[r + 1])):
                matrix[r, int(encoder.columns[e])] += float(encoder.values[e])
        return matrix @ table + encoder.dense.numpy() @ network.content.detach().numpy().astype(np.float64)

    return rows


@pytest.fixture(scope="session")
def dense_weights() -> Callable[[EncoderInput], NDArray[np.float64]]:
    """(N, R) weight with which every item reads every row as its neighbour."""

    def weights(encoder: EncoderInput) -> NDArray[np.float64]:
        matrix = np.zeros((encoder.num_items, encoder.num_rows))
        for i in range(encoder.num_items):
            for e in range(int(encoder.indptr[i]), int(encoder.indptr[i + 1])):
                matrix[i, int(encoder.neighbour[e])] += float(encoder.weight[e])
        return matrix

    return weights


@pytest.fixture(scope="session")
def known_model(make_graph: MakeGraph) -> tuple[Trained, ModelConfig]:
    """A model whose weights count up in steps of 1/100: what the committed fixtures of format version 1 hold."""
    config = ModelConfig.model_validate({"dim": 2, "dropout": 0.25, "features": {"title_hash_bits": 8, "title_dim": 1}})
    network = LightSAGE(table_rows=5, dense_dim=3, dim=2, dropout=0.25)
    with torch.no_grad():
        for weight in network.state_dict().values():
            weight.copy_((torch.arange(weight.numel()) / 100).reshape(weight.shape))
    features = FittedFeatures(
        vocabularies=(
            Vocabulary("category", "levels", ("shoes", "shoes > söndag")),
            Vocabulary("price", "buckets", bounds=(1.5, 9.99)),
        ),
        title_basis=(np.arange(256, dtype=np.float32) / 256)[:, None],
        title_idf=np.arange(256, dtype=np.float32) / 128,
        embedding_dim=2,
    )
    graph = make_graph(3, [(0, 1, "strong_click", 1.0), (2, 1, "swing", 1.0)], events=[10, 10, 2], tail=[2])
    matrix = FeatureMatrix(sp.csr_matrix(np.eye(3, 5, dtype=np.float32)), np.eye(3, dtype=np.float32), num_ids=0)
    neighbours = in_neighbours(graph, config.propagation)
    encoder = encoder_input(graph, matrix, neighbours, TailGroups(np.array([2]), np.array([0]), 1))
    record = TrainingRecord(7, 9, 11, ((3, 1.5, None), (7, 1.25, 0.5)), 0.125)
    return Trained(network, features, encoder, embed(graph, network, encoder), record), config
