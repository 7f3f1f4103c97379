"""Exported rows hold the score without edges, and every ad that may be shown at the as-of time or later."""

from datetime import timedelta

import numpy as np
import pytest

from retrieval.config import RetrievalConfig
from retrieval.export.client import direct_bonuses, query_vector, winning_ad
from retrieval.export.rows import EVERYWHERE, Batch
from retrieval.queries import Queries
from retrieval.ranking.embedding_ranker import EmbeddingRanker
from tests.oracles.small_shop import AS_OF, slow_scores, slow_winners
from tests.retrieval.export.exported import ADS, CATALOGUE, N, documented_functions, small_export


def whole() -> Batch:
    [batch] = small_export().batches()
    return batch


def test_batches_hold_every_item_once_in_order() -> None:
    batches = list(small_export().batches(size=7))
    assert [len(batch) for batch in batches] == [7] * 8 + [4]
    items = [item for batch in batches for item in batch.columns["item_id"].to_pylist()]
    assert items == CATALOGUE.item_ids.tolist()
    documents = [document for batch in batches for document in batch.documents()]
    assert documents == whole().documents()
    assert np.array_equal(np.concatenate([batch.vectors for batch in batches]), whole().vectors)


@pytest.mark.parametrize("views", [[5], [5, 9], [9, 5, 9, 30], list(range(14))])
def test_the_inner_product_is_the_score_without_edges(views: list[int]) -> None:
    batch, export = whole(), small_export()
    viewed = batch.query_vectors[views[-export.config.recent_items :]]
    query = query_vector(viewed, export.config.recency_weight)
    expected = slow_scores(CATALOGUE, [], views[-export.config.recent_items :])
    assert np.abs(batch.vectors @ query - expected).max() < 1e-5


@pytest.mark.parametrize("views", [[5], [5, 9, 30]])
def test_what_is_left_out_is_the_bonus_of_direct_edges_and_the_tail_rule(views: list[int]) -> None:
    batch, index = whole(), small_export().index
    rows = np.arange(N)
    terms = EmbeddingRanker(index.catalogue, index.edges).score_terms(np.array(views), rows)
    missing = terms.scores - batch.vectors @ query_vector(batch.query_vectors[views], 0.5)
    with_edge = np.isin(rows, index.edges.dst[index.edges.positions(np.array(views))[1]])
    tail = np.isin(rows, index.catalogue.tail_rows)
    assert np.abs(missing[~with_edge]).max() < 1e-5
    assert np.abs((missing - terms.bonus)[~tail]).max() < 1e-5
    assert np.abs(missing[with_edge & tail]).min() > 0
    assert small_export().left_out == ["direct edges", "tail rule"]


@pytest.mark.parametrize("views", [[5], [5, 9], [9, 5, 9, 30]])
def test_with_the_bonuses_of_direct_edges_the_list_is_the_served_one(views: list[int]) -> None:
    """The best items of all are among the best by vectors and the items with a bonus, for lists of any length."""
    batch, index = whole(), small_export().index
    documents, base = batch.documents(), batch.vectors @ query_vector(batch.query_vectors[views], 0.5)
    ranker = EmbeddingRanker(index.catalogue, index.edges, RetrievalConfig(long_tail=False))
    expected = ranker.score_terms(np.array(views), np.arange(N)).scores
    for function in (direct_bonuses, documented_functions()["direct_bonuses"]):
        bonuses = function([documents[row]["direct"] for row in views], 0.5)
        assert bonuses
        for k in (3, 10):
            nearest = np.argsort(-base)[:k].tolist()
            candidates = {*nearest, *(index.catalogue.row_of[item] for item in bonuses)}
            scores = {row: base[row] + bonuses.get(index.catalogue.item_ids[row], 0.0) for row in candidates}
            best = sorted(scores, key=lambda row: -scores[row])[:k]
            assert best == np.argsort(-expected)[:k].tolist()
            assert [scores[row] for row in best] == pytest.approx(expected[best], abs=1e-5)


def test_the_query_vector_is_that_of_the_server_and_of_the_page() -> None:
    batch, index = whole(), small_export().index
    on_page = documented_functions()["query_vector"]
    generator = np.random.default_rng(1)
    for length in (1, 2, 5, 10):
        views = generator.integers(0, N, length)
        expected = EmbeddingRanker(index.catalogue, index.edges).vectors(Queries(views, np.array([0, length])))[0]
        for function in (query_vector, on_page):
            vector = function(batch.query_vectors[views], 0.5)
            assert vector[-1] == 1
            assert np.abs(vector[:-1] - expected).max() < 1e-6


def test_vectors_that_cancel_each_other_out_leave_the_latest_view() -> None:
    viewed = np.array([[1, 0, 1], [-1, 0, 1]], np.float32)
    assert query_vector(viewed, 1.0).tolist() == [-1, 0, 1]


@pytest.mark.parametrize("country", [None, "DE", "FR", "US"])
@pytest.mark.parametrize("hours", [0, 1, 2.5, 4, 6])
def test_the_winning_ad_of_every_item_is_that_of_the_rules(hours: float, country: str | None) -> None:
    at = AS_OF + timedelta(hours=hours)
    winners = slow_winners(ADS, set(CATALOGUE.item_ids), at, country)
    expected = {item: ad["ad_id"] for item, ad in winners.items()}
    on_page = documented_functions()["winning_ad"]
    for function, no_country in ((winning_ad, None), (on_page, EVERYWHERE)):
        found = {
            document["item_id"]: function(document["ads"], at.timestamp(), country or no_country)
            for document in whole().documents()
        }
        assert {item: ad["ad_id"] for item, ad in found.items() if ad} == expected
    assert expected


def test_excluded_advertisers_and_campaigns_do_not_win() -> None:
    ad = {"advertiser_id": "x", "campaign_id": "c", "starts_at": 0, "ends_at": 9, "countries": ["*"]}
    other = ad | {"advertiser_id": "y", "campaign_id": "d"}
    assert winning_ad([ad, other], 1, exclude_advertisers=["x"]) == other
    assert winning_ad([ad, other], 1, exclude_campaigns=["c"]) == other
    assert winning_ad([ad], 1, exclude_campaigns=["c"]) is None


def test_ads_that_can_no_longer_be_shown_are_left_out() -> None:
    exported = {ad["ad_id"] for document in whole().documents() for ad in document["ads"]}
    paused = {ad["ad_id"] for ad in ADS if ad["status"] == "paused"} - {
        ad["ad_id"] for ad in ADS if ad["status"] != "paused"
    }
    assert paused
    assert not exported & paused
    ended = {ad["ad_id"] for ad in ADS} - {ad["ad_id"] for ad in ADS if not ad["ends_at"] or ad["ends_at"] > AS_OF}
    assert ended
    assert not exported & ended


def test_without_an_ads_table_every_item_has_one_nameless_ad() -> None:
    export = small_export(with_ads=False)
    [batch] = export.batches()
    assert export.advertised == N
    for document in batch.documents():
        [ad] = document["ads"]
        assert winning_ad(document["ads"], AS_OF.timestamp(), "DE") == ad
        assert ad["ad_id"] is None


def test_categories_are_those_that_a_filter_includes() -> None:
    for document in whole().documents():
        category = document["category"]
        parts = [] if category is None else category.casefold().split(" > ")
        assert document["categories"] == [" > ".join(parts[:n]) for n in range(1, len(parts) + 1)]


def test_the_description_says_how_to_ask() -> None:
    description = small_export().description
    assert description["dimensions"] == CATALOGUE.dim + 1
    assert (description["recent_items"], description["recency_weight"]) == (10, 0.5)
    assert 0 < description["advertised_items"] < description["items"] == N
