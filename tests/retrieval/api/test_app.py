"""The HTTP API as a client sees it, on a real server and a real socket."""

import re
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from retrieval.api.app import Snapshot, create_app
from retrieval.catalogue.ads import Ads
from retrieval.config import ServeConfig
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Retriever
from retrieval.times import microseconds


@pytest.fixture(scope="module")
def retriever(world: SimpleNamespace, catalogue, edges) -> Retriever:
    ads = Ads.from_table(world.ads_table(world.random_ads(60, 150, 4)), catalogue.row_of)
    return Retriever(catalogue, edges, ads, None, as_of=world.AS_OF)


class Broken:
    """A retriever with a bug, to see what a client learns of it."""

    catalogue = SimpleNamespace(row_of={})
    ads = None

    def retrieve(self, _: RetrievalRequest) -> None:
        raise RuntimeError("a secret of the implementation")


def serve(world: SimpleNamespace, snapshot: Snapshot, config: ServeConfig, now) -> Iterator[httpx.Client]:
    app = create_app(lambda: snapshot, lambda: "published", config, clock=lambda _: now)
    with world.serving(app) as url, httpx.Client(base_url=url, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def client(world, retriever) -> Iterator[httpx.Client]:
    config = ServeConfig(max_k=50, max_items=5, max_exclude=5, max_body_bytes=5000, max_age_hours=48)
    yield from serve(world, Snapshot("v1", world.AS_OF, retriever), config, world.AS_OF + timedelta(hours=1))


def ask(client: httpx.Client, **body: object) -> httpx.Response:
    return client.post("/v1/retrieve", json=body)


def is_problem(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert {"type", "title", "detail"} <= set(body)
    for word in words:
        assert word in body["detail"]
    assert "Traceback" not in response.text


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
    ],
)
def test_a_wrong_field_is_named(client, body, field) -> None:
    response = client.post("/v1/retrieve", json=body)
    is_problem(response, 422, field)
    assert response.json()["errors"][0]["field"] == field


@pytest.mark.parametrize("at", ["garbage", "2026-13-01", True, "x" * 999])
def test_a_wrong_time_is_answered_with_an_example_of_a_right_one(client, at) -> None:
    is_problem(ask(client, items=["a"], at=at), 422, "at: got ", "expected an ISO 8601 time, e.g. 2026-03-14T09:30:00Z")


def test_a_wrong_country_is_answered_with_the_expected_form(client) -> None:
    response = ask(client, items=["a"], country="D{said}")
    is_problem(response, 422, "country: got 'D{said}', expected two letters, an ISO 3166 alpha-2 country code, e.g. DE")


def test_the_category_filter_takes_any_case_and_stops_at_a_level(client) -> None:
    def results_in(category: str) -> list[dict]:
        return ask(client, items=["item00001"], k=50, filters={"category": category}).json()["results"]

    assert results_in("Shoes")
    assert results_in("sHOES") == results_in("Shoes")
    assert results_in("shoes > RUNNING") == results_in("Shoes > Running") != results_in("Shoes")
    assert results_in("shoe") == []


def test_malformed_oversized_and_misaddressed_requests_get_a_problem_document(client) -> None:
    is_problem(client.post("/v1/retrieve", content=b"{items"), 400, "not JSON")
    is_problem(client.post("/v1/retrieve", content=b'{"items": ["' + b"x" * 6000 + b'"]}'), 413, "5000")
    is_problem(client.post("/v1/retrieve", content=b"[1]"), 422)
    is_problem(client.get("/v1/nothing"), 404)
    is_problem(client.get("/v1/retrieve"), 405)


def test_neighbors_cover_the_whole_catalogue(client, retriever) -> None:
    body = client.get("/v1/items/item00004/neighbors", params={"k": 50}).json()
    expected = retriever.retrieve(RetrievalRequest(["item00004"], 50, all_items=True)).results
    assert (body["item_id"], body["returned"]) == ("item00004", 50)
    assert [(r["item_id"], r["ad_id"], r["reason"]) for r in body["results"]] == [
        (result.item_id, None, result.reason) for result in expected
    ]
    assert client.get("/v1/items/item00004/neighbors").json()["asked"] == 20
    is_problem(client.get("/v1/items/a%2Fb/neighbors"), 404, "'a/b' is not in the catalogue")
    is_problem(client.get("/v1/items/item00004/neighbors?k=0"), 422, "k")
    is_problem(client.get("/v1/items/item00004/neighbors?k=x"), 422, "k")


def test_operations_see_version_health_and_metrics(client, world, retriever) -> None:
    version = client.get("/v1/version").json()
    assert (version["version"], version["current_version"], version["items"]) == ("v1", "published", 60)
    assert version["as_of"] == world.AS_OF.isoformat()
    now = microseconds(world.AS_OF + timedelta(hours=1))
    assert 0 < version["ads_in_flight"] == retriever.ads.in_flight(now) < version["ads"]
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").json() == {"status": "ready", "version": "v1", "refused": None}
    ask(client, items=["item00001"])
    text = client.get("/metrics").text
    assert 'lightsage_requests_total{endpoint="/v1/retrieve",status="200"}' in text
    assert 'lightsage_request_seconds_count{endpoint="/v1/retrieve"}' in text
    assert 'version="v1"' in text
    assert 'lightsage_plans_total{plan="exact"}' in text
    assert 'lightsage_stage_seconds_count{stage="search"}' in text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values["lightsage_asked_results_total"]) >= float(values["lightsage_returned_results_total"]) > 0
    assert float(values["lightsage_ads_in_flight"]) == retriever.ads.in_flight(now)


def test_a_request_keeps_its_id_or_gets_one(client) -> None:
    response = client.get("/healthz", headers={"X-Request-ID": "page-17"})
    assert response.headers["x-request-id"] == "page-17"
    ids = [client.get("/healthz", headers=headers).headers["x-request-id"] for headers in ({}, {"X-Request-ID": "a b"})]
    assert all(re.fullmatch("[0-9a-f]{16}", ident) for ident in ids)
    assert ids[0] != ids[1]


def test_a_slow_or_failed_request_is_logged_with_its_id(world, retriever, caplog) -> None:
    config = ServeConfig(slow_seconds=1e-6)
    for client in serve(world, Snapshot("v1", world.AS_OF, retriever), config, world.AS_OF):
        client.post("/v1/retrieve", json={"items": []}, headers={"X-Request-ID": "slow-1"})
    (slow,) = [record for record in caplog.records if getattr(record, "request_id", "") == "slow-1"]
    assert (slow.levelname, slow.endpoint, slow.status) == ("WARNING", "/v1/retrieve", 200)
    for client in serve(world, Snapshot("v1", world.AS_OF, Broken()), ServeConfig(), world.AS_OF):
        assert client.post("/v1/retrieve", json={"items": ["x"]}, headers={"X-Request-ID": "bad-1"}).status_code == 500
    (bad,) = [record for record in caplog.records if getattr(record, "request_id", "") == "bad-1"]
    assert bad.exc_info is not None


def test_the_documentation_states_the_request_and_its_limits(client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    scripts = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert scripts
    for script in scripts:
        assert script.startswith("/"), "the page must work without internet access"
        assert client.get(script).status_code == 200
    schema = client.get("/openapi.json").json()
    body = schema["paths"]["/v1/retrieve"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    request = schema["components"]["schemas"][body["$ref"].rsplit("/", 1)[1]]
    assert request["properties"]["k"]["maximum"] == 50
    assert request["additionalProperties"] is False
    assert "Filters" in str(request["properties"]["filters"])
    assert "max_per_campaign" in schema["components"]["schemas"]["Filters"]["properties"]
    assert {"/v1/items/{item_id}/neighbors", "/v1/version", "/healthz", "/readyz"} <= set(schema["paths"])


def test_an_old_version_is_served_but_not_ready(world, retriever) -> None:
    config = ServeConfig(max_age_hours=2)
    for client in serve(world, Snapshot("v1", world.AS_OF, retriever), config, world.AS_OF + timedelta(hours=3)):
        is_problem(client.get("/readyz"), 503, "3.0 h old")
        assert client.get("/healthz").status_code == 200
        assert ask(client, items=["item00001"]).status_code == 200


def test_a_bug_gives_a_problem_without_a_traceback(world) -> None:
    for client in serve(world, Snapshot("v1", world.AS_OF, Broken()), ServeConfig(), world.AS_OF):
        response = ask(client, items=["item00001"])
        is_problem(response, 500)
        assert "secret" not in response.text
        assert 'status="500"' in client.get("/metrics").text


def test_wrong_numbers_are_refused_and_at_most_twenty_errors_are_listed(client) -> None:
    for key, value in (("k", True), ("k", "5"), ("k", 5.0)):
        is_problem(ask(client, items=["item00004"], **{key: value}), 422, "k")
    for body in ('{"items": [], "min_score": NaN}', '{"items": [], "filters": {"price_min": Infinity}}'):
        assert client.post("/v1/retrieve", content=body).status_code in (400, 422)
    is_problem(ask(client, items=[], filters={"category": "c" * 600}), 422, "filters.category")
    many = ask(client, items=[], **{f"x{n}": 1 for n in range(300)})
    is_problem(many, 422, "and 295 more")
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
