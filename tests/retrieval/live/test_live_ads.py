"""The value with the highest version is in effect, in whatever order and however often messages arrive."""

import gc
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from weakref import ref

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from retrieval.catalogue.ads import Ads
from retrieval.live.change import CAMPAIGN_FIELDS, Change
from retrieval.live.change_log import Entry
from retrieval.live.live_ads import LiveAds
from retrieval.times import microseconds
from tests.oracles.live_changes import slow_outcomes
from tests.oracles.retrieval import ads_with_changes, same_eligibility

IDS = [f"item{row:05d}" for row in range(10)]
ROW_OF = {item: row for row, item in enumerate(IDS)}
NOW = datetime(2024, 5, 1, tzinfo=UTC)

changes = st.builds(
    lambda is_campaign, number, campaign, version, values: Change.model_validate(
        {"version": version}
        | (
            {"campaign_id": f"c{campaign}"}
            | {k: v for k, v in values.items() if k in CAMPAIGN_FIELDS}
            | {"status": "active"}
            if is_campaign
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


def entries(drawn: list[Change]) -> list[Entry]:
    return [Entry(number, NOW, change) for number, change in enumerate(drawn, start=1)]


TIMES = [NOW + timedelta(minutes=30 * half_hours) for half_hours in range(10, 40)]


def read_ads(world: SimpleNamespace, rows: list[dict[str, Any]]) -> Ads:
    return Ads.from_table(world.ads_table(rows), ROW_OF, quiet=True)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10_000), st.integers(0, 30), st.lists(changes, max_size=25), st.integers(0, 25))
def test_live_ads_equal_the_rule_in_any_batches_and_after_a_reload(
    world: SimpleNamespace, seed: int, n_ads: int, drawn: list[Change], cut: int
) -> None:
    rows, next_rows = world.random_ads(10, n_ads, seed), world.random_ads(10, n_ads, seed + 1)
    live = LiveAds(read_ads(world, rows))
    live.apply(entries(drawn)[:cut])
    live.apply(entries(drawn)[cut:])
    assert same_eligibility(live.ads, read_ads(world, ads_with_changes(rows, drawn)), TIMES)
    rebased = live.rebased(read_ads(world, next_rows))
    assert same_eligibility(rebased.ads, read_ads(world, ads_with_changes(next_rows, drawn)), TIMES)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10_000), st.integers(0, 30), st.lists(changes, max_size=25), st.randoms())
def test_the_order_of_messages_and_repeated_messages_make_no_difference(
    world: SimpleNamespace, seed: int, n_ads: int, drawn: list[Change], random: Any
) -> None:
    rows = world.random_ads(10, n_ads, seed)
    table = read_ads(world, rows)

    def applied(messages: list[Change]) -> Ads:
        live = LiveAds(table)
        live.apply(entries(messages))
        return live.ads

    applied_once = applied(drawn)
    assert same_eligibility(applied([change for change in drawn for _ in range(2)]), applied_once, TIMES), (
        "each change is sent twice"
    )
    expected = read_ads(world, ads_with_changes(rows, [*drawn, *drawn]))
    assert same_eligibility(applied([*drawn, *drawn]), expected, TIMES), (
        "all changes are sent again, with equal versions too"
    )

    versioned = [change.model_copy(update={"version": number}) for number, change in enumerate(drawn)]
    expected = read_ads(world, ads_with_changes(rows, versioned))
    mixed = list(versioned)
    random.shuffle(mixed)
    assert same_eligibility(applied(mixed), expected, TIMES)
    assert same_eligibility(applied([*mixed, *versioned, *mixed]), expected, TIMES)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10_000), st.integers(0, 30), st.lists(changes, max_size=25), st.integers(0, 25))
def test_outcomes_are_those_of_the_rules(
    world: SimpleNamespace, seed: int, n_ads: int, drawn: list[Change], cut: int
) -> None:
    rows = list({row["ad_id"]: row | {"version": 1} for row in world.random_ads(10, n_ads, seed)}.values())
    live = LiveAds(read_ads(world, rows))
    unrepeated: list[Change] = []
    for position, change in enumerate(drawn):
        if not live.changes.repeats(live.changes.coded(change)):
            unrepeated.append(change)
            live.apply([Entry(len(unrepeated), NOW, change)])
        if position == cut:
            live = live.rebased(read_ads(world, rows))
    outcomes = live.outcomes([live.changes.coded(change) for change in unrepeated])
    assert [outcome.outcome for outcome in outcomes] == slow_outcomes(rows, set(IDS), unrepeated)


def test_a_late_message_does_not_undo_a_newer_one(world: SimpleNamespace) -> None:
    row = {"ad_id": "a", "item_id": IDS[3], "campaign_id": "c", "version": 5}
    live = LiveAds(Ads.from_table(world.ads_table([row]), ROW_OF))
    outcomes = []
    for change in (
        Change(ad_id="a", version=4, status="paused"),  # older than the table
        Change(ad_id="a", version=7, status="paused"),
        Change(ad_id="a", version=6, status="active"),  # late
        Change(campaign_id="c", version=8, status="active"),  # newer than the pause of the ad
        Change(campaign_id="c", version=9, status="exhausted"),
        Change(ad_id="a", version=10, status=None),
    ):
        live.apply([Entry(live.changes.sequence + 1, NOW, change)])
        outcomes.append((live.outcome(change).outcome, len(live.ads.eligible(0).rows)))
    assert outcomes == [
        ("superseded", 1),
        ("applied", 0),
        ("superseded", 0),
        ("applied", 1),
        ("applied", 0),
        ("applied", 1),
    ]


def test_a_waiting_ad_is_shown_once_a_version_knows_its_item(world: SimpleNamespace) -> None:
    live = LiveAds(Ads.from_table(world.ads_table([]), {}))
    status_only = Change(ad_id="new", version=1, status="active")
    live.apply([Entry(1, NOW, status_only)])
    assert "item_id and campaign_id" in live.outcome(status_only).why
    new_ad = Change(ad_id="new", version=2, item_id=IDS[4], campaign_id="c")
    live.apply([Entry(2, NOW, new_ad)])
    assert live.outcome(new_ad) == ("waiting", f"item {IDS[4]!r} is not in the catalogue of this version")
    assert live.outcome(Change(campaign_id="d", version=1, status="paused")).outcome == "waiting"
    live = live.rebased(Ads.from_table(world.ads_table([]), ROW_OF))
    assert live.ads.eligible(0).rows.tolist() == [4]
    assert live.outcome(new_ad).outcome == "applied"


@pytest.mark.parametrize(
    ("body", "message"),
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
        (
            {"ad_id": "a", "version": 1, "ends_at": "0001-01-01T00:00:00+05:00"},
            "years 1 to 9999 in UTC",
        ),
    ],
)
def test_an_inconsistent_change_is_refused(body: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Change.model_validate(body)


def test_an_older_change_is_superseded_although_a_newer_one_set_the_same_value() -> None:
    live = LiveAds(Ads.from_table(pa.table({"ad_id": ["a"], "item_id": [IDS[0]], "campaign_id": ["c"]}), ROW_OF))
    newer = Change(ad_id="a", version=9, status="paused", bid=2.0)
    older = Change(ad_id="a", version=3, status="paused", bid=5.0)
    live.apply(entries([newer, older]))
    assert live.outcome(newer).outcome == "applied"
    assert live.outcome(older).outcome == "superseded"


def test_a_status_is_read_in_any_case_and_an_end_before_the_start_is_refused() -> None:
    assert Change(ad_id="a", version=1, status=" Active ").status == "active"
    with pytest.raises(ValidationError, match=r"ends_at: .* is before starts_at"):
        Change(ad_id="a", version=1, starts_at=NOW, ends_at=NOW - timedelta(hours=1))


@pytest.mark.parametrize(
    ("end", "read"),
    [
        ("9999-12-31T23:59:59-05:00", None),
        ("9999-12-31", None),
        ("3000-01-01T00:00:00Z", None),
        ("2999-12-31T23:59:59Z", datetime(2999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("20260315T120000+0200", datetime(2026, 3, 15, 10, tzinfo=UTC)),
        ("2026-W11-7", datetime(2026, 3, 15, tzinfo=UTC)),
        (datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5))), None),
    ],
)
def test_an_end_after_2999_is_no_end_and_times_are_read_by_the_grammar_of_tables(end: Any, read: Any) -> None:
    assert Change.model_validate({"ad_id": "a", "version": 1, "ends_at": end}).values() == {"ends_at": read}


@pytest.mark.parametrize("start", ["1899-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "0000-05-05"])
def test_a_start_before_1900_is_no_start(start: str) -> None:
    assert Change.model_validate({"ad_id": "a", "version": 1, "starts_at": start}).values() == {"starts_at": None}
    with pytest.raises(ValidationError, match="years 1 to 9999"):
        Change.model_validate({"ad_id": "a", "version": 1, "starts_at": "9999-12-31T23:59:59-05:00"})


def test_ids_statuses_and_countries_lose_the_blanks_around_them() -> None:
    change = Change.model_validate(
        {"ad_id": " a\u00a0", "version": 1, "status": "Active\r", "countries": [" de"], "item_id": "cafe\u0301\t"}
    )
    assert change.ad_id == "a"
    assert change.values() == {"item_id": "caf\u00e9", "status": "active", "countries": ["de"]}
    with pytest.raises(ValidationError, match="expected an id"):
        Change.model_validate({"ad_id": "\u200b", "version": 1, "status": "paused"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", True),
        ("version", "1"),
        ("version", 1.0),
        ("bid", "2.5"),
        ("bid", True),
        ("status", 1),
        ("ends_at", 1773532800),
        ("ends_at", "1773532800"),
        ("countries", "DE"),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=name):
        Change.model_validate({"ad_id": "a", "version": 1, "status": "paused"} | {name: value})


def test_an_ad_that_cannot_be_changed_keeps_no_other_ad_from_changing(caplog: pytest.LogCaptureFixture) -> None:
    table = pa.Table.from_pylist([{"ad_id": ad, "item_id": ad, "campaign_id": "c"} for ad in ("x", "y")])
    live = LiveAds(Ads.from_table(table, {"x": 0, "y": 1}))
    broken = Change.model_construct({"ad_id", "version", "bid"}, ad_id="x", version=2, bid="much")
    paused = Change.model_validate({"ad_id": "y", "version": 2, "status": "paused"})
    live.apply([Entry(1, NOW, broken), Entry(2, NOW, paused)])
    assert live.ads.eligible(0).rows.tolist() == [0]
    assert "ad 'x' stays as it was" in caplog.text


def test_the_ads_from_before_a_change_are_freed_at_once(world: SimpleNamespace) -> None:
    ads = Ads.from_table(pa.table({"ad_id": ["a"], "item_id": [IDS[0]], "campaign_id": ["c"]}), ROW_OF)
    ads.eligible(microseconds(NOW))
    before = ref(ads)
    live = LiveAds(ads.replaced(world.ads_table([ads.row("a") | {"status": "paused"}])))
    gc.disable()
    try:
        del ads
        assert before() is None
    finally:
        gc.enable()
    assert not len(live.ads.eligible(microseconds(NOW)).rows)
