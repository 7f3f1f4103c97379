"""The retrieval request: the one object that the API, batches, explanations and jobs build for the retriever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from typing import NamedTuple

from retrieval.errors import RequestError
from retrieval.search.filters import NO_FILTERS, Filters


class Stages(NamedTuple):
    """Which of a version's optional stages a request uses."""

    session: bool = True
    prerank: bool = True


ALL_STAGES = Stages()


@dataclass(frozen=True, slots=True)
class RetrievalRequest:
    """What a shopper looks at, and which results may be shown next to it.

    Args:
        items: ids of the viewed items, most recent last; may be empty.
        k: number of results, at least 1.
        at: the time at which ads must be active, as a datetime (UTC if it has no zone) or as µs since 1970 in UTC;
            None means the version's as-of time.
        country: an ISO 3166 alpha-2 code, upper or lower case; None excludes ads that are limited to countries.
        filters: conditions on items and ads, and caps per advertiser and campaign.
        exclude: ids of items that must not be returned.
        min_score: results with a lower score are left out.
        include_current: whether the last of `items` may be returned.
        all_items: rank the whole catalogue, advertised or not.
        reasons: whether to compute why each result was found.
        query: what the shopper searched for; only the pre-ranker uses it.
        stages: which optional stages to use.
        stage_scores: whether to return the score of each stage.

    Raises:
        RequestError: k is below 1.
    """

    items: Sequence[str]
    k: int
    _: KW_ONLY
    at: datetime | int | None = None
    country: str | None = None
    filters: Filters = NO_FILTERS
    exclude: Sequence[str] = ()
    min_score: float | None = None
    include_current: bool = False
    all_items: bool = False
    reasons: bool = True
    query: str | None = None
    stages: Stages = ALL_STAGES
    stage_scores: bool = False

    def __post_init__(self) -> None:
        if self.k < 1:
            raise RequestError("k", f"got {self.k}, expected at least 1")
