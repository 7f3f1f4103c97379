"""What a request's own conditions take of a ranked list."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from retrieval.arrays import Floats, Rows
from retrieval.search.filters import Filters
from retrieval.search.scope import Scope

if TYPE_CHECKING:
    from retrieval.catalogue.ads import Ads


class Picker(NamedTuple):
    """Takes the k first rows of a scope that are not left out, within the caps, and not below a score."""

    k: int
    scope: Scope
    ads: Ads | None
    filters: Filters
    left_out: set[int]
    min_score: float | None = None

    def pick(self, rows: Rows, scores: Floats) -> tuple[list[tuple[int, float]], bool]:
        """The first k rows that the request's own conditions let through, and whether no further row is needed."""
        k, scope, _, filters, left_out, min_score = self
        advertiser_cap, campaign_cap = filters.max_per_advertiser, filters.max_per_campaign
        shown: Counter[tuple[str, int]] = Counter()
        capped = self.ads is not None and scope.ads is not None and (advertiser_cap or campaign_cap)
        if not capped and min_score is None:
            lines = zip(rows.tolist(), scores.tolist(), strict=True)
            kept = [line for line in lines if line[0] not in left_out][:k]
            return kept, len(kept) == k
        picked: list[tuple[int, float]] = []
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            if min_score is not None and score < min_score:
                return picked, True
            if row in left_out:
                continue
            if capped:
                assert self.ads is not None
                ad = self._ad(row)
                advertiser = ("advertiser", int(self.ads.advertiser[ad]))
                campaign = ("campaign", int(self.ads.campaign[ad]))
                if (advertiser_cap and shown[advertiser] >= advertiser_cap) or (
                    campaign_cap and shown[campaign] >= campaign_cap
                ):
                    continue
                shown.update((advertiser, campaign))
            picked.append((row, score))
            if len(picked) == k:
                return picked, True
        return picked, False

    def _ad(self, row: int) -> int:
        return int(self.scope.ads_of(np.array([row]))[0])
