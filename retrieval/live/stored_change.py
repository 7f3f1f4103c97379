"""Changes as they are written in the log, and read again; the usual form is read in blocks, fifty times as fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from retrieval.arrays import Mask, Rows
from retrieval.live.change import CAMPAIGN_FIELDS, FIELDS, Change
from retrieval.live.recorded import Changes, CodedChange, ValueCodes
from retrieval.search.filters import ID_LENGTH

# What `write` gives if all ids are ASCII, with or without blanks between the values. A field that is left out is "".
_ID = r'"[!#-\[\]-~](?:[ !#-\[\]-~]*[!#-\[\]-~])?"'
_TIME = r'null|"(?:19|2\d)\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z"'
_VALUES = {
    "item_id": _ID,
    "advertiser_id": _ID,
    "status": r'null|"[a-z_]{1,64}"',
    "starts_at": _TIME,
    "ends_at": _TIME,
    "countries": r'null|\[(?:"[A-Za-z]{2}"(?:, ?"[A-Za-z]{2}")*)?\]',
    "bid": r"null|-?\d{1,15}(?:\.\d{1,15})?",
}
_FORM = (
    rf'^\{{(?:"ad_id": ?(?P<ad_id>{_ID}), ?)?(?:"campaign_id": ?(?P<campaign_id>{_ID}), ?)?'
    r'"version": ?(?P<version>0|[1-9]\d{0,17})'
    + "".join(rf'(?:, ?"{name}": ?(?P<{name}>{value}))?' for name, value in _VALUES.items())
    + r"\}$"
)
_AD_FIELDS = tuple(name for name in FIELDS if name not in CAMPAIGN_FIELDS)


def write(change: Change) -> str:
    """Return a change as JSON, without the fields that it leaves as they are."""
    return change.model_dump_json(exclude_unset=True)


def read(text: str) -> Change:
    """Return a change from JSON; fields of newer builds are left out.

    Raises:
        ValueError, TypeError, RecursionError: this build cannot read it.
    """
    fields = orjson.loads(text)
    return Change.model_validate({name: fields[name] for name in fields if name in Change.model_fields})


def record(
    changes: Changes, sequences: Sequence[int], texts: Sequence[str], unreadable: Callable[[int, Exception], None]
) -> None:
    """Record consecutive entries of the log.

    Args:
        changes: where they are recorded.
        sequences: their numbers, ascending.
        texts: what was written.
        unreadable: called with the number of each entry that this build cannot read, and the reason.
    """
    columns, plain = _columns(texts, changes.codes)
    others: list[tuple[int, CodedChange]] = []
    for position in np.flatnonzero(~plain).tolist():
        try:
            others.append((sequences[position], changes.coded(read(texts[position]))))
        except (ValueError, TypeError, RecursionError) as error:
            unreadable(sequences[position], error)
    numbers = np.array(sequences, np.int64)
    is_ad = pc.not_equal(columns["ad_id"], "").to_numpy(zero_copy_only=False)
    for of_ads, key in ((True, "ad_id"), (False, "name of campaign")):
        subjects = changes.ads if of_ads else changes.campaigns
        those = plain & (is_ad == of_ads)
        slow = [(number, change) for number, change in others if (change.ad_id is not None) == of_ads]
        rows = np.full(len(texts), -1)
        rows[those] = [subjects.add(name) for name in columns[key].filter(pa.array(those)).to_pylist()]
        slow_rows = [subjects.add(change.subject) for _, change in slow]
        for name in FIELDS if of_ads else CAMPAIGN_FIELDS:
            present = those & columns[f"has {name}"]
            further = [
                (row, change.version, number, change.codes[name])
                for row, (number, change) in zip(slow_rows, slow, strict=True)
                if name in change.codes
            ]
            fast = np.stack([rows, columns["version"], numbers, columns[name]])[:, present]
            if fast.size or further:
                values = np.concatenate([fast, np.array(further, np.int64).reshape(-1, 4).T], axis=1)
                subjects.field(name).record(*values)
    changes.sequence = max(changes.sequence, *sequences)


def _columns(texts: Sequence[str], codes: ValueCodes) -> tuple[dict[str, Any], Mask]:
    """Return (the columns of all entries, which of them are in the usual form and valid)."""
    groups = pc.extract_regex(pa.array(texts, pa.string()), _FORM)
    plain = groups.is_valid().to_numpy(zero_copy_only=False)
    raw = {name: pc.fill_null(pc.struct_field(groups, name), "") for name in ("ad_id", "campaign_id", *_VALUES)}
    has = {name: pc.not_equal(values, "").to_numpy(zero_copy_only=False) for name, values in raw.items()}
    columns: dict[str, Any] = {f"has {name}": present for name, present in has.items()}
    version = pc.struct_field(groups, "version")
    columns["version"] = pc.fill_null(version, "0").cast(pa.int64()).to_numpy()
    for name in ("ad_id", "campaign_id", "item_id", "advertiser_id"):
        plain &= pc.less_equal(pc.utf8_length(raw[name]), ID_LENGTH + 2).to_numpy(zero_copy_only=False)
    for name in FIELDS:
        columns[name] = _coded(name, raw[name], codes)
        if columns[name] is None:  # a time that does not exist
            columns[name], plain = np.full(len(texts), -1), plain & ~has[name]
    both = has["starts_at"] & has["ends_at"]
    plain &= ~both | (columns["starts_at"] <= columns["ends_at"])
    for_campaigns = ~np.logical_or.reduce([has[name] for name in _AD_FIELDS if name != "campaign_id"])
    plain &= has["ad_id"] | (has["campaign_id"] & for_campaigns)
    changed = [has[name] for name in FIELDS if name != "campaign_id"]
    plain &= np.logical_or.reduce(changed) | (has["ad_id"] & has["campaign_id"])
    names = {"ad_id": pc.utf8_trim(raw["ad_id"], '"'), "name of campaign": pc.utf8_trim(raw["campaign_id"], '"')}
    return columns | names, plain


def _coded(name: str, values: pa.Array, codes: ValueCodes) -> Rows | None:
    """Return the codes of values as they are written; None if one of them is no value."""
    is_null = pc.is_in(values, pa.array(["", "null"]))
    values = pc.if_else(is_null, pa.scalar(None, pa.string()), pc.utf8_trim(values, '"'))
    if name == "bid":
        return codes.codes(name, values.cast(pa.float64()))
    if name in ("starts_at", "ends_at"):
        try:
            return codes.codes(name, values.cast(pa.timestamp("us", "UTC")))
        except pa.ArrowInvalid:
            return None
    if name != "countries":
        return codes.codes(name, values)
    encoded = values.dictionary_encode()
    known = [codes.code(name, orjson.loads(text)) for text in encoded.dictionary.to_pylist()]
    return np.array([*known, -1], np.int64)[encoded.indices.fill_null(-1).to_numpy()]
