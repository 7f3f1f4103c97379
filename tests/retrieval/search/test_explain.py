"""Why an ad is shown or not: every reason agrees with what a request actually returns."""

from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.catalogue.ads import Ads
from retrieval.search import explain
from retrieval.search.describe import completions, ego_graph
from retrieval.search.filters import Filters
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Retriever

N = 60


@pytest.fixture(scope="module")
def rows(world: SimpleNamespace) -> list[dict]:
    return world.random_ads(N, 150, 4)


@pytest.fixture(scope="module")
def retriever(world, catalogue, edges, rows) -> Retriever:
    return Retriever(
        catalogue, edges, Ads.from_table(world.ads_table(rows), catalogue.row_of, quiet=True), None, as_of=world.AS_OF
    )


def request_for(world: SimpleNamespace, *items: str, k: int = 5, **conditions: object) -> RetrievalRequest:
    return RetrievalRequest(items, k, at=world.AS_OF, **conditions)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, N - 1),
    st.integers(0, N - 1),
    st.sampled_from([1, 5, 60]),
    st.sampled_from([None, "DE", "us"]),
    st.sampled_from(
        [
            Filters(),
            Filters(category="shoes"),
            Filters(price_min=10.0, price_max=45.0),
            Filters(exclude_campaigns=["c1"]),
            Filters(max_per_advertiser=1),
            Filters(max_per_advertiser=3, max_per_campaign=2),
        ]
    ),
    st.sampled_from([None, 0.1]),
)
def test_an_item_is_shown_or_there_is_a_reason(
    world, catalogue, retriever, view, row, k, country, filters, min_score
) -> None:
    item = catalogue.item_ids[row]
    conditions = request_for(
        world,
        catalogue.item_ids[view],
        k=k,
        country=country,
        filters=filters,
        exclude=[catalogue.item_ids[3]],
        min_score=min_score,
    )
    shown = [line["item_id"] for line in explain.results(retriever, conditions)["results"]]
    verdict = explain.missing(retriever, conditions, item)
    assert verdict.shown == (item in shown)
    assert verdict.shown != bool(verdict.why)
    if verdict.shown:
        assert shown[verdict.rank - 1] == item
    elif verdict.rank is not None:
        everything = request_for(
            world, catalogue.item_ids[view], k=N, country=country, filters=filters, exclude=conditions.exclude
        )
        order = [line["item_id"] for line in explain.results(retriever, everything)["results"]]
        if "fill max_per_" in verdict.why[0]:
            assert item not in order, "at no k is the item shown"
        elif min_score is None or verdict.score >= min_score:
            assert verdict.rank > k
            assert order[verdict.rank - 1] == item
        elif filters.max_per_advertiser is None:
            assert order[verdict.rank - 1] == item


def test_each_rule_is_named(world, catalogue, edges) -> None:
    at = world.AS_OF
    bare = {"campaign_id": "c", "version": 0}
    late, gone = at + timedelta(hours=1), at - timedelta(hours=1)
    table = [
        bare | {"ad_id": "paused", "item_id": "item00001", "status": "paused"},
        bare | {"ad_id": "late", "item_id": "item00002", "starts_at": late},
        bare | {"ad_id": "gone", "item_id": "item00003", "ends_at": gone},
        bare | {"ad_id": "german", "item_id": "item00004", "countries": ["de"]},
        bare | {"ad_id": "cheap", "item_id": "item00005", "bid": 1.0, "advertiser_id": "x"},
        bare | {"ad_id": "dear", "item_id": "item00005", "bid": 2.0},
        bare | {"ad_id": "stranger", "item_id": "nobody"},
    ]
    retriever = Retriever(
        catalogue, edges, Ads.from_table(world.ads_table(table), catalogue.row_of, quiet=True), None, as_of=at
    )

    def why(expected: str, **conditions: object) -> str:
        verdict = explain.missing(retriever, request_for(world, "item00009", k=60, **conditions), expected)
        return "; ".join(verdict.why)

    assert why("paused") == "ad paused: its status is 'paused'" == why("item00001")
    assert why("late") == f"ad late: it starts at {late.isoformat()}"
    assert why("gone") == f"ad gone: it ended at {gone.isoformat()}"
    assert why("german", country="fr") == "ad german: the ad runs only in DE, but the request is for FR"
    assert why("german", country="DE") == ""
    assert "ad dear wins" in why("cheap")
    assert why("cheap", filters=Filters(exclude_campaigns=["c"])).endswith("excludes its campaign 'c'")
    assert "excludes its advertiser 'x'" in why("cheap", filters=Filters(exclude_advertisers=["x"]))
    assert why("stranger") == "its item 'nobody' is not in the catalogue of this version"
    assert why("item00007") == "no ad is for this item"
    assert why("nothing") == "no item and no ad of this version has this id"
    assert why("item00005", exclude=["item00005"]) == "the request excludes it"
    category = catalogue.attributes["category"][5].as_py()
    assert (
        why("item00005", filters=Filters(category="Nowhere"))
        == f"its category {category!r} is not 'Nowhere' nor below it"
    )
    assert why("item00005", filters=Filters(price_max=1.0)) == "its price 5.0 is not between any and 1.0"
    viewing = explain.missing(retriever, request_for(world, "item00005"), "dear")
    assert viewing.why == ["it is the item being viewed"]


def test_the_parts_of_a_score_add_up_and_the_edges_are_those_of_the_graph(world, catalogue, retriever) -> None:
    views = ["item00004", "item00009"]
    edges = world.edge_rows(N)
    for line in explain.results(retriever, request_for(world, *views, k=60))["results"]:
        assert sum(line["parts"].values()) == pytest.approx(line["score"], abs=1e-6)
        target = catalogue.row_of[line["item_id"]]
        between = sorted((f"item{a:05d}", kind) for a, b, kind in edges if b == target and a in (4, 9))
        assert sorted((edge["from"], edge["type"]) for edge in line["edges"]) == between
        shared = line["shared_category"] or ""
        for category in (line["item"]["category"], catalogue.attributes["category"][9].as_py()):
            assert (category or "").startswith(shared)


def test_completions_are_ids_first_and_then_titles_by_their_number_of_events(world) -> None:
    import pyarrow as pa

    catalogue = world.small_catalogue(20)
    titles = ["Blue Chair", "red chair", None, "blue table"] * 5
    object.__setattr__(catalogue, "attributes", catalogue.attributes.append_column("title", pa.array(titles)))
    retriever = Retriever(catalogue, world.small_edges(catalogue), None, None, as_of=world.AS_OF)
    assert [match["item_id"] for match in completions(retriever, "item0000", 3)] == [f"item{n:05d}" for n in range(3)]
    matches = completions(retriever, "chair blue", 9)
    assert [match["title"] for match in matches] == ["Blue Chair"] * 5
    events = [match["events"] for match in matches]
    assert events == sorted(events, reverse=True)
    assert completions(retriever, "zebra") == []


def test_the_ego_graph_holds_the_strongest_neighbours_and_the_edges_among_them(world, catalogue, retriever) -> None:
    graph = ego_graph(retriever, 7, 4)
    nodes = [catalogue.row_of[node["item_id"]] for node in graph["nodes"]]
    out = {b for a, b, _ in world.edge_rows(N) if a == 7}
    assert nodes[0] == 7
    assert set(nodes[1:]) <= out
    assert len(nodes) == 5
    among = {(nodes.index(a), nodes.index(b), kind) for a, b, kind in world.edge_rows(N) if a in nodes and b in nodes}
    assert {(edge["from"], edge["to"], edge["type"]) for edge in graph["edges"]} == among
    assert np.all([edge["weight"] > 0 for edge in graph["edges"]])
