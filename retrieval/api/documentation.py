"""What `/docs` says about the API: an introduction, groups, and for each operation its name and a worked example."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from retrieval.api.schemas import SCHEMA_REF

INTRODUCTION = """
Ask which **ads** to show beside the items that a shopper looks at:

```
curl -d '{"items": ["sku-1", "sku-2"], "k": 2, "country": "DE"}' localhost:8000/v1/retrieve
```

- `items` lists what was viewed, the most recent last. The answer has one row per item, best first, with its winning ad.
- Only ads that may be shown at the time of the request (`at`, else the server's time) and in its `country` come back.
- Scores are comparable only within one answer. `reason` says why a row is there: the types of the edges from a viewed
  item, or `embedding`, or `fallback` if none of the viewed items is known.
- Errors are problem documents (RFC 9457): `{type, title, status, detail, errors}`. 422 names each wrong field; 503 with
  `Retry-After` means that the server is busy.
- If the server needs a token, send it as `Authorization: Bearer TOKEN` (button *Authorize*). Changes always need one.

[The page](./) shows the same for one item, with pictures of its neighbourhood.
"""
TAGS = (
    {"name": "retrieve", "description": "Ads for what a shopper looks at, and the items nearest to an item."},
    {"name": "explain", "description": "Why an ad is shown, or is not. Meant for people: these take longer."},
    {"name": "live changes", "description": "Pause, end or add ads and campaigns between two nightly builds."},
    {"name": "operate", "description": "What is served, and whether the server lives and is ready."},
)


@dataclass(frozen=True)
class Operation:
    """How one operation is documented: its name for generated clients, its group, a title, and a worked example."""

    name: str
    tag: str
    title: str
    answer: Any
    request: Any = None


_VERSION = "20260315T235958-d6bd806d"
_RESULT = {"rank": 1, "item_id": "sku-9", "ad_id": "a-901", "score": 1.584, "reason": "co_search+strong_click"}
_SECOND = {"rank": 2, "item_id": "sku-4", "ad_id": "a-417", "score": 1.204, "reason": "embedding"}
_RETRIEVED = {"version": _VERSION, "asked": 2, "returned": 2, "unknown_items": [], "results": [_RESULT, _SECOND]}
_NEIGHBORS = {
    **{"version": _VERSION, "item_id": "sku-1", "asked": 2, "returned": 2},
    "results": [_RESULT | {"ad_id": None}, _SECOND | {"ad_id": None}],
}
_ITEM = {"item_id": "sku-9", "title": "Trail shoes", "category": "Shoes > Running", "price": 79.9, "events": 412}
_VIEWED = {"item_id": "sku-1", "title": "Road shoes", "category": "Shoes > Running", "price": 89.0, "events": 903}
_EXPLAINED = {
    **{"version": _VERSION, "asked": 1, "at": "2026-03-15T23:59:58Z", "plan": "exact", "unknown_items": []},
    "results": [
        _RESULT
        | {
            **{"item": _ITEM, "shared_category": "Shoes > Running"},
            "edges": [{"from": "sku-1", "type": "strong_click", "weight": 30.25}],
            "parts": {"embedding": 0.671, "demand and popularity": 0.032, "direct": 0.881},
            "stages": {"retrieval": 1.584},
            "ad": {
                **{"campaign_id": "c-7", "advertiser_id": "brimo", "starts_at": None, "ends_at": None},
                **{"countries": ["DE"], "bid": 0.42},
            },
        }
    ],
    "expected": {
        **{"expected": "a-233", "shown": False, "rank": None, "score": None},
        "why": ["ad a-233: its status is 'paused'"],
    },
}
_GRAPH = {
    **{"version": _VERSION, "item_id": "sku-1", "nodes": [_VIEWED, _ITEM]},
    "edges": [{"from": 0, "to": 1, "type": "strong_click", "weight": 30.25}],
}
_PAUSE = {"version": 12, "status": "paused"}
_CAMPAIGN = {"version": 41, "ends_at": "2026-04-01T00:00:00Z"}
_APPLIED = {"ad_id": "a-901", "campaign_id": None, "version": 12, "outcome": "applied", "why": ""}
_CHANGED = {"sequence": 7, "changes": [_APPLIED]}
_LOG = {
    "sequence": 7,
    "changes": [
        {"sequence": 7, "received_at": "2026-03-16T08:12:31Z", "change": {"ad_id": "a-901"} | _PAUSE},
    ],
}
_SERVED = {
    **{"version": _VERSION, "as_of": "2026-03-15T23:59:58Z", "current_version": _VERSION, "refused": None},
    **{"at": "2026-03-16T08:12:31Z", "now": "2026-03-16T08:12:31Z", "changes_sequence": 7},
    **{"items": 23_975, "ads": 9248, "ads_in_flight": 6986, "index": "ivf_sq8"},
    "stages": {"session": False, "prerank": True},
}
OPERATIONS = {
    "POST /v1/retrieve": Operation(
        "retrieve",
        "retrieve",
        "The ads to show",
        _RETRIEVED,
        {"items": ["sku-2", "sku-1"], "k": 2, "country": "DE", "filters": {"category": "Shoes", "max_per_campaign": 1}},
    ),
    "GET /v1/items/{item_id}/neighbors": Operation("neighbors", "retrieve", "The items nearest to an item", _NEIGHBORS),
    "GET /v1/neighbors": Operation("neighbors_of", "retrieve", "The same, with the id as a parameter", _NEIGHBORS),
    "POST /v1/explain": Operation(
        "explain",
        "explain",
        "Why these ads, and why not another",
        _EXPLAINED,
        {"items": ["sku-1"], "k": 1, "country": "DE", "expected": "a-233"},
    ),
    "GET /v1/items": Operation(
        "find_items", "explain", "Find items by id or title", {"version": _VERSION, "items": [_ITEM]}
    ),
    "GET /v1/items/{item_id}/graph": Operation("graph", "explain", "An item's neighbourhood in the graph", _GRAPH),
    "GET /v1/graph": Operation("graph_of", "explain", "The same, with the id as a parameter", _GRAPH),
    "POST /v1/changes": Operation(
        "change", "live changes", "Change many at once", _CHANGED, {"changes": [{"ad_id": "a-901"} | _PAUSE]}
    ),
    "GET /v1/changes": Operation("changes", "live changes", "Read the log of changes", _LOG),
    "PATCH /v1/ads/{ad_id}": Operation("change_ad", "live changes", "Change or add an ad", _CHANGED, _PAUSE),
    "PATCH /v1/campaigns/{campaign_id}": Operation(
        "change_campaign",
        "live changes",
        "Change a campaign",
        {"sequence": 8, "changes": [_APPLIED | {"ad_id": None, "campaign_id": "c-7", "version": 41}]},
        _CAMPAIGN,
    ),
    "GET /v1/version": Operation("version", "operate", "What is served", _SERVED),
    "GET /healthz": Operation("health", "operate", "The process lives", {"status": "ok"}),
    "GET /readyz": Operation(
        "ready", "operate", "A version is loaded and fresh", {"status": "ready", "version": _VERSION, "refused": None}
    ),
}
_PARAMETERS = {
    "item_id": ("The id of an item", "sku-1"),
    "ad_id": ("The id of an ad", "a-901"),
    "campaign_id": ("The id of a campaign", "c-7"),
    "q": ("The beginning of an id, or words of a title; left out: some items to begin with", "trail shoes"),
    "k": ("How many results", 2),
    "limit": ("At most how many", 10),
    "neighbours": ("At most how many neighbours", 20),
    "after": ("Only entries after this sequence number", 0),
}


def document(app: FastAPI, bodies: Sequence[type[BaseModel]]) -> None:
    """Make an application's OpenAPI document: its routes, the bodies that are read raw, and the examples.

    Args:
        app: the application; the document is made at the first request for it.
        bodies: the models of the request bodies that FastAPI does not see.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            content = get_openapi(
                title=app.title, version=app.version, routes=app.routes, description=INTRODUCTION, tags=[*TAGS]
            )
            _, definitions = models_json_schema([(body, "validation") for body in bodies], ref_template=SCHEMA_REF)
            components = content.setdefault("components", {})
            components.setdefault("schemas", {}).update(definitions["$defs"])
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            content["security"] = [{}, {"token": []}]
            for route, described in _operations(content):
                if route in OPERATIONS:
                    _describe(described, OPERATIONS[route])
            app.openapi_schema = content
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _operations(content: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in content["paths"].items():
        for method, described in methods.items():
            yield f"{method.upper()} {path}", described


def _describe(described: dict[str, Any], operation: Operation) -> None:
    described |= {"operationId": operation.name, "tags": [operation.tag], "summary": operation.title}
    if operation.request is not None:
        described["requestBody"]["content"]["application/json"]["example"] = operation.request
    answer = described["responses"].setdefault("200", {"description": "OK"}).setdefault("content", {})
    answer.setdefault("application/json", {})["example"] = operation.answer
    for parameter in described.get("parameters", ()):
        if parameter["name"] in _PARAMETERS:
            description, example = _PARAMETERS[parameter["name"]]
            parameter.setdefault("description", description)
            parameter.setdefault("example", example)
