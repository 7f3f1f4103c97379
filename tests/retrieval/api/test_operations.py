"""What a server shows operators: version, readiness, metrics, request ids, log lines and the API's document."""

import re
from datetime import timedelta
from types import SimpleNamespace

import httpx

from retrieval.api.app import Snapshot, create_app
from retrieval.config import ServeConfig
from retrieval.search.request import RetrievalRequest
from retrieval.times import microseconds
from tests.retrieval.api.client import ask, assert_problem, serve
from tests.retrieval.conftest import until


class Broken:
    """A retriever with a bug, which shows how much of the bug a client sees."""

    catalogue = SimpleNamespace(row_of={})
    ads = None

    def retrieve(self, _: RetrievalRequest) -> None:
        raise RuntimeError("a secret of the implementation")


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
    assert "slow-1" in slow.getMessage(), "a plain line shows the message alone"
    for client in serve(world, Snapshot("v1", world.AS_OF, Broken()), ServeConfig(), world.AS_OF):
        assert client.post("/v1/retrieve", json={"items": ["x"]}, headers={"X-Request-ID": "bad-1"}).status_code == 500
    (bad,) = [record for record in caplog.records if getattr(record, "request_id", "") == "bad-1"]
    assert bad.exc_info is not None
    assert "bad-1" in bad.getMessage()


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
        assert_problem(client.get("/readyz"), 503, "3.0 h old")
        assert client.get("/healthz").status_code == 200
        assert ask(client, items=["item00001"]).status_code == 200


def test_a_published_version_whose_name_cannot_be_read_shows_in_the_metrics(world, retriever) -> None:
    names = ["v1", None]

    def current() -> str:
        if names[0] is None:
            raise OSError("the disk is gone")
        return names[0]

    app = create_app(lambda: Snapshot("v1", world.AS_OF, retriever), current, ServeConfig(current_check_seconds=0.02))
    with world.serving(app) as url, httpx.Client(base_url=url, timeout=20) as client:
        assert "lightsage_current_unreadable 0.0" in client.get("/metrics").text
        names.reverse()
        until(lambda: "lightsage_current_unreadable 1.0" in client.get("/metrics").text)
        assert client.get("/readyz").status_code == 200
        names.reverse()
        until(lambda: "lightsage_current_unreadable 0.0" in client.get("/metrics").text)


def test_a_bug_in_any_route_gives_a_problem(world) -> None:
    for client in serve(world, Snapshot("v1", world.AS_OF, Broken()), ServeConfig(), world.AS_OF):
        for path in ("/v1/version", "/v1/items?q=x", "/v1/items/x/graph", "/v1/items/x/neighbors"):
            assert_problem(client.get(path), 500, "its log says why")
        assert_problem(client.post("/v1/explain", json={"items": []}), 500)


def test_a_bug_gives_a_problem_without_a_traceback(world) -> None:
    for client in serve(world, Snapshot("v1", world.AS_OF, Broken()), ServeConfig(), world.AS_OF):
        response = ask(client, items=["item00001"])
        assert_problem(response, 500)
        assert "secret" not in response.text
        assert 'status="500"' in client.get("/metrics").text
