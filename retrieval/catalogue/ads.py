"""Which items may be shown as ads at a time and place, and with which ad: a mask at search time, never membership."""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.arrays import Mask, Rows
from retrieval.errors import CatalogueError

_log = logging.getLogger(__name__)
_EVER = np.iinfo(np.int64)
# A mask, its rows and its winners are kept for so many (stretch of time, country).
_CACHED = 32
# The columns of the ads in the order of the search: by item, the winner first.
_ARRAYS = ("ad_ids", "item_rows", "bid", "campaign", "advertiser", "starts", "ends", "active", "place")
_UNNAMED = count(-1, -1)

COUNTRY_PATTERN = "^[A-Za-z]{2}$"
A_COUNTRY = "expected two letters, an ISO 3166 alpha-2 country code, e.g. DE"

SCHEMA = pa.schema(
    [
        ("ad_id", pa.string()),
        ("item_id", pa.string()),
        ("campaign_id", pa.string()),
        ("advertiser_id", pa.string()),
        ("starts_at", pa.timestamp("us", "UTC")),
        ("ends_at", pa.timestamp("us", "UTC")),
        ("status", pa.string()),
        ("countries", pa.list_(pa.string())),
        ("bid", pa.float64()),
        ("version", pa.int64()),
    ]
)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(at: datetime) -> int:
    """A time as microseconds since 1970 in UTC; a time without a zone is UTC."""
    since = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


@dataclass(frozen=True, eq=False)
class Eligible:
    """Items that may be shown, and the ad that wins on each.

    Shapes: rows (E,) int64, ascending; ads (E,) int64, positions in the ads table, or None where every item counts as
    advertised.
    """

    rows: Rows
    ads: Rows | None


class Ads:
    """The ads table, searchable by time, country, advertiser and campaign; it never changes, `replaced` makes another.

    Eligible at t: (starts_at null or ≤ t) and (ends_at null or > t), status null or "active", and the request's
    country among `countries` (case-folded), or no limit; a request without a country gets only ads without a limit.
    Of an item's eligible ads the highest bid wins (null = 0), then the smallest ad_id. Of rows with one ad_id the
    highest version counts (null = 0), and of equal versions the last.
    """

    def __init__(self, table: pa.Table, row_of: dict[str, int], *, quiet: bool = False) -> None:
        """Take an ads table in `SCHEMA`'s columns; `row_of` gives the catalogue row of an item_id.

        Raises:
            CatalogueError: a column is missing or of another type.
        """
        table = conform(table)
        self.by_status: dict[str, int] = dict(Counter(table["status"].fill_null("(null)").to_pylist()))
        table = _newest(table)
        self.table = table
        self._row_of = row_of
        known = [item in row_of for item in table["item_id"].to_pylist()]
        self.unknown_items = len(known) - sum(known)
        if self.unknown_items and not quiet:
            _log.warning("%d ads are for items that the catalogue does not have", self.unknown_items)
        table = table.filter(pa.array(known, pa.bool_()))
        item = np.array([row_of[item] for item in table["item_id"].to_pylist()], np.int64)
        bid = table["bid"].fill_null(0.0).to_numpy()
        ids = np.array(table["ad_id"].to_pylist(), dtype=object)
        order = np.array(sorted(range(len(ids)), key=lambda ad: (item[ad], -bid[ad], ids[ad])), np.int64)
        table = table.take(pa.array(order))
        self.ad_ids: NDArray[np.object_] = ids[order]
        self.item_rows: Rows = item[order]
        self.bid: NDArray[np.float64] = bid[order]
        self.campaign: NDArray[np.int64]
        self.campaign, self.campaigns = _codes(table["campaign_id"])
        self.advertiser, self.advertisers = _codes(table["advertiser_id"])
        self.starts = _times(table["starts_at"], _EVER.min)
        self.ends = _times(table["ends_at"], _EVER.max)
        self.active = pc.fill_null(pc.equal(table["status"], "active"), True).to_numpy()
        self.place, self.places = _places(table["countries"])
        self._countries = frozenset[str]().union(*self.places)
        self._bounds = _instants(self.starts, self.ends)
        self._moved: dict[str, int] = {}
        self._rows: dict[str, dict[str, Any]] = {}
        self._kept: OrderedDict[tuple[int, str | None], tuple[Mask, Eligible]] = OrderedDict()
        self._lock = threading.Lock()

    def replaced(self, rows: list[dict[str, Any]]) -> Ads:
        """With other rows for some ads, and with further ads: by ad_id, whatever their versions.

        Copies the columns that change; all of them where an ad comes, goes, or stands elsewhere in the order. `table`,
        `by_status` and `unknown_items` stay those of the table that was read.
        """
        changed = Ads(pa.Table.from_pylist(rows, schema=SCHEMA), self._row_of, quiet=True)
        new = copy(self)
        new.places = list(dict.fromkeys([*self.places, *changed.places]))
        new._countries = self._countries | changed._countries
        changed.place = np.array([new.places.index(place) for place in changed.places], np.int64)[changed.place]
        new.campaigns, changed.campaign = _joined(self.campaigns, changed.campaigns, changed.campaign)
        new.advertisers, changed.advertiser = _joined(self.advertisers, changed.advertisers, changed.advertiser)
        slots = {row["ad_id"]: slot for row in rows if (slot := self.slot(row["ad_id"])) is not None}
        at = np.array([slots.get(ad, -1) for ad in changed.ad_ids], np.int64)
        if len(slots) == len(rows) == len(changed) and self._in_place(at, changed):
            for name in _ARRAYS:
                before, now = getattr(self, name), getattr(changed, name)
                if (before[at] != now).any():
                    setattr(new, name, before.copy())
                    getattr(new, name)[at] = now
        else:
            kept = np.ones(len(self), bool)
            kept[list(slots.values())] = False
            for name in _ARRAYS:
                setattr(new, name, getattr(self, name)[kept])
            at = np.array([new._insertion(changed, ad) for ad in range(len(changed))], np.int64)
            for name in _ARRAYS:
                setattr(new, name, np.insert(getattr(new, name), at, getattr(changed, name)))
        item_rows = changed.item_rows.tolist()
        new._rows = self._rows | {row["ad_id"]: row for row in rows}
        new._moved = (
            self._moved | {row["ad_id"]: -1 for row in rows} | dict(zip(changed.ad_ids, item_rows, strict=True))
        )
        place = np.searchsorted(self._bounds, changed._bounds)
        news = changed._bounds != np.append(self._bounds, _EVER.max)[place]
        if news.any():
            new._bounds = np.insert(self._bounds, place[news], changed._bounds[news])
        new._kept, new._lock = OrderedDict(), threading.Lock()
        return new

    def _in_place(self, at: Rows, changed: Ads) -> bool:
        """Whether the ads in some slots, changed, have the same places in the order."""
        return bool((self.item_rows[at] == changed.item_rows).all() and (self.bid[at] == changed.bid).all())

    def slot(self, ad_id: str) -> int | None:
        """Where an ad stands in the arrays; None if it is not there, or its item is not in the catalogue."""
        row = self._moved.get(ad_id)
        if row is None:
            line = self._line_of.get(ad_id)
            row = -1 if line is None else self._row_of.get(self.table["item_id"][line].as_py(), -1)
        low, high = np.searchsorted(self.item_rows, [row, row + 1])
        found = np.flatnonzero(self.ad_ids[low:high] == ad_id)
        return int(low + found[0]) if len(found) else None

    def of_item(self, row: int) -> list[str]:
        """The ads of an item by its catalogue row, the one that wins first, whatever their state."""
        low, high = np.searchsorted(self.item_rows, [row, row + 1]).tolist()
        return list(self.ad_ids[low:high].tolist())

    def row(self, ad_id: str) -> dict[str, Any] | None:
        """An ad's row by column, of the table or as it was replaced."""
        if ad_id in self._rows:
            return self._rows[ad_id]
        return self.rows([ad_id]).get(ad_id)

    def rows(self, ad_ids: list[str]) -> dict[str, dict[str, Any]]:
        """The same of many ads at once; those that are not there are left out."""
        lines = [self._line_of[ad] for ad in ad_ids if ad in self._line_of and ad not in self._rows]
        read = self.table.take(pa.array(lines, pa.int64())).to_pylist() if lines else []
        return {row["ad_id"]: row for row in read} | {ad: self._rows[ad] for ad in ad_ids if ad in self._rows}

    @cached_property
    def _line_of(self) -> dict[str, int]:
        return {ad: line for line, ad in enumerate(self.table["ad_id"].to_pylist())}

    def _insertion(self, other: Ads, ad: int) -> int:
        """Before which slot an ad of another table belongs."""
        low, high = np.searchsorted(self.item_rows, [other.item_rows[ad], other.item_rows[ad] + 1]).tolist()
        key = (-other.bid[ad], other.ad_ids[ad])
        return int(low + sum((-self.bid[slot], self.ad_ids[slot]) < key for slot in range(low, high)))

    def __len__(self) -> int:
        return len(self.ad_ids)

    def interval(self, at: int) -> int:
        """Number of the stretch of time without any start or end that `at` (µs) falls into."""
        return int(np.searchsorted(self._bounds, at, side="right"))

    def intervals(self, at: Rows) -> Rows:
        """The same for many times."""
        return np.searchsorted(self._bounds, at, side="right").astype(np.int64)

    def eligible(self, at: int, country: str | None = None) -> Eligible:
        """Items with an eligible ad at `at` (µs since 1970, UTC). Kept per stretch of time: it is the same object."""
        # Eligibility changes only at a start or an end, so that what is kept is exact.
        return self.eligible_within(self.interval(at), country)

    def eligible_within(self, interval: int, country: str | None = None) -> Eligible:
        """The same for a stretch of time by its number."""
        return self._cached(interval, self._known_country(country))[1]

    def eligible_without(self, at: int, country: str | None, advertisers: list[str], campaigns: list[str]) -> Eligible:
        """The same, leaving out the ads of some advertisers and campaigns before an item's winning ad is chosen."""
        allowed = self._cached(self.interval(at), self._known_country(country))[0].copy()
        for codes, names, without in (
            (self.advertiser, self.advertisers, advertisers),
            (self.campaign, self.campaigns, campaigns),
        ):
            out = [names[name] for name in without if name in names]
            if out:
                allowed &= ~np.isin(codes, out)
        return self._winners(allowed)

    @property
    def countries(self) -> list[str]:
        """Countries that ads name, case-folded, those of the most ads first."""
        ads = np.bincount(self.place, minlength=len(self.places)).tolist()
        named = Counter[str]()
        for place, n in zip(self.places, ads, strict=True):
            named.update(dict.fromkeys(place, n))
        return [country for country, _ in named.most_common()]

    def in_flight(self, at: int) -> int:
        """How many ads are active at `at` (µs), in whatever country."""
        return int(np.count_nonzero(self.active & (self.starts <= at) & (self.ends > at)))

    def items_ending_after(self, at: int) -> Rows:
        """Rows (ascending int64) of the items with an ad that ends after `at` (µs)."""
        return np.unique(self.item_rows[self.ends > at])

    def _known_country(self, country: str | None) -> str | None:
        # A country that no ad names is as good as none, and must not fill the cache.
        folded = None if country is None else country.casefold()
        return folded if folded in self._countries else None

    def _cached(self, interval: int, country: str | None) -> tuple[Mask, Eligible]:
        # An lru_cache of a method is a cycle: at every live change the ads before it would outlive it.
        key = interval, country
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._eligible_at(interval, country)
                if len(self._kept) > _CACHED:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _eligible_at(self, interval: int, country: str | None) -> tuple[Mask, Eligible]:
        # Any instant of the stretch will do; its first is the boundary itself.
        at = self._bounds[interval - 1] if interval else _EVER.min + 1
        here = np.array([not place or country in place for place in self.places], bool)
        allowed = self.active & (self.starts <= at) & (self.ends > at) & here[self.place]
        return allowed, self._winners(allowed)

    def _winners(self, allowed: Mask) -> Eligible:
        ads = np.flatnonzero(allowed)
        rows = self.item_rows[ads]
        first = np.ones(len(rows), bool)
        first[1:] = rows[1:] != rows[:-1]
        return Eligible(rows[first], ads[first])


def conform(table: pa.Table) -> pa.Table:
    """The table with exactly `SCHEMA`'s columns; optional ones that are missing are null.

    Raises:
        CatalogueError: ad_id, item_id or campaign_id is missing, or a column cannot be read as its type.
    """
    columns = {}
    for field in SCHEMA:
        if field.name in table.column_names:
            try:
                columns[field.name] = table[field.name].cast(field.type)
            except pa.ArrowException as error:
                raise CatalogueError(
                    f"ads.{field.name} has type {table[field.name].type}, expected {field.type} ({error})"
                ) from error
        elif field.name in ("ad_id", "item_id", "campaign_id"):
            raise CatalogueError(f"ads: column {field.name} is missing, got {table.column_names}")
        else:
            columns[field.name] = pa.nulls(table.num_rows, field.type)
    return pa.table(columns, schema=SCHEMA)


def _newest(table: pa.Table) -> pa.Table:
    version = table["version"].fill_null(0).to_pylist()
    best: dict[str, int] = {}
    for row, ad in enumerate(table["ad_id"].to_pylist()):
        if ad not in best or version[row] >= version[best[ad]]:
            best[ad] = row
    return table.take(pa.array(sorted(best.values()), pa.int64()))


def _places(countries: pa.ChunkedArray) -> tuple[Rows, list[frozenset[str]]]:
    """(n,) the number of each ad's set of countries, case-folded, and the sets; one without any is no limit.

    Lists that are written alike are read once: a million Python sets would stop a server that loads them.
    """
    lists = countries.combine_chunks()
    names = pa.ListArray.from_arrays(lists.offsets, pc.fill_null(lists.values, ""))
    written = pc.binary_join(names, "\0").dictionary_encode()
    sets = [frozenset(c.casefold() for c in text.split("\0") if c) for text in written.dictionary.to_pylist()]
    places = sorted(set(sets), key=sorted)
    code = {place: number for number, place in enumerate(places)}
    return np.array([code[place] for place in sets], np.int64)[written.indices.to_numpy()], places


def _codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], dict[str, int]]:
    """(code per ad (A,), code by name); an ad without a name has a negative code that no other ad has."""
    names: dict[str, int] = {}
    codes = [next(_UNNAMED) if value is None else names.setdefault(value, len(names)) for value in column.to_pylist()]
    return np.array(codes, np.int64), names


def _joined(
    names: dict[str, int], others: dict[str, int], codes: NDArray[np.int64]
) -> tuple[dict[str, int], NDArray[np.int64]]:
    """(codes by all names, the codes of the others' ads as numbered there)."""
    every = names | {name: len(names) + new for new, name in enumerate(name for name in others if name not in names)}
    translated = np.array([every[name] for name in others], np.int64)
    named = codes >= 0
    joined = codes.copy()
    joined[named] = translated[codes[named]]
    return every, joined


def _instants(starts: Rows, ends: Rows) -> Rows:
    """All times at which anything starts or ends, ascending."""
    bounds = np.concatenate([starts, ends])
    return np.unique(bounds[(bounds != _EVER.min) & (bounds != _EVER.max)])


def _times(column: pa.ChunkedArray, missing: int) -> Rows:
    return pc.fill_null(column.cast(pa.int64()), missing).to_numpy()
