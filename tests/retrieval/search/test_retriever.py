"""The retriever equals brute force for every kind of index and every condition of a request."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.search.filters import Filters
from retrieval.search.request import RetrievalRequest
from tests.oracles.retrieval import slow_retrieve
from tests.retrieval.search.retrievers import N, make_retriever

FILTERS = st.builds(
    Filters,
    category=st.sampled_from([None, None, "Shoes", "Garden"]),
    price_min=st.sampled_from([None, None, 10.0]),
    price_max=st.sampled_from([None, None, 45.0]),
    exclude_advertisers=st.sampled_from([[], [], ["x"]]),
    exclude_campaigns=st.sampled_from([[], [], ["c0"]]),
    max_per_advertiser=st.sampled_from([None, None, 1, 2]),
    max_per_campaign=st.sampled_from([None, None, 1, 2]),
)


def test_one_result_is_the_best_although_the_codes_are_coarse(world, catalogue, edges) -> None:
    retriever = make_retriever(world, "ivf_sq8", catalogue, edges, None)
    shoes = Filters(category="Shoes")
    for row in range(N):
        item = catalogue.item_ids[row]
        request = RetrievalRequest([item], 1, at=world.AS_OF, filters=shoes)
        expected = slow_retrieve(catalogue, world.edge_rows(N), None, request)
        assert [(result.item_id, result.ad_id) for result in retriever.retrieve(request).results] == expected


@pytest.mark.parametrize("kind", ["none", "flat", "ivf_sq8"])
@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 200),
    n_ads=st.sampled_from([None, 0, 5, 150]),
    views=st.lists(st.integers(0, N - 1), min_size=1, max_size=4),
    k=st.sampled_from([1, 3, 10, 100]),
    hours=st.integers(-6, 6),
    country=st.sampled_from([None, "de", "US"]),
    filters=FILTERS,
    exclude=st.lists(st.integers(0, N - 1), max_size=3),
    min_score=st.sampled_from([None, None, 0.1]),
)
def test_results_equal_brute_force_with_direct_tail_rows_replaced(
    world, catalogue, edges, kind, seed, n_ads, views, k, hours, country, filters, exclude, min_score
) -> None:
    rows = None if n_ads is None else world.random_ads(N, n_ads, seed)
    retriever = make_retriever(world, kind, catalogue, edges, rows)
    names = catalogue.item_ids
    request = RetrievalRequest(
        [names[row] for row in views],
        k,
        at=world.AS_OF + timedelta(hours=hours),
        country=country,
        filters=filters,
        exclude=[names[row] for row in exclude],
        min_score=min_score,
    )
    response = retriever.retrieve(request)
    expected = slow_retrieve(catalogue, world.edge_rows(N), rows, request)
    assert [(result.item_id, result.ad_id) for result in response.results] == expected
    scores = [result.score for result in response.results]
    assert scores == sorted(scores, reverse=True)
    assert not response.fallback


@pytest.mark.parametrize("kind", ["flat", "ivf_sq8", "ivf_pq4", "prefix", "funnel"])
@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    n_ads=st.sampled_from([3, 30, 200]),
    k=st.sampled_from([1, 5, 30, 100]),
    hours=st.integers(-6, 6),
    indexed=st.sampled_from([0.0, 0.3, 1.0]),
    nprobe=st.integers(1, 3),
)
def test_all_eligible_items_are_returned_up_to_k_and_no_others(
    world, catalogue, edges, kind, seed, n_ads, k, hours, indexed, nprobe
) -> None:
    """This also holds for an index that probes few lists and lacks some eligible rows."""
    rows = world.random_ads(N, n_ads, seed)
    generator = np.random.default_rng(seed)
    indexed_rows = np.sort(generator.choice(N, max(17, int(indexed * N)), replace=False))
    retriever = make_retriever(world, kind, catalogue, edges, rows, indexed_rows)
    if retriever.ann.kind != "flat":
        retriever.ann.parameters["nprobe"] = nprobe
    at = world.AS_OF + timedelta(hours=hours)
    eligible = world.slow_winners(rows, set(catalogue.item_ids), at, "fr")
    view = catalogue.item_ids[seed % N]
    items = [result.item_id for result in retriever.retrieve(RetrievalRequest([view], k, at=at, country="FR")).results]
    assert set(items) <= set(eligible) - {view}
    assert len(items) == len(set(items)) == min(k, len(set(eligible) - {view}))
