"""The columns of the ads as arrays in search order, which `Ads` searches and the rules of eligibility read."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.arrays import Mask, Rows, spans
from retrieval.values import to_datetime

ALWAYS = np.iinfo(np.int64)
"""`ALWAYS.min` is the start of an ad without a start, `ALWAYS.max` the end of an ad without an end."""
# Python objects are gathered in parts of this many, because other threads get no turn while numpy copies a part.
_OBJECTS_AT_ONCE = 16_384


@dataclass(frozen=True, eq=False)
class AdColumns:
    """The columns of A ads in the order of catalogue rows; an item's ads are ordered by bid, highest first, then ad_id.

    Shapes: each array (A,). An ad's slot is its position in the arrays. number: the ad's own number, which stays the
    same when its slot changes. bid: 0 for an ad without a bid, which is marked in `without_bid`. starts, ends: µs since
    1970 in UTC. campaign, advertiser, status: numbers by the dictionaries `campaigns`, `advertisers` and `statuses`; an
    ad without a campaign's or an advertiser's name has a negative number that no other ad has, and an ad without a
    status has -1. country_set: the index of the ad's set in `country_sets`, which hold case-folded codes; the empty set
    means no limit. country_lists: the same sets as they were written.
    """

    ad_ids: NDArray[np.object_]
    number: Rows
    item_rows: Rows
    bid: NDArray[np.float64]
    without_bid: Mask
    campaign: Rows
    advertiser: Rows
    starts: Rows
    ends: Rows
    status: Rows
    active: Mask
    country_set: Rows
    campaigns: dict[str, int]
    advertisers: dict[str, int]
    statuses: dict[str, int]
    country_lists: list[tuple[str | None, ...] | None]

    def __len__(self) -> int:
        return len(self.ad_ids)

    @classmethod
    def from_table(cls, table: pa.Table, item_rows: Rows, number: Rows) -> AdColumns:
        """Read a table with the columns of `ads_table.SCHEMA`: one row per ad.

        Args:
            table: A ads of known items.
            item_rows: (A,) int64, the catalogue row of each ad's item.
            number: (A,) int64, each ad's own number.
        """
        bid = table["bid"].fill_null(0.0).to_numpy()
        order = _search_order(item_rows, bid, table["ad_id"])
        table, number = table.take(pa.array(order)), number[order]
        campaign, campaigns = _numbered(table["campaign_id"], -1 - number)
        advertiser, advertisers = _numbered(table["advertiser_id"], -1 - number)
        status, statuses = _numbered(table["status"], np.full(len(number), -1))
        country_set, country_lists = _country_lists(table["countries"])
        return cls(
            ad_ids=_objects(table["ad_id"]),
            number=number,
            item_rows=item_rows[order],
            bid=bid[order],
            without_bid=table["bid"].is_null().to_numpy(),
            campaign=campaign,
            advertiser=advertiser,
            starts=_times(table["starts_at"], ALWAYS.min),
            ends=_times(table["ends_at"], ALWAYS.max),
            status=status,
            active=_active(status, statuses),
            country_set=country_set,
            campaigns=campaigns,
            advertisers=advertisers,
            statuses=statuses,
            country_lists=country_lists,
        )

    @cached_property
    def country_sets(self) -> list[frozenset[str]]:
        """The sets of case-folded country codes; an empty set means no limit."""
        return [frozenset(code.casefold() for code in codes or () if code) for codes in self.country_lists]

    @cached_property
    def _campaign_names(self) -> list[str]:
        return list(self.campaigns)

    @cached_property
    def _advertiser_names(self) -> list[str]:
        return list(self.advertisers)

    @cached_property
    def _slot_of(self) -> Rows:
        """The slot of each ad's number, or -1."""
        slot_of = np.full(self.number.max(initial=-1) + 1, -1)
        slot_of[self.number] = np.arange(len(self))
        return slot_of

    def slots(self, numbers: Rows) -> Rows:
        """Return the slots (n,) int64 of ads given by their numbers (n,) ≥ 0; -1 for those that are not here."""
        slot_of = self._slot_of
        if not len(slot_of):
            return np.full(len(numbers), -1)
        return np.where(numbers < len(slot_of), slot_of[np.minimum(numbers, len(slot_of) - 1)], -1)

    def row(self, slot: int) -> dict[str, Any]:
        """Return the ad in a slot as a row of the ads table, without its item and its version."""
        starts, ends = int(self.starts[slot]), int(self.ends[slot])
        countries = self.country_lists[self.country_set[slot]]
        return {
            "ad_id": self.ad_ids[slot],
            "campaign_id": _name(self._campaign_names, self.campaign[slot]),
            "advertiser_id": _name(self._advertiser_names, self.advertiser[slot]),
            "starts_at": None if starts == ALWAYS.min else to_datetime(starts),
            "ends_at": None if ends == ALWAYS.max else to_datetime(ends),
            "status": _name(list(self.statuses), self.status[slot]),
            "countries": None if countries is None else list(countries),
            "bid": None if self.without_bid[slot] else float(self.bid[slot]),
        }

    def take(self, slots: Rows | Mask) -> AdColumns:
        """Return the ads in some slots, given as numbers (n,) int64 in any order, or as a mask (A,) bool."""
        return replace(self, **{name: array[slots] for name, array in self._arrays().items()})

    def instants(self) -> Rows:
        """Return all times at which an ad starts or ends, ascending, each once."""
        return instants(self.starts, self.ends)

    def slots_of_item(self, row: int) -> tuple[int, int]:
        """Return the slots [first, last) of the ads of an item, by its catalogue row."""
        first, last = np.searchsorted(self.item_rows, [row, row + 1]).tolist()
        return first, last

    def rescheduled(self, slots: Rows, status: Rows, statuses: dict[str, int], starts: Rows, ends: Rows) -> AdColumns:
        """Return these ads with other statuses and times.

        Args:
            slots: (n,) int64, the ads that change.
            status: (n,) int64, their statuses by `statuses`, or -1.
            statuses: the number of each status; this object's statuses keep their numbers.
            starts: (n,) int64, when they start.
            ends: (n,) int64, when they end.
        """
        values = {"status": status, "active": _active(status, statuses), "starts": starts, "ends": ends}
        copies: dict[str, Any] = {}
        for name, after in values.items():
            before = getattr(self, name)
            if (before[slots] != after).any():
                copies[name] = before.copy()
                copies[name][slots] = after
        return self._keeping_slots(replace(self, statuses=statuses, **copies))

    def merged(self, changed: AdColumns, removed: Rows) -> AdColumns:
        """Return these ads with some replaced, added or removed.

        If every changed ad keeps its slot, only the arrays that change are copied; otherwise all are.

        Args:
            changed: the ads to put in.
            removed: (n,) int64, the slots of the ads to take out, each once; the changed ads' old slots are among them.
        """
        changed = changed._numbered_as(self)
        new = replace(
            self,
            campaigns=changed.campaigns,
            advertisers=changed.advertisers,
            statuses=changed.statuses,
            country_lists=changed.country_lists,
        )
        previous = self.slots(changed.number)
        if len(removed) == len(changed) and (previous >= 0).all() and self._same_order(previous, changed):
            return self._keeping_slots(new._overwritten(previous, changed))
        order = self._order_with(changed, removed)
        others = changed._arrays()
        # One array at a time, so that each can reuse the memory that the previous one freed.
        arrays: dict[str, Any] = {name: _gathered(array, others[name], order) for name, array in self._arrays().items()}
        return replace(new, **arrays)

    def _arrays(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    def _keeping_slots(self, new: AdColumns) -> AdColumns:
        """Pass on the data derived from the slots, because `new` has the same ads in the same slots."""
        if "_slot_of" in self.__dict__:
            new.__dict__["_slot_of"] = self._slot_of
        return new

    def _numbered_as(self, base: AdColumns) -> AdColumns:
        """Return the same ads, numbered by the dictionaries of `base` with this object's further names added."""
        campaigns, campaign = _renumbered(base.campaigns, self.campaigns, self.campaign)
        advertisers, advertiser = _renumbered(base.advertisers, self.advertisers, self.advertiser)
        statuses, status = _renumbered(base.statuses, self.statuses, self.status)
        known = {countries: number for number, countries in enumerate(base.country_lists)}
        translated = [known.setdefault(countries, len(known)) for countries in self.country_lists]
        return replace(
            self,
            campaign=campaign,
            advertiser=advertiser,
            status=status,
            country_set=np.array(translated, np.int64)[self.country_set],
            campaigns=campaigns,
            advertisers=advertisers,
            statuses=statuses,
            country_lists=list(known),
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

    def _order_with(self, changed: AdColumns, removed: Rows) -> Rows:
        """Return the search order of these ads without the removed ones, and of the changed ads, numbered from A on."""
        remaining = np.ones(len(self), bool)
        remaining[removed] = False
        items = np.unique(changed.item_rows)
        first, last = np.searchsorted(self.item_rows, items), np.searchsorted(self.item_rows, items, "right")
        # Only the ads of these items are sorted again, because comparing names takes long.
        neighbours = spans(first, last - first)
        neighbours = neighbours[remaining[neighbours]]
        remaining[neighbours] = False
        others = np.flatnonzero(remaining)
        item_rows = np.concatenate([self.item_rows[neighbours], changed.item_rows])
        bid = np.concatenate([self.bid[neighbours], changed.bid])
        names = pa.array([*self.ad_ids[neighbours], *changed.ad_ids], pa.string())
        sorted_again = _search_order(item_rows, bid, names)
        slots = np.searchsorted(self.item_rows[others], item_rows[sorted_again]) + np.arange(len(sorted_again))
        order = np.empty(len(others) + len(slots), np.int64)
        is_other = np.ones(len(order), bool)
        is_other[slots] = False
        order[slots] = np.concatenate([neighbours, len(self) + np.arange(len(changed))])[sorted_again]
        order[is_other] = others
        return order


def instants(starts: Rows, ends: Rows) -> Rows:
    """Return all times at which an ad starts or ends, ascending, each once.

    Args:
        starts: (n,) int64, starts of ads in µs since 1970; `ALWAYS.min` = none.
        ends: (n,) int64, their ends; `ALWAYS.max` = none.
    """
    times = np.concatenate([starts, ends])
    return np.unique(times[(times != ALWAYS.min) & (times != ALWAYS.max)])


def _search_order(item_rows: Rows, bid: NDArray[np.float64], names: pa.Array | pa.ChunkedArray) -> Rows:
    """Return the order (A,) of ads by item, bid (highest first) and name."""
    keys = pa.table({"item": item_rows, "bid": bid, "name": names})
    by = [("item", "ascending"), ("bid", "descending"), ("name", "ascending")]
    return pc.sort_indices(keys, sort_keys=by).to_numpy().astype(np.int64)


def _active(status: Rows, statuses: dict[str, int]) -> Mask:
    return (status == -1) | (status == statuses.get("active", -1))


def _name(names: list[str], number: int) -> str | None:
    return None if number < 0 else names[number]


def _objects(column: pa.ChunkedArray) -> NDArray[np.object_]:
    """Return a column of texts as Python objects."""
    objects = np.empty(len(column), object)
    for start in range(0, len(column), _OBJECTS_AT_ONCE):
        part = column.slice(start, _OBJECTS_AT_ONCE)
        objects[start : start + len(part)] = part.to_numpy()
    return objects


def _gathered(array: NDArray[Any], more: NDArray[Any], order: Rows) -> NDArray[Any]:
    """Return the elements of two arrays in a given order, in which the second array's numbers follow the first's."""
    joined = np.concatenate([array, more])
    if array.dtype != object:
        return joined[order]
    gathered = np.empty(len(order), object)
    for start in range(0, len(order), _OBJECTS_AT_ONCE):
        gathered[start : start + _OBJECTS_AT_ONCE] = joined[order[start : start + _OBJECTS_AT_ONCE]]
    return gathered


def _country_lists(countries: pa.ChunkedArray) -> tuple[Rows, list[tuple[str | None, ...] | None]]:
    """Return (each ad's index into the lists (A,), the different lists of country codes as they are written).

    Equal lists are read once, because building a million Python lists would block a server while it loads an index.
    """
    lists = countries.combine_chunks()
    names = pc.fill_null(lists.values, "")
    joined = pc.binary_join(pa.ListArray.from_arrays(lists.offsets, names), "\0")
    # An empty list and a list of one empty code are written alike, and mean the same; a null list stays apart.
    texts = pc.if_else(pc.is_null(lists), pa.scalar(None, pa.string()), joined)
    written = texts.dictionary_encode(null_encoding="encode")
    distinct: dict[tuple[str | None, ...] | None, int] = {}
    codes = [None if text is None else _codes(text) for text in written.dictionary.to_pylist()]
    number_of = [distinct.setdefault(each, len(distinct)) for each in codes]
    return np.array(number_of, np.int64)[written.indices.to_numpy()], list(distinct)


def _codes(text: str) -> tuple[str | None, ...]:
    return tuple(code or None for code in text.split("\0")) if text else ()


def _numbered(column: pa.ChunkedArray, unnamed: Rows) -> tuple[Rows, dict[str, int]]:
    """Return (number per ad (A,), number by name); an ad without a name has its number in `unnamed` (A,)."""
    encoded = column.combine_chunks().dictionary_encode()
    numbers = encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
    return np.where(numbers < 0, unnamed, numbers), {name: n for n, name in enumerate(encoded.dictionary.to_pylist())}


def _renumbered(base: dict[str, int], names: dict[str, int], numbers: Rows) -> tuple[dict[str, int], Rows]:
    """Return (the numbers of `base`, extended by further names; the ads' numbers translated to these)."""
    further = [name for name in names if name not in base]
    joined = base | {name: len(base) + new for new, name in enumerate(further)} if further else base
    translated = np.array([joined[name] for name in names], np.int64)
    renumbered = numbers.copy()
    named = numbers >= 0
    renumbered[named] = translated[numbers[named]]
    return joined, renumbered


def _times(column: pa.ChunkedArray, missing: int) -> Rows:
    return pc.fill_null(column.cast(pa.int64()), missing).to_numpy()
