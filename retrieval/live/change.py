"""Live changes of ads between two nightly tables: what a change may say, and which of several counts.

A change carries the `version` that the system of record gave it. Of everything that is said about a field of an ad, by
the nightly table, by changes of the ad and by changes of its whole campaign, the highest version counts; of equal ones
what came last. So the order in which messages arrive does not matter, nor how often they do.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from retrieval.catalogue.ads import COUNTRY_PATTERN, SCHEMA
from retrieval.search.filters import ID_LENGTH

FIELDS = tuple(name for name in SCHEMA.names if name not in ("ad_id", "version"))
OF_CAMPAIGN = ("status", "starts_at", "ends_at")

Id = Annotated[str, StringConstraints(min_length=1, max_length=ID_LENGTH)]


def _utc(value: datetime) -> datetime:
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{value.isoformat()} is out of range in UTC") from None


Time = Annotated[datetime, AfterValidator(_utc)]


class Change(BaseModel):
    """New values of some fields of an ad, or, without an ad_id, of all ads of a campaign.

    What is not given stays as it is; null is a value (no end, no limit, active). An ad that no table has yet needs
    item_id and campaign_id to be shown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ad_id: Id | None = None
    campaign_id: Id | None = None
    version: int = Field(ge=0, lt=2**63, description="Of the system of record; the highest counts")
    item_id: Id | None = None
    advertiser_id: Id | None = None
    status: Annotated[str, StringConstraints(max_length=64, strip_whitespace=True, to_lower=True)] | None = Field(
        None, description="active or null; any other (paused, exhausted, …) is not shown"
    )
    starts_at: Time | None = None
    ends_at: Time | None = None
    countries: (
        Annotated[list[Annotated[str, StringConstraints(pattern=COUNTRY_PATTERN)]], Field(max_length=300)] | None
    ) = None
    bid: Annotated[float, Field(allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Change:
        if self.ad_id is None:
            if self.campaign_id is None:
                raise ValueError("needs an ad_id, or a campaign_id to change a whole campaign")
            if extra := [name for name in self.values() if name not in OF_CAMPAIGN]:
                raise ValueError(f"{', '.join(extra)}: not a campaign's; of a campaign {', '.join(OF_CAMPAIGN)} change")
        if not self.values():
            raise ValueError(f"changes nothing; give at least one of {', '.join(FIELDS)}")
        for name in ("item_id", "campaign_id"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name}: must not be null")
        if self.starts_at is not None and self.ends_at is not None and self.ends_at < self.starts_at:
            raise ValueError(f"ends_at: {self.ends_at.isoformat()} is before starts_at {self.starts_at.isoformat()}")
        return self

    def values(self) -> dict[str, Any]:
        """The fields that it changes."""
        given = self.model_fields_set - ({"campaign_id"} if self.ad_id is None else set())
        return {name: getattr(self, name) for name in FIELDS if name in given}


class Said(NamedTuple):
    """A value with what it is ordered by; the nightly table's sequence is 0, a change's that of the log."""

    version: int
    sequence: int
    value: Any


_NOTHING = Said(-1, -1, None)


class Changes:
    """The newest that changes say about every field of ads and campaigns."""

    def __init__(self) -> None:
        self.sequence = 0
        self._ads: dict[str, dict[str, Said]] = {}
        self._campaigns: dict[str, dict[str, Said]] = {}

    def add(self, sequence: int, change: Change | None) -> None:
        """Take a change of the log; None: one that says nothing here."""
        self.sequence = max(self.sequence, sequence)
        if change is None:
            return
        of, key = (self._campaigns, change.campaign_id) if change.ad_id is None else (self._ads, change.ad_id)
        said = of.setdefault(str(key), {})
        for name, value in self.news(change).items():
            said[name] = Said(change.version, sequence, value)

    def news(self, change: Change) -> dict[str, Any]:
        """What of a change was not said before, nor anything newer."""
        said = self._said(change)
        return {
            name: value
            for name, value in change.values().items()
            if name not in said or (said[name].version, said[name].value) != (change.version, value)
            if name not in said or said[name].version <= change.version
        }

    def repeats(self, change: Change) -> bool:
        """Whether all of it was said before, by the same version."""
        said = self._said(change)
        every = change.values().items()
        return all(name in said and said[name][::2] == (change.version, value) for name, value in every)

    def _said(self, change: Change) -> dict[str, Said]:
        if change.ad_id is None:
            return self._campaigns.get(str(change.campaign_id), {})
        return self._ads.get(change.ad_id, {})

    @property
    def ads(self) -> set[str]:
        """The ads that changes name."""
        return set(self._ads)

    @property
    def campaigns(self) -> set[str]:
        """The campaigns that are changed as a whole."""
        return set(self._campaigns)

    def campaign_of(self, ad_id: str, row: dict[str, Any] | None) -> str | None:
        """The campaign of an ad whose row of the nightly table is given."""
        campaign: str | None = self._newest("campaign_id", row, self._ads.get(ad_id, {})).value
        return campaign

    def newest(self, ad_id: str, row: dict[str, Any] | None) -> dict[str, Said]:
        """What counts of each field of an ad, given the nightly table's row."""
        said = self._ads.get(ad_id, {})
        campaign = self._campaigns.get(self.campaign_of(ad_id, row) or "", {})
        return {name: self._newest(name, row, said, campaign) for name in FIELDS}

    def row(self, ad_id: str, row: dict[str, Any] | None) -> dict[str, Any] | None:
        """The row of an ad as it counts now, given the nightly table's; None while item or campaign is unknown."""
        values = {name: said.value for name, said in self.newest(ad_id, row).items()}
        known = values["item_id"] is not None and values["campaign_id"] is not None
        return {"ad_id": ad_id, "version": None} | values if known else None

    @staticmethod
    def _newest(name: str, row: dict[str, Any] | None, *said: dict[str, Said]) -> Said:
        every = [one[name] for one in said if name in one]
        if row is not None:
            every.append(Said(row["version"] or 0, 0, row[name]))
        return max(every, key=lambda one: one[:2], default=_NOTHING)
