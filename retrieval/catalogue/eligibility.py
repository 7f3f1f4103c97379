"""The rules that decide whether an ad may be shown.

Each rule has a mask for the search and a sentence that explains a rejection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from retrieval.arrays import Mask, Rows
from retrieval.catalogue.ad_columns import AdColumns
from retrieval.values import clean_text


class EligibilityReason(Enum):
    """Why an ad may not be shown."""

    NOT_ACTIVE = "not active"
    NOT_STARTED = "not started"
    ENDED = "ended"
    OTHER_COUNTRY = "other country"
    ADVERTISER_EXCLUDED = "advertiser excluded"
    CAMPAIGN_EXCLUDED = "campaign excluded"


@dataclass(frozen=True)
class AdConditions:
    """The conditions of a request that its ads must fulfil.

    Args:
        at: the time, in µs since 1970, UTC.
        country: an ISO 3166 alpha-2 code, in upper or lower case; None excludes every ad that is limited to countries.
        exclude_advertisers: names of advertisers whose ads may not be shown.
        exclude_campaigns: names of campaigns whose ads may not be shown.
    """

    at: int
    country: str | None = None
    exclude_advertisers: Sequence[str] = ()
    exclude_campaigns: Sequence[str] = ()


class Rule(NamedTuple):
    """One condition on an ad.

    reason: the reason for a rejection by this rule. passes: returns the mask (A,) of ads that fulfil the rule, or True
    if all do. explain: says why an ad breaks the rule, given its row of the ads table.
    """

    reason: EligibilityReason
    passes: Callable[[AdColumns, AdConditions], Mask | bool]
    explain: Callable[[dict[str, Any], AdConditions], str]


def _in_country(ads: AdColumns, conditions: AdConditions) -> Mask:
    country = None if conditions.country is None else conditions.country.casefold()
    allowed = np.array([not countries or country in countries for countries in ads.country_sets], bool)
    return allowed[ads.country_set]


def _explain_country(row: dict[str, Any], conditions: AdConditions) -> str:
    countries = sorted({country.upper() for country in row["countries"] or [] if country})
    request = f"is for {conditions.country.upper()}" if conditions.country else "names no country"
    return f"the ad runs only in {', '.join(countries)}, but the request {request}"


def _not_of(numbers: Rows, number_of: dict[str, int], names: Sequence[str]) -> Mask | bool:
    numbers_of_names = (number_of.get(name, number_of.get(clean_text(name) or "")) for name in names)
    excluded = [number for number in numbers_of_names if number is not None]
    return ~np.isin(numbers, excluded) if excluded else True


RUNNING = (
    Rule(
        EligibilityReason.NOT_ACTIVE,
        lambda ads, _: ads.active,
        lambda row, _: f"its status is {row['status']!r}",
    ),
    Rule(
        EligibilityReason.NOT_STARTED,
        lambda ads, conditions: ads.starts <= conditions.at,
        lambda row, _: f"it starts at {row['starts_at'].isoformat()}",
    ),
    Rule(
        EligibilityReason.ENDED,
        lambda ads, conditions: ads.ends > conditions.at,
        lambda row, _: f"it ended at {row['ends_at'].isoformat()}",
    ),
)
"""Rules that say whether an ad is running, ignoring countries."""

BY_TIME_AND_COUNTRY = (*RUNNING, Rule(EligibilityReason.OTHER_COUNTRY, _in_country, _explain_country))
"""Rules that depend only on time and country. Their result changes only when an ad starts or ends."""

BY_EXCLUSION = (
    Rule(
        EligibilityReason.ADVERTISER_EXCLUDED,
        lambda ads, conditions: _not_of(ads.advertiser, ads.advertisers, conditions.exclude_advertisers),
        lambda row, _: f"the request excludes its advertiser {row['advertiser_id']!r}",
    ),
    Rule(
        EligibilityReason.CAMPAIGN_EXCLUDED,
        lambda ads, conditions: _not_of(ads.campaign, ads.campaigns, conditions.exclude_campaigns),
        lambda row, _: f"the request excludes its campaign {row['campaign_id']!r}",
    ),
)
"""Rules for advertisers and campaigns that the request excludes."""

RULES = (*BY_TIME_AND_COUNTRY, *BY_EXCLUSION)


def passing(ads: AdColumns, conditions: AdConditions, rules: Sequence[Rule] = RULES, among: Mask | None = None) -> Mask:
    """Return which ads fulfil all rules: (A,) bool.

    Args:
        ads: the columns of the ads.
        conditions: time, country and exclusions of the request.
        rules: the rules to apply.
        among: (A,) bool, the ads that may pass; None = all.
    """
    mask = np.ones(len(ads), bool) if among is None else among.copy()
    for rule in rules:
        mask &= rule.passes(ads, conditions)
    return mask


def reasons(ads: AdColumns, slot: int, row: dict[str, Any], conditions: AdConditions) -> dict[EligibilityReason, str]:
    """Return why an ad may not be shown: a sentence for each rule that it breaks; empty if it is eligible.

    Args:
        ads: the columns of the ads.
        slot: the position of the ad in the columns.
        row: the ad's row of the ads table, by column.
        conditions: time, country and exclusions of the request.
    """
    ad = ads.take(np.array([slot]))
    return {rule.reason: rule.explain(row, conditions) for rule in RULES if not passing(ad, conditions, (rule,)).all()}
