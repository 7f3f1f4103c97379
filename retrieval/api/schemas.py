"""The bodies of the HTTP API: request bodies are validated strictly, response bodies are only documented."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model
from pydantic_core import PydanticCustomError

from retrieval.catalogue.ads_table import A_COUNTRY, COUNTRY_PATTERN
from retrieval.config import ServeConfig
from retrieval.search.filters import NO_FILTERS, Filters, Number
from retrieval.search.request import RetrievalRequest, Stages
from retrieval.values import A_TIME, END_OF_TIMES, FIRST_TIME, clean_text, parse_time, to_datetime

SCHEMA_REF = "#/components/schemas/{model}"
_PROBLEMS = {
    400: "The body is not JSON",
    401: "A bearer token is needed",
    403: "The server takes no changes, as it has no write token",
    404: "The item is not in the catalogue",
    410: "The log of changes no longer has these entries; `sequence` is the number after which it can be read",
    408: "The body did not arrive in time",
    413: "The body is too large",
    422: "A field is wrong; the answer names it",
    500: "The server failed on this request",
    503: "Too many requests are being answered, or the served version is too old",
    507: "The log of changes cannot be written; nothing was changed",
}


def _time(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value
    time = parse_time(value) if isinstance(value, str) else None
    if time is None or not FIRST_TIME <= time < END_OF_TIMES:
        message = f"got {_shorten(value)}, {A_TIME}"
        raise PydanticCustomError("time", "{message}", {"message": message})
    return to_datetime(time)


def _country(value: str) -> str:
    country = clean_text(value) or ""
    if not re.fullmatch(COUNTRY_PATTERN, country):
        message = f"got {_shorten(value)}, {A_COUNTRY}"
        raise PydanticCustomError("country", "{message}", {"message": message})
    return country


def _shorten(value: Any) -> str:
    # Long texts are cut, and lists are not written out at all: a list may have half a million elements.
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = repr(value[:61] if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:60]}…"


Time = Annotated[datetime, BeforeValidator(_time)]
# The pattern is only for the documentation; the validator checks it and says in words what is expected.
Country = Annotated[str, AfterValidator(_country), Field(json_schema_extra={"pattern": COUNTRY_PATTERN})]


class StagesBody(BaseModel):
    """Which of the version's optional stages are used."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    session: bool = Field(True, description="Encode several items together; otherwise their weighted mean is the query")
    prerank: bool = Field(True, description="Reorder what retrieval finds by interaction counters")


ALL_STAGES = StagesBody(session=True, prerank=True)


class RetrieveBody(BaseModel):
    """What a shopper looks at, and which results may be shown."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    items: list[str] = Field(description="The items viewed, most recent last")
    k: int = Field(20, ge=1, description="How many results")
    at: Time | None = Field(None, description="When ads must be active (no zone = UTC); default: the server's time")
    country: Country | None = Field(None, description="ISO 3166 alpha-2; without one, no ad with a country limit")
    # A factory, because pydantic would make a deep copy of a plain default for each request.
    filters: Filters = Field(default_factory=lambda: NO_FILTERS)
    exclude: list[str] = Field(default_factory=list, description="Items that must not be returned")
    min_score: Number | None = Field(None, description="Results below this score are left out")
    include_current: bool = Field(False, description="Whether the last of `items` may be a result")
    reasons: bool = Field(True, description="Whether to say why each result was found; otherwise `reason` is null")
    query: str | None = Field(None, description="What the shopper searched for; only the pre-ranker uses it")
    stages: StagesBody = Field(default_factory=lambda: ALL_STAGES)
    stage_scores: bool = Field(False, description="Whether to return the score that each stage gave a result")

    def to_request(self, default_at: datetime) -> RetrievalRequest:
        """Return the request for the retriever; `default_at` is its time if the body names none."""
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
    """Return the documentation of a route's error responses, which are RFC 9457 problem details."""
    schema = {"$ref": SCHEMA_REF.format(model="ProblemBody")}
    return {
        status: {"description": _PROBLEMS[status], "content": {"application/problem+json": {"schema": schema}}}
        for status in statuses
    }


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the documentation of a route whose body is read raw."""
    schema = {"$ref": SCHEMA_REF.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def limited_body(config: ServeConfig) -> type[RetrieveBody]:
    """Return the model of the body of `/v1/retrieve` with a server's limits, so that the documentation states them."""
    identifier = Annotated[str, Field(min_length=1, max_length=config.max_id_length)]
    names = Annotated[list[identifier], Field(max_length=config.max_exclude)]
    filters = create_model("Filters", __base__=Filters, exclude_advertisers=(names, []), exclude_campaigns=(names, []))
    query = RetrieveBody.model_fields["query"]
    description = RetrieveBody.model_fields["items"].description
    items = Annotated[list[identifier], Field(max_length=config.max_items, description=description)]
    no_filters = filters()
    return create_model(
        "RetrieveRequest",
        __base__=RetrieveBody,
        items=(items, ...),
        k=(int, Field(config.default_k, ge=1, le=config.max_k, description="How many results")),
        filters=(filters, Field(default_factory=lambda: no_filters)),
        exclude=(names, Field(default_factory=list, description=RetrieveBody.model_fields["exclude"].description)),
        query=(str | None, Field(None, max_length=config.max_id_length, description=query.description)),
    )


class StageScores(BaseModel):
    """The score that each stage gave a result."""

    retrieval: float
    prerank: float | None = Field(None, description="The result's score, if the pre-ranker was used")
    counters: dict[str, float] | None = Field(None, description="What each interaction counter adds to the score")


class ResultBody(BaseModel):
    """One result."""

    rank: int
    item_id: str
    ad_id: str | None
    score: float = Field(description="Comparable only within one response")
    reason: str | None = Field(description="Edge types from a viewed item, joined by +; or embedding; or fallback")
    stages: StageScores | None = Field(None, description="Only if requested, and never for a fallback")


class RetrieveResponse(BaseModel):
    """The results, best first."""

    version: str
    asked: int
    returned: int
    unknown_items: list[str]
    unknown_category: str | None = Field(None, description="The filter's category, if no item is in it")
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
    at: datetime = Field(description="The time for which requests that name none are answered")
    now: datetime = Field(description="The server's clock; it differs from `at` if the server serves a past time")
    changes_sequence: int = Field(description="The last applied entry of the log of live changes")
    items: int
    ads: int | None
    ads_in_flight: int | None = Field(description="Ads that are active at the server's time, in any country")
    index: str
    stages: StagesBody = Field(description="Which stages the version has")


class ChangeOutcome(BaseModel):
    """What became of a change."""

    ad_id: str | None
    campaign_id: str | None
    version: int
    outcome: str = Field(
        description="applied; repeated: known already; superseded: newer values are known; waiting: its ad, campaign "
        "or item is not known yet"
    )
    why: str


class ChangesResponse(BaseModel):
    """What became of each change, in the order of the request."""

    sequence: int = Field(description="The last applied entry of the log")
    changes: list[ChangeOutcome]


class LogEntry(BaseModel):
    """An entry of the log; its change is null if this server's build cannot read it."""

    sequence: int
    received_at: datetime
    change: dict[str, Any] | None


class LogResponse(BaseModel):
    """A page of the log."""

    sequence: int = Field(description="The value of `after` for the next page")
    changes: list[LogEntry]


class ProblemBody(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] = []
