"""The exact search for the best k equals plain Python sorting."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import topk


def slow_top_k(line: list[float], k: int) -> list[int]:
    finite = [column for column, value in enumerate(line) if value != float("-inf")]
    return sorted(finite, key=lambda column: (-line[column], column))[:k]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 4),
    st.integers(0, 700),
    st.integers(1, 30),
    st.sampled_from([0.0, 0.3, 0.99, 1.0]),
    st.integers(0, 99),
)
def test_top_k_is_the_sorted_head_with_ties_by_column(n: int, m: int, k: int, masked: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    # There are few distinct values, so that many scores tie, also between the last result and the next row.
    score = generator.integers(0, 12, (n, m)).astype(np.float32)
    score[generator.random((n, m)) < masked] = -np.inf
    lists = topk.top_k(score, k)
    for query in range(n):
        rows, values = lists.of(query)
        assert rows.tolist() == slow_top_k(score[query].tolist(), k)
        assert values.tolist() == score[query, rows].tolist()


def test_search_among_rows_returns_row_numbers_of_the_matrix() -> None:
    matrix = np.eye(5, dtype=np.float32)
    rows = np.array([1, 3, 4])
    lists = topk.search(matrix[[3]], matrix, 2, rows)
    assert lists.of(0)[0].tolist() == [3, 1]


def test_search_over_several_chunks_equals_a_full_sort(monkeypatch) -> None:
    monkeypatch.setattr(topk, "_CHUNK_SCORES", 700)
    generator = np.random.default_rng(3)
    queries, matrix = generator.normal(size=(9, 4)), generator.normal(size=(333, 4))
    lists = topk.search(queries.astype(np.float32), matrix.astype(np.float32), 7)
    assert len(lists) == 9
    expected = np.argsort(-(queries @ matrix.T), axis=1)[:, :7]
    assert lists.rows.reshape(9, 7).tolist() == expected.tolist()


def test_no_query_and_no_candidate_give_empty_lists() -> None:
    matrix = np.zeros((0, 3), np.float32)
    assert len(topk.search(np.zeros((2, 3), np.float32), matrix, 5).rows) == 0
    assert len(topk.search(np.zeros((0, 3), np.float32), np.ones((4, 3), np.float32), 5)) == 0
