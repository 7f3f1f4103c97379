"""Prefixes and the funnel equal slow references; a prefix of a nested embedding finds what all dimensions find."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.ann.matryoshka import funnel, unit_prefix
from retrieval.ann.tuning import build
from retrieval.config import RetrievalConfig


def nested(n: int, dim: int, seed: int, decay: float = 1.0) -> np.ndarray:
    """Return vectors whose first dimensions weigh most, as in Matryoshka embeddings."""
    vectors = np.random.default_rng(seed).standard_normal((n, dim)) / (1 + np.arange(dim)) ** decay
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_a_prefix_has_unit_length_and_zeros_stay_zeros() -> None:
    vectors = np.array([[3, 4, 5], [0, 0, 1]], np.float32)
    np.testing.assert_allclose(unit_prefix(vectors, 2), [[0.6, 0.8], [0, 0]], rtol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 50), st.integers(1, 40), st.integers(1, 10), st.sampled_from([2, 3, 8, 16]))
def test_each_step_of_the_funnel_keeps_the_better_half_by_a_longer_prefix(
    seed: int, size: int, least: int, dim: int
) -> None:
    item, bias = nested(60, 16, seed), np.random.default_rng(seed).normal(0, 0.1, 60).astype(np.float32)
    vector = nested(1, 16, seed + 1)[0]
    rows = np.random.default_rng(seed).permutation(60)[:size]

    expected = rows.tolist()
    step = 2 * dim
    while step < 16 and len(expected) > least:
        cosine = {
            row: float(item[row, :step] @ vector[:step])
            / float(np.linalg.norm(item[row, :step]) * np.linalg.norm(vector[:step]))
            + float(bias[row])
            for row in expected
        }
        expected = sorted(expected, key=lambda row, cosine=cosine: -cosine[row])[: max(least, len(expected) // 2)]
        step *= 2
    assert sorted(funnel(vector, item, bias, rows, dim, least).tolist()) == sorted(expected)


@pytest.mark.parametrize("kind", ["flat", "ivf_sq8"])
@pytest.mark.parametrize("halved", [False, True])
def test_the_shortlist_of_a_prefix_index_is_long_enough_for_the_target_recall(kind: str, halved: bool) -> None:
    item, query = nested(4000, 32, 0), nested(300, 32, 1)
    bias = np.random.default_rng(2).normal(0, 0.05, 4000).astype(np.float32)
    rows = np.arange(0, 4000, 2)
    config = RetrievalConfig(exact_below=0, index_kinds=(kind,), index_prefix=2, funnel=halved, target_recall=0.9)
    ann, tried = build(item, query, rows, config, bias=bias)
    assert ann.prefix == 2
    assert ann.index.d == 16, "two dimensions and the bias, filled up to sixteen"
    assert ann.recall == tried[0].recall >= 0.9
    scores = query @ item[rows].T + bias[rows]
    truth = rows[np.argsort(-scores, axis=1)[:, :100]]
    lists = [ann.search_one(vector, 100 * ann.shortlist) for vector in query]
    narrowed = [ann.narrow(line, vector, item, bias, 200) for line, vector in zip(lists, query, strict=True)]
    assert any(len(line) < len(listed) for line, listed in zip(narrowed, lists, strict=True)) == halved
    assert np.mean([np.isin(true, line).mean() for true, line in zip(truth, narrowed, strict=True)]) > 0.88


def test_a_lossy_funnel_has_a_longer_shortlist_than_the_prefix_alone() -> None:
    item, sizes = nested(3000, 512, 0, decay=0.4), {}
    for halved in (False, True):
        config = RetrievalConfig(
            exact_below=0, index_kinds=("flat",), index_prefix=4, funnel=halved, target_recall=0.9, tuning_queries=50
        )
        ann, _ = build(item, item, np.arange(3000), config)
        assert ann.recall >= 0.9
        sizes[halved] = ann.shortlist
    # The shortlist is three steps longer than the one that an exact search of the prefix needs.
    assert sizes[True] > 2 * sizes[False]
