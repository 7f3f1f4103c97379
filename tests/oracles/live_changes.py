"""The outcomes of live changes, computed one change, one ad and one field at a time, as the rules are worded."""

from typing import Any

from retrieval.live.change import Change

Row = dict[str, Any]
Value = tuple[int, int, Any]


def slow_outcomes(rows: list[Row], known_items: set[str], changes: list[Change]) -> list[str]:
    """Return the outcome of each change after all were recorded in this order; no change may repeat another.

    Args:
        rows: the ads table, one row per ad.
        known_items: the items of the catalogue.
        changes: the changes.
    """
    table = {row["ad_id"]: row for row in rows}
    ads = {*table, *(change.ad_id for change in changes if change.ad_id)}
    campaign_of = {ad: _newest(ad, "campaign_id", None, table, changes) for ad in ads}
    item_of = {ad: _newest(ad, "item_id", None, table, changes) for ad in ads}
    shown = {ad for ad in ads if campaign_of[ad] is not None and (item_of[ad] or (0, 0, None))[2] in known_items}

    def decides(change: Change, ad: str) -> bool:
        campaign = campaign_of[ad]
        assert campaign is not None
        for name, value in change.values().items():
            newest = _newest(ad, name, campaign[2], table, changes)
            if newest is not None and newest[0] == change.version and newest[2] == value:
                return True
        return False

    outcomes = []
    for change in changes:
        if change.ad_id is not None:
            concerned = {change.ad_id} & shown
        else:
            concerned = {ad for ad in shown if (campaign_of[ad] or (0, 0, None))[2] == change.campaign_id}
        if not concerned:
            outcomes.append("waiting")
        else:
            outcomes.append("applied" if any(decides(change, ad) for ad in concerned) else "superseded")
    return outcomes


def _newest(ad: str, name: str, campaign: str | None, table: dict[str, Row], changes: list[Change]) -> Value | None:
    values = [(table[ad]["version"] or 0, 0, table[ad][name])] if ad in table else []
    for number, change in enumerate(changes, start=1):
        of_campaign = change.ad_id is None and campaign is not None and change.campaign_id == campaign
        if (change.ad_id == ad or of_campaign) and name in change.values():
            values.append((change.version, number, change.values()[name]))
    values = [value for value in values if value[2] is not None or name not in ("item_id", "campaign_id")]
    return max(values, key=lambda value: value[:2], default=None)
