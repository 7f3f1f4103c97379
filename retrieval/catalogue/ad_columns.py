"""The columns of the ads as arrays in search order, which `Ads` searches and the rules of eligibility read."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.arrays import Mask, Rows

ALWAYS = np.iinfo(np.int64)
"""`ALWAYS.min` stands for the start of an ad that has none, `ALWAYS.max` for the end of an ad that has none."""
_UNNAMED = count(-1, -1)


@dataclass(frozen=True, eq=False)
class AdColumns:
    """The columns of A ads in the order of catalogue rows; an item's ads are ordered by bid, highest first, then ad_id.

    Shapes: each array (A,). starts, ends: µs since 1970 in UTC. campaign, advertiser: numbers by the dictionaries
    `campaigns` and `advertisers`; an ad without a name has a negative number that no other ad has. country_set: the
    index of the ad's set in `country_sets`, which hold case-folded codes; the empty set means no limit.
    """

    ad_ids: NDArray[np.object_]
    item_rows: Rows
    bid: NDArray[np.float64]
    campaign: Rows
    advertiser: Rows
    starts: Rows
    ends: Rows
    active: Mask
    country_set: Rows
    campaigns: dict[str, int]
    advertisers: dict[str, int]
    country_sets: list[frozenset[str]]

    def __len__(self) -> int:
        return len(self.ad_ids)

    @classmethod
    def from_table(cls, table: pa.Table, row_of: dict[str, int]) -> AdColumns:
        """Read a table with the columns of `ads_table.SCHEMA`: one row per ad, every ad's item in `row_of`."""
        item = np.array([row_of[item] for item in table["item_id"].to_pylist()], np.int64)
        bid = table["bid"].fill_null(0.0).to_numpy()
        ids = np.array(table["ad_id"].to_pylist(), dtype=object)
        order = np.array(sorted(range(len(ids)), key=lambda ad: (item[ad], -bid[ad], ids[ad])), np.int64)
        table = table.take(pa.array(order))
        campaign, campaigns = _numbered(table["campaign_id"])
        advertiser, advertisers = _numbered(table["advertiser_id"])
        country_set, country_sets = _country_sets(table["countries"])
        return cls(
            ad_ids=ids[order],
            item_rows=item[order],
            bid=bid[order],
            campaign=campaign,
            advertiser=advertiser,
            starts=_times(table["starts_at"], ALWAYS.min),
            ends=_times(table["ends_at"], ALWAYS.max),
            active=pc.fill_null(pc.equal(table["status"], "active"), True).to_numpy(),
            country_set=country_set,
            campaigns=campaigns,
            advertisers=advertisers,
            country_sets=country_sets,
        )

    def take(self, slots: Rows | Mask) -> AdColumns:
        """Return the ads in some slots, given as numbers (n,) int64 in any order, or as a mask (A,) bool."""
        return replace(self, **{name: array[slots] for name, array in self._arrays().items()})

    def instants(self) -> Rows:
        """Return all times at which an ad starts or ends, ascending, each once."""
        times = np.concatenate([self.starts, self.ends])
        return np.unique(times[(times != ALWAYS.min) & (times != ALWAYS.max)])

    def slots_of_item(self, row: int) -> tuple[int, int]:
        """Return the slots [first, last) of the ads of an item, by its catalogue row."""
        first, last = np.searchsorted(self.item_rows, [row, row + 1]).tolist()
        return first, last

    def merged(self, changed: AdColumns, slots: dict[str, int]) -> AdColumns:
        """Return these ads with some replaced, added or removed.

        If every changed ad keeps its slot, only the arrays that change are copied; otherwise all are.

        Args:
            changed: the ads to put in.
            slots: the slots, by ad_id, of the ads to take out.
        """
        changed = changed._numbered_as(self)
        new = replace(
            self,
            campaigns=changed.campaigns,
            advertisers=changed.advertisers,
            country_sets=changed.country_sets,
        )
        previous = np.array([slots.get(ad, -1) for ad in changed.ad_ids], np.int64)
        if len(slots) == len(changed) and (previous >= 0).all() and self._same_order(previous, changed):
            return new._overwritten(previous, changed)
        removed = np.sort(np.array(list(slots.values()), np.int64))
        before = np.array([self._insertion(changed, ad, removed) for ad in range(len(changed))], np.int64)
        remaining = np.ones(len(self), bool)
        remaining[removed] = False
        arrays, others = self._arrays(), changed._arrays()
        # One array at a time, so that each can reuse the memory that the previous one freed.
        for name in arrays:
            arrays[name] = np.insert(arrays[name][remaining] if slots else arrays[name], before, others[name])
        return replace(new, **arrays)

    def _arrays(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    def _numbered_as(self, base: AdColumns) -> AdColumns:
        """Return the same ads, numbered by the dictionaries of `base` with this object's further names added."""
        campaigns, campaign = _renumbered(base.campaigns, self.campaigns, self.campaign)
        advertisers, advertiser = _renumbered(base.advertisers, self.advertisers, self.advertiser)
        country_sets = list(dict.fromkeys([*base.country_sets, *self.country_sets]))
        translated = np.array([country_sets.index(countries) for countries in self.country_sets], np.int64)
        return replace(
            self,
            campaign=campaign,
            advertiser=advertiser,
            country_set=translated[self.country_set],
            campaigns=campaigns,
            advertisers=advertisers,
            country_sets=country_sets,
        )

    def _same_order(self, slots: Rows, changed: AdColumns) -> bool:
        """Whether each changed ad belongs in the slot of the ad that it replaces."""
        same_item = self.item_rows[slots] == changed.item_rows
        return bool(same_item.all() and (self.bid[slots] == changed.bid).all())

    def _overwritten(self, slots: Rows, changed: AdColumns) -> AdColumns:
        arrays = self._arrays()
        copies: dict[str, Any] = {}
        for name, after in changed._arrays().items():
            if (arrays[name][slots] != after).any():
                copies[name] = arrays[name].copy()
                copies[name][slots] = after
        return replace(self, **copies)

    def _insertion(self, changed: AdColumns, ad: int, removed: Rows) -> int:
        """Return the slot before which the ad `ad` of `changed` belongs, once the ads in `removed` slots are gone."""
        first, last = self.slots_of_item(int(changed.item_rows[ad]))
        key = (-changed.bid[ad], changed.ad_ids[ad])
        slots = np.setdiff1d(np.arange(first, last), removed).tolist()
        ahead = sum((-self.bid[slot], self.ad_ids[slot]) < key for slot in slots)
        return first - int(np.searchsorted(removed, first)) + ahead


def _country_sets(countries: pa.ChunkedArray) -> tuple[Rows, list[frozenset[str]]]:
    """Return (each ad's index into the sets (A,), the sets of case-folded country codes); an empty set means no limit.

    Equal lists are read once, because building a million Python sets would block a server while it loads an index.
    """
    lists = countries.combine_chunks()
    names = pa.ListArray.from_arrays(lists.offsets, pc.fill_null(lists.values, ""))
    written = pc.binary_join(names, "\0").dictionary_encode()
    sets = [frozenset(c.casefold() for c in text.split("\0") if c) for text in written.dictionary.to_pylist()]
    distinct = sorted(set(sets), key=sorted)
    number_of = {countries: number for number, countries in enumerate(distinct)}
    return np.array([number_of[countries] for countries in sets], np.int64)[written.indices.to_numpy()], distinct


def _numbered(column: pa.ChunkedArray) -> tuple[Rows, dict[str, int]]:
    """Return (number per ad (A,), number by name); an ad without a name has a negative number that no other ad has."""
    names: dict[str, int] = {}
    numbers = [next(_UNNAMED) if name is None else names.setdefault(name, len(names)) for name in column.to_pylist()]
    return np.array(numbers, np.int64), names


def _renumbered(base: dict[str, int], names: dict[str, int], numbers: Rows) -> tuple[dict[str, int], Rows]:
    """Return (the numbers of `base`, extended by further names; the ads' numbers translated to these)."""
    joined = base | {name: len(base) + new for new, name in enumerate(name for name in names if name not in base)}
    translated = np.array([joined[name] for name in names], np.int64)
    named = numbers >= 0
    renumbered = numbers.copy()
    renumbered[named] = translated[numbers[named]]
    return joined, renumbered


def _times(column: pa.ChunkedArray, missing: int) -> Rows:
    return pc.fill_null(column.cast(pa.int64()), missing).to_numpy()
