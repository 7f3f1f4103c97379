"""Finds the items that may be shown as ads at a time and place, and the ad to show for each.

Eligibility is a mask that is applied during the search; it does not decide which items are in the catalogue.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.arrays import Mask, Rows, python_values
from retrieval.catalogue.ad_columns import ALWAYS, AdColumns, instants
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
    def number_of(self) -> dict[str, int]:
        """The number of each ad_id: its line in the table, or a later number for an ad that a change has added."""
        return {ad: number for number, ad in enumerate(python_values(self.table["ad_id"]))}


@dataclass(frozen=True, eq=False)
class Ads:
    """All ads, searchable by time, country, advertiser and campaign. They never change; `replaced` makes a new object.

    An ad is eligible at t if starts_at is null or ≤ t, ends_at is null or > t, status is null or "active", and the
    request's country is among its `countries` (case-folded) or the ad has no such limit. A request without a country
    gets only ads without a limit. The eligible ad with the highest bid (null = 0) wins its item; among equal bids, the
    smallest ad_id wins. The build has already kept one row per ad. If a table still has several, the row with the
    highest version (null = 0) counts, and the last among equal versions.

    source: the table that was read. columns: the ads of known items, by slot. bounds: all times at which an ad starts
    or ends, ascending. moved: ad_id → item, for ads whose item differs, or once differed, from that in the table. An
    object shares this dictionary with all objects that replace it, so an entry counts only if it fits the columns.
    """

    source: AdsSource
    columns: AdColumns
    bounds: Rows
    moved: dict[str, str | None] = field(default_factory=dict, repr=False)
    _in_flight: dict[int, int] = field(default_factory=dict, repr=False)

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
        counted = table["status"].fill_null("(null)").value_counts()
        by_status = {count["values"].as_py(): count["counts"].as_py() for count in counted}
        table = newest_rows(table)
        item_rows = _item_rows(table, row_of)
        known = item_rows >= 0
        source = AdsSource(table, row_of, by_status, int(np.count_nonzero(~known)))
        if source.unknown_items and not quiet:
            _log.warning("%d ads are for items that the catalogue does not have", source.unknown_items)
        columns = AdColumns.from_table(table.filter(pa.array(known)), item_rows[known], np.flatnonzero(known))
        return cls(source, columns, columns.instants())

    def replaced(self, table: pa.Table, numbers: Rows | None = None) -> Ads:
        """Return these ads with some of their rows replaced, and with further ads.

        A row replaces the ad with the same ad_id, whatever their versions. `source` stays the table that was read.

        Args:
            table: the new rows, one per ad, with the columns of `ads_table.SCHEMA`.
            numbers: (n,) int64, the ads' numbers in `AdsSource.number_of`; None = look them up, and add new ads.
        """
        table = conform(table)
        if numbers is None:
            number_of = self.source.number_of
            names = table["ad_id"].to_pylist()
            numbers = np.array([number_of.setdefault(ad, len(number_of)) for ad in names], np.int64)
        item_rows = _item_rows(table, self.source.row_of)
        known = item_rows >= 0
        changed = AdColumns.from_table(table.filter(pa.array(known)), item_rows[known], numbers[known])
        slots = self.columns.slots(numbers)
        columns = self.columns.merged(changed, slots[slots >= 0])
        self._note_items(table, numbers)
        return self._with(columns, changed.instants())

    def _note_items(self, table: pa.Table, numbers: Rows) -> None:
        """Remember the items of new rows that differ, or once differed, from those in the table that was read."""
        read = self.source.table["item_id"]
        before = read.take(pa.array(numbers, mask=numbers >= len(read)))
        moved = pc.fill_null(pc.not_equal(before, table["item_id"]), True)
        if self.moved:
            moved = pc.or_(moved, pc.is_in(table["ad_id"], pa.array(list(self.moved), pa.string())))
        names, items = (table[name].filter(moved).to_pylist() for name in ("ad_id", "item_id"))
        self.moved.update(zip(names, items, strict=True))

    def rescheduled(self, slots: Rows, status: Rows, names: Sequence[str], starts: Rows, ends: Rows) -> Ads:
        """Return these ads, some of them with other statuses and times.

        Args:
            slots: (n,) int64, the slots of the ads that change.
            status: (n,) int64, the indices of their statuses in `names`; -1 = no status.
            names: the statuses.
            starts: (n,) int64, when they start, µs since 1970; `ALWAYS.min` = no start.
            ends: (n,) int64, when they end; `ALWAYS.max` = no end.
        """
        statuses = dict(self.columns.statuses)
        translated = np.full(len(names) + 1, -1)
        for number in np.unique(status[status >= 0]).tolist():
            translated[number] = statuses.setdefault(names[number], len(statuses))
        columns = self.columns.rescheduled(slots, translated[status], statuses, starts, ends)
        return self._with(columns, instants(starts, ends))

    def _with(self, columns: AdColumns, times: Rows) -> Ads:
        """Return ads with these columns, in which ads start and end at further times."""
        position = np.searchsorted(self.bounds, times)
        unknown = times != np.append(self.bounds, ALWAYS.max)[position]
        bounds = np.insert(self.bounds, position[unknown], times[unknown]) if unknown.any() else self.bounds
        return Ads(self.source, columns, bounds, self.moved)

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
        number = self.source.number_of.get(ad_id)
        slot = -1 if number is None else int(self.columns.slots(np.array([number]))[0])
        return None if slot < 0 else slot

    def of_item(self, row: int) -> list[str]:
        """Return all ads of the item in a catalogue row, eligible or not, in the order in which they win."""
        first, last = self.columns.slots_of_item(row)
        return list(self.ad_ids[first:last].tolist())

    def winner(self, row: int, conditions: AdConditions) -> str | None:
        """Return the winning ad of the item in a catalogue row; None if no ad of the item is eligible."""
        first, last = self.columns.slots_of_item(row)
        eligible = np.flatnonzero(passing(self.columns.take(np.arange(first, last)), conditions))
        return str(self.ad_ids[first + eligible[0]]) if len(eligible) else None

    def row(self, ad_id: str) -> dict[str, Any] | None:
        """Return an ad's current row, by column; None if there is no such ad.

        The version is that of the table that was read. If a replaced ad's item is not in the catalogue, only the ids of
        the ad and of the item are returned.
        """
        number, table = self.source.number_of.get(ad_id), self.source.table
        if number is None:
            return None
        read = table.slice(number, 1).to_pylist()[0] if number < table.num_rows else dict.fromkeys(SCHEMA.names)
        slot, item = self.slot(ad_id), self.moved.get(ad_id, read["item_id"])
        if slot is not None:
            return read | self.columns.row(slot) | {"item_id": item}
        if ad_id not in self.moved:
            return read
        is_unknown = item is not None and item not in self.source.row_of
        return dict.fromkeys(SCHEMA.names) | {"ad_id": ad_id, "item_id": item} if is_unknown else None

    def interval(self, at: int) -> int:
        """Return the number of the stretch of time that contains `at` (µs). No ad starts or ends within a stretch."""
        return int(np.searchsorted(self.bounds, at, side="right"))

    def intervals(self, at: Rows) -> Rows:
        """Return for each of many times (n,) int64, µs, the number of the stretch that contains it."""
        return np.searchsorted(self.bounds, at, side="right").astype(np.int64)

    def eligible(self, at: int, country: str | None = None) -> Eligible:
        """Return the items with an eligible ad; the answer is the same for all times of a stretch.

        Args:
            at: the time, µs since 1970 in UTC.
            country: an ISO 3166 alpha-2 code, upper or lower case; None excludes ads that are limited to countries.
        """
        return self.winners(self.passing(at, country))

    def eligible_within(self, interval: int, country: str | None = None) -> Eligible:
        """Return the items with an eligible ad in a stretch of time, given by its number."""
        # Any instant of the stretch would do; this takes its first, which is the boundary itself.
        return self.eligible(int(self.bounds[interval - 1]) if interval else ALWAYS.min + 1, country)

    def passing(self, at: int, country: str | None = None) -> Mask:
        """Return which ads are eligible at a time (µs) and in a country: (A,) bool."""
        return passing(self.columns, AdConditions(at, country), BY_TIME_AND_COUNTRY)

    def eligible_without(self, among: Mask, advertisers: list[str], campaigns: list[str]) -> Eligible:
        """Return the items with an eligible ad, ignoring all ads of some advertisers and campaigns.

        Args:
            among: (A,) bool, the ads that are eligible by time and country (see `passing`).
            advertisers: names of the advertisers to ignore.
            campaigns: names of the campaigns to ignore.
        """
        conditions = AdConditions(0, None, advertisers, campaigns)
        return self.winners(passing(self.columns, conditions, BY_EXCLUSION, among=among))

    def winners(self, mask: Mask) -> Eligible:
        """Return the items of the ads in a mask (A,) bool, each with the first of its ads in the mask."""
        ads = np.flatnonzero(mask)
        rows = self.item_rows[ads]
        first = np.ones(len(rows), bool)
        first[1:] = rows[1:] != rows[:-1]
        return Eligible(rows[first], ads[first])

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
        # The number changes only when an ad starts or ends, and monitoring keeps asking for the newest one.
        interval = self.interval(at)
        number = self._in_flight.get(interval)
        if number is None:
            number = int(np.count_nonzero(passing(self.columns, AdConditions(at), RUNNING)))
            self._in_flight.clear()
            self._in_flight[interval] = number
        return number

    def items_ending_after(self, at: int) -> Rows:
        """Return the rows (ascending int64) of the items with an ad that ends after `at` (µs)."""
        return np.unique(self.item_rows[self.columns.ends > at])

    @cached_property
    def _countries(self) -> frozenset[str]:
        return frozenset[str]().union(*self.columns.country_sets)

    def known_country(self, country: str | None) -> str | None:
        """Return a country as the ads name it (case-folded); None if no ad names it, as it then makes no difference."""
        folded = None if country is None else country.casefold()
        return folded if folded in self._countries else None


def _item_rows(table: pa.Table, row_of: dict[str, int]) -> Rows:
    """Return the catalogue row of each ad's item (A,), or -1."""
    items = table["item_id"].combine_chunks().dictionary_encode()
    rows = np.array([*(row_of.get(item, -1) for item in python_values(items.dictionary)), -1], np.int64)
    return rows[items.indices.fill_null(-1).to_numpy()]
