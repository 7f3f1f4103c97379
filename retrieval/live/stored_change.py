"""Writes changes to the log and reads them; their usual form is read in blocks, ten times as fast."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.arrays import Mask, Rows
from retrieval.catalogue.ads_table import COUNTRY_PATTERN
from retrieval.live.change import CAMPAIGN_FIELDS, FIELDS, Change
from retrieval.live.recorded import Changes, CodedChange, ValueCodes
from retrieval.search.filters import ID_LENGTH

# Values that the model of a change leaves as they are. All others are read by the model.
_ID = r"^[!-~](?:[ -~]*[!-~])?$"
_STATUS = r"^[a-z_]{1,64}$"
_TIME = r"^(?:19|2\d)\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z$"
_TYPES: dict[str, set[type]] = {
    "ad_id": {str},
    "campaign_id": {str},
    "version": {int},
    "item_id": {str},
    "advertiser_id": {str},
    "status": {str, type(None)},
    "starts_at": {str, type(None)},
    "ends_at": {str, type(None)},
    "countries": {list, type(None)},
    "bid": {int, float, type(None)},
}
_OF_CAMPAIGNS = {"campaign_id", "version", *CAMPAIGN_FIELDS}
_PATTERNS = {"status": _STATUS, "starts_at": _TIME, "ends_at": _TIME}


def write(change: Change) -> str:
    """Return a change as JSON, without the fields that it leaves as they are."""
    return change.model_dump_json(exclude_unset=True)


def read(text: str | bytes) -> Change:
    """Return a change from JSON; fields of newer builds are left out.

    Raises:
        ValueError, TypeError, RecursionError: this build cannot read it.
    """
    fields = orjson.loads(text if isinstance(text, str) else text.decode(errors="replace"))
    return Change.model_validate({name: fields[name] for name in fields if name in Change.model_fields})


def record(
    changes: Changes, sequences: Sequence[int], texts: Sequence[bytes], unreadable: Callable[[int, Exception], None]
) -> None:
    """Record consecutive entries of the log.

    Args:
        changes: where they are recorded.
        sequences: their numbers, ascending.
        texts: what was written, in UTF-8.
        unreadable: called with the number of each entry that this build cannot read, and the reason.
    """
    block = _Block(changes)
    shapes, others = _shapes(texts)
    numbers = np.array(sequences, np.int64)
    for names, (positions, values) in shapes.items():
        others += block.add_all(names, numbers[positions], values, positions)
    for position in sorted(others):
        try:
            block.add(sequences[position], changes.coded(read(texts[position])))
        except (ValueError, TypeError, RecursionError) as error:
            unreadable(sequences[position], error)
    block.record()
    changes.sequence = max(changes.sequence, *sequences)


Shape = tuple[list[int], list[Sequence[Any]]]


def _shapes(texts: Sequence[bytes]) -> tuple[dict[tuple[str, ...], Shape], list[int]]:
    """Return (keys → the positions and values of the objects with these keys, the positions of other texts)."""
    shapes: dict[tuple[str, ...], Shape] = defaultdict(lambda: ([], []))
    others = []
    for position, text in enumerate(texts):
        try:
            fields = orjson.loads(text)
            positions, values = shapes[tuple(fields)]
            values.append(fields.values())
            positions.append(position)
        except (ValueError, TypeError, AttributeError):
            others.append(position)
    usual = {}
    for names, shape in shapes.items():
        if _is_usual(names) and shape[0]:
            usual[names] = shape
        else:
            others += shape[0]
    return usual, others


def _is_usual(names: tuple[Any, ...]) -> bool:
    """Return whether objects with these keys are changes, if their values are of the right type."""
    if "version" not in names or not _TYPES.keys() >= set(names):
        return False
    if "ad_id" in names:
        return len(names) > 2
    return "campaign_id" in names and len(names) > 2 and set(names) <= _OF_CAMPAIGNS


class _Block:
    """Values of some entries that are recorded together."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        # By kind and field, the values as columns: row, version, sequence and code.
        self._values: dict[tuple[bool, str], list[Rows]] = defaultdict(list)

    def add(self, number: int, change: CodedChange) -> None:
        """Add one entry."""
        of_ad = change.ad_id is not None
        row = (self._changes.ads if of_ad else self._changes.campaigns).add(change.subject)
        for name, code in change.codes.items():
            self._values[of_ad, name].append(np.array([[row], [change.version], [number], [code]], np.int64))

    def add_all(
        self, names: tuple[str, ...], numbers: Rows, values: list[Sequence[Any]], positions: list[int]
    ) -> list[int]:
        """Add entries that have the same fields. Return the positions of those not added, which the model has to read.

        Args:
            names: the fields.
            numbers: (n,) int64, the numbers of the entries.
            values: n lists of values.
            positions: n positions of the entries.
        """
        columns: dict[str, tuple[Any, ...]] = dict(zip(names, zip(*values, strict=True), strict=True))
        if not all(_TYPES[name] >= set(map(type, column)) for name, column in columns.items()):
            return positions
        codes: dict[str, Rows] = {}
        plain = np.ones(len(positions), bool)
        try:
            for name, column in columns.items():
                codes[name], passing = _coded(name, column, self._changes.codes)
                plain &= passing
        except (ValueError, TypeError, OverflowError):  # such as a date that does not exist, or a version above 2^63
            return positions
        if "starts_at" in codes and "ends_at" in codes:
            plain &= codes["starts_at"] <= codes["ends_at"]
        of_ads = "ad_id" in columns
        subjects = self._changes.ads if of_ads else self._changes.campaigns
        plain_positions = np.flatnonzero(plain)
        column = columns["ad_id" if of_ads else "campaign_id"]
        rows = np.array([subjects.add(column[position]) for position in plain_positions.tolist()], np.int64)
        for name in FIELDS if of_ads else CAMPAIGN_FIELDS:
            if name in codes and len(rows):
                added = np.stack(
                    [rows, codes["version"][plain_positions], numbers[plain_positions], codes[name][plain_positions]]
                )
                self._values[of_ads, name].append(added)
        return [positions[position] for position in np.flatnonzero(~plain).tolist()]

    def record(self) -> None:
        """Record all values."""
        for (of_ads, name), values in self._values.items():
            subjects = self._changes.ads if of_ads else self._changes.campaigns
            subjects.field(name).record(*np.concatenate(values, axis=1))


def _coded(name: str, column: tuple[Any, ...], codes: ValueCodes) -> tuple[Rows, Mask]:
    """Return (the codes of values of a field, which of them need not be read by the model).

    Raises:
        ValueError, TypeError, OverflowError: the field cannot have one of the values.
    """
    every = np.ones(len(column), bool)
    if name == "version":
        versions = np.array(column, np.int64)
        return versions, versions >= 0
    if name == "bid":
        bids = np.array([np.nan if bid is None else bid for bid in column], np.float64)
        return codes.codes(name, pa.array(bids, mask=np.isnan(bids))), ~np.isinf(bids)
    if name == "countries":
        plain = {lists: _are_countries(lists) for lists in {tuple(lists) for lists in column if lists is not None}}
        passing = np.array([lists is None or plain[tuple(lists)] for lists in column], bool)
        coded = [codes.code(name, lists) if ok else -1 for lists, ok in zip(column, passing.tolist(), strict=True)]
        return np.array(coded, np.int64), passing
    texts = pa.array(column, pa.string())
    passing = _passing(pc.match_substring_regex(texts, _PATTERNS.get(name, _ID)))
    if name.endswith("_at"):
        plain_times = pc.if_else(pa.array(passing), texts, pa.scalar(None, pa.string()))
        return codes.codes(name, plain_times.cast(pa.timestamp("us", "UTC"))), passing
    if name == "ad_id":
        return every.astype(np.int64), passing & _passing(pc.less_equal(pc.utf8_length(texts), ID_LENGTH))
    if name != "status":
        passing &= _passing(pc.less_equal(pc.utf8_length(texts), ID_LENGTH))
    return codes.codes(name, pc.if_else(pa.array(passing), texts, pa.scalar(None, pa.string()))), passing


def _passing(condition: pa.BooleanArray) -> NDArray[np.bool_]:
    """Return a condition as a mask; a null passes."""
    mask: NDArray[np.bool_] = condition.fill_null(True).to_numpy(zero_copy_only=False)
    return mask


def _are_countries(codes: tuple[Any, ...]) -> bool:
    text = isinstance(codes, tuple) and len(codes) <= 300 and all(type(code) is str for code in codes)
    if not text:
        return False
    return bool(pc.all(pc.match_substring_regex(pa.array(codes, pa.string()), COUNTRY_PATTERN)).as_py() is not False)
