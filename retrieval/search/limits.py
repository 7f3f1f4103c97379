"""Applies k, min_score, exclusions and caps to a ranked list, and explains why a row is left out.

Ranked rows come in batches of any length, and each batch is tested in a few numpy operations.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from retrieval.arrays import Floats, Mask, Rows, positions_in_lists
from retrieval.search.request import RetrievalRequest
from retrieval.search.scope import Scope

if TYPE_CHECKING:
    from retrieval.catalogue.ads import Ads
    from retrieval.catalogue.items import Catalogue

# Up to this many ads, a loop is faster than numpy.
_FEW = 64

BELOW_MIN_SCORE = "its score is below min_score"


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

    @property
    def capped(self) -> bool:
        """Whether a cap applies."""
        caps = self.max_per_advertiser or self.max_per_campaign
        return self.ads is not None and self.scope.ads is not None and bool(caps)

    @property
    def bounds_rank(self) -> bool:
        """Whether the best k rows that may be returned are the results: no cap and no min_score drops any of them."""
        return self.min_score is None and not self.capped


class ResultList:
    """The results of one request, filled from ranked rows; each further batch of rows ranks behind the one before it.

    Attributes:
        lines: the row and the score of each result, best first.
        below_min_score: whether a row had a score below min_score; if so, all further rows have one, too.
    """

    def __init__(self, limits: ResultLimits) -> None:
        self.lines: list[tuple[int, float]] = []
        self.below_min_score = False
        self._limits = limits
        self._left_out = np.fromiter(limits.left_out, np.int64, len(limits.left_out))
        self._caps: list[_Cap] = []
        if limits.ads is not None and limits.capped:
            ads = limits.ads
            # Campaigns come first: see `_Cap.room`.
            for cap, owner, n in (
                (limits.max_per_campaign, ads.campaign, len(ads.campaigns)),
                (limits.max_per_advertiser, ads.advertiser, len(ads.advertisers)),
            ):
                if cap is not None:
                    self._caps.append(_Cap(cap, owner, n))

    @property
    def full(self) -> bool:
        """Whether the list has k results."""
        return len(self.lines) >= self._limits.k

    def extend(self, rows: Rows, scores: Floats) -> None:
        """Append the next ranked rows (n,) that the limits let pass, with their scores (n,)."""
        if len(self._left_out):
            if len(rows) > _FEW:
                passing = ~np.isin(rows, self._left_out)
            else:
                passing = np.array([row not in self._limits.left_out for row in rows.tolist()], bool)
            rows, scores = rows[passing], scores[passing]
        if self._limits.min_score is not None:
            n = int(np.count_nonzero(scores >= np.float64(self._limits.min_score)))
            self.below_min_score |= n < len(rows)
            rows, scores = rows[:n], scores[:n]
        if self._caps and len(rows):
            ads = self._limits.scope.ads_of(rows)
            accepted = self._accepted(ads)
            rows, scores, ads = rows[accepted], scores[accepted], ads[accepted]
            if len(ads) < self._limits.k - len(self.lines):  # else the list is full, and nothing is counted any more
                for cap in self._caps:
                    cap.count(ads)
        room = self._limits.k - len(self.lines)
        self.lines += zip(rows[:room].tolist(), scores[:room].tolist(), strict=True)

    def closed(self, rows: Rows) -> Mask:
        """Return which rows (n,) of the scope can no longer become results, because a cap has no room for them."""
        closed = np.zeros(len(rows), bool)
        if self._caps:
            ads = self._limits.scope.ads_of(rows)
            for cap in self._caps:
                closed |= cap.filled(ads)
        return closed

    def rejection(self, row: int, score: float) -> str | None:
        """Return why a row of the scope would not be the next result, ignoring k; None if it would be."""
        if self._limits.min_score is not None and score < self._limits.min_score:
            return BELOW_MIN_SCORE
        for cap, name in zip(reversed(self._caps), self._cap_names(), strict=True):
            if cap.filled(self._limits.scope.ads_of(np.array([row])))[0]:
                return f"others of its {name} fill max_per_{name}"
        return None

    def _cap_names(self) -> list[str]:
        caps = {"advertiser": self._limits.max_per_advertiser, "campaign": self._limits.max_per_campaign}
        return [name for name, cap in caps.items() if cap is not None]

    def _accepted(self, ads: Rows) -> Rows:
        """Return the positions of the ranked ads (n,) that the caps let pass, ascending."""
        positions = np.arange(len(ads))
        if len(ads) > _FEW:
            for cap in self._caps:
                positions = positions[~cap.filled(ads[positions])]
        if len(ads) <= _FEW or (len(self._caps) == 2 and not self._nested(ads[positions])):
            return self._one_by_one(ads, positions)
        for cap in self._caps:
            positions = positions[cap.room(ads[positions])]
        return positions

    def _nested(self, ads: Rows) -> bool:
        """Whether each campaign belongs to one advertiser among these ads."""
        campaign, advertiser = (cap.owner[ads] for cap in self._caps)
        order = np.argsort(campaign, kind="stable")
        campaign, advertiser = campaign[order], advertiser[order]
        return bool(((campaign[1:] != campaign[:-1]) | (advertiser[1:] == advertiser[:-1])).all())

    def _one_by_one(self, ads: Rows, positions: Rows) -> Rows:
        """Do the same as `_accepted` for few ads, or where a campaign has several advertisers."""
        accepted = []
        ads = ads[positions]
        owners = list(zip(*(cap.owner[ads].tolist() for cap in self._caps), strict=True))
        room = list(zip(*(cap.room_of(ads).tolist() for cap in self._caps), strict=True))
        counts = [Counter[int]() for _ in self._caps]
        needed = self._limits.k - len(self.lines)
        for position, names, places in zip(positions.tolist(), owners, room, strict=True):
            if all(count[name] < n for count, name, n in zip(counts, names, places, strict=True)):
                accepted.append(position)
                if len(accepted) == needed:
                    break
                for count, name in zip(counts, names, strict=True):
                    count[name] += 1
        return np.array(accepted, np.int64)


class _Cap:
    """A cap on the results of one owner, an advertiser or a campaign, and how many results each owner has.

    owner: (A,) int64, the owner of each ad; a negative number is an ad without one, which is never capped.
    """

    def __init__(self, most: int, owner: Rows, n_owners: int) -> None:
        self.owner = owner
        self._most = min(most, 2**31)
        # The last place is that of the ads without an owner, and stays 0.
        self._counts = np.zeros(n_owners + 1, np.int64)

    def _places(self, ads: Rows) -> Rows:
        owner = self.owner[ads]
        return np.where(owner < 0, len(self._counts) - 1, owner)

    def filled(self, ads: Rows) -> Mask:
        """Return whether the owner of each ad (n,) has as many results as the cap allows."""
        return self._counts[self._places(ads)] >= self._most

    def room_of(self, ads: Rows) -> Rows:
        """Return how many further results the owner of each ad (n,) may have: (n,) int64."""
        return self._most - self._counts[self._places(ads)]

    def room(self, ads: Rows) -> Mask:
        """Return which of the ranked ads (n,) pass, if all ads before them count as results.

        The campaigns' cap comes first, and the advertisers' cap then tests what has passed. This is right if each
        campaign has one advertiser: an ad that the advertisers' cap rejects has taken room of its campaign only from
        later ads of the same advertiser, which this cap rejects, too.
        """
        owner = self.owner[ads]
        order = np.argsort(owner, kind="stable")
        starts = np.flatnonzero(np.concatenate([[True], owner[order][1:] != owner[order][:-1]]))
        earlier = np.empty(len(ads), np.int64)
        earlier[order] = positions_in_lists(np.append(starts, len(ads)))
        return earlier < self.room_of(ads)

    def count(self, ads: Rows) -> None:
        """Count the results of ads (n,)."""
        np.add.at(self._counts, self._places(ads), 1)
        self._counts[-1] = 0
