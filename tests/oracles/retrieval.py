"""Retrieval and live changes by brute force, one item and one field at a time, as the rules are worded."""

from collections import Counter
from datetime import datetime
from typing import Any

from retrieval.catalogue.ads import Ads
from retrieval.catalogue.items import Catalogue
from retrieval.live.change import FIELDS, Change
from retrieval.search.filters import Filters
from retrieval.search.request import RetrievalRequest
from retrieval.times import microseconds
from tests.oracles.small_shop import slow_scores, slow_winners

Row = dict[str, Any]
EdgeRow = tuple[int, int, str]


def newest_rows(rows: list[Row]) -> dict[str, Row]:
    """Return by ad_id the row of each ad with the highest version; if versions are equal, the last of these rows."""
    newest: dict[str, Row] = {}
    for ad in rows:
        if ad["ad_id"] not in newest or (ad["version"] or 0) >= (newest[ad["ad_id"]]["version"] or 0):
            newest[ad["ad_id"]] = ad
    return newest


def slow_retrieve(
    catalogue: Catalogue, edges: list[EdgeRow], ads: list[Row] | None, request: RetrievalRequest
) -> list[tuple[str, str | None]]:
    """Return the (item, ad) pairs that answer a request; its items must all be known, and it must name a time."""
    assert isinstance(request.at, datetime)
    known, filters = set(catalogue.item_ids), request.filters
    winners: dict[str, Row | None] = dict.fromkeys(known)
    if ads is not None:
        winners = dict(slow_winners(ads, known, request.at, request.country, filters))
    views = [catalogue.row_of[item] for item in request.items]
    score = slow_scores(catalogue, edges, views)
    category = catalogue.attributes["category"].to_pylist()
    price = catalogue.attributes["price"].to_pylist()
    shown: Counter[tuple[str, str]] = Counter()
    results = []
    for row in sorted(range(catalogue.n_rows), key=lambda row: (-score[row], row)):
        item = catalogue.item_ids[row]
        if item not in winners or row == views[-1] or item in request.exclude:
            continue
        if not _passes(filters, category[row], price[row]):
            continue
        if request.min_score is not None and score[row] < request.min_score:
            continue
        ad = winners[item]
        if ad is not None:
            advertiser, campaign = ("advertiser", ad["advertiser_id"]), ("campaign", ad["campaign_id"])
            if filters.max_per_advertiser and advertiser[1] and shown[advertiser] >= filters.max_per_advertiser:
                continue
            if filters.max_per_campaign and shown[campaign] >= filters.max_per_campaign:
                continue
            shown.update([advertiser, campaign])
        results.append((item, ad and ad["ad_id"]))
    return results[: request.k]


def _passes(filters: Filters, category: str | None, price: float | None) -> bool:
    wanted_category = filters.category
    if wanted_category and not (
        category and (category == wanted_category or category.startswith(wanted_category + " > "))
    ):
        return False
    if filters.price_min is not None and (price is None or price < filters.price_min):
        return False
    return filters.price_max is None or (price is not None and price <= filters.price_max)


def ads_with_changes(rows: list[Row], changes: list[Change]) -> list[Row]:
    """Return the rows of all ads after changes; each field has its newest value, by version and then by order.

    A value does not count again if the newest value that was recorded for the same ad or campaign is the same and has
    the same version.
    """
    recorded: dict[tuple[str | None, str | None, str], tuple[int, Any]] = {}
    unrepeated: list[tuple[int, Change, Row]] = []
    for number, change in enumerate(changes, start=1):
        values = {}
        for name, value in change.values().items():
            subject = (change.ad_id, None if change.ad_id else change.campaign_id, name)
            if recorded.get(subject) != (change.version, value):
                values[name] = value
                if subject not in recorded or change.version >= recorded[subject][0]:
                    recorded[subject] = (change.version, value)
        unrepeated.append((number, change, values))
    newest = newest_rows(rows)

    def best(ad: str, name: str, campaign: str | None) -> Any:
        candidates = [(newest[ad]["version"] or 0, 0, newest[ad][name])] if ad in newest else []
        for number, change, values in unrepeated:
            of_campaign = change.ad_id is None and campaign is not None and change.campaign_id == campaign
            if name in values and (change.ad_id == ad or of_campaign):
                candidates.append((change.version, number, values[name]))
        return max(candidates, key=lambda candidate: candidate[:2])[2] if candidates else None

    changed = []
    for ad in sorted({*newest, *(change.ad_id for change in changes if change.ad_id)}):
        campaign = best(ad, "campaign_id", None)
        row = {"ad_id": ad, "version": None} | {name: best(ad, name, campaign) for name in FIELDS}
        if row["item_id"] is not None and campaign is not None:
            changed.append(row)
    return changed


def same_eligibility(ads: Ads, other: Ads, times: list[datetime]) -> bool:
    """Return whether the same ads win on the same items at all times, without a country and in two countries."""
    for at in map(microseconds, times):
        for country in (None, "DE", "US"):
            first, second = ads.eligible(at, country), other.eligible(at, country)
            if first.rows.tolist() != second.rows.tolist():
                return False
            if ads.ad_ids[first.ads].tolist() != other.ad_ids[second.ads].tolist():
                return False
    return True
