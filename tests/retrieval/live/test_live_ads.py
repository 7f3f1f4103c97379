"""Live changes: of everything said about a field the highest version counts, whatever comes when and how often."""

import gc
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from weakref import ref

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from retrieval.catalogue.ads import Ads
from retrieval.live.change import CAMPAIGN_FIELDS, FIELDS, Change
from retrieval.live.change_log import Entry
from retrieval.live.live_ads import LiveAds
from retrieval.times import microseconds

IDS = [f"item{row:05d}" for row in range(10)]
ROW_OF = {item: row for row, item in enumerate(IDS)}
NOW = datetime(2024, 5, 1, tzinfo=UTC)

changes = st.builds(
    lambda whole, number, campaign, version, values: Change.model_validate(
        {"version": version}
        | (
            {"campaign_id": f"c{campaign}"}
            | {k: v for k, v in values.items() if k in CAMPAIGN_FIELDS}
            | {"status": "active"}
            if whole
            else {"ad_id": f"ad{number:04d}"} | values
        )
    ),
    st.booleans(),
    st.integers(0, 40),
    st.integers(0, 6),
    st.integers(0, 4),
    st.fixed_dictionaries(
        {"status": st.sampled_from([None, "active", "paused", "exhausted"])},
        optional={
            "item_id": st.sampled_from([*IDS, "stranger"]),
            "campaign_id": st.sampled_from(["c0", "c1", "c6"]),
            "ends_at": st.sampled_from([None, NOW + timedelta(hours=10), NOW + timedelta(hours=14)]),
            "countries": st.sampled_from([None, [], ["DE"], ["us"]]),
            "bid": st.sampled_from([None, 1.0, 3.0]),
            "advertiser_id": st.sampled_from(["x", "q"]),
        },
    ),
)


def entries(some: list[Change]) -> list[Entry]:
    return [Entry(place, NOW, change) for place, change in enumerate(some, start=1)]


def told(rows: list[dict[str, Any]], some: list[Change]) -> list[dict[str, Any]]:
    """The rule in its own words: for every field of every ad the highest version, of equal ones the last.

    What merely says again what its ad or campaign was last told was not said.
    """
    last: dict[tuple[str | None, str | None, str], tuple[int, Any]] = {}
    spoken: list[tuple[int, Change, dict[str, Any]]] = []
    for place, change in enumerate(some, start=1):
        news = {}
        for name, value in change.values().items():
            about = (change.ad_id, None if change.ad_id else change.campaign_id, name)
            if last.get(about) != (change.version, value):
                news[name] = value
                if about not in last or change.version >= last[about][0]:
                    last[about] = (change.version, value)
        spoken.append((place, change, news))
    newest: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["ad_id"] not in newest or (row["version"] or 0) >= (newest[row["ad_id"]]["version"] or 0):
            newest[row["ad_id"]] = row

    def best(ad: str, name: str, campaign: str | None) -> Any:
        said = [(newest[ad]["version"] or 0, 0, newest[ad][name])] if ad in newest else []
        for place, change, news in spoken:
            if name in news and (
                change.ad_id == ad or (change.ad_id is None and campaign is not None and change.campaign_id == campaign)
            ):
                said.append((change.version, place, news[name]))
        return max(said, key=lambda one: one[:2])[2] if said else None

    found = []
    for ad in sorted({*newest, *(change.ad_id for change in some if change.ad_id)}):
        campaign = best(ad, "campaign_id", None)
        row = {"ad_id": ad, "version": None} | {name: best(ad, name, campaign) for name in FIELDS}
        if row["item_id"] is not None and campaign is not None:
            found.append(row)
    return found


def same(one: Ads, other: Ads) -> bool:
    hours = [microseconds(NOW + timedelta(minutes=30 * half)) for half in range(10, 40)]
    for at in hours:
        for country in (None, "DE", "US"):
            a, b = one.eligible(at, country), other.eligible(at, country)
            if a.rows.tolist() != b.rows.tolist() or one.ad_ids[a.ads].tolist() != other.ad_ids[b.ads].tolist():
                return False
    return True


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10_000), st.integers(0, 30), st.lists(changes, max_size=25), st.integers(0, 25), st.randoms())
def test_ads_are_as_the_rule_says_in_any_portions_and_after_a_reload(
    world: SimpleNamespace, seed: int, n: int, some: list[Change], cut: int, shuffled: Any
) -> None:
    rows = world.random_ads(10, n, seed)
    live = LiveAds(Ads.from_table(world.ads_table(rows), ROW_OF, quiet=True))
    live.apply(entries(some)[:cut])
    live.apply(entries(some)[cut:])
    wanted = Ads.from_table(world.ads_table(told(rows, some)), ROW_OF, quiet=True)
    assert same(live.ads, wanted)

    live.apply(entries([*some, *some])[len(some) :])
    assert same(live.ads, wanted) or len({c.version for c in some}) < len(some), "said again, it says nothing"

    other = world.random_ads(10, n, seed + 1)
    rebased = LiveAds(Ads.from_table(world.ads_table(rows), ROW_OF, quiet=True))
    rebased.apply(entries(some))
    rebased = rebased.rebased(Ads.from_table(world.ads_table(other), ROW_OF, quiet=True))
    assert same(rebased.ads, Ads.from_table(world.ads_table(told(other, some)), ROW_OF, quiet=True))

    each_its_own = [change.model_copy(update={"version": place}) for place, change in enumerate(some)]
    mixed = list(each_its_own)
    shuffled.shuffle(mixed)
    live = LiveAds(Ads.from_table(world.ads_table(rows), ROW_OF, quiet=True))
    live.apply(entries(mixed))
    expected = Ads.from_table(world.ads_table(told(rows, each_its_own)), ROW_OF, quiet=True)
    assert same(live.ads, expected), "order does not matter"


def test_a_late_message_does_not_undo_a_newer_one(world: SimpleNamespace) -> None:
    row = {"ad_id": "a", "item_id": IDS[3], "campaign_id": "c", "version": 5}
    live = LiveAds(Ads.from_table(world.ads_table([row]), ROW_OF))
    shown = []
    for change in (
        Change(ad_id="a", version=4, status="paused"),  # older than the table
        Change(ad_id="a", version=7, status="paused"),
        Change(ad_id="a", version=6, status="active"),  # late
        Change(campaign_id="c", version=8, status="active"),  # newer than the pause of the ad
        Change(campaign_id="c", version=9, status="exhausted"),
        Change(ad_id="a", version=10, status=None),
    ):
        live.apply([Entry(live.changes.sequence + 1, NOW, change)])
        shown.append((live.outcome(change).outcome, len(live.ads.eligible(0).rows)))
    assert shown == [
        ("superseded", 1),
        ("applied", 0),
        ("superseded", 0),
        ("applied", 1),
        ("applied", 0),
        ("applied", 1),
    ]


def test_what_waits_is_shown_once_a_version_knows_its_item(world: SimpleNamespace) -> None:
    live = LiveAds(Ads.from_table(world.ads_table([]), {}))
    pause = Change(ad_id="new", version=1, status="active")
    live.apply([Entry(1, NOW, pause)])
    assert "item_id and campaign_id" in live.outcome(pause).why
    whole = Change(ad_id="new", version=2, item_id=IDS[4], campaign_id="c")
    live.apply([Entry(2, NOW, whole)])
    assert live.outcome(whole) == ("waiting", f"item {IDS[4]!r} is not in the catalogue of this version")
    assert live.outcome(Change(campaign_id="d", version=1, status="paused")).outcome == "waiting"
    live = live.rebased(Ads.from_table(world.ads_table([]), ROW_OF))
    assert live.ads.eligible(0).rows.tolist() == [4]
    assert live.outcome(whole).outcome == "applied"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"version": 1, "status": "paused"}, "needs an ad_id"),
        ({"ad_id": "a", "version": 1}, "changes nothing"),
        ({"campaign_id": "c", "version": 1}, "changes nothing"),
        ({"campaign_id": "c", "version": 1, "bid": 2.0}, "bid: not a campaign's"),
        ({"ad_id": "a", "version": 1, "item_id": None}, "must not be null"),
        ({"ad_id": "a", "status": "paused"}, "version"),
        ({"ad_id": "a", "version": -1, "status": "paused"}, "greater than or equal to 0"),
        ({"ad_id": "a", "version": 1, "stauts": "paused"}, "stauts"),
        ({"ad_id": "a", "version": 1, "countries": ["Germany"]}, "countries"),
        ({"ad_id": "a", "version": 1, "bid": float("nan")}, "bid"),
        ({"ad_id": "a", "version": 1, "ends_at": "0001-01-01T00:00:00+05:00"}, "out of range in UTC"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(body: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Change.model_validate(body)


def test_a_value_that_was_said_before_by_a_newer_version_does_not_make_an_older_change_count() -> None:
    live = LiveAds(Ads.from_table(pa.table({"ad_id": ["a"], "item_id": [IDS[0]], "campaign_id": ["c"]}), ROW_OF))
    newer = Change(ad_id="a", version=9, status="paused", bid=2.0)
    older = Change(ad_id="a", version=3, status="paused", bid=5.0)
    live.apply(entries([newer, older]))
    assert live.outcome(newer).outcome == "applied"
    assert live.outcome(older).outcome == "superseded"


def test_a_status_counts_in_any_case_and_a_backward_stretch_is_refused() -> None:
    assert Change(ad_id="a", version=1, status=" Active ").status == "active"
    with pytest.raises(ValidationError, match=r"ends_at: .* is before starts_at"):
        Change(ad_id="a", version=1, starts_at=NOW, ends_at=NOW - timedelta(hours=1))


def test_the_ads_before_a_change_are_given_back_at_once() -> None:
    ads = Ads.from_table(pa.table({"ad_id": ["a"], "item_id": [IDS[0]], "campaign_id": ["c"]}), ROW_OF)
    ads.eligible(microseconds(NOW))
    before = ref(ads)
    live = LiveAds(ads.replaced([ads.row("a") | {"status": "paused"}]))
    gc.disable()
    try:
        del ads
        assert before() is None
    finally:
        gc.enable()
    assert not len(live.ads.eligible(microseconds(NOW)).rows)
