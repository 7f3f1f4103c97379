"""Metrics against plain loops, and the bootstrap against what it must be."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.evaluation import metrics
from retrieval.topk import TopK

LISTS = st.lists(st.lists(st.integers(0, 15), unique=True, max_size=8), min_size=1, max_size=6)


def as_top_k(lists: list[list[int]]) -> TopK:
    flat = np.array([row for line in lists for row in line], np.int64)
    offsets = np.concatenate([[0], np.cumsum([len(line) for line in lists])]).astype(np.int64)
    return TopK(offsets, flat, np.zeros(len(flat), np.float32))


@settings(deadline=None)
@given(LISTS, st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), max_size=20), st.integers(1, 8))
def test_metrics_equal_looking_each_pair_up(lists: list[list[int]], pairs: list[tuple[int, int]], k: int) -> None:
    pairs = [(query % len(lists), target) for query, target in pairs]
    query = np.array([query for query, _ in pairs], np.int64)
    target = np.array([target for _, target in pairs], np.int64)
    place = metrics.places(as_top_k(lists), query, target)
    for at, (q, t) in enumerate(pairs):
        want = lists[q].index(t) + 1 if t in lists[q] else 0
        assert place[at] == want
        assert metrics.hits(place, k)[at] == (1 if t in lists[q][:k] else 0)
        assert metrics.reciprocal_ranks(place, k)[at] == (1 / want if 0 < want <= k else 0)
    for q, value in enumerate(metrics.recalls(place, query, len(lists), k)):
        targets = [t for p, t in pairs if p == q]
        hits = sum(t in lists[q][:k] for t in targets)
        assert np.isnan(value) if not targets else value == hits / min(k, len(targets))
    shown = {row for line in lists for row in line[:k]}
    assert metrics.coverage(as_top_k(lists), k, 20) == len(shown) / 20
    assert metrics.coverage(as_top_k(lists), k, 9) == len(shown & set(range(9))) / 9, "rows of before count no longer"


def test_the_worked_table_holds() -> None:
    assert doctest.testmod(metrics).failed == 0
    assert doctest.testmod(metrics).attempted > 3


def test_the_bootstrap_resamples_whole_groups() -> None:
    generator = np.random.default_rng(0)
    # 400 sessions of 5 equal outcomes each: the interval must be that of 400 draws, not of 2,000.
    outcome = generator.random(400) < 0.3
    sums, counts = 5.0 * outcome[:, None], np.full((400, 1), 5.0)
    low, high = metrics.bootstrap(sums, counts)
    error = np.sqrt(outcome.mean() * (1 - outcome.mean()) / 400)
    assert low[0] == pytest.approx(outcome.mean() - 1.96 * error, abs=0.008)
    assert high[0] == pytest.approx(outcome.mean() + 1.96 * error, abs=0.008)


def test_the_bootstrap_is_seeded_and_chunking_covers_every_sample(monkeypatch) -> None:
    generator = np.random.default_rng(1)
    counts = generator.integers(0, 4, (300, 3)).astype(float)
    sums = counts * generator.random((300, 3))
    first = metrics.bootstrap(sums, counts, samples=50)
    np.testing.assert_array_equal(first, metrics.bootstrap(sums, counts, samples=50))
    assert not np.array_equal(first, metrics.bootstrap(sums, counts, samples=50, seed=1))
    one_by_one = metrics.bootstrap(sums[:2], counts[:2] * 0, samples=7)
    assert np.isnan(one_by_one).all()
    value = sums.sum(axis=0) / counts.sum(axis=0)
    assert ((first[0] < value) & (value < first[1])).all()
