"""Applies k, min_score, exclusions and per-advertiser caps to a ranked list, and explains why a row is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from retrieval.arrays import Floats, Rows
from retrieval.search.request import RetrievalRequest
from retrieval.search.scope import Scope

if TYPE_CHECKING:
    from retrieval.catalogue.ads import Ads
    from retrieval.catalogue.items import Catalogue

BELOW_MIN_SCORE = "its score is below min_score"
_EXCLUDED = "the request leaves the item out"


class Exclusions(NamedTuple):
    """The rows of the items that a request leaves out: those in `exclude`, and the item being viewed."""

    excluded: set[int]
    viewed: set[int]

    @classmethod
    def of(cls, request: RetrievalRequest, catalogue: Catalogue) -> Exclusions:
        """Return the exclusions of a request."""
        viewed = [] if request.include_current else catalogue.rows(request.items[-1:])[0]
        return cls(set(catalogue.rows(request.exclude)[0]), set(viewed))

    def rows(self) -> set[int]:
        """Return all rows that are left out."""
        return self.excluded | self.viewed

    def reasons(self, row: int) -> list[str]:
        """Return why a row is left out; empty if it is not."""
        reasons = []
        if row in self.excluded:
            reasons.append("the request excludes it")
        if row in self.viewed:
            reasons.append("it is the item being viewed")
        return reasons


class ResultLimits(NamedTuple):
    """The limits of a request on its ranked list.

    scope: the rows that may be returned, with their winning ads. left_out: rows that must not be returned. An ad
    without an advertiser or campaign does not count towards a cap.
    """

    k: int
    scope: Scope
    left_out: set[int]
    ads: Ads | None = None
    max_per_advertiser: int | None = None
    max_per_campaign: int | None = None
    min_score: float | None = None

    @classmethod
    def of(cls, request: RetrievalRequest, scope: Scope, ads: Ads | None, left_out: set[int]) -> ResultLimits:
        """Return the limits of a request.

        Args:
            request: the request.
            scope: the rows that it may return.
            ads: the ads table; None if there is none.
            left_out: rows that must not be returned.
        """
        caps = (request.filters.max_per_advertiser, request.filters.max_per_campaign)
        return cls(request.k, scope, left_out, ads, *caps, request.min_score)

    def without_thresholds(self, k: int) -> ResultLimits:
        """Return limits with another k, and without caps and min_score."""
        return ResultLimits(k, self.scope, self.left_out)

    @property
    def capped(self) -> bool:
        """Whether a cap applies."""
        caps = self.max_per_advertiser or self.max_per_campaign
        return self.ads is not None and self.scope.ads is not None and bool(caps)

    def apply(self, rows: Rows, scores: Floats) -> tuple[list[tuple[int, float]], bool]:
        """Return the first k of the ranked rows that pass, with their scores, and whether no further row is needed."""
        lines = list(zip(rows.tolist(), scores.tolist(), strict=True))
        if self.min_score is None and not self.capped:
            left_out = self.left_out
            passing = [line for line in lines if line[0] not in left_out][: self.k]
            return passing, len(passing) == self.k
        passing = []
        for line, rejection in zip(lines, self.rejections(lines), strict=True):
            if rejection is BELOW_MIN_SCORE:
                return passing, True
            if rejection is None:
                passing.append(line)
                if len(passing) == self.k:
                    return passing, True
        return passing, False

    def rejections(self, lines: list[tuple[int, float]]) -> Iterator[str | None]:
        """Yield why each (row, score) of a ranked list, best first, is left out; None if it passes. k is ignored."""
        per_advertiser, per_campaign = Counter[int](), Counter[int]()
        capped = self.capped
        for row, score in lines:
            if self.min_score is not None and score < self.min_score:
                yield BELOW_MIN_SCORE
                continue
            if row in self.left_out:
                yield _EXCLUDED
                continue
            if capped:
                advertiser, campaign = self._owners(row)
                if self.max_per_advertiser and per_advertiser[advertiser] >= self.max_per_advertiser:
                    yield "others of its advertiser fill max_per_advertiser"
                    continue
                if self.max_per_campaign and per_campaign[campaign] >= self.max_per_campaign:
                    yield "others of its campaign fill max_per_campaign"
                    continue
                per_advertiser[advertiser] += 1
                per_campaign[campaign] += 1
            yield None

    def _owners(self, row: int) -> tuple[int, int]:
        """Return the advertiser and the campaign of a row's winning ad, as numbers."""
        assert self.ads is not None
        ad = int(self.scope.ads_of(np.array([row]))[0])
        return int(self.ads.advertiser[ad]), int(self.ads.campaign[ad])
