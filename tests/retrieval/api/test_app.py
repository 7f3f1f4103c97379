"""The HTTP API as a client sees it, on a real server and a real socket: requests, answers and errors."""

from datetime import timedelta

import numpy as np
import pytest

from retrieval.catalogue.ads import Ads
from retrieval.config import ServeConfig
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Retriever
from tests.retrieval.api.client import ask, assert_problem


def test_results_are_those_of_the_retriever_at_the_servers_time(client, world, retriever) -> None:
    response = ask(client, items=["item00004", "item00009"], k=7, country="de")
    assert response.status_code == 200
    body = response.json()
    now = world.AS_OF + timedelta(hours=1)
    expected = retriever.retrieve(RetrievalRequest(["item00004", "item00009"], 7, at=now, country="de")).results
    assert list(body) == ["version", "asked", "returned", "unknown_items", "results"]
    assert (body["version"], body["asked"], body["returned"], body["unknown_items"]) == ("v1", 7, len(expected), [])
    assert [list(result) for result in body["results"]] == [["rank", "item_id", "ad_id", "score", "reason"]] * 7
    assert [(r["rank"], r["item_id"], r["ad_id"], r["reason"]) for r in body["results"]] == [
        (rank, result.item_id, result.ad_id, result.reason) for rank, result in enumerate(expected, start=1)
    ]


def test_every_condition_of_a_request_is_passed_on(client, world, retriever) -> None:
    from retrieval.search.filters import Filters

    at = world.AS_OF - timedelta(hours=3)
    filters = {
        "category": "Shoes",
        "price_min": 1,
        "price_max": 55,
        "exclude_advertisers": ["x"],
        "exclude_campaigns": ["c1"],
        "max_per_advertiser": 2,
        "max_per_campaign": 2,
    }
    rest = {"exclude": ["item00006"], "min_score": -0.5, "include_current": True}
    response = ask(client, items=["item00001"], k=50, at=at.isoformat(), country="FR", filters=filters, **rest)
    expected = retriever.retrieve(
        RetrievalRequest(["item00001"], 50, at=at, country="FR", filters=Filters(**filters), **rest)
    ).results
    assert expected
    assert [(r["item_id"], r["ad_id"]) for r in response.json()["results"]] == [result[:2] for result in expected]
    naive = ask(client, items=["item00001"], k=50, at=at.replace(tzinfo=None).isoformat()).json()
    assert naive == ask(client, items=["item00001"], k=50, at=at.isoformat()).json()


def test_a_request_without_a_known_item_gets_fallback_results_marked_as_such(client) -> None:
    body = ask(client, items=["ghost"], k=3).json()
    assert body["unknown_items"] == ["ghost"]
    assert {result["reason"] for result in body["results"]} == {"fallback"}


def test_a_k_beyond_the_eligible_items_returns_all_of_them(client, world, retriever) -> None:
    body = ask(client, items=["item00001"], k=50).json()
    assert body["asked"] == 50 > body["returned"] == len(body["results"]) > 5


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"items": ["a"], "k": 0}, "k"),
        ({"items": ["a"], "k": 51}, "k"),
        ({"items": ["a"], "k": "many"}, "k"),
        ({"k": 3}, "items"),
        ({"items": "a"}, "items"),
        ({"items": ["a"] * 6}, "items"),
        ({"items": [""]}, "items.0"),
        ({"items": ["a"], "colour": "red"}, "colour"),
        ({"items": ["a"], "filters": {"colour": "red"}}, "filters.colour"),
        ({"items": ["a"], "filters": {"max_per_campaign": 0}}, "filters.max_per_campaign"),
        ({"items": ["a"], "filters": {"exclude_campaigns": ["x"] * 6}}, "filters.exclude_campaigns"),
        ({"items": ["a"], "filters": {"price_min": 5, "price_max": 4}}, "filters.price_min"),
        ({"items": ["a"], "exclude": ["x"] * 6}, "exclude"),
        ({"items": ["a"], "at": "tomorrow"}, "at"),
        ({"items": ["a"], "country": "Germany"}, "country"),
        ({"items": ["a"], "country": ""}, "country"),
        ({"items": ["a"], "country": 3}, "country"),
        ({"items": ["a"], "k": "5"}, "k"),
        ({"items": ["a"], "k": 5.0}, "k"),
        ({"items": ["a"], "k": True}, "k"),
        ({"items": [7]}, "items.0"),
        ({"items": ["a"], "include_current": "yes"}, "include_current"),
        ({"items": ["a"], "include_current": 1}, "include_current"),
        ({"items": ["a"], "min_score": "0.5"}, "min_score"),
        ({"items": ["a"], "filters": {"price_min": "10"}}, "filters.price_min"),
        ({"items": ["a"], "filters": {"price_max": True}}, "filters.price_max"),
        ({"items": ["a"], "filters": {"max_per_campaign": 1.0}}, "filters.max_per_campaign"),
        ({"items": ["a"], "filters": {"exclude_campaigns": "c1"}}, "filters.exclude_campaigns"),
        ({"items": ["a"], "stages": {"session": "no"}}, "stages.session"),
        ({"items": ["a"], "exclude": "x"}, "exclude"),
    ],
)
def test_a_wrong_field_is_named(client, body, field) -> None:
    response = client.post("/v1/retrieve", json=body)
    assert_problem(response, 422, field)
    assert response.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "at",
    [
        "garbage",
        "2026-13-01",
        True,
        "x" * 999,
        1773532800,
        "1773532800",
        "12:30",
        "0001-01-01T00:00+14:00",
        "0000-01-01",
    ],
)
def test_a_wrong_time_is_answered_with_an_example_of_a_right_one(client, at) -> None:
    assert_problem(
        ask(client, items=["a"], at=at), 422, "at: got ", "expected an ISO 8601 time, e.g. 2026-03-14T09:30:00Z"
    )


def test_a_wrong_country_is_answered_with_the_expected_form(client) -> None:
    response = ask(client, items=["a"], country="D{said}")
    assert_problem(
        response, 422, "country: got 'D{said}', expected two letters, an ISO 3166 alpha-2 country code, e.g. DE"
    )


def test_the_category_filter_takes_any_case_and_stops_at_a_level(client) -> None:
    def results_in(category: str) -> list[dict]:
        return ask(client, items=["item00001"], k=50, filters={"category": category}).json()["results"]

    assert results_in("Shoes")
    assert results_in("sHOES") == results_in("Shoes")
    assert results_in("shoes > RUNNING") == results_in("Shoes > Running") != results_in("Shoes")
    assert results_in("shoe") == []


@pytest.mark.parametrize(
    "at", ["20260315", "20260315T000000Z", "2026-W11-7", "2026-074", "2026-03-15 01:00 Europe/Berlin", " 2026-03-15\t"]
)
def test_a_time_is_read_by_the_grammar_of_the_input_tables(client, at) -> None:
    written = ask(client, items=["item00001"], k=50, at="2026-03-15T00:00:00+00:00").json()
    assert ask(client, items=["item00001"], k=50, at=at).json() == written


@pytest.mark.parametrize("at", ["0001-01-01", "9999-12-31T23:59:59.999999Z"])
def test_the_ends_of_the_calendar_are_times_like_others(client, at) -> None:
    assert ask(client, items=["item00001"], at=at).status_code == 200
    assert client.post("/v1/explain", json={"items": ["item00001"], "at": at}).status_code == 200


def test_ids_and_categories_are_compared_without_the_blanks_around_them(client) -> None:
    plain = ask(client, items=["item00001"], k=50, country="DE", filters={"category": "Shoes > Running"}).json()
    written = {"category": "\u00a0shoes>RUNNING\t"}
    body = ask(client, items=[" item00001\r\n"], k=50, country=" de", filters=written).json()
    assert body == plain
    assert plain["results"]
    assert client.get("/v1/items/item00001%20/neighbors").json()["item_id"] == "item00001 "
    first = plain["results"][0]["item_id"]
    left_out = ask(client, items=["item00001"], k=50, exclude=[f"{first} "], country="DE", filters=written).json()
    assert first not in {result["item_id"] for result in left_out["results"]}
    assert ask(client, items=["ghost "]).json()["unknown_items"] == ["ghost "]


@pytest.mark.parametrize("category", ["Shoos", "shoe", "Shoes > Running > Trail", ""])
def test_a_category_that_no_item_has_is_named(client, category) -> None:
    body = ask(client, items=["item00001"], filters={"category": category}).json()
    assert (body["unknown_category"], body["results"]) == (category, [])
    explained = client.post("/v1/explain", json={"items": ["item00001"], "filters": {"category": category}}).json()
    assert explained["unknown_category"] == category
    assert "unknown_category" not in ask(client, items=["item00001"], filters={"category": "Shoes"}).json()


def test_malformed_oversized_and_misaddressed_requests_get_a_problem_document(client) -> None:
    assert_problem(client.post("/v1/retrieve", content=b"{items"), 400, "not JSON")
    assert_problem(client.post("/v1/retrieve", content=b'{"items": ["' + b"x" * 6000 + b'"]}'), 413, "5000")
    assert_problem(client.post("/v1/retrieve", content=b"[1]"), 422)
    assert_problem(client.get("/v1/nothing"), 404)
    assert_problem(client.get("/v1/retrieve"), 405)


def test_neighbors_cover_the_whole_catalogue(client, retriever) -> None:
    body = client.get("/v1/items/item00004/neighbors", params={"k": 50}).json()
    expected = retriever.retrieve(RetrievalRequest(["item00004"], 50, all_items=True)).results
    assert (body["item_id"], body["returned"]) == ("item00004", 50)
    assert [(r["item_id"], r["ad_id"], r["reason"]) for r in body["results"]] == [
        (result.item_id, None, result.reason) for result in expected
    ]
    assert client.get("/v1/items/item00004/neighbors").json()["asked"] == 20
    assert_problem(client.get("/v1/items/a%2Fb/neighbors"), 404, "'a/b' is not in the catalogue")
    assert_problem(client.get("/v1/items/item00004/neighbors?k=0"), 422, "k")
    assert_problem(client.get("/v1/items/item00004/neighbors?k=x"), 422, "k")


@pytest.mark.parametrize("route", ["graph", "neighbors"])
def test_ids_that_cannot_stand_in_a_path_are_sent_in_the_query(client, route) -> None:
    in_path = client.get(f"/v1/items/item00004/{route}").json()
    assert client.get(f"/v1/{route}", params={"item_id": "item00004"}).json() == in_path
    for item in (".", "..", "/", "a/../b", "100%", "?", "#", "é"):
        detail = f"item {item!r} is not in the catalogue"
        assert_problem(client.get(f"/v1/{route}", params={"item_id": item}), 404, detail)
    assert_problem(client.get(f"/v1/{route}"), 422, "item_id")


def test_wrong_numbers_are_refused_and_at_most_twenty_errors_are_listed(client) -> None:
    for key, value in (("k", True), ("k", "5"), ("k", 5.0)):
        assert_problem(ask(client, items=["item00004"], **{key: value}), 422, "k")
    for body in ('{"items": [], "min_score": NaN}', '{"items": [], "filters": {"price_min": Infinity}}'):
        assert client.post("/v1/retrieve", content=body).status_code in (400, 422)
    assert_problem(ask(client, items=[], filters={"category": "c" * 600}), 422, "filters.category")
    many = ask(client, items=[], **{f"x{n}": 1 for n in range(300)})
    assert_problem(many, 422, "and 295 more")
    assert len(many.json()["errors"]) == 20


def test_a_default_beyond_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="default_k = 20 is above max_k = 10"):
        ServeConfig(max_k=10)


def test_a_fallback_holds_the_most_popular_rows_of_its_scope(world, catalogue, edges) -> None:
    ads = Ads.from_table(world.ads_table(world.random_ads(60, 150, 4)), catalogue.row_of, quiet=True)
    retriever = Retriever(catalogue, edges, ads, None, as_of=world.AS_OF)
    scope = retriever.scope(RetrievalRequest([], 1, country="DE"))
    expected = scope.rows[np.argsort(-catalogue.popularity[scope.rows], kind="stable")]
    for n in (1, 7, len(expected), 1000):
        assert retriever.popular(scope, n).tolist() == expected[:n].tolist()
    assert retriever.popular(scope).tolist() == expected.tolist()
