"""A training batch compared with dense formulas: the inputs of an item, and that no pair reads the edge it trains."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from model.batches import Batches, precomputed_inputs, trainable_inputs
from model.config import ModelConfig
from model.propagation import Neighbourhood
from tests.oracles.light_sage import Scene


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), tail=st.booleans(), data=st.data())
def test_item_inputs_equal_dense_matrices(
    scene: Callable[..., Scene], seed: int, tail: bool, data: st.DataObject
) -> None:
    """For any items, also repeated ones, own features are the training row, and sums are total × average."""
    s = scene(seed, tail)
    items = data.draw(st.lists(st.integers(0, s.graph.num_items - 1), min_size=1, max_size=12))
    with torch.no_grad():
        own, sums = trainable_inputs(s.network, s.encoder)(torch.tensor(items))
        computed = precomputed_inputs(s.network, s.encoder)(torch.tensor(items))
    torch.testing.assert_close(computed, (own, sums))
    features = s.training_features()
    np.testing.assert_allclose(own, features[items], atol=1e-5)
    np.testing.assert_allclose(sums, [float(s.encoder.total[i]) * s.average(i) for i in items], atol=1e-5)


def one_batch_of_all_pairs(s: Scene, logq: str) -> Batches:
    """Return all pairs as one batch without random negatives, so that no random draw and no order matters."""
    config = ModelConfig.model_validate({"loss": {"random_negatives": 0, "logq": logq, "temperature": 0.5}})
    pairs = s.graph.pairs.astype(np.int64)
    return Batches(pairs, len(pairs), s.graph.num_items, config, s.neighbours)


def loss_of(batches: Batches, s: Scene) -> float:
    with torch.no_grad():
        return float(batches.loss(s.network, trainable_inputs(s.network, s.encoder), s.encoder.total))


def slow_batch_loss(s: Scene, logq: str) -> float:
    """Return the loss; each pair's two averages are recomputed without the pair's edges in both directions.

    Every member has a loss of its own, over the cosines of its part of the vectors.
    """
    features = s.training_features()
    queries, targets = (s.graph.pairs[:, side].tolist() for side in (0, 1))
    pairs = list(zip(queries, targets, strict=True))
    z_query = [s.head(features[q], s.average(q, without=t), "query") for q, t in pairs]
    z_item = [s.head(features[t], s.average(t, without=q), "item") for q, t in pairs]
    members = s.network.members
    losses = []
    for part in np.split(np.arange(len(z_query[0])), members):
        cosine = members * np.array(z_query)[:, part] @ np.array(z_item)[:, part].T
        for i, (query, target) in enumerate(pairs):
            total = 0.0
            for j, candidate in enumerate(targets):
                if j != i and candidate in (query, target):
                    continue
                count = targets.count(candidate) if logq == "negatives" and j != i else 1
                total += np.exp(cosine[i, j] / 0.5) / count
            losses.append(np.log(total) - cosine[i, i] / 0.5)
    return float(np.mean(losses))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), tail=st.booleans(), logq=st.sampled_from(["negatives", "none"]))
def test_the_loss_reads_no_edge_that_it_trains(scene: Callable[..., Scene], seed: int, tail: bool, logq: str) -> None:
    s = scene(seed, tail)
    assume(len(s.graph.pairs) > 0)
    assert loss_of(one_batch_of_all_pairs(s, logq), s) == pytest.approx(slow_batch_loss(s, logq), abs=1e-4)


def test_the_oracle_would_see_a_leak(scene: Callable[..., Scene]) -> None:
    """If the pairs' own edges are left in, the loss differs: the test above can fail."""
    s = scene(4)
    batches = one_batch_of_all_pairs(s, "negatives")
    clean = loss_of(batches, s)
    batches._forward[:] = batches._backward[:] = 0
    assert loss_of(batches, s) != pytest.approx(clean, abs=1e-3)


def test_batches_cover_every_pair_once_before_any_comes_again() -> None:
    pairs = np.array([[i, i + 10] for i in range(10)])
    batches = Batches(pairs, 5, 20, ModelConfig(), _no_neighbours(20))
    for _ in range(3):
        epoch = np.concatenate([batches._next_pairs(), batches._next_pairs()])
        assert sorted(epoch.tolist()) == list(range(10))


def _no_neighbours(n: int) -> Any:
    empty = np.zeros(0)
    return Neighbourhood(np.zeros(n + 1, np.int64), empty.astype(np.int64), empty.astype(np.float32), np.zeros(n, "f4"))
