"""Groups of tail items: their size, their members, and that they are the same every time."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.config import PropagationConfig, TailConfig
from model.features import FeatureMatrix
from model.graph import ItemGraph
from model.propagation import in_neighbours
from model.tail import TailGroups, bisect, group_tail


def features_of(dense: NDArray[np.floating], num_ids: int = 0) -> FeatureMatrix:
    """Return features with `num_ids` ids, by which neighbours can be told apart."""
    ids = sp.csr_matrix(np.eye(len(dense), num_ids, dtype=np.float32))
    return FeatureMatrix(ids, dense.astype(np.float32), num_ids)


def grouped(graph: ItemGraph, features: FeatureMatrix, size: int = 4, seed: int = 0) -> TailGroups:
    return group_tail(
        graph, features, in_neighbours(graph, PropagationConfig()), TailConfig(group_size=size), seed=seed
    )


def as_sets(groups: TailGroups) -> set[frozenset[int]]:
    return {frozenset(groups.rows[groups.group == g].tolist()) for g in range(groups.count)}


def clusters(labels: Sequence[int], spread: float, seed: int = 1) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(labels) + 1, 16))
    return (centres[list(labels)] + spread * rng.standard_normal((len(labels), 16))).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 70), size=st.integers(1, 9), seed=st.integers(0, 9), distinct=st.integers(1, 70))
def test_bisect_fills_groups_between_half_and_whole_size(n: int, size: int, seed: int, distinct: int) -> None:
    """For any vectors, also many equal ones: groups 0…G−1, none larger than `size`, and none split needlessly."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((distinct, 5)).astype(np.float32)[rng.integers(0, distinct, n)]
    group = bisect(vectors, size, seed)
    counts = np.bincount(group)
    assert len(group) == n
    assert counts.min() >= 1
    assert counts.max() <= size
    assert len(counts) == 1 or counts.min() >= (size + 1) // 2
    np.testing.assert_array_equal(group, bisect(vectors, size, seed))


def test_bisect_splits_at_the_median_of_the_principal_direction() -> None:
    """The reference is the leading right singular vector of the centred rows."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((30, 12)).astype(np.float32)
    vectors[:, 5] += np.repeat([-5, 5], 15)
    along = (vectors - vectors.mean(axis=0)) @ np.linalg.svd(vectors - vectors.mean(axis=0))[2][0]
    lower = along < np.median(along)
    group = bisect(vectors, 15, seed=3)
    assert np.array_equal(group == group[lower.argmax()], lower)


def test_similar_items_share_a_group(make_graph: Callable[..., ItemGraph]) -> None:
    labels = [0, 1, 2, 3] * 4
    groups = grouped(make_graph(16, tail=range(16)), features_of(clusters(labels, spread=0.01)))
    assert as_sets(groups) == {frozenset(range(c, 16, 4)) for c in range(4)}


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 40), size=st.integers(1, 6), seed=st.integers(0, 9))
def test_every_tail_item_is_in_one_group_of_at_most_group_size(
    make_graph: Callable[..., ItemGraph], n: int, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    tail = np.flatnonzero(rng.random(n) < 0.6)
    dense = rng.standard_normal((n, 3)) * (rng.random((n, 1)) < 0.7)
    edges = [(int(a), int(b), "swing", 1.0) for a, b in rng.integers(0, n, (n, 2)) if a != b]
    groups = grouped(make_graph(n, edges, tail=tail.tolist()), features_of(dense, num_ids=n), size)
    assert groups.rows.tolist() == tail.tolist()
    assert sorted(set(groups.group.tolist())) == list(range(groups.count))
    assert np.bincount(groups.group, minlength=1).max() <= size


def test_content_comes_first_then_neighbours_and_an_item_with_neither_stays_alone(
    make_graph: Callable[..., ItemGraph],
) -> None:
    """Items 0–3 have content, 4–7 only neighbours (8 or 9), 10 and 11 nothing; 8 and 9 are no tail items."""
    dense = np.zeros((12, 2))
    dense[:4] = [[1, 0], [0, 1], [1, 0], [0, 1]]
    edges = [(8, 4, "swing", 1.0), (9, 5, "swing", 1.0), (8, 6, "swing", 1.0), (9, 7, "swing", 1.0)]
    graph = make_graph(12, edges, tail=[0, 1, 2, 3, 4, 5, 6, 7, 10, 11])
    groups = grouped(graph, features_of(dense, num_ids=12), size=2)
    assert as_sets(groups) == {frozenset(s) for s in ({0, 2}, {1, 3}, {4, 6}, {5, 7}, {10}, {11})}


def test_content_outweighs_neighbours(make_graph: Callable[..., ItemGraph]) -> None:
    """Items 0 and 1 have equal content and different neighbours, 0 and 2 the reverse: content decides."""
    dense = np.zeros((6, 2))
    dense[:4] = [[1, 0], [1, 0], [0, 1], [0, 1]]
    edges = [(4, 0, "swing", 1.0), (5, 1, "swing", 1.0), (4, 2, "swing", 1.0), (5, 3, "swing", 1.0)]
    groups = grouped(make_graph(6, edges, tail=[0, 1, 2, 3]), features_of(dense, num_ids=6), size=2)
    assert as_sets(groups) == {frozenset({0, 1}), frozenset({2, 3})}


def test_the_id_of_a_tail_item_does_not_affect_its_group(make_graph: Callable[..., ItemGraph]) -> None:
    groups = grouped(make_graph(4, tail=range(4)), features_of(np.zeros((4, 0)), num_ids=4))
    assert groups.count == 4, "without content and neighbours each stays alone, ids or not"


def test_the_mean_matrix_averages_the_members(make_graph: Callable[..., ItemGraph]) -> None:
    groups = TailGroups(rows=np.array([0, 2, 3]), group=np.array([1, 0, 1]), count=2)
    assert groups.mean_matrix(5).toarray().tolist() == [[0, 0, 1, 0, 0], [0.5, 0, 0, 0.5, 0]]


@pytest.mark.parametrize("tail", [[], [0, 1]])
def test_switched_off_or_without_a_tail_there_are_no_groups(
    make_graph: Callable[..., ItemGraph], tail: list[int]
) -> None:
    graph = make_graph(3, tail=tail)
    config = TailConfig(enabled=not tail)
    groups = group_tail(graph, features_of(np.eye(3)), in_neighbours(graph, PropagationConfig()), config, seed=0)
    assert (len(groups.rows), groups.count) == (0, 0)
    assert groups.mean_matrix(3).shape == (0, 3)
