"""The retriever against brute force, for every kind of index and every condition of a request."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.ann.tuning import build
from retrieval.catalogue.ads import Ads
from retrieval.catalogue.edges import Edges
from retrieval.catalogue.items import Catalogue
from retrieval.config import RetrievalConfig
from retrieval.errors import RequestError
from retrieval.queries import Queries
from retrieval.search.filters import Filters
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Retriever
from retrieval.times import microseconds
from tests.oracles.retrieval import slow_retrieve

N = 60
# The thresholds are so small that 60 items take the path of millions. Every list is probed, every row trained on.
CONFIGS = {
    "none": RetrievalConfig(),
    "flat": RetrievalConfig(exact_below=0),
    "ivf_sq8": RetrievalConfig(exact_below=0, target_recall=1.0, train_rows_per_list=2, index_kinds=("ivf_sq8",)),
    "ivf_pq4": RetrievalConfig(exact_below=0, target_recall=1.0, train_rows_per_list=2, index_kinds=("ivf_pq4",)),
    "prefix": RetrievalConfig(exact_below=0, index_kinds=("flat",), index_prefix=4),
    "funnel": RetrievalConfig(exact_below=0, index_kinds=("flat",), index_prefix=2, funnel=True),
}
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


def make(
    world: SimpleNamespace,
    kind: str,
    catalogue: Catalogue,
    edges: Edges,
    rows: list | None,
    indexed: np.ndarray | None = None,
) -> Retriever:
    config = CONFIGS[kind]
    ads = None if rows is None else Ads.from_table(world.ads_table(rows), catalogue.row_of)
    if indexed is None:
        indexed = np.arange(N) if ads is None else ads.items_ending_after(microseconds(world.AS_OF))
    built = None
    if kind == "flat":
        built, _ = build(catalogue.item, catalogue.query, indexed, RetrievalConfig(), bias=catalogue.bias)
    elif kind != "none" and len(indexed) > 16:
        built, _ = build(catalogue.item, catalogue.query, indexed, config, bias=catalogue.bias)
        if built.kind != "flat":
            built.parameters["nprobe"] = built.parameters["nlist"]
    return Retriever(catalogue, edges, ads, built, as_of=world.AS_OF, config=config)


def test_one_result_is_the_best_although_the_codes_are_coarse(world, catalogue, edges) -> None:
    retriever = make(world, "ivf_sq8", catalogue, edges, None)
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
    retriever = make(world, kind, catalogue, edges, rows)
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
    retriever = make(world, kind, catalogue, edges, rows, indexed_rows)
    if retriever.ann.kind != "flat":
        retriever.ann.parameters["nprobe"] = nprobe
    at = world.AS_OF + timedelta(hours=hours)
    eligible = world.slow_winners(rows, set(catalogue.item_ids), at, "fr")
    view = catalogue.item_ids[seed % N]
    items = [result.item_id for result in retriever.retrieve(RetrievalRequest([view], k, at=at, country="FR")).results]
    assert set(items) <= set(eligible) - {view}
    assert len(items) == len(set(items)) == min(k, len(set(eligible) - {view}))


def test_reasons_name_the_edges_from_any_viewed_item(world, catalogue, edges) -> None:
    retriever = make(world, "none", catalogue, edges, None)
    views = [4, 9]
    rows = world.edge_rows(N)
    for result in retriever.retrieve(RetrievalRequest([catalogue.item_ids[row] for row in views], N)).results:
        target = catalogue.row_of[result.item_id]
        kinds = [kind for kind in world.TYPES if any((view, target, kind) in rows for view in views)]
        assert result.reason == ("+".join(kinds) or "embedding")


def test_unknown_items_are_listed_and_the_known_ones_count(world, catalogue, edges) -> None:
    retriever = make(world, "none", catalogue, edges, None)
    with_stranger = retriever.retrieve(RetrievalRequest(["item00003", "ghost"], 5))
    assert with_stranger.unknown_items == ["ghost"]
    assert not with_stranger.fallback
    # The last item is unknown, so that the known one may be a result.
    assert [r.item_id for r in with_stranger.results] == [
        r.item_id for r in retriever.retrieve(RetrievalRequest(["item00003"], 5, include_current=True)).results
    ]


def test_a_request_without_a_known_item_falls_back_to_popular_eligible_ads(world, catalogue, edges) -> None:
    rows = world.random_ads(N, 80, 5)
    retriever = make(world, "flat", catalogue, edges, rows)
    response = retriever.retrieve(RetrievalRequest(["ghost"], 7, filters=Filters(category="Shoes")))
    category = catalogue.attributes["category"].to_pylist()
    eligible = world.slow_winners(rows, set(catalogue.item_ids), world.AS_OF, None)
    expected = [
        row
        for row in range(N)
        if catalogue.item_ids[row] in eligible and (category[row] or "") in ("Shoes", "Shoes > Running")
    ]
    expected.sort(key=lambda row: (-catalogue.popularity[row], row))
    assert response.fallback
    assert response.unknown_items == ["ghost"]
    assert [r.item_id for r in response.results] == [catalogue.item_ids[row] for row in expected[:7]]
    assert {(r.reason, r.score) for r in response.results} == {("fallback", 0.0)}
    assert retriever.retrieve(RetrievalRequest([], 1)).fallback


def test_all_items_ignores_the_ads(world, catalogue, edges) -> None:
    retriever = make(world, "ivf_sq8", catalogue, edges, world.random_ads(N, 30, 5))
    response = retriever.retrieve(RetrievalRequest(["item00003"], 1000, all_items=True))
    assert len(response.results) == N - 1
    assert {result.ad_id for result in response.results} == {None}


def test_the_long_tail_rule_can_be_switched_off(world, catalogue, edges) -> None:
    without_tail_rule = Retriever(
        catalogue, edges, None, None, as_of=world.AS_OF, config=RetrievalConfig(long_tail=False)
    )
    items = [result.item_id for result in without_tail_rule.retrieve(RetrievalRequest(["item00003"], N)).results]
    score = catalogue.item @ catalogue.query[3] + catalogue.bias
    for dst, kind, weight in zip(*edges.neighbours(np.array([3])), strict=True):
        score[dst] += 0.2 * np.log1p(weight) if edges.type_names[kind] == "strong_click" else 0.0
    expected = [catalogue.item_ids[row] for row in np.argsort(-score, kind="stable") if row != 3]
    assert items == expected
    assert items != [
        result.item_id
        for result in make(world, "none", catalogue, edges, None).retrieve(RetrievalRequest(["item00003"], N)).results
    ]


@pytest.mark.parametrize("kind", ["none", "flat"])
def test_viewed_items_gain_the_revisit_weight_and_other_scores_stay(world, catalogue, edges, kind, monkeypatch) -> None:
    revisit_edges = replace(edges, revisit_weight=0.4)
    # With the rule, a viewed tail item would also be scored by its own vector, as neighbours of viewed items are.
    monkeypatch.setitem(CONFIGS, kind, CONFIGS[kind].model_copy(update={"long_tail": False}))
    without, with_revisit = (make(world, kind, catalogue, e, None) for e in (edges, revisit_edges))
    for items in (["item00001"], ["item00004", "item00009", "item00004", "item00030"], ["item00007", "item00007"]):
        rows, _ = catalogue.rows(items)
        for current in (False, True):
            plain = without.retrieve(RetrievalRequest(items, N, include_current=current))
            expected = {
                item: score + 0.4 * (catalogue.row_of[item] in rows)
                for item, score in zip(plain.items, plain.scores, strict=True)
            }
            response = with_revisit.retrieve(RetrievalRequest(items, N, include_current=current))
            assert dict(zip(response.items, response.scores, strict=True)) == pytest.approx(expected, abs=1e-5)
            assert response.scores == sorted(response.scores, reverse=True)
    queries = Queries(np.array([1, 4, 9, 4, 30]), np.array([0, 1, 5]))
    for include_current in (False, True):
        ranked = with_revisit.ranker.rank(queries, N, include_current=include_current)
        for line, items in enumerate((["item00001"], ["item00004", "item00009", "item00004", "item00030"])):
            rows, scores = ranked.of(line)
            single = with_revisit.retrieve(RetrievalRequest(items, N, include_current=include_current))
            assert catalogue.item_ids[rows].tolist() == single.items
            assert scores == pytest.approx(single.scores, abs=1e-5)


def test_of_views_that_cancel_out_the_latest_counts(world, catalogue, edges) -> None:
    query = np.array(catalogue.query)
    query[1] = -query[0]
    opposed = replace(catalogue, query=query)
    level = RetrievalConfig(recency_weight=1.0, long_tail=False)
    retriever = Retriever(opposed, edges, None, None, as_of=world.AS_OF, config=level)
    both = retriever.retrieve(RetrievalRequest(["item00001", "item00000"], 5, include_current=True))
    latest = retriever.retrieve(RetrievalRequest(["item00000"], 5, include_current=True))
    assert [r.item_id for r in both.results] == [r.item_id for r in latest.results]


@pytest.mark.parametrize("k", [0, -3])
def test_k_below_one_is_an_error(world, catalogue, edges, k) -> None:
    with pytest.raises(RequestError, match=f"k: got {k}, expected at least 1"):
        make(world, "none", catalogue, edges, None).retrieve(RetrievalRequest(["item00001"], k))


def test_an_empty_range_of_prices_and_a_filter_without_its_column_are_errors(world, catalogue, edges) -> None:
    retriever = make(world, "none", catalogue, edges, None)
    with pytest.raises(RequestError, match="is above price_max"):
        retriever.retrieve(RetrievalRequest(["item00001"], 3, filters=Filters(price_min=5, price_max=4)))
    bare = replace(catalogue, attributes=catalogue.attributes.select(["item_id"]))
    retriever = make(world, "none", bare, edges, None)
    with pytest.raises(RequestError, match="no prices"):
        retriever.retrieve(RetrievalRequest(["item00001"], 3, filters=Filters(price_max=4)))
    with pytest.raises(RequestError, match="no categories"):
        retriever.retrieve(RetrievalRequest(["item00001"], 3, filters=Filters(category="Shoes")))
