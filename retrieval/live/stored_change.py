"""A change as it is written in the log, and read again; the usual form is read without the model, ten times as fast."""

from __future__ import annotations

import re
from functools import lru_cache
from math import isfinite
from typing import Any

import orjson

from retrieval.catalogue.ad_columns import ALWAYS
from retrieval.catalogue.ads_table import COUNTRY_PATTERN
from retrieval.live.change import CAMPAIGN_FIELDS, FIELDS, Change
from retrieval.live.recorded import CodedChange, ValueCodes
from retrieval.search.filters import ID_LENGTH
from retrieval.values import NO_END_FROM, NO_START_BEFORE, parse_time

_KEYS = frozenset({"ad_id", "version", *FIELDS})
_ID = re.compile(rf"[!-~](?:[ -~]{{0,{ID_LENGTH - 2}}}[!-~])?")
_STATUS = re.compile(r"[!-@\[-~](?:[ -@\[-~]{0,62}[!-@\[-~])?")
_COUNTRY = re.compile(COUNTRY_PATTERN)
_TIME = re.compile(r"(?:19|2\d)\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z")


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


def read_coded(text: str, codes: ValueCodes) -> CodedChange:
    """Return a change from JSON as `read` does, with the codes of its values.

    Args:
        text: the JSON text.
        codes: the numbers that stand for values; new ones are added.

    Raises:
        ValueError, TypeError, RecursionError: this build cannot read it.
    """
    fields = orjson.loads(text)
    if not _is_plain(fields):
        change = read(text)
        values = {name: codes.code(name, value) for name, value in change.values().items()}
        return CodedChange(change.ad_id, change.campaign_id, change.version, values)
    ad_id = fields.get("ad_id")
    names = fields.keys() & (FIELDS if ad_id is not None else CAMPAIGN_FIELDS)
    values = {name: _code(name, fields[name], codes) for name in names}
    return CodedChange(ad_id, fields.get("campaign_id"), fields["version"], values)


def _code(name: str, value: Any, codes: ValueCodes) -> int:
    return _time(name, value) if name.endswith("_at") else codes.code(name, value)


def _is_plain(fields: Any) -> bool:
    """Return whether an object is a valid change whose values stay as they are when they are read."""
    if type(fields) is not dict or not _KEYS.issuperset(fields) or not _is_version(fields.get("version")):
        return False
    ad_id = fields.get("ad_id")
    if ad_id is None and not (fields.keys() <= {"ad_id", "campaign_id", "version", *CAMPAIGN_FIELDS}):
        return False
    ids = [fields[name] for name in ("ad_id", "item_id", "campaign_id", "advertiser_id") if name in fields]
    if not ids or not all(type(name) is str and _ID.fullmatch(name) for name in ids):
        return False
    if len(fields) <= 2 or not _are_plain(fields):
        return False
    starts, ends = fields.get("starts_at"), fields.get("ends_at")
    return starts is None or ends is None or _time("starts_at", starts) <= _time("ends_at", ends)


def _is_version(version: Any) -> bool:
    return type(version) is int and 0 <= version < 2**63


def _are_plain(fields: dict[str, Any]) -> bool:
    status, countries, bid = fields.get("status"), fields.get("countries"), fields.get("bid")
    if status is not None and not (type(status) is str and _STATUS.fullmatch(status)):
        return False
    if countries is not None and not (
        type(countries) is list
        and len(countries) <= 300
        and all(type(code) is str and _COUNTRY.fullmatch(code) for code in countries)
    ):
        return False
    if bid is not None and not (type(bid) in (int, float) and isfinite(bid)):
        return False
    times = (fields.get("starts_at"), fields.get("ends_at"))
    return all(time is None or (type(time) is str and _plain_time(time) is not None) for time in times)


@lru_cache(maxsize=4096)
def _plain_time(text: str) -> int | None:
    time = parse_time(text) if _TIME.fullmatch(text) else None
    return time if time is not None and NO_START_BEFORE <= time < NO_END_FROM else None


def _time(name: str, text: str | None) -> int:
    """Return the code of a time in plain form, or of null."""
    time = None if text is None else _plain_time(text)
    return time if time is not None else (ALWAYS.min if name == "starts_at" else ALWAYS.max)
