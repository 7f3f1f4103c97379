"""The embedding ranker: the terms of a score add up to the score, whichever way the score is computed."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.catalogue.edges import Edges
from retrieval.catalogue.items import Catalogue
from retrieval.config import ScoreWeights
from retrieval.queries import Queries
from retrieval.ranking.embedding_ranker import EmbeddingRanker

N = 60
REVISIT = 0.25


@pytest.fixture(scope="module")
def ranker(world: SimpleNamespace, catalogue: Catalogue) -> EmbeddingRanker:
    table = world.edge_table(world.edge_rows(N))
    return EmbeddingRanker(
        catalogue, Edges.from_table(table, catalogue.item_ids, ScoreWeights(direct=0.2, revisit=REVISIT))
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, N - 1), min_size=1, max_size=15))
def test_the_terms_add_up_to_the_score_and_equal_the_rule(
    world: SimpleNamespace, catalogue: Catalogue, ranker: EmbeddingRanker, views: list[int]
) -> None:
    views = views[-ranker.recent_items :]
    all_rows = np.arange(N)
    terms = ranker.score_terms(np.array(views), all_rows)
    prepared = ranker.prepare(np.array(views))
    np.testing.assert_array_equal(terms.scores[prepared.rows], prepared.scores)
    queries = Queries(np.array(views), np.array([0, len(views)]))
    np.testing.assert_allclose(terms.scores, ranker.scores(queries, catalogue.item, None)[0], atol=1e-5)
    np.testing.assert_array_equal(terms.revisit, np.where(np.isin(all_rows, views), np.float32(REVISIT), 0))
    without_revisit = terms.similarity + terms.bias + terms.direct
    expected = world.slow_scores(catalogue, world.edge_rows(N), views)
    # Where revisits count, a viewed tail item is scored by its own vector. The reference does not know this rule.
    others = np.setdiff1d(all_rows, views)
    np.testing.assert_allclose(without_revisit[others], expected[others], atol=1e-5)


def test_terms_come_in_the_order_of_the_rows(ranker: EmbeddingRanker) -> None:
    rows = np.array([41, 3, 17])
    terms = ranker.score_terms(np.array([5, 9]), rows)
    of_all_rows = ranker.score_terms(np.array([5, 9]), np.arange(N))
    np.testing.assert_allclose(terms.scores, of_all_rows.scores[rows], atol=1e-6)
    np.testing.assert_array_equal(terms.direct, of_all_rows.direct[rows])
