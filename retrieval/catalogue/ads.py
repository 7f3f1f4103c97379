"""Finds the items that may be shown as ads at a time and place, and the ad to show for each.

Eligibility is a mask that is applied during the search; it does not decide which items are in the catalogue.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.arrays import Mask, Rows
from retrieval.catalogue.ad_columns import ALWAYS, AdColumns
from retrieval.catalogue.ads_table import SCHEMA, conform, newest_rows
from retrieval.catalogue.eligibility import (
    BY_EXCLUSION,
    BY_TIME_AND_COUNTRY,
    RUNNING,
    AdConditions,
    EligibilityReason,
    passing,
    reasons,
)

_log = logging.getLogger(__name__)
# The number of pairs (stretch of time, country) for which the mask, its rows and its winners are cached.
_CACHED = 32


@dataclass(frozen=True, eq=False)
class Eligible:
    """Items that may be shown, and the winning ad of each.

    Shapes: rows (E,) int64, ascending; ads (E,) int64, slots of `Ads`, or None if every item counts as advertised.
    """

    rows: Rows
    ads: Rows | None


@dataclass(frozen=True, eq=False)
class AdsSource:
    """The table from which ads were read, and counts of its rows.

    table: one row per ad, including ads of unknown items. row_of: the catalogue row of an item_id. by_status: how many
    rows have each status in the table as it was read, before rows with the same ad_id were reduced to one.
    unknown_items: how many ads are for items that the catalogue does not have.
    """

    table: pa.Table
    row_of: dict[str, int]
    by_status: dict[str, int]
    unknown_items: int

    @cached_property
    def line_of(self) -> dict[str, int]:
        """The line of each ad_id in the table."""
        return {ad: line for line, ad in enumerate(self.table["ad_id"].to_pylist())}


@dataclass(frozen=True, eq=False)
class Ads:
    """All ads, searchable by time, country, advertiser and campaign. They never change; `replaced` makes a new object.

    An ad is eligible at t if starts_at is null or ≤ t, ends_at is null or > t, status is null or "active", and the
    request's country is among its `countries` (case-folded) or the ad has no such limit. A request without a country
    gets only ads without a limit. The eligible ad with the highest bid (null = 0) wins its item; among equal bids, the
    smallest ad_id wins. The build has already kept one row per ad. If a table still has several, the row with the
    highest version (null = 0) counts, and the last among equal versions.

    source: the table that was read. columns: the ads of known items, by slot. replaced_rows: rows by ad_id that replace
    or extend those of the table. bounds: all times at which an ad starts or ends, ascending.
    """

    source: AdsSource
    columns: AdColumns
    replaced_rows: dict[str, dict[str, Any]]
    bounds: Rows
    _cache: OrderedDict[tuple[int, str | None], tuple[Mask, Eligible]] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def from_table(cls, table: pa.Table, row_of: dict[str, int], *, quiet: bool = False) -> Ads:
        """Read an ads table.

        Args:
            table: the columns of `ads_table.SCHEMA`; optional ones may be missing.
            row_of: the catalogue row of an item_id.
            quiet: do not log how many ads are for unknown items.

        Raises:
            CatalogueError: a column is missing or of another type.
        """
        table = conform(table)
        by_status = dict(Counter(table["status"].fill_null("(null)").to_pylist()))
        table = newest_rows(table)
        known = [item in row_of for item in table["item_id"].to_pylist()]
        source = AdsSource(table, row_of, by_status, len(known) - sum(known))
        if source.unknown_items and not quiet:
            _log.warning("%d ads are for items that the catalogue does not have", source.unknown_items)
        columns = AdColumns.from_table(table.filter(pa.array(known, pa.bool_())), row_of)
        return cls(source, columns, {}, columns.instants())

    def replaced(self, rows: list[dict[str, Any]]) -> Ads:
        """Return these ads with some of their rows replaced, and with further ads.

        A row replaces the ad with the same ad_id, whatever their versions. `source` stays the table that was read.

        Args:
            rows: the new rows by column, at most one per ad.
        """
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        changed = Ads.from_table(table, self.source.row_of, quiet=True)
        slots = {row["ad_id"]: slot for row in rows if (slot := self.slot(row["ad_id"])) is not None}
        position = np.searchsorted(self.bounds, changed.bounds)
        unknown = changed.bounds != np.append(self.bounds, ALWAYS.max)[position]
        bounds = np.insert(self.bounds, position[unknown], changed.bounds[unknown]) if unknown.any() else self.bounds
        return Ads(
            self.source,
            self.columns.merged(changed.columns, slots),
            self.replaced_rows | {row["ad_id"]: row for row in rows},
            bounds,
        )

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def ad_ids(self) -> NDArray[np.object_]:
        """(A,) the ids of the ads of known items, by slot."""
        return self.columns.ad_ids

    @property
    def item_rows(self) -> Rows:
        """(A,) int64, ascending: the catalogue row of each ad's item."""
        return self.columns.item_rows

    @property
    def campaign(self) -> Rows:
        """(A,) int64, the number of each ad's campaign in `campaigns`; negative and unique if it has no name."""
        return self.columns.campaign

    @property
    def campaigns(self) -> dict[str, int]:
        """The number of each campaign name."""
        return self.columns.campaigns

    @property
    def advertiser(self) -> Rows:
        """(A,) int64, the number of each ad's advertiser in `advertisers`; negative and unique if it has no name."""
        return self.columns.advertiser

    @property
    def advertisers(self) -> dict[str, int]:
        """The number of each advertiser name."""
        return self.columns.advertisers

    @property
    def by_status(self) -> dict[str, int]:
        """How many rows of the table that was read have each status."""
        return self.source.by_status

    @property
    def unknown_items(self) -> int:
        """How many ads of the table that was read are for items that the catalogue does not have."""
        return self.source.unknown_items

    def slot(self, ad_id: str) -> int | None:
        """Return an ad's slot in the columns; None if the ad is unknown or its item is not in the catalogue."""
        if ad_id in self.replaced_rows:
            item = self.replaced_rows[ad_id]["item_id"]
        elif ad_id in self.source.line_of:
            item = self.source.table["item_id"][self.source.line_of[ad_id]].as_py()
        else:
            return None
        first, last = self.columns.slots_of_item(self.source.row_of.get(item, -1))
        match = np.flatnonzero(self.ad_ids[first:last] == ad_id)
        return first + int(match[0]) if len(match) else None

    def of_item(self, row: int) -> list[str]:
        """Return all ads of the item in a catalogue row, eligible or not, in the order in which they win."""
        first, last = self.columns.slots_of_item(row)
        return list(self.ad_ids[first:last].tolist())

    def row(self, ad_id: str) -> dict[str, Any] | None:
        """Return an ad's current row, by column; None if there is no such ad."""
        return self.rows([ad_id]).get(ad_id)

    def rows(self, ad_ids: list[str]) -> dict[str, dict[str, Any]]:
        """Return the rows of many ads by ad_id, leaving out ads that do not exist."""
        line_of = self.source.line_of
        lines = [line_of[ad] for ad in ad_ids if ad in line_of and ad not in self.replaced_rows]
        read = self.source.table.take(pa.array(lines, pa.int64())).to_pylist() if lines else []
        replaced = {ad: self.replaced_rows[ad] for ad in ad_ids if ad in self.replaced_rows}
        return {row["ad_id"]: row for row in read} | replaced

    def interval(self, at: int) -> int:
        """Return the number of the stretch of time that contains `at` (µs). No ad starts or ends within a stretch."""
        return int(np.searchsorted(self.bounds, at, side="right"))

    def intervals(self, at: Rows) -> Rows:
        """Return the numbers of the stretches that contain many times (n,) int64, µs."""
        return np.searchsorted(self.bounds, at, side="right").astype(np.int64)

    def eligible(self, at: int, country: str | None = None) -> Eligible:
        """Return the items with an eligible ad. While the answer is cached, all times of a stretch get the same object.

        Args:
            at: the time, µs since 1970 in UTC.
            country: an ISO 3166 alpha-2 code, upper or lower case; None excludes ads that are limited to countries.
        """
        # Eligibility changes only when an ad starts or ends, so the cached answer is exact.
        return self.eligible_within(self.interval(at), country)

    def eligible_within(self, interval: int, country: str | None = None) -> Eligible:
        """Return the items with an eligible ad in a stretch of time, given by its number."""
        return self._cached(interval, self._known_country(country))[1]

    def eligible_without(self, at: int, country: str | None, advertisers: list[str], campaigns: list[str]) -> Eligible:
        """Return the items with an eligible ad, ignoring all ads of some advertisers and campaigns."""
        mask = self._cached(self.interval(at), self._known_country(country))[0]
        conditions = AdConditions(at, country, advertisers, campaigns)
        return self._winners(passing(self.columns, conditions, BY_EXCLUSION, among=mask))

    def ineligibility(self, ad_id: str, conditions: AdConditions) -> dict[EligibilityReason, str]:
        """Return why an ad may not be shown, a sentence for each reason; empty if it is eligible.

        Args:
            ad_id: an ad that has a `slot`.
            conditions: time, country and exclusions of the request.

        Raises:
            KeyError: there is no such ad, or its item is not in the catalogue.
        """
        slot, row = self.slot(ad_id), self.row(ad_id)
        if slot is None or row is None:
            raise KeyError(f"no ad {ad_id!r} of an item of this catalogue")
        return reasons(self.columns, slot, row, conditions)

    @property
    def countries(self) -> list[str]:
        """Countries that ads name, case-folded; those that most ads name come first."""
        sets = self.columns.country_sets
        ads = np.bincount(self.columns.country_set, minlength=len(sets)).tolist()
        named = Counter[str]()
        for countries, n in zip(sets, ads, strict=True):
            named.update(dict.fromkeys(countries, n))
        return [country for country, _ in named.most_common()]

    def in_flight(self, at: int) -> int:
        """Return how many ads are active at `at` (µs), ignoring countries."""
        return int(np.count_nonzero(passing(self.columns, AdConditions(at), RUNNING)))

    def items_ending_after(self, at: int) -> Rows:
        """Return the rows (ascending int64) of the items with an ad that ends after `at` (µs)."""
        return np.unique(self.item_rows[self.columns.ends > at])

    @cached_property
    def _countries(self) -> frozenset[str]:
        return frozenset[str]().union(*self.columns.country_sets)

    def _known_country(self, country: str | None) -> str | None:
        # A country that no ad names is treated as no country, so that such countries do not fill the cache.
        folded = None if country is None else country.casefold()
        return folded if folded in self._countries else None

    def _cached(self, interval: int, country: str | None) -> tuple[Mask, Eligible]:
        # An lru_cache of a method is a reference cycle: after each live change the previous ads would stay in memory.
        key = interval, country
        with self._lock:
            if key not in self._cache:
                # Any instant of the stretch would do; this takes its first, which is the boundary itself.
                at = int(self.bounds[interval - 1]) if interval else ALWAYS.min + 1
                mask = passing(self.columns, AdConditions(at, country), BY_TIME_AND_COUNTRY)
                self._cache[key] = mask, self._winners(mask)
                if len(self._cache) > _CACHED:
                    self._cache.popitem(last=False)
            self._cache.move_to_end(key)
            return self._cache[key]

    def _winners(self, mask: Mask) -> Eligible:
        """Return the items of the ads that pass, each with the first of its passing ads."""
        ads = np.flatnonzero(mask)
        rows = self.item_rows[ads]
        first = np.ones(len(rows), bool)
        first[1:] = rows[1:] != rows[:-1]
        return Eligible(rows[first], ads[first])
