"""What the retriever answers: ranked items with their ads, scores and reasons, and how they were found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

FALLBACK = "fallback"
EMBEDDING = "embedding"


class Result(NamedTuple):
    """One item to show; scores are comparable only within one response."""

    item_id: str
    ad_id: str | None
    score: float
    reason: str | None


@dataclass(frozen=True)
class Response:
    """Results, best first.

    items, ads, scores, reasons: aligned columns. An ad is None without an ads table or if all items were requested; a
    reason is None if reasons were not requested.
    fallback: none of the request's items is known, so that the results are only the most popular items.
    plan: how the results were found: "index", "index, widened" (the index was searched twice), "exact" or "popular".
    seconds: the time spent on eligibility, search and reasons.
    stages: if requested, the score that each stage gave each result.
    """

    items: list[str]
    ads: Sequence[str | None]
    scores: list[float]
    reasons: Sequence[str | None]
    unknown_items: list[str] = field(default_factory=list)
    fallback: bool = False
    plan: str = "exact"
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)
    stages: list[dict[str, Any]] | None = None

    @cached_property
    def results(self) -> list[Result]:
        """The columns as a list of results."""
        return list(map(Result, self.items, self.ads, self.scores, self.reasons))
