"""Eligibility and the winning ad equal the rule written as a loop."""

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.catalogue.ads import Ads
from retrieval.catalogue.eligibility import AdConditions, EligibilityReason
from retrieval.errors import CatalogueError
from retrieval.search.filters import Filters
from retrieval.times import microseconds

IDS = [f"item{row:05d}" for row in range(10)]
ROW_OF = {item: row for row, item in enumerate(IDS)}


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(-13, 13))
def test_ads_in_flight_are_those_active_at_the_time_in_any_country(
    world: SimpleNamespace, seed: int, n: int, half_hours: int
) -> None:
    # Each ad has an item of its own, so that every active ad wins in one of the countries.
    rows = [row | {"ad_id": f"ad{n}", "item_id": f"item{n}"} for n, row in enumerate(world.random_ads(10, n, seed))]
    row_of = {row["item_id"]: number for number, row in enumerate(rows)}
    at = world.AS_OF + timedelta(minutes=30 * half_hours)
    active = {item for country in ("DE", "FR", "US") for item in world.slow_winners(rows, set(row_of), at, country)}
    assert Ads.from_table(world.ads_table(rows), row_of).in_flight(microseconds(at)) == len(active)


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 10_000),
    st.integers(0, 40),
    st.integers(-13, 13),
    st.sampled_from([None, "DE", "fr", "us", "JP"]),
    st.sampled_from([Filters(), Filters(exclude_advertisers=["x", "nobody"]), Filters(exclude_campaigns=["c1", "c2"])]),
)
def test_eligible_items_and_winners_equal_the_rule(
    world: SimpleNamespace, seed: int, n: int, half_hours: int, country: str | None, filters: Filters
) -> None:
    rows = world.random_ads(10, n, seed)
    ads = Ads.from_table(world.ads_table(rows), ROW_OF)
    at = world.AS_OF + timedelta(minutes=30 * half_hours)
    if filters == Filters():
        eligible = ads.eligible(microseconds(at), country)
    else:
        without = (filters.exclude_advertisers, filters.exclude_campaigns)
        eligible = ads.eligible_without(ads.passing(microseconds(at), country), *without)
    assert eligible.ads is not None
    winners = {IDS[row]: ads.ad_ids[ad] for row, ad in zip(eligible.rows.tolist(), eligible.ads.tolist(), strict=True)}
    expected = world.slow_winners(rows, set(IDS), at, country, filters)
    assert winners == {item: ad["ad_id"] for item, ad in expected.items()}
    assert eligible.rows.tolist() == sorted(eligible.rows.tolist())


@settings(deadline=None, max_examples=100)
@given(
    st.integers(0, 10_000), st.integers(1, 40), st.integers(-13, 13), st.sampled_from([None, "DE", "fr", "us", "JP"])
)
def test_an_ad_is_eligible_exactly_if_it_has_no_reason_for_ineligibility(
    world: SimpleNamespace, seed: int, n: int, half_hours: int, country: str | None
) -> None:
    # Each ad has an item of its own, so that every eligible ad wins.
    rows = [row | {"ad_id": f"ad{n}", "item_id": f"item{n}"} for n, row in enumerate(world.random_ads(10, n, seed))]
    row_of = {row["item_id"]: number for number, row in enumerate(rows)}
    at = world.AS_OF + timedelta(minutes=30 * half_hours)
    filters = Filters(exclude_advertisers=["x"], exclude_campaigns=["c1", "c2"])
    ads = Ads.from_table(world.ads_table(rows), row_of)
    conditions = AdConditions(microseconds(at), country, filters.exclude_advertisers, filters.exclude_campaigns)
    eligible = world.slow_winners(rows, set(row_of), at, country, filters)
    for row in rows:
        reasons = ads.ineligibility(row["ad_id"], conditions)
        assert (row["item_id"] in eligible) == (not reasons)
        assert (EligibilityReason.NOT_ACTIVE in reasons) == (row["status"] == "paused")
        assert (EligibilityReason.NOT_STARTED in reasons) == (row["starts_at"] is not None and row["starts_at"] > at)
        assert (EligibilityReason.ENDED in reasons) == (row["ends_at"] is not None and row["ends_at"] <= at)
        countries = {code.casefold() for code in row["countries"] or []}
        limited = bool(countries) and (country or "").casefold() not in countries
        assert (EligibilityReason.OTHER_COUNTRY in reasons) == limited
        assert (EligibilityReason.ADVERTISER_EXCLUDED in reasons) == (row["advertiser_id"] == "x")
        assert (EligibilityReason.CAMPAIGN_EXCLUDED in reasons) == (row["campaign_id"] in ("c1", "c2"))


def test_each_reason_is_a_sentence_with_the_values_that_speak_against_the_ad(world: SimpleNamespace) -> None:
    row = {
        "ad_id": "a",
        "item_id": IDS[0],
        "campaign_id": "c",
        "advertiser_id": "x",
        "starts_at": world.AS_OF,
        "ends_at": world.AS_OF,
        "status": "paused",
        "countries": ["FR", "DE"],
    }
    ads = Ads.from_table(world.ads_table([row]), ROW_OF)
    before, after = (microseconds(world.AS_OF) - 1, microseconds(world.AS_OF))
    assert list(ads.ineligibility("a", AdConditions(before, "us", ["x"], ["c"])).values()) == [
        "its status is 'paused'",
        "it starts at 2024-05-01T12:00:00+00:00",
        "the ad runs only in DE, FR, but the request is for US",
        "the request excludes its advertiser 'x'",
        "the request excludes its campaign 'c'",
    ]
    assert list(ads.ineligibility("a", AdConditions(after)).values()) == [
        "its status is 'paused'",
        "it ended at 2024-05-01T12:00:00+00:00",
        "the ad runs only in DE, FR, but the request names no country",
    ]
    with pytest.raises(KeyError, match="no ad 'nobody'"):
        ads.ineligibility("nobody", AdConditions(after))


def test_an_ad_is_active_from_its_start_until_just_before_its_end(world: SimpleNamespace) -> None:
    start, end = world.AS_OF, world.AS_OF + timedelta(hours=1)
    row = {"ad_id": "a", "item_id": IDS[0], "campaign_id": "c", "starts_at": start, "ends_at": end}
    ads = Ads.from_table(world.ads_table([row]), ROW_OF)
    tick = timedelta(microseconds=1)

    def count(at: datetime) -> int:
        return len(ads.eligible(microseconds(at)).rows)

    assert [count(start - tick), count(start), count(end - tick), count(end)] == [0, 1, 1, 0]
    assert ads.items_ending_after(microseconds(end - tick)).tolist() == [0]
    assert ads.items_ending_after(microseconds(end)).tolist() == []


def test_statuses_and_unknown_items_are_counted(world: SimpleNamespace) -> None:
    rows = [
        {"ad_id": f"a{number}", "item_id": item, "campaign_id": "c", "status": status}
        for number, (item, status) in enumerate([(IDS[0], "paused"), (IDS[1], None), ("stranger", "active")])
    ]
    ads = Ads.from_table(world.ads_table(rows), ROW_OF)
    assert ads.by_status == {"paused": 1, "(null)": 1, "active": 1}
    assert ads.unknown_items == 1
    assert ads.eligible(0).rows.tolist() == [1]


def test_optional_columns_may_be_missing_and_missing_required_ones_are_named() -> None:
    ads = Ads.from_table(pa.table({"ad_id": ["a"], "item_id": [IDS[2]], "campaign_id": ["c"]}), ROW_OF)
    assert ads.eligible(0).rows.tolist() == [2]
    with pytest.raises(CatalogueError, match="campaign_id is missing"):
        Ads.from_table(pa.table({"ad_id": ["a"], "item_id": [IDS[2]]}), ROW_OF)
    with pytest.raises(CatalogueError, match=r"ads\.bid has type string, expected double"):
        Ads.from_table(pa.table({"ad_id": ["a"], "item_id": [IDS[2]], "campaign_id": ["c"], "bid": ["much"]}), ROW_OF)


def test_null_and_empty_countries_limit_nothing(world: SimpleNamespace) -> None:
    written = [["DE", None, "fr"], None, [], ["", "Fr", "DE"], [None]]
    rows = [{"ad_id": f"a{n}", "item_id": "item00001", "campaign_id": "c"} for n in range(5)]
    table = world.ads_table(rows)
    position = table.column_names.index("countries")
    table = table.set_column(position, "countries", pa.array(written, pa.list_(pa.string())))
    for chunked in (table, pa.concat_tables([table.slice(0, 2), table.slice(2)])):
        ads = Ads.from_table(chunked, {"item00001": 1})
        sets = ads.columns.country_sets
        assert [sets[number] for number in ads.columns.country_set] == [{"de", "fr"}, set(), set(), {"de", "fr"}, set()]
        assert sorted(ads.countries) == ["de", "fr"]


def test_times_with_a_zone_are_converted(world: SimpleNamespace) -> None:
    at = datetime.fromisoformat("2024-05-01T14:00:00+02:00")
    assert microseconds(at) == microseconds(world.AS_OF) == microseconds(datetime(2024, 5, 1, 12))


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10_000), st.integers(0, 30), st.integers(0, 12), st.integers(-13, 13))
def test_replacing_rows_equals_reading_a_table_with_the_new_rows(
    world: SimpleNamespace, seed: int, n: int, n_changes: int, half_hours: int
) -> None:
    at = world.AS_OF + timedelta(minutes=30 * half_hours)
    newest = {row["ad_id"]: row | {"version": 0} for row in world.random_ads(10, n, seed)}
    ads = Ads.from_table(world.ads_table(list(newest.values())), ROW_OF)
    for step in range(3):
        changes = {row["ad_id"]: row | {"version": 0} for row in world.random_ads(10, n_changes, seed + step + 1)}
        before = ads.eligible(microseconds(at), "DE").rows.tolist()
        new = ads.replaced(world.ads_table(list(changes.values())))
        assert ads.eligible(microseconds(at), "DE").rows.tolist() == before, "the earlier ads are unchanged"
        newest |= changes
        ads, rebuilt = new, Ads.from_table(world.ads_table(list(newest.values())), ROW_OF)
        assert ads.ad_ids.tolist() == rebuilt.ad_ids.tolist()
        assert ads.in_flight(microseconds(at)) == rebuilt.in_flight(microseconds(at))
        for country in (None, "DE", "us"):
            actual, expected = (version.eligible(microseconds(at), country) for version in (ads, rebuilt))
            assert (actual.rows.tolist(), actual.ads.tolist()) == (expected.rows.tolist(), expected.ads.tolist())
            actual, expected = (
                version.eligible_without(version.passing(microseconds(at), country), ["x"], ["c1", "c7"])
                for version in (ads, rebuilt)
            )
            assert (actual.rows.tolist(), actual.ads.tolist()) == (expected.rows.tolist(), expected.ads.tolist())
        for code, names in (("campaign", "campaigns"), ("advertiser", "advertisers")):
            names_by_slot = [
                [
                    {number: name for name, number in getattr(version, names).items()}.get(c)
                    for c in getattr(version, code).tolist()
                ]
                for version in (ads, rebuilt)
            ]
            assert names_by_slot[0] == names_by_slot[1]
            unnamed = [c for c in getattr(ads, code).tolist() if c < 0]
            assert len(set(unnamed)) == len(unnamed), "ads without a name share no cap"
        for slot, ad in enumerate(ads.ad_ids):
            assert ads.slot(ad) == slot
            assert _without_nulls(ads.row(ad)) == _without_nulls(newest[ad])
    assert ads.slot("nobody") is None
    assert ads.row("nobody") is None


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row in the form in which rows are compared: without nulls, empty countries and the version."""
    return row | {"version": None, "countries": [code for code in row["countries"] or [] if code]}


def test_times_beyond_the_calendar_can_be_read_searched_and_printed() -> None:
    far = 2**63 - 1
    starts = pa.array([None, -far, far, -5_000_000_000_000_000], pa.timestamp("us", "UTC"))
    ends = pa.array([far, far, far, -far], pa.timestamp("us", "UTC"))
    table = pa.table({"ad_id": list("abcd"), "item_id": list("abcd"), "campaign_id": ["c"] * 4})
    table = table.append_column("starts_at", starts).append_column("ends_at", ends)
    ads = Ads.from_table(table, {name: row for row, name in enumerate("abcd")})
    assert ads.eligible(0).rows.tolist() == [0, 1], "c never starts, and d has ended"
    assert [ads.row(ad)["ends_at"] is None for ad in "abcd"] == [True, True, True, False]
    assert ads.ineligibility("d", AdConditions(0)) == {EligibilityReason.ENDED: "it ended at 0001-01-01T00:00:00+00:00"}
    assert "it starts at 9999-12-31" in ads.ineligibility("c", AdConditions(0))[EligibilityReason.NOT_STARTED]
