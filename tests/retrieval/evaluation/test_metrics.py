"""Metrics equal plain loops; the bootstrap agrees with theory, and with itself when it runs in chunks."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.arrays import offsets_from_lengths
from retrieval.evaluation import metrics
from retrieval.topk import TopK

LISTS = st.lists(st.lists(st.integers(0, 15), unique=True, max_size=8), min_size=1, max_size=6)


def as_top_k(lists: list[list[int]]) -> TopK:
    flat = np.array([row for line in lists for row in line], np.int64)
    return TopK(offsets_from_lengths([len(line) for line in lists]), flat, np.zeros(len(flat), np.float32))


@settings(deadline=None)
@given(LISTS, st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), max_size=20), st.integers(1, 8))
def test_metrics_equal_a_lookup_of_each_pair(lists: list[list[int]], pairs: list[tuple[int, int]], k: int) -> None:
    pairs = [(query % len(lists), target) for query, target in pairs]
    query = np.array([query for query, _ in pairs], np.int64)
    target = np.array([target for _, target in pairs], np.int64)
    rank = metrics.ranks(as_top_k(lists), query, target)
    for pair, (q, t) in enumerate(pairs):
        expected = lists[q].index(t) + 1 if t in lists[q] else 0
        assert rank[pair] == expected
        assert metrics.hits(rank, k)[pair] == (1 if t in lists[q][:k] else 0)
        assert metrics.reciprocal_ranks(rank, k)[pair] == (1 / expected if 0 < expected <= k else 0)
    for q, value in enumerate(metrics.recalls(rank, query, len(lists), k)):
        targets = [t for p, t in pairs if p == q]
        hits = sum(t in lists[q][:k] for t in targets)
        assert np.isnan(value) if not targets else value == hits / min(k, len(targets))
    shown = {row for line in lists for row in line[:k]}
    assert metrics.coverage(as_top_k(lists), k, 20) == len(shown) / 20
    assert metrics.coverage(as_top_k(lists), k, 9) == len(shown & set(range(9))) / 9, "rows from 9 on do not count"


def test_the_worked_example_of_the_docstring_holds() -> None:
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


@pytest.fixture
def groups() -> tuple[np.ndarray, np.ndarray]:
    """The sums and counts of three metrics in 300 groups."""
    generator = np.random.default_rng(1)
    counts = generator.integers(0, 4, (300, 3)).astype(float)
    return counts * generator.random((300, 3)), counts


def test_the_bootstrap_is_seeded_and_its_interval_holds_the_value(groups: tuple[np.ndarray, np.ndarray]) -> None:
    sums, counts = groups
    interval = metrics.bootstrap(sums, counts, samples=50)
    np.testing.assert_array_equal(interval, metrics.bootstrap(sums, counts, samples=50))
    assert not np.array_equal(interval, metrics.bootstrap(sums, counts, samples=50, seed=1))
    value = sums.sum(axis=0) / counts.sum(axis=0)
    assert ((interval[0] < value) & (value < interval[1])).all()


@pytest.mark.parametrize(("chunk", "chunks"), [(300, 50), (7 * 300, 8), (49 * 300, 2), (50 * 300, 1)])
def test_chunks_of_samples_give_the_same_interval(
    groups: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch, chunk: int, chunks: int
) -> None:
    sums, counts = groups
    in_one_chunk = metrics.bootstrap(sums, counts, samples=50)
    sizes, bincount = [], np.bincount

    def counted(drawn: np.ndarray, minlength: int) -> np.ndarray:
        sizes.append(minlength // 300)
        return bincount(drawn, minlength=minlength)

    monkeypatch.setattr(metrics, "_CHUNK_WEIGHTS", chunk)
    monkeypatch.setattr(np, "bincount", counted)
    interval = metrics.bootstrap(sums, counts, samples=50)
    assert (len(sizes), sum(sizes)) == (chunks, 50)
    np.testing.assert_allclose(interval, in_one_chunk, rtol=1e-12)


def test_a_metric_without_values_has_no_interval(groups: tuple[np.ndarray, np.ndarray]) -> None:
    sums, counts = groups
    assert np.isnan(metrics.bootstrap(sums[:2], counts[:2] * 0, samples=7)).all()
