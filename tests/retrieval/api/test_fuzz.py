"""No request generated from the API's own document gives a 5xx, a traceback or an undocumented answer."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from retrieval.api.app import Snapshot, Tokens, create_app
from retrieval.catalogue.ads import Ads
from retrieval.config import ServeConfig
from retrieval.search.retriever import Retriever

WRITE = {"Authorization": "Bearer write-secret"}


@pytest.fixture(scope="module")
def api(world: SimpleNamespace, catalogue: Any, edges: Any) -> Iterator[Any]:
    ads = Ads.from_table(world.ads_table(world.random_ads(60, 150, 4)), catalogue.row_of, quiet=True)
    snapshot = Snapshot("v1", world.AS_OF, Retriever(catalogue, edges, ads, None, as_of=world.AS_OF))
    app = create_app(
        lambda: snapshot, lambda: "v1", ServeConfig(), lambda as_of: as_of, tokens=Tokens(write="write-secret")
    )
    with world.serving(app) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


ROUTES = (
    "POST /v1/retrieve",
    "POST /v1/explain",
    "GET /v1/items",
    "GET /v1/items/{item_id}/neighbors",
    "GET /v1/items/{item_id}/graph",
    "GET /v1/neighbors",
    "GET /v1/graph",
    "POST /v1/changes",
    "GET /v1/changes",
    "PATCH /v1/ads/{ad_id}",
    "PATCH /v1/campaigns/{campaign_id}",
    "GET /v1/version",
    "GET /healthz",
    "GET /readyz",
)


@pytest.mark.parametrize("route", ROUTES)
def test_no_request_makes_the_server_fail(api: Any, route: str) -> None:
    method, path = route.split()
    operation = api[path][method]

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def fuzzed(case: Any) -> None:
        response = case.call(headers=WRITE)
        checks = [not_a_server_error, content_type_conformance, response_schema_conformance]
        case.validate_response(response, checks=checks)
        assert "Traceback" not in response.text

    fuzzed()


def test_every_documented_route_is_fuzzed(api: Any) -> None:
    documented = {f"{op.ok().method.upper()} {op.ok().path}" for op in api.get_all_operations()}
    assert documented == set(ROUTES)
