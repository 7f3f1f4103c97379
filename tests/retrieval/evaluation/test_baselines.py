"""Counting baselines equal dictionaries that are filled session by session."""

from collections import Counter, defaultdict
from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.catalogue.edges import Edges
from retrieval.catalogue.items import Catalogue
from retrieval.evaluation.baselines import ItemKNN, Popularity, Rules, Swing, TrainingSessions, Transitions
from retrieval.evaluation.vmis_knn import SessionKNN
from retrieval.queries import Queries

N = 9
SESSIONS = st.lists(st.lists(st.integers(0, N - 1), max_size=14), max_size=8)
Table = dict[int, dict[int, float]]


def slow_steps(sessions: list[list[int]], max_steps: int, backward: float) -> Table:
    table: Table = defaultdict(lambda: defaultdict(float))
    for session in sessions:
        for i, a in enumerate(session):
            for steps in range(1, max_steps + 1):
                if i + steps < len(session) and (b := session[i + steps]) != a:
                    table[a][b] += 1 / steps
                    if backward:
                        table[b][a] += backward / steps
    return table


def slow_cosine(sessions: list[list[int]]) -> Table:
    visits = {item: {number for number, session in enumerate(sessions) if item in session} for item in range(N)}
    return {
        a: {
            b: len(visits[a] & visits[b]) / sqrt(len(visits[a]) * len(visits[b]))
            for b in range(N)
            if b != a and visits[a] & visits[b]
        }
        for a in range(N)
    }


def best(line: dict[int, float], k: int) -> list[int]:
    # Scores are rounded to float32 like the ranked ones, so that the same rows tie.
    return sorted(line, key=lambda row: (-np.float32(line[row]), row))[:k]


@settings(deadline=None, max_examples=60)
@given(SESSIONS, st.integers(1, 6))
def test_ranks_equal_the_counts(sessions: list[list[int]], k: int) -> None:
    training = TrainingSessions.of(sessions, N)
    cases = [
        (Transitions(training), slow_steps(sessions, 1, 0.0)),
        (Rules(training), slow_steps(sessions, 10, 0.5)),
        (ItemKNN(training), slow_cosine(sessions)),
    ]
    for baseline, table in cases:
        lists = baseline.rank(Queries.single(np.arange(N)), k)
        for item in range(N):
            rows, scores = lists.of(item)
            line = table.get(item, {})
            expected = [line[row] for row in best(line, k)]
            np.testing.assert_allclose(scores, expected, rtol=1e-5)
            np.testing.assert_allclose([line[row] for row in rows.tolist()], scores, rtol=1e-5)


def test_swing_ranks_by_swing_edges_alone(catalogue: Catalogue, edges: Edges) -> None:
    lists = Swing(edges).rank(Queries.single(np.arange(5)), 50)
    for view in range(5):
        dst, kind, weight = edges.neighbours(np.array([view]))
        expected = [(-w, d) for d, t, w in zip(dst, kind, weight, strict=True) if edges.type_names[t] == "swing"]
        assert lists.of(view)[0].tolist() == [d for _, d in sorted(expected)]
    assert len(Swing(Edges.empty(5)).rank(Queries.single(np.arange(5)), 3).rows) == 0


def test_popularity_is_one_list_without_the_query() -> None:
    ranker = Popularity(np.array([3.0, 9.0, 0.0, 3.0]))
    lists = ranker.rank(Queries.single(np.array([1, 2])), 3)
    assert lists.of(0)[0].tolist() == [0, 3]
    assert lists.of(1)[0].tolist() == [1, 0, 3]


@pytest.mark.parametrize("kind", [Transitions, Rules, ItemKNN, None])
def test_lists_leave_out_the_last_item_and_ineligible_rows(kind) -> None:
    training = TrainingSessions.of([[0, 1, 2, 0, 3, 1], [4, 0, 2]], N)
    popular = Counter([0, 1, 2, 0, 3, 1, 4, 0, 2])
    ranker = kind(training) if kind else Popularity(np.array([popular[row] for row in range(N)]))
    queries = Queries(np.array([3, 4, 0]), np.array([0, 3]))
    all_rows = ranker.rank(queries, N).of(0)[0].tolist()
    assert 0 not in all_rows
    eligible = np.isin(np.arange(N), [0, 2, 3])
    assert ranker.rank(queries, N, eligible=eligible).of(0)[0].tolist() == [row for row in all_rows if row in (2, 3)]


def slow_session_knn(sessions: list[list[int]], views: list[int], m: int, k: int) -> dict[int, float]:
    """Return the scores of VMIS-kNN, step by step as in its paper."""
    views = views[-9:]
    seen = {item: len(views) - 1 - views[::-1].index(item) for item in views}
    sampled: set[int] = set()
    for item in seen:
        sampled |= set([s for s in reversed(range(len(sessions))) if item in sessions[s]][:m])
    recent = sorted(sampled, reverse=True)[:m]
    shared = {s: [i for i in seen if s in _latest(sessions, i, m)] for s in recent}
    similarity = {s: sum((seen[i] + 1) / len(views) for i in shared[s]) for s in recent}
    votes: dict[int, float] = {}
    for s in sorted(recent, key=lambda s: (-similarity[s], -s))[:k]:
        ago = min(len(views) - seen[i] for i in shared[s])
        for item in set(sessions[s]):
            idf = log(len(sessions) / sum(item in session for session in sessions))
            votes[item] = votes.get(item, 0.0) + similarity[s] * (1 - 0.1 * ago) * idf
    return votes


def _latest(sessions: list[list[int]], item: int, m: int) -> list[int]:
    return [s for s in reversed(range(len(sessions))) if item in sessions[s]][:m]


@pytest.mark.parametrize(("m", "k"), [(3, 2), (50, 5), (50, 50)])
def test_session_knn_equals_a_slow_implementation_of_its_paper(m: int, k: int) -> None:
    generator = np.random.default_rng(4)
    sessions = [generator.integers(0, 12, generator.integers(1, 7)).tolist() for _ in range(40)]
    ranker = SessionKNN(TrainingSessions.of(sessions, 13), m, k)
    lists = [generator.integers(0, 12, n).tolist() for n in (1, 2, 5, 12)] + [[12]]
    offsets = np.concatenate([[0], np.cumsum([len(views) for views in lists])])
    queries = Queries(np.array([row for views in lists for row in views]), offsets)
    ranking = ranker.rank(queries, 13, include_current=True)
    for line, views in enumerate(lists):
        expected = slow_session_knn(sessions, views, m, k)
        rows, votes = ranking.of(line)
        assert dict(zip(rows.tolist(), votes.tolist(), strict=True)) == pytest.approx(expected, abs=1e-5)
        assert votes.tolist() == sorted(votes.tolist(), reverse=True)
    limited = ranker.rank(queries, 13, eligible=np.arange(13) % 2 == 0)
    for line, views in enumerate(lists):
        rows, _ = limited.of(line)
        assert all(row % 2 == 0 and row != views[-1] for row in rows.tolist())


def test_session_knn_without_a_query_returns_no_list() -> None:
    no_queries = Queries(np.zeros(0, np.int64), np.zeros(1, np.int64))
    assert len(SessionKNN(TrainingSessions.of([[0, 1]], 2), 5, 5).rank(no_queries, 10)) == 0
