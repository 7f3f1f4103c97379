"""Rules of the retriever: fallbacks, the long tail, revisits, reasons, and requests that are refused."""

from dataclasses import replace

import numpy as np
import pytest

from retrieval.config import RetrievalConfig
from retrieval.errors import RequestError
from retrieval.queries import Queries
from retrieval.search.filters import Filters
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Retriever
from tests.retrieval.search.retrievers import CONFIGS, N, make_retriever


def test_reasons_name_the_edges_from_any_viewed_item(world, catalogue, edges) -> None:
    retriever = make_retriever(world, "none", catalogue, edges, None)
    views = [4, 9]
    rows = world.edge_rows(N)
    for result in retriever.retrieve(RetrievalRequest([catalogue.item_ids[row] for row in views], N)).results:
        target = catalogue.row_of[result.item_id]
        kinds = [kind for kind in world.TYPES if any((view, target, kind) in rows for view in views)]
        assert result.reason == ("+".join(kinds) or "embedding")


def test_unknown_items_are_listed_and_the_known_ones_count(world, catalogue, edges) -> None:
    retriever = make_retriever(world, "none", catalogue, edges, None)
    with_stranger = retriever.retrieve(RetrievalRequest(["item00003", "ghost"], 5))
    assert with_stranger.unknown_items == ["ghost"]
    assert not with_stranger.fallback
    # The last item is unknown, so that the known one may be a result.
    assert [r.item_id for r in with_stranger.results] == [
        r.item_id for r in retriever.retrieve(RetrievalRequest(["item00003"], 5, include_current=True)).results
    ]


def test_a_request_without_a_known_item_falls_back_to_popular_eligible_ads(world, catalogue, edges) -> None:
    rows = world.random_ads(N, 80, 5)
    retriever = make_retriever(world, "flat", catalogue, edges, rows)
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
    retriever = make_retriever(world, "ivf_sq8", catalogue, edges, world.random_ads(N, 30, 5))
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
        for result in make_retriever(world, "none", catalogue, edges, None)
        .retrieve(RetrievalRequest(["item00003"], N))
        .results
    ]


@pytest.mark.parametrize("kind", ["none", "flat"])
def test_viewed_items_gain_the_revisit_weight_and_other_scores_stay(world, catalogue, edges, kind, monkeypatch) -> None:
    revisit_edges = replace(edges, revisit_weight=0.4)
    # With the long-tail rule, a viewed tail item would be scored by its own vector, as neighbours of viewed items are.
    monkeypatch.setitem(CONFIGS, kind, CONFIGS[kind].model_copy(update={"long_tail": False}))
    without, with_revisit = (make_retriever(world, kind, catalogue, e, None) for e in (edges, revisit_edges))
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
        make_retriever(world, "none", catalogue, edges, None).retrieve(RetrievalRequest(["item00001"], k))


def test_an_empty_range_of_prices_and_a_filter_without_its_column_are_errors(world, catalogue, edges) -> None:
    retriever = make_retriever(world, "none", catalogue, edges, None)
    with pytest.raises(RequestError, match="is above price_max"):
        retriever.retrieve(RetrievalRequest(["item00001"], 3, filters=Filters(price_min=5, price_max=4)))
    bare = replace(catalogue, attributes=catalogue.attributes.select(["item_id"]))
    retriever = make_retriever(world, "none", bare, edges, None)
    with pytest.raises(RequestError, match="no prices"):
        retriever.retrieve(RetrievalRequest(["item00001"], 3, filters=Filters(price_max=4)))
    with pytest.raises(RequestError, match="no categories"):
        retriever.retrieve(RetrievalRequest(["item00001"], 3, filters=Filters(category="Shoes")))
