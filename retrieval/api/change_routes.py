"""Live changes over HTTP: one ad, one campaign or many at once, and the log for clients that poll it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from retrieval.api import schemas
from retrieval.api.fast_path import read_body, validated
from retrieval.api.problem import json_response, problem, validation_problem
from retrieval.api.state import ServerState
from retrieval.config import ServeConfig
from retrieval.errors import ChangeLogError
from retrieval.live.change import Change
from retrieval.live.change_log import ChangeLog, CompactedError
from retrieval.live.live_ads import Outcome
from retrieval.values import clean_text

Read = TypeVar("Read")
# A body of up to this many bytes is validated in less than a millisecond.
_SMALL_BODY = 4096


class ChangeBatch(BaseModel):
    """Changes that are applied together; if one of them is invalid, none is applied."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    changes: list[Change] = Field(min_length=1)


class _JsonObject(BaseModel):
    """Any JSON object."""

    model_config = ConfigDict(extra="allow")


class ChangeRoutes:
    """The routes that change ads and campaigns, and the route that reads the log.

    Attributes:
        router: the routes.
        bodies: the models of the request bodies. These are read raw, so the framework does not document them.
    """

    def __init__(self, state: ServerState, config: ServeConfig) -> None:
        self._state, self._config = state, config
        changes = Annotated[list[Change], Field(min_length=1, max_length=config.max_changes)]
        self._batch = create_model("ChangeBatch", __base__=ChangeBatch, changes=(changes, ...))
        self.bodies: list[type[BaseModel]] = [self._batch, Change]
        self.router = APIRouter(tags=["live changes"])
        self._add("/v1/changes", "POST", self.change, self._batch)
        self._add("/v1/ads/{ad_id:path}", "PATCH", self.change_ad, Change)
        self._add("/v1/campaigns/{campaign_id:path}", "PATCH", self.change_campaign, Change)
        self._add_log()

    def _add(self, path: str, method: str, endpoint: Any, body: type[BaseModel]) -> None:
        self.router.add_api_route(
            path,
            endpoint,
            methods=[method],
            response_model=None,
            responses={
                200: {"model": schemas.ChangesResponse},
                **schemas.problems(400, 401, 403, 408, 413, 422, 503, 507),
            },
            openapi_extra=schemas.body_of(body),
        )

    async def change(self, request: Request) -> Response:
        """Change ads and campaigns: pause them, move their end, or add ads for known items. All or none are applied.

        A change is in effect once the server has answered, and may be sent again. Values with a higher `version`, from
        the nightly table or from another change, stay in effect, even if a lower version arrives later.
        """
        batch = await self._read(request, partial(validated, self._batch))
        return batch if isinstance(batch, Response) else await self._record(batch.changes)

    async def change_ad(self, ad_id: str, request: Request) -> Response:
        """Change one ad, or add one."""
        return await self._change_one("ad_id", ad_id, request)

    async def change_campaign(self, campaign_id: str, request: Request) -> Response:
        """Change all ads of a campaign, including those that join it later."""
        return await self._change_one("campaign_id", campaign_id, request)

    async def _change_one(self, name: str, value: str, request: Request) -> Response:
        change = await self._read(request, partial(_change_of, name, value))
        return change if isinstance(change, Response) else await self._record([change])

    async def _read(self, request: Request, read: Callable[[bytes], Read | Response]) -> Read | Response:
        """Read a body; a large one is validated in another thread, so that the event loop serves other requests."""
        body = await read_body(request.receive, self._config)
        if isinstance(body, Response):
            return body
        return read(body) if len(body) <= _SMALL_BODY else await self._state.aside(read, body)

    async def _record(self, changes: Sequence[Change]) -> Response:
        outcomes = await self._state.record(changes)
        if len(changes) == 1:
            return _outcomes_response(self._state.sequence, changes, outcomes)
        return await self._state.aside(_outcomes_response, self._state.sequence, changes, outcomes)

    def _add_log(self) -> None:
        state, max_changes = self._state, self._config.max_changes

        @self.router.get(
            "/v1/changes",
            response_model=None,
            responses={200: {"model": schemas.LogResponse}, **schemas.problems(401, 410, 422, 503)},
        )
        async def log(
            after: int = Query(0, ge=0, lt=2**63),
            limit: int = Query(min(100, max_changes), ge=1, le=max_changes),
        ) -> Response:
            """The log after a sequence number, oldest entry first; send `sequence` as `after` for the next page.

            410: the log no longer has these entries. `sequence` in the answer is the number after which it can be read.
            """
            return await state.aside(_log_response, state.log, after, limit)


def _change_of(name: str, value: str, body: bytes) -> Change | Response:
    """Return the change of the ad or campaign in the path, or an error response if the body names another one."""
    fields = validated(_JsonObject, body)
    if isinstance(fields, Response):
        return fields
    try:
        change = Change.model_validate({name: value} | (fields.model_extra or {}))
    except ValidationError as error:
        return validation_problem(error)
    if getattr(change, name) != clean_text(value) or (name == "campaign_id" and change.ad_id is not None):
        fault = {"field": name, "message": "differs from the path"}
        return problem(422, f"{name}: the body names another one than the path, which has {value!r}", [fault])
    return change


def _outcomes_response(sequence: int, changes: Sequence[Change], outcomes: Sequence[Outcome]) -> Response:
    lines = [_outcome_line(change, outcome) for change, outcome in zip(changes, outcomes, strict=True)]
    return json_response({"sequence": sequence, "changes": lines})


def _log_response(log: ChangeLog, after: int, limit: int) -> Response:
    try:
        entries = log.after(after, limit)
    except CompactedError as error:
        return problem(410, str(error), more={"sequence": error.sequence})
    except ChangeLogError as error:
        return problem(503, str(error), headers={"Retry-After": "1"})
    lines = [
        {
            "sequence": entry.sequence,
            "received_at": entry.received_at,
            "change": entry.change and entry.change.model_dump(mode="json", exclude_unset=True),
        }
        for entry in entries
    ]
    return json_response({"sequence": entries[-1].sequence if entries else after, "changes": lines})


def _outcome_line(change: Change, outcome: Outcome) -> dict[str, Any]:
    return {
        "ad_id": change.ad_id,
        "campaign_id": change.campaign_id,
        "version": change.version,
        **outcome._asdict(),
    }
