"""The nightly ads table with the live changes applied; applying changes makes a new `Ads`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.arrays import Rows
from retrieval.catalogue.ads import Ads
from retrieval.live.change import CAMPAIGN_FIELDS, FIELDS, Change
from retrieval.live.change_log import Entry
from retrieval.live.recorded import Changes, CodedChange

_log = logging.getLogger(__name__)
_TABLE, _AD, _CAMPAIGN = 0, 1, 2


class Outcome(NamedTuple):
    """What became of a change.

    applied: it determines at least one field of an ad. repeated: it was already known. superseded: every field has a
    newer value. waiting: it is kept until its ad and the ad's item are known.
    """

    outcome: Literal["applied", "repeated", "superseded", "waiting"]
    why: str = ""


class _Newest(NamedTuple):
    """For n ads, the value of one field that is in effect: its version, its code and its origin, each (n,).

    The code of a value from the table is known for the fields of campaigns only.
    """

    version: Rows
    code: Rows
    origin: NDArray[np.int8]


class LiveAds:
    """The ads of a nightly table and the changes since then, combined in `ads`.

    Args:
        base: the ads of the table.
        changes: the changes that are recorded already.
    """

    def __init__(self, base: Ads, changes: Changes | None = None) -> None:
        self.ads = self._base = base
        self.changes = Changes() if changes is None else changes
        table = base.source.table
        # One more element, for ads that are not in the table.
        self._table_versions = np.append(table["version"].fill_null(0).to_numpy(), -1)
        self._table_codes: dict[str, Rows] = {}
        self._row_of_number = np.full(table.num_rows, -1)
        if len(self.changes):
            self._update(list(self.changes.ads.row_of), list(self.changes.campaigns.row_of))

    def rebased(self, base: Ads) -> LiveAds:
        """Return the same changes over another version's table."""
        return LiveAds(base, self.changes)

    def reread(self, changes: Changes) -> LiveAds:
        """Return other changes over the same table."""
        return LiveAds(self._base, changes)

    def apply(self, entries: Iterable[Entry]) -> None:
        """Apply further entries of the log."""
        ads, campaigns = dict[str, None](), dict[str, None]()
        for entry in entries:
            try:
                self.changes.add(entry.sequence, entry.change)
            except (ValueError, TypeError) as error:
                # A value that cannot be used must not keep the other ads from changing, nor a server from starting.
                self.changes.add(entry.sequence, None)
                assert entry.change is not None
                subject = f"ad {entry.change.ad_id!r}" if entry.change.ad_id else f"campaign {entry.change.campaign_id}"
                _log.error("%s stays as it was, as its changes cannot be applied: %s", subject, error)
                continue
            if entry.change is None:
                continue
            if entry.change.ad_id is None:
                campaigns[str(entry.change.campaign_id)] = None
            else:
                ads[entry.change.ad_id] = None
        self._update(list(ads), list(campaigns))

    def outcome(self, change: Change) -> Outcome:
        """Return what became of a change that the log holds."""
        return self.outcomes([self.changes.coded(change)])[0]

    def outcomes(self, changes: Sequence[CodedChange]) -> list[Outcome]:
        """Return what became of changes that the log holds."""
        of_ads = self._ad_outcomes([change for change in changes if change.ad_id is not None])
        of_campaigns = self._campaign_outcomes([change for change in changes if change.ad_id is None])
        return [next(of_campaigns if change.ad_id is None else of_ads) for change in changes]

    def _ad_outcomes(self, changes: list[CodedChange]) -> Iterator[Outcome]:
        numbers = self._numbers([str(change.ad_id) for change in changes])
        slots = self.ads.columns.slots(numbers)
        campaigns = self._campaign_rows(numbers, self._table_rows(numbers))
        fields = {name for change in changes for name in change.codes}
        newest = {name: self._newest(name, numbers, campaigns) for name in fields}
        for position, (change, slot) in enumerate(zip(changes, slots.tolist(), strict=True)):
            if slot < 0:
                yield Outcome("waiting", self._why_waiting(str(change.ad_id), int(numbers[position])))
            elif any(
                newest[name].origin[position] != _TABLE
                and (newest[name].version[position], newest[name].code[position]) == (change.version, code)
                for name, code in change.codes.items()
            ):
                yield Outcome("applied")
            else:
                yield Outcome("superseded", "newer values are known")

    def _why_waiting(self, ad_id: str, number: int) -> str:
        item, campaign = (self._text(name, number) for name in ("item_id", "campaign_id"))
        if item is None or campaign is None:
            return f"ad {ad_id!r} is in no table yet: item_id and campaign_id are needed"
        return f"item {item!r} is not in the catalogue of this version"

    def _campaign_outcomes(self, changes: list[CodedChange]) -> Iterator[Outcome]:
        slots, rows = self._ads_of([change.subject for change in changes])
        numbers = self.ads.columns.number[slots]
        has_ads = np.zeros(len(self.changes.campaigns), bool)
        has_ads[rows] = True
        versions = np.array([change.version for change in changes], np.int64)
        in_effect: dict[str, set[tuple[int, int, int]]] = {}
        for name in {name for change in changes for name in change.codes}:
            newest, recorded = self._newest(name, numbers, rows), self.changes.campaigns.field(name)
            decided = np.unique(rows[newest.origin == _CAMPAIGN])
            # A campaign's change also counts as applied if a later change of an ad repeats its value and version.
            of_ads = (newest.origin == _AD) & np.isin(newest.version, versions)
            by_ad = (array[of_ads].tolist() for array in (rows, newest.version, newest.code))
            by_campaign = (array.tolist() for array in (decided, recorded.version[decided], recorded.code[decided]))
            in_effect[name] = {*zip(*by_campaign, strict=True), *zip(*by_ad, strict=True)}
        for change in changes:
            row = self.changes.campaigns.row_of.get(change.subject)
            if row is None or not has_ads[row]:
                yield Outcome("waiting", f"no ad of campaign {change.campaign_id!r} is known")
            elif any((row, change.version, code) in in_effect[name] for name, code in change.codes.items()):
                yield Outcome("applied")
            else:
                yield Outcome("superseded", "newer values are known for all of its ads")

    def _update(self, ads: list[str], campaigns: list[str]) -> None:
        self._replace(ads)
        # The campaigns come second, because one of the ads may just have joined one of them.
        self._reschedule(campaigns)

    def _replace(self, ads: list[str]) -> None:
        """Replace the rows of ads that were changed themselves."""
        if not ads:
            return
        numbers, row_of = self._numbers(ads), self.changes.ads.row_of
        longest = int(numbers.max()) + 1
        if longest > len(self._row_of_number):
            more = np.full(max(longest, 2 * len(self._row_of_number)) - len(self._row_of_number), -1)
            self._row_of_number = np.concatenate([self._row_of_number, more])
        self._row_of_number[numbers] = [row_of[ad] for ad in ads]
        rows = self._table_rows(numbers)
        campaigns = self._campaign_rows(numbers, rows)
        columns: dict[str, pa.Array] = {"ad_id": pa.array(ads, pa.string())}
        for name in FIELDS:
            newest, column = self._newest(name, numbers, campaigns), rows[name].combine_chunks()
            changed = newest.origin != _TABLE
            values = self.changes.codes.column(name, np.where(changed, newest.code, -1)) if changed.any() else None
            columns[name] = column if values is None else pc.if_else(pa.array(changed), values, column)
        table = pa.table(columns)
        complete = pc.and_(table["item_id"].is_valid(), table["campaign_id"].is_valid())
        self.ads = self.ads.replaced(table.filter(complete), numbers[complete.to_numpy()])

    def _reschedule(self, campaigns: list[str]) -> None:
        """Set the statuses and times of all ads of changed campaigns."""
        slots, rows = self._ads_of(campaigns)
        if not len(slots):
            return
        numbers = self.ads.columns.number[slots]
        status, starts, ends = (self._newest(name, numbers, rows).code for name in ("status", "starts_at", "ends_at"))
        self.ads = self.ads.rescheduled(slots, status, self.changes.codes.values["status"], starts, ends)

    def _ads_of(self, campaigns: list[str]) -> tuple[Rows, Rows]:
        """Return (the slots of the ads of changed campaigns, the row of each one's campaign), each (n,) int64."""
        columns, row_of = self.ads.columns, self.changes.campaigns.row_of
        row_of_campaign = np.full(len(columns.campaigns) + 1, -1)
        for name in campaigns:
            if (campaign := columns.campaigns.get(name)) is not None:
                row_of_campaign[campaign] = row_of.get(name, -1)
        rows = row_of_campaign[np.maximum(columns.campaign, -1)]
        slots = np.flatnonzero(rows >= 0)
        return slots, rows[slots]

    def _numbers(self, ads: list[str]) -> Rows:
        number_of = self._base.source.number_of
        return np.array([number_of.setdefault(ad, len(number_of)) for ad in ads], np.int64)

    def _lines(self, numbers: Rows) -> Rows:
        """Return each ad's line in the table; an ad that is not in the table gets the line after the last one."""
        return np.minimum(numbers, self._base.source.table.num_rows)

    def _table_rows(self, numbers: Rows) -> pa.Table:
        """Return the ads' rows of the table; all values of an ad that is not in it are null."""
        table = self._base.source.table
        return table.take(pa.array(numbers, mask=numbers >= table.num_rows))

    def _newest(self, name: str, numbers: Rows, campaigns: Rows) -> _Newest:
        """Return the value in effect of a field.

        Args:
            name: the field.
            numbers: (n,) int64, the ads.
            campaigns: (n,) int64, the row in `Changes.campaigns` of each ad's campaign; -1 = it was not changed.
        """
        lines = self._lines(numbers)
        version = self._table_versions[lines]
        code = self._table_code(name)[lines] if name in CAMPAIGN_FIELDS else np.full(len(lines), -1)
        sequence, origin = np.zeros(len(lines), np.int64), np.full(len(lines), _TABLE, np.int8)
        rows = np.full(len(lines), -1)
        numbered = numbers < len(self._row_of_number)
        rows[numbered] = self._row_of_number[numbers[numbered]]
        of_campaigns = self.changes.campaigns.field(name) if name in CAMPAIGN_FIELDS else None
        for recorded, its_rows, kind in (
            (self.changes.ads.field(name), rows, _AD),
            (of_campaigns, campaigns, _CAMPAIGN),
        ):
            if recorded is None:
                continue
            changed = np.flatnonzero(its_rows >= 0)
            its_rows = its_rows[changed]
            newer = (recorded.version[its_rows] > version[changed]) | (
                (recorded.version[its_rows] == version[changed]) & (recorded.sequence[its_rows] > sequence[changed])
            )
            newer &= recorded.version[its_rows] >= 0
            changed, its_rows = changed[newer], its_rows[newer]
            version[changed], sequence[changed] = recorded.version[its_rows], recorded.sequence[its_rows]
            code[changed], origin[changed] = recorded.code[its_rows], kind
        return _Newest(version, code, origin)

    def _table_code(self, name: str) -> Rows:
        """Return the codes of a column of the table, followed by the code of null."""
        if name not in self._table_codes:
            column = self._base.source.table[name].combine_chunks()
            with_null = pa.concat_arrays([column, pa.nulls(1, column.type)])
            self._table_codes[name] = self.changes.codes.codes(name, with_null)
        return self._table_codes[name]

    def _campaign_rows(self, numbers: Rows, rows: pa.Table) -> Rows:
        """Return the row in `Changes.campaigns` of each ad's campaign (n,), given the ads' rows of the table."""
        row_of, none = self.changes.campaigns.row_of, np.full(len(numbers), -1)
        if not row_of:
            return none
        encoded = rows["campaign_id"].combine_chunks().dictionary_encode()
        in_table = np.array([row_of.get(name, -1) for name in encoded.dictionary.to_pylist()] + [-1], np.int64)
        newest = self._newest("campaign_id", numbers, none)
        values = self.changes.codes.values["campaign_id"]
        distinct, indices = np.unique(newest.code, return_inverse=True)
        recorded = [-1 if code < 0 else row_of.get(values[code], -1) for code in distinct.tolist()]
        by_table = in_table[encoded.indices.fill_null(-1).to_numpy()]
        return np.where(newest.origin == _TABLE, by_table, np.array(recorded, np.int64)[indices.reshape(-1)])

    def _text(self, name: str, number: int) -> str | None:
        """Return the value in effect of an ad's item_id or campaign_id."""
        newest = self._newest(name, np.array([number]), np.array([-1]))
        if newest.origin[0] != _TABLE:
            return str(self.changes.codes.values[name][newest.code[0]])
        table = self._base.source.table
        return table[name][number].as_py() if number < table.num_rows else None
