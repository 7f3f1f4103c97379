"""Live changes of ads between two nightly tables: what a change may contain, and which of several values is in effect.

Each change carries the `version` that the system of record gave it. A field of an ad may have values from the nightly
table, from changes of the ad and from changes of its whole campaign; the value with the highest version is in effect,
and among equal versions the one recorded last. So messages may arrive in any order, and more than once.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from retrieval.catalogue.ads_table import A_COUNTRY, COUNTRY_PATTERN, SCHEMA
from retrieval.search.filters import ID_LENGTH
from retrieval.times import microseconds
from retrieval.values import (
    A_TIME,
    END_OF_TIMES,
    FIRST_TIME,
    NO_END_FROM,
    NO_START_BEFORE,
    clean_text,
    parse_time,
    to_datetime,
)

FIELDS = tuple(name for name in SCHEMA.names if name not in ("ad_id", "version"))
CAMPAIGN_FIELDS = ("status", "starts_at", "ends_at")


def _clean_id(value: str) -> str:
    cleaned = clean_text(value)
    if cleaned is None:
        raise ValueError(f"got {value!r}, expected an id")
    return cleaned


def _time(value: Any) -> int:
    """Return a written time or a datetime as µs since 1970; it may lie outside the calendar."""
    time = parse_time(value) if isinstance(value, str) else microseconds(value) if isinstance(value, datetime) else None
    if time is None:
        raise ValueError(f"got {value!r}, {A_TIME}")
    return time


def _start(value: Any) -> datetime | None:
    time = None if value is None else _time(value)
    return None if time is None or time < NO_START_BEFORE else _within_calendar(time, value)


def _end(value: Any) -> datetime | None:
    time = None if value is None else _time(value)
    return None if time is None or time >= NO_END_FROM else _within_calendar(time, value)


def _within_calendar(time: int, value: Any) -> datetime:
    if not FIRST_TIME <= time < END_OF_TIMES:
        raise ValueError(f"got {value!r}, expected a time of the years 1 to 9999 in UTC")
    return to_datetime(time)


def _status(value: str) -> str | None:
    cleaned = clean_text(value)
    return None if cleaned is None else cleaned.lower()


def _country(value: str) -> str:
    cleaned = clean_text(value) or ""
    if not re.fullmatch(COUNTRY_PATTERN, cleaned):
        raise ValueError(f"got {value!r}, {A_COUNTRY}")
    return cleaned


Id = Annotated[str, StringConstraints(min_length=1, max_length=ID_LENGTH), AfterValidator(_clean_id)]
# The pattern is for the documentation; the validator's message says it in words.
Country = Annotated[str, AfterValidator(_country), Field(json_schema_extra={"pattern": COUNTRY_PATTERN})]


class Change(BaseModel):
    """New values of some fields of an ad or, without an ad_id, of all ads of a campaign.

    Fields that are left out stay as they are. A null is a new value: for ends_at it means no end, for countries no
    limit, for status active. An end from the year 3000 on means no end, and a start before 1900 no start. An ad that is
    not in any table yet needs item_id and campaign_id before it can be shown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    ad_id: Id | None = None
    campaign_id: Id | None = None
    version: int = Field(ge=0, lt=2**63, description="Set by the system of record; the highest is in effect")
    item_id: Id | None = None
    advertiser_id: Id | None = None
    status: Annotated[str, StringConstraints(max_length=64), AfterValidator(_status)] | None = Field(
        None, description="Ads with active or null are shown; any other status (paused, exhausted, …) hides the ad"
    )
    starts_at: Annotated[datetime | None, BeforeValidator(_start)] = None
    ends_at: Annotated[datetime | None, BeforeValidator(_end)] = None
    countries: Annotated[list[Country], Field(max_length=300)] | None = None
    bid: Annotated[float, Field(allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Change:
        if self.ad_id is None:
            if self.campaign_id is None:
                raise ValueError("needs an ad_id, or a campaign_id to change a whole campaign")
            if extra := [name for name in self.values() if name not in CAMPAIGN_FIELDS]:
                fields = ", ".join(CAMPAIGN_FIELDS)
                raise ValueError(f"{', '.join(extra)}: not a campaign's field; a campaign can change {fields}")
        if not self.values():
            raise ValueError(f"changes nothing; give at least one of {', '.join(FIELDS)}")
        for name in ("item_id", "campaign_id"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name}: must not be null")
        if self.starts_at is not None and self.ends_at is not None and self.ends_at < self.starts_at:
            raise ValueError(f"ends_at: {self.ends_at.isoformat()} is before starts_at {self.starts_at.isoformat()}")
        return self

    def values(self) -> dict[str, Any]:
        """Return the changed fields with their new values."""
        fields = self.model_fields_set - ({"campaign_id"} if self.ad_id is None else set())
        return {name: getattr(self, name) for name in FIELDS if name in fields}


class VersionedValue(NamedTuple):
    """A value with its version, and the sequence number of its entry in the log (0 for the nightly table)."""

    version: int
    sequence: int
    value: Any


_NO_VALUE = VersionedValue(-1, -1, None)


class Changes:
    """The newest recorded value of every changed field of ads and campaigns."""

    def __init__(self) -> None:
        self.sequence = 0
        self._ads: dict[str, dict[str, VersionedValue]] = {}
        self._campaigns: dict[str, dict[str, VersionedValue]] = {}

    def add(self, sequence: int, change: Change | None) -> None:
        """Record an entry of the log; its change is None if this build cannot read it."""
        self.sequence = max(self.sequence, sequence)
        if change is None:
            return
        unrecorded = self.unrecorded_fields(change)
        recorded = (
            self._campaigns.setdefault(str(change.campaign_id), {})
            if change.ad_id is None
            else self._ads.setdefault(change.ad_id, {})
        )
        for name, value in unrecorded.items():
            recorded[name] = VersionedValue(change.version, sequence, value)

    def unrecorded_fields(self, change: Change) -> dict[str, Any]:
        """Return the fields of a change that would be recorded.

        These have no recorded value yet, one of a lower version, or a different one of the same version.
        """
        recorded = self._recorded(change)
        return {
            name: value
            for name, value in change.values().items()
            if name not in recorded
            or recorded[name].version < change.version
            or (recorded[name].version == change.version and recorded[name].value != value)
        }

    def repeats(self, change: Change) -> bool:
        """Return whether every field of a change was recorded before, with the same version and value."""
        recorded = self._recorded(change)
        return all(
            name in recorded and (recorded[name].version, recorded[name].value) == (change.version, value)
            for name, value in change.values().items()
        )

    def _recorded(self, change: Change) -> dict[str, VersionedValue]:
        if change.ad_id is None:
            return self._campaigns.get(str(change.campaign_id), {})
        return self._ads.get(change.ad_id, {})

    @property
    def ads(self) -> set[str]:
        """The ads that changes name."""
        return set(self._ads)

    @property
    def campaigns(self) -> set[str]:
        """The campaigns that were changed as a whole."""
        return set(self._campaigns)

    def newest(self, ad_id: str, row: dict[str, Any] | None) -> dict[str, VersionedValue]:
        """Return the value in effect of each field of an ad, given its row in the nightly table, if it has one."""
        of_ad = self._ads.get(ad_id, {})
        campaign_id: str | None = self._newest("campaign_id", row, of_ad).value
        of_campaign = self._campaigns.get(campaign_id or "", {})
        return {name: self._newest(name, row, of_ad, of_campaign) for name in FIELDS}

    def row(self, ad_id: str, row: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return the row of an ad with all changes applied; None while its item or campaign is unknown."""
        values = {name: newest.value for name, newest in self.newest(ad_id, row).items()}
        complete = values["item_id"] is not None and values["campaign_id"] is not None
        return {"ad_id": ad_id, "version": None} | values if complete else None

    @staticmethod
    def _newest(name: str, row: dict[str, Any] | None, *recorded: dict[str, VersionedValue]) -> VersionedValue:
        values = [fields[name] for fields in recorded if name in fields]
        if row is not None:
            values.append(VersionedValue(row["version"] or 0, 0, row[name]))
        return max(values, key=lambda value: (value.version, value.sequence), default=_NO_VALUE)
