"""The bodies of the HTTP API: what comes in is checked strictly, what goes out is documented."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)
from pydantic_core import PydanticCustomError

from retrieval.catalogue.ads import A_COUNTRY, COUNTRY_PATTERN
from retrieval.config import ServeConfig
from retrieval.search.filters import NO_FILTERS, Filters, Number
from retrieval.search.request import RetrievalRequest, Stages

SCHEMA_AT = "#/components/schemas/{model}"
_PROBLEMS = {
    400: "The body is not JSON",
    401: "A bearer token is needed",
    403: "The server takes no changes: it has no write token",
    404: "The item is not in the catalogue",
    408: "The body did not arrive in time",
    413: "The body is too large",
    422: "A field is wrong; it is named",
    500: "The server failed on this request",
    503: "Too many requests are being answered, or nothing fresh is served",
    507: "The log of changes cannot be written; nothing was changed",
}


def _time(value: Any, read: ValidatorFunctionWrapHandler) -> datetime:
    try:
        at: datetime = read(value)
    except ValidationError:
        said = f"got {_short(value)}, expected an ISO 8601 time, e.g. 2026-03-14T09:30:00Z"
        raise PydanticCustomError("time", "{said}", {"said": said}) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _country(value: str) -> str:
    if not re.fullmatch(COUNTRY_PATTERN, value):
        raise PydanticCustomError("country", "{said}", {"said": f"got {_short(value)}, {A_COUNTRY}"})
    return value


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 60 else f"{said[:60]}…"


Time = Annotated[datetime, WrapValidator(_time)]
# The pattern is for the documentation; the validator says it in words.
Country = Annotated[str, AfterValidator(_country), Field(json_schema_extra={"pattern": COUNTRY_PATTERN})]


class StagesBody(BaseModel):
    """Which stages are used, of those that the version has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    session: bool = Field(True, description="Several items are encoded together; else their weighted mean asks")
    prerank: bool = Field(True, description="What retrieval finds is put in order by interaction counters")


ALL_STAGES = StagesBody(session=True, prerank=True)


class RetrieveRequest(BaseModel):
    """What a shopper looks at, and what may be shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: list[str] = Field(description="The items viewed, most recent last")
    k: int = Field(20, ge=1, description="How many results")
    at: Time | None = Field(None, description="When ads must be active (no zone = UTC); default: the server's time")
    country: Country | None = Field(None, description="ISO 3166 alpha-2; without one, no ad with a country limit")
    # Made here, as a plain default would be copied deep for each request.
    filters: Filters = Field(default_factory=lambda: NO_FILTERS)
    exclude: list[str] = Field(default_factory=list, description="Items that must not be returned")
    min_score: Number | None = Field(None, description="Results below this score are left out")
    include_current: bool = Field(False, description="Whether the last of `items` may be a result")
    reasons: bool = Field(True, description="Whether to say why each result is there; null otherwise")
    query: str | None = Field(None, description="What the shopper searched for; the pre-ranker alone makes use of it")
    stages: StagesBody = Field(default_factory=lambda: ALL_STAGES)
    stage_scores: bool = Field(False, description="Whether to say what score each stage gave a result")

    def to_request(self, default_at: datetime) -> RetrievalRequest:
        """Return the request as the retriever takes it; `default_at` gives the time when the body names none."""
        return RetrievalRequest(
            self.items,
            self.k,
            at=self.at or default_at,
            country=self.country,
            filters=self.filters,
            exclude=self.exclude,
            min_score=self.min_score,
            include_current=self.include_current,
            reasons=self.reasons,
            query=self.query,
            stages=Stages(self.stages.session, self.stages.prerank),
            stage_scores=self.stage_scores,
        )


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of a route's errors: RFC 9457 problem details."""
    schema = {"$ref": SCHEMA_AT.format(model="ProblemBody")}
    return {
        status: {"description": _PROBLEMS[status], "content": {"application/problem+json": {"schema": schema}}}
        for status in statuses
    }


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """The documentation of a route whose body is read raw."""
    schema = {"$ref": SCHEMA_AT.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _same(value: Filters) -> Filters:
    return value


def limited(config: ServeConfig) -> type[RetrieveRequest]:
    """The request with a server's limits, so that its documentation states them."""
    ident = Annotated[str, Field(min_length=1, max_length=config.max_id_length)]
    names = Annotated[list[ident], Field(max_length=config.max_exclude)]
    filters = create_model("Filters", __base__=Filters, exclude_advertisers=(names, []), exclude_campaigns=(names, []))
    query = RetrieveRequest.model_fields["query"]
    items = Annotated[
        list[ident],
        Field(max_length=config.max_items, description="The items viewed, most recent last"),
    ]
    return create_model(
        "RetrieveRequest",
        __base__=RetrieveRequest,
        items=(items, ...),
        k=(int, Field(config.default_k, strict=True, ge=1, le=config.max_k, description="How many results")),
        # By factories: pydantic would copy a default, and deeply, at every request.
        filters=(filters, Field(default_factory=partial(_same, filters()))),
        exclude=(names, Field(default_factory=list, description=RetrieveRequest.model_fields["exclude"].description)),
        query=(str | None, Field(None, max_length=config.max_id_length, description=query.description)),
    )


class StageScores(BaseModel):
    """What score each stage gave a result."""

    retrieval: float
    prerank: float | None = Field(None, description="Of a version with a pre-ranker; the result's score")
    counters: dict[str, float] | None = Field(None, description="What each interaction counter added to it")


class ResultBody(BaseModel):
    """One result."""

    rank: int
    item_id: str
    ad_id: str | None
    score: float = Field(description="Compares only within one response")
    reason: str | None = Field(description="Edge types from a viewed item, joined by +; or embedding; or fallback")
    stages: StageScores | None = Field(None, description="Only if asked for, and not of a fallback")


class RetrieveResponse(BaseModel):
    """The results, best first."""

    version: str
    asked: int
    returned: int
    unknown_items: list[str]
    results: list[ResultBody]


class NeighborsResponse(BaseModel):
    """The nearest items of the whole catalogue, advertised or not."""

    version: str
    item_id: str
    asked: int
    returned: int
    results: list[ResultBody]


class VersionResponse(BaseModel):
    """What is served, and what is published."""

    version: str
    as_of: datetime
    current_version: str | None = Field(description="The published version; null when it cannot be read")
    refused: dict[str, str] | None = Field(description="The published version that cannot be served, and why")
    changes_sequence: int = Field(description="The last entry of the log of live changes that counts here")
    items: int
    ads: int | None
    ads_in_flight: int | None = Field(description="Ads that are active at the server's time, in whatever country")
    index: str
    stages: StagesBody = Field(description="Which stages the version has")


class ChangeOutcome(BaseModel):
    """What became of a change."""

    ad_id: str | None
    campaign_id: str | None
    version: int
    outcome: str = Field(
        description="applied; repeated: known already; superseded: newer is known; waiting: until its item is known"
    )
    why: str


class ChangesResponse(BaseModel):
    """What became of the changes, in their order."""

    sequence: int = Field(description="The last entry of the log that counts here")
    changes: list[ChangeOutcome]


class LogEntry(BaseModel):
    """A change as it stands in the log; null: this server's build cannot read it."""

    sequence: int
    received_at: datetime
    change: dict[str, Any] | None


class LogResponse(BaseModel):
    """A page of the log."""

    sequence: int = Field(description="What to ask after next")
    changes: list[LogEntry]


class ProblemBody(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] = []
