"""Comparing two versions on the same questions, though their rows differ."""

import numpy as np
import pytest

from retrieval.errors import EvaluationError
from retrieval.evaluation.protocols import Translated, evaluate, pairs_of, rank_pairs, ratios
from retrieval.evaluation.sessions import sessions_from_table
from retrieval.queries import Queries
from retrieval.ranking.embedding_ranker import EmbeddingRanker
from retrieval.topk import TopK

from .test_protocols import as_ids, table  # type: ignore[import-not-found]


class Fixed:
    """A ranker with one list for each last viewed row; a row without one finds nothing."""

    def __init__(self, lists: dict[int, list[int]]) -> None:
        self.lists = lists

    def rank(self, queries, k, *, eligible=None, include_current=False):
        found = [self.lists.get(int(row), [])[:k] for row in queries.last]
        ends = np.concatenate([[0], np.cumsum([len(line) for line in found])]).astype(np.int64)
        rows = np.array([row for line in found for row in line], np.int64)
        return TopK(ends, rows, np.zeros(len(rows), np.float32))


def test_ratios_equal_their_definition(catalogue) -> None:
    lists = [[0, 1], [2, 3], [4, 5], [0, 6]]
    pairs = pairs_of("item", sessions_from_table(table(as_ids(lists))), catalogue.item_ids, catalogue.events)
    first, second = Fixed({0: [1, 6], 2: [3]}), Fixed({0: [9, 1], 4: [5]})
    found = ratios(rank_pairs(first, pairs), rank_pairs(second, pairs), pairs)
    assert found["all"][0] == pytest.approx(3 / 2)
    assert found["all"][3] == 4
    assert found["all"][1] <= 3 / 2 <= found["all"][2]
    tail = [b for _, b in lists if 1 <= catalogue.events[b] <= 5]
    mine, theirs = ({1, 6, 3} & set(tail)), ({1, 5} & set(tail))
    assert ("tail" in found) == bool(theirs)
    if theirs:
        assert found["tail"][0] == pytest.approx(len(mine) / len(theirs))
    assert ratios(rank_pairs(first, pairs), rank_pairs(Fixed({}), pairs), pairs) == {}


def test_the_same_ranker_over_other_rows_finds_the_same(catalogue, edges) -> None:
    rng = np.random.default_rng(0)
    n = catalogue.n_rows
    lists = [rng.integers(0, n, 5).tolist() for _ in range(30)]
    pairs = pairs_of("session", sessions_from_table(table(as_ids(lists))), catalogue.item_ids, catalogue.events)
    ranker = EmbeddingRanker(catalogue, edges)
    # The other version knows all of the items, in another order, and three more that nobody asks for.
    order = rng.permutation(n + 3)
    place = np.argsort(order)

    class Elsewhere:
        def rank(self, queries, k, *, eligible=None, include_current=False):
            mine = Queries(order[queries.rows], queries.offsets)
            found = ranker.rank(mine, k, include_current=include_current)
            return TopK(found.offsets, place[found.rows], found.scores)

    translated = Translated(Elsewhere(), place[:n], n + 3)
    assert evaluate("m", translated, pairs, protocol="session") == evaluate("m", ranker, pairs, protocol="session")


def test_what_the_other_version_does_not_know_is_not_asked_and_its_own_items_take_their_place() -> None:
    # Rows 0, 1, 2 here are 5, unknown, 7 there; 6 is known there alone.
    other = Fixed({5: [6, 7], 7: [5, 6]})
    queries = Queries(np.array([0, 1, 0, 1, 2]), np.array([0, 1, 2, 4, 5]))
    found = Translated(other, np.array([5, -1, 7]), 8).rank(queries, 10)
    assert [found.of(query)[0].tolist() for query in range(4)] == [[3, 2], [], [3, 2], [0, 3]]
    with pytest.raises(EvaluationError):
        Translated(other, np.array([5]), 8).rank(queries, 10, eligible=np.ones(3, bool))
