"""The answers of the routes behind the page; they are only documented, and not validated."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from retrieval.api.schemas import ResultBody


class ItemBody(BaseModel):
    """What is known about an item; attributes that the catalogue does not have are left out."""

    item_id: str
    events: int = Field(description="Events in the training window")
    title: str | None = None
    category: str | None = None
    brand: str | None = None
    price: float | None = None
    image_url: str | None = None


class ItemsResponse(BaseModel):
    """The items that were found."""

    version: str
    items: list[ItemBody]


class GraphEdge(BaseModel):
    """An edge between two of the nodes; `from` and `to` are their positions."""

    model_config = ConfigDict(validate_by_name=True)

    source: int = Field(alias="from")
    to: int
    type: str
    weight: float


class GraphResponse(BaseModel):
    """An item, then its neighbours, the strongest first, and the edges among all of them."""

    version: str
    item_id: str
    nodes: list[ItemBody]
    edges: list[GraphEdge]


class ViewedEdge(BaseModel):
    """An edge from a viewed item to a result."""

    model_config = ConfigDict(validate_by_name=True)

    source: str = Field(alias="from")
    type: str
    weight: float


class AdBody(BaseModel):
    """The ad that won on a result's item."""

    campaign_id: str
    advertiser_id: str | None
    starts_at: datetime | None
    ends_at: datetime | None
    countries: list[str] | None
    bid: float | None


class ExplainedResult(ResultBody):
    """A result with the parts of its score, the edges that lead to it, and its ad."""

    item: ItemBody
    shared_category: str | None = Field(description="Leading levels of the category that the last viewed item has too")
    edges: list[ViewedEdge]
    parts: dict[str, float] | None = Field(None, description="The parts whose sum is the score of retrieval")
    stages: dict[str, Any] | None = None  # type: ignore[assignment]
    ad: AdBody | None = None


class MissingBody(BaseModel):
    """Whether the expected item or ad is shown and, if not, why."""

    expected: str
    shown: bool
    why: list[str]
    rank: int | None = Field(description="Its place, if no rule leaves it out")
    score: float | None


class ExplainResponse(BaseModel):
    """The results with their reasons."""

    version: str
    asked: int
    at: datetime
    unknown_category: str | None = None
    plan: str = Field(description="How the search was made")
    unknown_items: list[str]
    results: list[ExplainedResult]
    expected: MissingBody | None = None
