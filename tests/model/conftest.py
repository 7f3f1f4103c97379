"""Fixtures for tests of the model: tiny item graphs, random graphs with a network (scenes), and known weights."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
import torch

from model.config import ModelConfig, PropagationConfig
from model.embed import embed
from model.encoder_input import encoder_input
from model.features import FeatureMatrix, FittedFeatures
from model.graph import EDGE_TYPES, ItemGraph
from model.network import LightSAGE
from model.propagation import in_neighbours
from model.tail import TailGroups, no_groups
from model.trained import Trained, TrainingRecord
from model.vocabulary import Vocabulary
from tests.oracles.light_sage import Scene

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
    """Make a graph of items i000, i001, … from (src, dst, type, weight) edges and (query, target) pairs of rows."""

    def make(
        n: int,
        edges: Sequence[Edge] = (),
        pairs: Sequence[tuple[int, int]] = (),
        events: Sequence[int] | None = None,
        tail: Sequence[int] = (),
        items: pa.Table | None = None,
        steps: Sequence[int] | None = None,
        ages: Sequence[float] | None = None,
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
            pair_age=np.array([0.0] * len(pairs) if ages is None else ages, np.float32),
            items=pa.table({"item_id": ids}) if items is None else items,
        )

    return make


@pytest.fixture(scope="session")
def scene(make_graph: MakeGraph) -> Callable[..., Scene]:
    """Make a random scene of 5 to 9 items: items 1 and 2 are tail, the last is cold, and the last two have no edges."""

    def make(seed: int, tail_enabled: bool = True) -> Scene:
        rng = np.random.default_rng(seed)
        n = int(rng.integers(5, 10))
        edges = [
            (a, b, EDGE_TYPES[int(rng.integers(3))], float(rng.uniform(0.1, 2)))
            for a in range(n - 2)
            for b in range(n - 2)
            if a != b and rng.random() < 0.5
        ]
        tail = [1, 2, n - 1]
        graph = make_graph(n, edges, pairs=[e[:2] for e in edges], events=[10] * (n - 1) + [0], tail=tail)
        sparse = sp.csr_matrix(rng.standard_normal((n, 5)) * (rng.random((n, 5)) < 0.5), dtype=np.float32)
        features = FeatureMatrix(sparse, rng.standard_normal((n, 3)).astype(np.float32), num_ids=2)
        neighbours = in_neighbours(graph, PropagationConfig(top_k=3))
        groups = TailGroups(np.array(tail), np.array([0, 1, 0]), 2) if tail_enabled else no_groups()
        encoder = encoder_input(graph, features, neighbours, groups)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = LightSAGE(5, 3, 4, members=2).eval()
        return Scene(graph, features, neighbours, groups, encoder, network)

    return make


@pytest.fixture(scope="session")
def known_model(make_graph: MakeGraph) -> tuple[Trained, ModelConfig]:
    """A model whose weights count up in steps of 1/100, like those of the committed fixtures."""
    config = ModelConfig.model_validate(
        {
            "dim": 4,
            "members": 2,
            "dropout": 0.25,
            "features": {"title_hash_bits": 8, "title_dim": 1},
            # The defaults at the time when the fixtures were written.
            "loss": {"random_negatives": 1024},
            "train": {"network_lr": 0.003, "max_pairs_per_epoch": 600_000},
        }
    )
    network = LightSAGE(table_rows=5, dense_dim=3, dim=4, dropout=0.25, members=2)
    with torch.no_grad():
        for weight in network.state_dict().values():
            weight.copy_((torch.arange(weight.numel()) / 100).reshape(weight.shape))
    features = FittedFeatures(
        vocabularies=(
            Vocabulary("category", "levels", ("shoes", "shoes > söndag")),
            Vocabulary("price", "buckets", bounds=(1.5, 9.99)),
        ),
        title_basis=(np.arange(256) / 256).astype(np.float32)[:, None],
        title_idf=(np.arange(256) / 128).astype(np.float32),
        embedding_dim=2,
    )
    graph = make_graph(3, [(0, 1, "strong_click", 1.0), (2, 1, "swing", 1.0)], events=[10, 10, 2], tail=[2])
    matrix = FeatureMatrix(sp.csr_matrix(np.eye(3, 5, dtype=np.float32)), np.eye(3, dtype=np.float32), num_ids=0)
    neighbours = in_neighbours(graph, config.propagation)
    encoder = encoder_input(graph, matrix, neighbours, TailGroups(np.array([2]), np.array([0]), 1))
    record = TrainingRecord(7, 9, 11, ((3, 1.5, None), (7, 1.25, 0.5)), 0.125)
    return Trained(network, features, encoder, embed(graph, network, encoder, np.zeros(3, np.float32)), record), config
