"""The nightly ads table with the live changes applied; applying changes makes a new `Ads`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np

from retrieval.catalogue.ads import Ads
from retrieval.live.change import Change, Changes
from retrieval.live.change_log import Entry

_log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """What became of a change.

    applied: it determines at least one field of an ad. repeated: it was already known. superseded: every field has a
    newer value. waiting: it is kept until its ad and the ad's item are known.
    """

    outcome: Literal["applied", "repeated", "superseded", "waiting"]
    why: str = ""


class LiveAds:
    """The ads of a nightly table and the changes since then, combined in `ads`."""

    def __init__(self, base: Ads) -> None:
        self.ads = self._base = base
        self.changes = Changes()

    def rebased(self, base: Ads) -> LiveAds:
        """Return the same changes over another version's table."""
        live = LiveAds(base)
        live.changes = self.changes
        live._update(self.changes.ads, self.changes.campaigns)
        return live

    def apply(self, entries: Iterable[Entry]) -> None:
        """Apply further entries of the log."""
        ads, campaigns = set[str](), set[str]()
        for entry in entries:
            self.changes.add(entry.sequence, entry.change)
            if entry.change is None:
                continue
            if entry.change.ad_id is None:
                campaigns.add(str(entry.change.campaign_id))
            else:
                ads.add(entry.change.ad_id)
        self._update(ads, campaigns)

    def outcome(self, change: Change) -> Outcome:
        """Return what became of a change that the log holds."""
        if change.ad_id is None:
            ads = self._ads_of({str(change.campaign_id)})
            if not ads:
                return Outcome("waiting", f"no ad of campaign {change.campaign_id!r} is known")
            if any(self._is_in_effect(change, ad) for ad in ads):
                return Outcome("applied")
            return Outcome("superseded", "newer values are known for all of its ads")
        row = self.changes.row(change.ad_id, self._base.row(change.ad_id))
        if row is None:
            return Outcome("waiting", f"ad {change.ad_id!r} is in no table yet: item_id and campaign_id are needed")
        if self.ads.slot(change.ad_id) is None:
            return Outcome("waiting", f"item {row['item_id']!r} is not in the catalogue of this version")
        if self._is_in_effect(change, change.ad_id):
            return Outcome("applied")
        return Outcome("superseded", "newer values are known")

    def _is_in_effect(self, change: Change, ad_id: str) -> bool:
        """Return whether any field of the ad has its value because of this change."""
        newest = self.changes.newest(ad_id, self._base.row(ad_id))
        return any(
            (newest[name].version, newest[name].value) == (change.version, value)
            for name, value in change.values().items()
        )

    def _ads_of(self, campaigns: set[str]) -> set[str]:
        codes = [self.ads.campaigns[name] for name in campaigns if name in self.ads.campaigns]
        return set(self.ads.ad_ids[np.isin(self.ads.campaign, codes)].tolist()) if codes else set()

    def _update(self, ads: set[str], campaigns: set[str]) -> None:
        self._replace_rows(ads)
        # The campaigns come second, because one of the ads may just have joined one.
        self._replace_rows(self._ads_of(campaigns) - ads)

    def _replace_rows(self, ads: set[str]) -> None:
        base = self._base.rows(sorted(ads))
        rows = [row for ad in sorted(ads) if (row := self.changes.row(ad, base.get(ad))) is not None]
        if not rows:
            return
        try:
            self.ads = self.ads.replaced(rows)
        except Exception:
            # A value that cannot be used must not keep the other ads from changing, nor a server from starting.
            for row in rows:
                try:
                    self.ads = self.ads.replaced([row])
                except Exception as error:
                    _log.error("ad %r stays as it was, as its changes cannot be applied: %s", row["ad_id"], error)
