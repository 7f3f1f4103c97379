"""Ads as they count now: those of the nightly table with the live changes in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import numpy as np

from retrieval.catalogue.ads import Ads
from retrieval.live.change import Change, Changes
from retrieval.live.change_log import Entry


class Outcome(NamedTuple):
    """What became of a change. `superseded`: newer is known; `waiting`: kept until a version knows the ad's item."""

    outcome: Literal["applied", "repeated", "superseded", "waiting"]
    why: str = ""


class LiveAds:
    """The nightly table's ads and the changes since, folded into one `Ads` that is made anew at each change."""

    def __init__(self, base: Ads) -> None:
        self.ads = self._base = base
        self.changes = Changes()

    def rebased(self, base: Ads) -> LiveAds:
        """The same changes over another version's table."""
        new = LiveAds(base)
        new.changes = self.changes
        new._renew(self.changes.ads, self.changes.campaigns)
        return new

    def take(self, entries: Iterable[Entry]) -> None:
        """Fold further entries of the log in."""
        ads, campaigns = set(), set()
        for entry in entries:
            self.changes.add(entry.sequence, entry.change)
            if entry.change is None:
                continue
            if entry.change.ad_id is None:
                campaigns.add(str(entry.change.campaign_id))
            else:
                ads.add(entry.change.ad_id)
        self._renew(ads, campaigns)

    def outcome(self, change: Change) -> Outcome:
        """What became of a change that was taken."""
        if change.ad_id is None:
            every = self._of({str(change.campaign_id)})
            if not every:
                return Outcome("waiting", f"no ad of campaign {change.campaign_id!r} is known")
            if any(self._counts(change, ad) for ad in every):
                return Outcome("applied")
            return Outcome("superseded", "newer is known of all of its ads")
        now = self._row(change.ad_id)
        if now is None:
            return Outcome("waiting", f"ad {change.ad_id!r} is in no table yet: item_id and campaign_id are needed")
        if self.ads.slot(change.ad_id) is None:
            return Outcome("waiting", f"item {now['item_id']!r} is not in the catalogue of this version")
        return Outcome("applied") if self._counts(change, change.ad_id) else Outcome("superseded", "newer is known")

    def _counts(self, change: Change, ad_id: str) -> bool:
        """Whether any field of the ad is as this change says, and because of it."""
        now = self.changes.newest(ad_id, self._base.row(ad_id))
        mine = {name: (change.version, value) for name, value in change.values().items()}
        return any((now[name].version, now[name].value) == said for name, said in mine.items())

    def _row(self, ad_id: str) -> dict[str, Any] | None:
        return self.changes.row(ad_id, self._base.row(ad_id))

    def _of(self, campaigns: set[str]) -> set[str]:
        """The ads of some campaigns."""
        codes = [self.ads.campaigns[name] for name in campaigns if name in self.ads.campaigns]
        return set(self.ads.ad_ids[np.isin(self.ads.campaign, codes)].tolist()) if codes else set()

    def _renew(self, ads: set[str], campaigns: set[str]) -> None:
        self._replace(ads)
        # Only now: an ad may just have joined the campaign.
        self._replace(self._of(campaigns) - ads)

    def _replace(self, ads: set[str]) -> None:
        base = self._base.rows(sorted(ads))
        rows = [row for ad in sorted(ads) if (row := self.changes.row(ad, base.get(ad))) is not None]
        if rows:
            self.ads = self.ads.replaced(rows)
