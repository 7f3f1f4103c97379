"""What a live change of ads, between two nightly tables, may contain."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

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
# The pattern is only for the documentation; the validator checks it and says in words what is expected.
Country = Annotated[str, AfterValidator(_country), Field(json_schema_extra={"pattern": COUNTRY_PATTERN})]


class Change(BaseModel):
    """New values of some fields of an ad or, without an ad_id, of all ads of a campaign.

    Fields that are left out stay as they are. A null is a new value: as ends_at it means no end, as countries
    no limit, and as status active. An end from the year 3000 on means no end, and a start before 1900 means no start.
    An ad that is not in any table yet needs item_id and campaign_id before it can be shown.
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
