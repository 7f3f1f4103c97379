"""Every operation of the API has a name, a group and a worked example, and the examples match the real answers."""

from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from retrieval.api import page_schemas, schemas
from retrieval.api.documentation import INTRODUCTION, OPERATIONS, TAGS
from retrieval.config import ServeConfig
from retrieval.live.change import Change

ANSWERS: dict[str, Any] = {
    "POST /v1/retrieve": schemas.RetrieveResponse,
    "GET /v1/neighbors": schemas.NeighborsResponse,
    "GET /v1/items/{item_id}/neighbors": schemas.NeighborsResponse,
    "POST /v1/explain": page_schemas.ExplainResponse,
    "GET /v1/items": page_schemas.ItemsResponse,
    "GET /v1/graph": page_schemas.GraphResponse,
    "GET /v1/items/{item_id}/graph": page_schemas.GraphResponse,
    "POST /v1/changes": schemas.ChangesResponse,
    "GET /v1/changes": schemas.LogResponse,
    "PATCH /v1/ads/{ad_id}": schemas.ChangesResponse,
    "PATCH /v1/campaigns/{campaign_id}": schemas.ChangesResponse,
    "GET /v1/version": schemas.VersionResponse,
}


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    return client.get("/openapi.json").json()  # type: ignore[no-any-return]


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_operation_is_named_and_grouped_and_has_a_worked_example(document: dict[str, Any]) -> None:
    found = operations(document)
    assert set(found) == set(OPERATIONS)
    names = [operation["operationId"] for operation in found.values()]
    assert len(set(names)) == len(names)
    groups = [tag["name"] for tag in document["tags"]]
    assert groups == [tag["name"] for tag in TAGS]
    for route, operation in found.items():
        assert operation["tags"][0] in groups, route
        assert operation["summary"], route
        assert "example" in operation["responses"]["200"]["content"]["application/json"], route
        if "requestBody" in operation:
            assert "example" in operation["requestBody"]["content"]["application/json"], route
        assert all("description" in parameter for parameter in operation.get("parameters", ())), route
    assert document["info"]["description"] == INTRODUCTION


@pytest.mark.parametrize("route", ANSWERS)
def test_the_example_of_an_answer_fits_its_schema(route: str) -> None:
    TypeAdapter(ANSWERS[route]).validate_python(OPERATIONS[route].answer)


def test_the_examples_of_bodies_are_accepted() -> None:
    retrieve = schemas.limited_body(ServeConfig())
    retrieve.model_validate(OPERATIONS["POST /v1/retrieve"].request)
    for change in OPERATIONS["POST /v1/changes"].request["changes"]:
        Change.model_validate(change)
    for route, path in (
        ("PATCH /v1/ads/{ad_id}", {"ad_id": "a"}),
        ("PATCH /v1/campaigns/{campaign_id}", {"campaign_id": "c"}),
    ):
        Change.model_validate(OPERATIONS[route].request | path)


@pytest.mark.parametrize(
    ("route", "path", "body"),
    [
        ("POST /v1/retrieve", "/v1/retrieve", {"items": ["item00001"], "k": 3}),
        ("POST /v1/explain", "/v1/explain", {"items": ["item00001"], "k": 3, "expected": "item00002"}),
        ("GET /v1/items", "/v1/items", None),
        ("GET /v1/graph", "/v1/graph?item_id=item00001", None),
        ("GET /v1/version", "/v1/version", None),
    ],
)
def test_an_example_has_the_keys_of_a_true_answer(client: httpx.Client, route: str, path: str, body: Any) -> None:
    answer = (client.post(path, json=body) if body else client.get(path)).json()
    ANSWERS[route].model_validate(answer)
    assert set(OPERATIONS[route].answer) == set(answer)
    for key in ("results", "nodes", "edges"):
        if key in answer:
            assert answer[key]
            missing = set(OPERATIONS[route].answer[key][0]) - set(answer[key][0])
            assert set(answer[key][0]) <= set(OPERATIONS[route].answer[key][0]), key
            assert missing <= {"title"}, "an attribute that this catalogue does not have"
