"""Two versions are compared on the same queries, although their rows differ."""

from dataclasses import replace

import numpy as np
import pytest

from retrieval.arrays import offsets_from_lengths
from retrieval.errors import EvaluationError
from retrieval.evaluation.protocols import Translated, evaluate, pairs_of, rank_pairs, ratios
from retrieval.queries import Queries
from retrieval.ranking.embedding_ranker import EmbeddingRanker
from retrieval.topk import TopK
from tests.oracles.session_tables import as_ids, sessions_of


class Fixed:
    """A ranker with a fixed list for some last viewed rows, and an empty list for the others."""

    def __init__(self, lists: dict[int, list[int]]) -> None:
        self.lists = lists

    def rank(self, queries, k, *, eligible=None, include_current=False):
        lists = [self.lists.get(int(row), [])[:k] for row in queries.last]
        rows = np.array([row for line in lists for row in line], np.int64)
        return TopK(offsets_from_lengths([len(line) for line in lists]), rows, np.zeros(len(rows), np.float32))


def test_ratios_equal_their_definition(catalogue) -> None:
    events = np.full(catalogue.n_rows, 9)
    events[[1, 3, 5]] = [1, 5, 2]
    lists = [[0, 1], [2, 3], [4, 5], [0, 6]]
    pairs = pairs_of("item", sessions_of(as_ids(lists)), catalogue.item_ids, events)
    # The first ranker finds 1, 3 and 6, the second 1 and 5; all targets but 6 are tail items.
    first, second = rank_pairs(Fixed({0: [1, 6], 2: [3]}), pairs), rank_pairs(Fixed({0: [9, 1], 4: [5]}), pairs)
    compared = ratios(first, second, pairs)
    assert list(compared) == ["all", "tail"]
    assert (compared["all"][0], *compared["all"][3:]) == (pytest.approx(3 / 2), 4, 4)
    assert (compared["tail"][0], *compared["tail"][3:]) == (pytest.approx(2 / 2), 3, 3)
    assert all(low <= ratio <= high for ratio, low, high, _, _ in compared.values())


def test_a_slice_in_which_the_second_ranker_finds_nothing_has_no_ratio(catalogue) -> None:
    lists = [[0, 1], [2, 3]]
    table = sessions_of(as_ids(lists))
    common = replace(catalogue, events=np.full(catalogue.n_rows, 9))
    pairs = pairs_of("item", table, common.item_ids, common.events)
    first, second, empty = (rank_pairs(Fixed(lists_of_row), pairs) for lists_of_row in ({0: [1]}, {2: [3]}, {}))
    assert list(ratios(first, second, pairs)) == ["all"]
    assert ratios(first, empty, pairs) == {}


def test_a_ranker_with_renumbered_rows_has_the_same_report(catalogue, edges) -> None:
    rng = np.random.default_rng(0)
    n = catalogue.n_rows
    lists = [rng.integers(0, n, 5).tolist() for _ in range(30)]
    sessions = sessions_of(as_ids(lists))
    pairs = pairs_of("session", sessions, catalogue.item_ids, catalogue.events)
    ranker = EmbeddingRanker(catalogue, edges)
    # The other version has the same items in another order, and three more that are no target.
    order = rng.permutation(n + 3)
    row_in_other = np.argsort(order)

    class OtherVersion:
        def rank(self, queries, k, *, eligible=None, include_current=False):
            translated_queries = Queries(order[queries.rows], queries.offsets)
            lists = ranker.rank(translated_queries, k, include_current=include_current)
            return TopK(lists.offsets, row_in_other[lists.rows], lists.scores)

    translated = Translated(OtherVersion(), row_in_other[:n], n + 3)
    assert evaluate("m", translated, pairs, protocol="session") == evaluate("m", ranker, pairs, protocol="session")


def test_unknown_items_are_left_out_of_queries_and_items_of_the_other_version_keep_their_positions() -> None:
    # Rows 0, 1, 2 are rows 5, unknown and 7 of the other version; its row 6 is unknown here.
    ranker = Fixed({5: [6, 7], 7: [5, 6]})
    queries = Queries(np.array([0, 1, 0, 1, 2]), np.array([0, 1, 2, 4, 5]))
    lists = Translated(ranker, np.array([5, -1, 7]), 8).rank(queries, 10)
    assert [lists.of(query)[0].tolist() for query in range(4)] == [[3, 2], [], [3, 2], [0, 3]]
    with pytest.raises(EvaluationError):
        Translated(ranker, np.array([5]), 8).rank(queries, 10, eligible=np.ones(3, bool))
