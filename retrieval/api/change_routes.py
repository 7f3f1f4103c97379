"""Live changes over HTTP: one ad, one campaign or many at once, and the log for those who poll it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from retrieval.api import schemas
from retrieval.api.fast_path import read_model
from retrieval.api.problem import json_response, of_validation, problem
from retrieval.api.state import Served
from retrieval.config import ServeConfig
from retrieval.live.change import Change


class ChangeBatch(BaseModel):
    """Changes that are taken together: if one of them makes no sense, none is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    changes: list[Change] = Field(min_length=1)


def change_routes(served: Served, config: ServeConfig) -> tuple[APIRouter, list[type[BaseModel]]]:
    """(the routes, the models of their bodies, which are read raw)."""
    router = APIRouter(tags=["live changes"])
    many = Annotated[list[Change], Field(min_length=1, max_length=config.max_changes)]
    batch = create_model("ChangeBatch", __base__=ChangeBatch, changes=(many, ...))
    answers: dict[int | str, dict[str, Any]] = {
        200: {"model": schemas.ChangesResponse},
        **schemas.problems(400, 401, 403, 408, 413, 422, 503, 507),
    }

    @router.post("/v1/changes", response_model=None, responses=answers, openapi_extra=schemas.body_of(batch))
    async def change(request: Request) -> Response:
        """Change ads and campaigns: pause them, move their end, add ads for known items. All at once, or none.

        A change counts as soon as this answers. It may be sent again. What the nightly table or another change says
        with a higher `version` stays, whatever arrives later.
        """
        asked = await read_model(request.receive, config, batch)
        return asked if isinstance(asked, Response) else await taken(asked.changes)

    @router.patch("/v1/ads/{ad_id:path}", response_model=None, responses=answers, openapi_extra=schemas.body_of(Change))
    async def change_ad(ad_id: str, request: Request) -> Response:
        """Change one ad, or add one."""
        return await one("ad_id", ad_id, request)

    @router.patch(
        "/v1/campaigns/{campaign_id:path}",
        response_model=None,
        responses=answers,
        openapi_extra=schemas.body_of(Change),
    )
    async def change_campaign(campaign_id: str, request: Request) -> Response:
        """Change all ads of a campaign, also those that join it later."""
        return await one("campaign_id", campaign_id, request)

    async def one(name: str, value: str, request: Request) -> Response:
        given = await read_model(request.receive, config, _Object)
        if isinstance(given, Response):
            return given
        try:
            # The id stands in the path; a body that names another one is a mistake.
            asked = Change.model_validate({name: value} | (given.model_extra or {}))
        except ValidationError as error:
            return of_validation(error)
        if getattr(asked, name) != value or (name == "campaign_id" and asked.ad_id is not None):
            return problem(422, f"{name}: the path says {value!r}", [{"field": name, "message": "not the path's"}])
        return await taken([asked])

    async def taken(changes: Sequence[Change]) -> Response:
        outcomes = await served.take(changes)
        lines = [
            {"ad_id": change.ad_id, "campaign_id": change.campaign_id, "version": change.version, **outcome._asdict()}
            for change, outcome in zip(changes, outcomes, strict=True)
        ]
        return json_response({"sequence": served.sequence, "changes": lines})

    @router.get(
        "/v1/changes",
        response_model=None,
        responses={200: {"model": schemas.LogResponse}, **schemas.problems(401, 422, 503)},
    )
    async def log(
        after: int = Query(0, ge=0, lt=2**63),
        limit: int = Query(min(100, config.max_changes), ge=1, le=config.max_changes),
    ) -> Response:
        """The log of changes after a sequence number, oldest first; `sequence` is what to ask after next."""
        entries = await served.entries(after, limit)
        lines = [
            {
                "sequence": entry.sequence,
                "received_at": entry.received_at,
                "change": entry.change and entry.change.model_dump(mode="json", exclude_unset=True),
            }
            for entry in entries
        ]
        return json_response({"sequence": entries[-1].sequence if entries else after, "changes": lines})

    return router, [batch, Change]


class _Object(BaseModel):
    """Any JSON object."""

    model_config = ConfigDict(extra="allow")
