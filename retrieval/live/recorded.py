"""The newest recorded value of every changed field of ads and campaigns, as arrays that are compared all at once.

Each change carries the `version` that the system of record gave it. A field of an ad may have values from the nightly
table, from changes of the ad and from changes of its whole campaign; the value with the highest version is in effect,
and among equal versions the one recorded last. So messages may arrive in any order, and more than once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from retrieval.arrays import Rows, python_values
from retrieval.catalogue.ad_columns import ALWAYS
from retrieval.catalogue.ads_table import SCHEMA
from retrieval.live.change import FIELDS, Change
from retrieval.times import microseconds

TEXT_FIELDS = ("item_id", "campaign_id", "advertiser_id", "status", "countries")
"""Fields whose values are numbered in the order in which they come up."""
_NO_TIME = {"starts_at": ALWAYS.min, "ends_at": ALWAYS.max}
_NO_BID = int(np.float64("nan").view(np.int64))


class ValueCodes:
    """Gives every value of a field a code (int64), so that equal values have equal codes.

    Texts and lists of countries are numbered in the order in which they come up. The code of a time is its µs since
    1970, and the code of a bid is the bits of its float64. The code of a null is `ALWAYS.min` (starts_at), `ALWAYS.max`
    (ends_at), the bits of NaN (bid) or else -1.
    """

    def __init__(self) -> None:
        self._codes: dict[str, dict[Any, int]] = {name: {} for name in TEXT_FIELDS}
        self.values: dict[str, list[Any]] = {name: [] for name in TEXT_FIELDS}

    def code(self, name: str, value: Any) -> int:
        """Return the code of a field's value.

        Raises:
            ValueError, TypeError: the field cannot have this value.
        """
        if name in _NO_TIME:
            return int(_NO_TIME[name] if value is None else microseconds(value))
        if name == "bid":
            # Adding 0 turns -0.0 into 0.0.
            return _NO_BID if value is None else int((np.float64(value) + 0.0).view(np.int64))
        if value is None:
            return -1
        codes, value = self._codes[name], tuple(value) if name == "countries" else str(value)
        if value not in codes:
            codes[value] = len(codes)
            self.values[name].append(value)
        return codes[value]

    def column(self, name: str, codes: Rows) -> pa.Array:
        """Return the values of a field with these codes (n,) as a column of the ads table."""
        kind = SCHEMA.field(name).type
        if name in _NO_TIME:
            return pa.array(codes, mask=codes == _NO_TIME[name]).cast(kind)
        if name == "bid":
            return pa.array(codes.view(np.float64), mask=codes == _NO_BID)
        distinct, indices = np.unique(codes, return_inverse=True)
        values = self.values[name]
        return pa.array([None if code < 0 else values[code] for code in distinct.tolist()], kind).take(
            pa.array(indices.reshape(-1))
        )

    def codes(self, name: str, column: pa.Array) -> Rows:
        """Return the codes (n,) of a column of the ads table; the inverse of `column`, but not for countries."""
        if name in _NO_TIME:
            return column.cast(pa.int64()).fill_null(_NO_TIME[name]).to_numpy().astype(np.int64)
        if name == "bid":
            values = column.fill_null(float("nan")).to_numpy() + 0.0
            return np.where(np.isnan(values), _NO_BID, values.view(np.int64))
        encoded = column.dictionary_encode()
        known = np.array([self.code(name, text) for text in encoded.dictionary.to_pylist()] + [-1], np.int64)
        return known[encoded.indices.fill_null(-1).to_numpy()]


class RecordedField:
    """The newest recorded values of a field, by row: version (-1 = none), sequence and code, each (n,) int64."""

    def __init__(self) -> None:
        self._versions, self._sequences, self._codes = (np.full(0, -1) for _ in range(3))
        self._length = 0

    @property
    def version(self) -> Rows:
        """(n,) int64, the versions of the values; -1 where none is recorded."""
        return self._versions[: self._length]

    @property
    def sequence(self) -> Rows:
        """(n,) int64, the numbers of the entries in the log."""
        return self._sequences[: self._length]

    @property
    def code(self) -> Rows:
        """(n,) int64, the codes of the values."""
        return self._codes[: self._length]

    def resize(self, length: int) -> None:
        """Make room for this many rows; nothing is recorded in new ones."""
        if length > len(self._versions):
            more = np.full(max(length, 2 * len(self._versions)) - len(self._versions), -1)
            self._versions = np.concatenate([self._versions, more])
            self._sequences = np.concatenate([self._sequences, more])
            self._codes = np.concatenate([self._codes, more])
        self._length = max(length, self._length)

    def is_new(self, row: int, version: int, code: int) -> bool:
        """Return whether a value is news: none is recorded, or a lower version, or this version with another value."""
        recorded = self._versions[row]
        return bool(recorded < version or (recorded == version and self._codes[row] != code))

    def set(self, row: int, version: int, sequence: int, code: int) -> None:
        """Record a value."""
        self._versions[row], self._sequences[row], self._codes[row] = version, sequence, code

    def record(self, rows: Rows, version: Rows, sequence: Rows, code: Rows) -> None:
        """Record values (n,) in the order of their sequences, as `is_new` and `set` do for one after the other."""
        is_given = np.zeros(len(self._versions), bool)
        is_given[rows] = True
        (known,) = np.nonzero(is_given & (self._versions >= 0))
        rows = np.concatenate([known, rows])
        version = np.concatenate([self._versions[known], version])
        sequence = np.concatenate([self._sequences[known], sequence])
        code = np.concatenate([self._codes[known], code])
        order = np.lexsort((sequence, version, rows))
        rows, version, sequence, code = rows[order], version[order], sequence[order], code[order]
        is_last = np.append(rows[1:] != rows[:-1], True)
        highest = version[is_last][np.cumsum(is_last) - is_last]
        counts = version == highest
        # A value that repeats the one before it, with the same version, is not recorded again.
        repeats = np.zeros(len(rows), bool)
        repeats[1:] = (rows[1:] == rows[:-1]) & counts[:-1] & (code[1:] == code[:-1])
        (counts,) = np.nonzero(counts & ~repeats)
        # If a row is assigned several times, numpy keeps the last value.
        self._versions[rows[counts]] = version[counts]
        self._sequences[rows[counts]] = sequence[counts]
        self._codes[rows[counts]] = code[counts]

    def fill(self, version: Rows, sequence: Rows, code: Rows) -> None:
        """Record the values of all rows (n,) at once."""
        self._versions, self._sequences, self._codes = version.copy(), sequence.copy(), code.copy()
        self._length = len(version)


class Subjects:
    """Ads or campaigns that were changed: a row each, and the newest recorded value of every field."""

    def __init__(self) -> None:
        self.row_of: dict[str, int] = {}
        self._fields: dict[str, RecordedField] = {}

    def __len__(self) -> int:
        return len(self.row_of)

    def add(self, name: str) -> int:
        """Return the row of a subject; a new subject gets a new row."""
        return self.row_of.setdefault(name, len(self.row_of))

    def add_all(self, names: pa.ChunkedArray) -> Rows:
        """Return the rows (n,) int64 of subjects; new subjects get new rows."""
        encoded = names.combine_chunks().dictionary_encode()
        rows = np.array([self.add(name) for name in python_values(encoded.dictionary)], np.int64)
        return rows[encoded.indices.to_numpy()]

    def field(self, name: str) -> RecordedField:
        """Return what is recorded of a field, with a row for every subject."""
        field = self._fields.get(name)
        if field is None:
            field = self._fields[name] = RecordedField()
        field.resize(len(self.row_of))
        return field

    def fields(self) -> Iterator[tuple[str, RecordedField]]:
        """Yield each field of which anything is recorded, by name and with its values."""
        for name in FIELDS:
            if name in self._fields:
                yield name, self.field(name)


class CodedChange(NamedTuple):
    """A change with the codes of its values. A change of a whole campaign has no ad_id."""

    ad_id: str | None
    campaign_id: str | None
    version: int
    codes: dict[str, int]

    @property
    def subject(self) -> str:
        """The ad or the campaign that changes."""
        return str(self.campaign_id) if self.ad_id is None else self.ad_id


class Changes:
    """The newest recorded value of every changed field of ads and campaigns.

    Attributes:
        sequence: the number of the last entry of the log that was recorded here.
        ads: what is recorded of ads.
        campaigns: what is recorded of whole campaigns.
        codes: the numbers that stand for the values.
    """

    def __init__(self) -> None:
        self.sequence = 0
        self.ads, self.campaigns = Subjects(), Subjects()
        self.codes = ValueCodes()

    def __len__(self) -> int:
        return len(self.ads) + len(self.campaigns)

    def coded(self, change: Change) -> CodedChange:
        """Return a change with the codes of its values.

        Raises:
            ValueError, TypeError: a field cannot have its value; no change that was validated raises this.
        """
        codes = {name: self.codes.code(name, value) for name, value in change.values().items()}
        return CodedChange(change.ad_id, change.campaign_id, change.version, codes)

    def add(self, sequence: int, change: Change | CodedChange | None) -> None:
        """Record an entry of the log; its change is None if this release cannot read it."""
        self.sequence = max(self.sequence, sequence)
        if change is None:
            return
        coded = change if isinstance(change, CodedChange) else self.coded(change)
        subjects = self._subjects(coded)
        row = subjects.add(coded.subject)
        for name, code in coded.codes.items():
            field = subjects.field(name)
            if field.is_new(row, coded.version, code):
                field.set(row, coded.version, sequence, code)

    def repeats(self, change: CodedChange) -> bool:
        """Return whether every field of a change was recorded before, with the same version and value."""
        subjects = self._subjects(change)
        row = subjects.row_of.get(change.subject)
        if row is None:
            return False
        fields = ((subjects.field(name), code) for name, code in change.codes.items())
        return all((field.version[row], field.code[row]) == (change.version, code) for field, code in fields)

    def _subjects(self, change: CodedChange) -> Subjects:
        return self.campaigns if change.ad_id is None else self.ads
