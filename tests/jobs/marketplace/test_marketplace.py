"""The built-in marketplace follows the input contract, is reproducible, and looks like a real shop."""

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from jobs.marketplace import MarketplaceConfig, generate
from jobs.marketplace.catalogue import Catalogue, build_catalogue
from jobs.marketplace.related import related_items
from jobs.marketplace.words import STYLES

SMALL = MarketplaceConfig.small()
START = datetime(2026, 3, 2, tzinfo=UTC)
END = START + timedelta(days=SMALL.days)
UTC_TIME = pa.timestamp("us", tz="UTC")


class Market(NamedTuple):
    events: list[dict[str, Any]]  # the valid rows of all_events
    all_events: pa.Table
    items: pa.Table
    ads: pa.Table
    test_events: pa.Table


def is_valid(row: dict[str, Any]) -> bool:
    return bool(
        row["session_id"]
        and row["timestamp"]
        and row["event_type"] != "hover"
        and (row["item_id"] or row["event_type"] == "search")
    )


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Market:
    files = generate(SMALL, tmp_path_factory.mktemp("market"))
    events, items, ads, test = (
        pq.read_table(path) for path in (files.events, files.items, files.ads, files.test_events)
    )
    return Market([row for row in events.to_pylist() if is_valid(row)], events, items, ads, test)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return build_catalogue(SMALL, np.random.default_rng(1))


def by_session(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    sessions: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        sessions[row["session_id"]].append(row)
    return sessions


def is_bot(session: list[dict[str, Any]]) -> bool:
    return len(session) > 80


def test_the_tables_have_the_columns_and_types_of_the_contract(market: Market) -> None:
    event_types = {
        "event_id": pa.string(),
        "session_id": pa.string(),
        "user_id": pa.string(),
        "timestamp": UTC_TIME,
        "event_type": pa.string(),
        "item_id": pa.string(),
        "source_item_id": pa.string(),
        "query": pa.string(),
        "price": pa.float64(),
        "country": pa.string(),
    }
    assert dict(zip(market.all_events.column_names, market.all_events.schema.types, strict=True)) == event_types
    assert market.test_events.schema == market.all_events.schema
    assert market.items.column_names == ["item_id", "category", "brand", "price", "title"]
    assert market.ads.schema.field("countries").type == pa.list_(pa.string())
    assert market.ads.schema.field("starts_at").type == market.ads.schema.field("ends_at").type == UTC_TIME
    assert market.ads.schema.field("version").type == pa.int64()


def test_ids_are_unique_and_every_ad_is_for_a_listed_item(market: Market) -> None:
    items, ads = market.items["item_id"].to_pylist(), market.ads["ad_id"].to_pylist()
    assert len(set(items)) == len(items)
    assert len(set(ads)) == len(ads)
    assert set(market.ads["item_id"].to_pylist()) <= set(items)


def test_the_log_ends_where_the_test_day_begins(market: Market) -> None:
    times = [row["timestamp"] for row in market.events]
    test_times = market.test_events["timestamp"].to_pylist()
    assert START <= min(times) <= START + timedelta(hours=3)
    assert END - timedelta(hours=3) <= max(times) < END
    assert END <= min(test_times) <= max(test_times) < END + timedelta(days=1)
    assert all(is_valid(row) for row in market.test_events.to_pylist())


def test_the_same_settings_write_the_same_bytes_and_another_seed_writes_others(tmp_path: Path) -> None:
    first, second = generate(SMALL, tmp_path / "a"), generate(SMALL, tmp_path / "b")
    reseeded = generate(SMALL.model_copy(update={"seed": 1}), tmp_path / "c")
    for name in ("events", "items", "ads", "test_events"):
        assert getattr(first, name).read_bytes() == getattr(second, name).read_bytes()
        assert getattr(first, name).read_bytes() != getattr(reseeded, name).read_bytes()


def test_a_few_items_have_most_of_the_events(market: Market) -> None:
    counts = np.sort([*Counter(row["item_id"] for row in market.events if row["item_id"]).values()])[::-1]
    assert 0.45 <= (counts <= 5).mean() <= 0.75
    assert counts[: len(counts) // 100].sum() > 0.06 * counts.sum()
    assert counts[: len(counts) // 5].sum() > 0.6 * counts.sum()


def test_most_sessions_are_short_and_a_few_are_long(market: Market) -> None:
    opened = []
    for session in by_session(market.events).values():
        items = [row["item_id"] for row in session if row["event_type"] in ("view", "click")]
        if items and not is_bot(session):
            opened.append(1 + sum(a != b for a, b in pairwise(items)))
    assert 3.8 <= np.mean(opened) <= 5.2
    assert 0.1 <= np.mean(np.array(opened) == 1) <= 0.35
    assert np.quantile(opened, 0.99) >= 12


def test_the_evening_is_busy_and_the_night_is_quiet(market: Market) -> None:
    hours = Counter(row["timestamp"].hour for row in market.events)
    assert sum(hours[h] for h in (19, 20, 21)) > 6 * sum(hours[h] for h in (2, 3, 4))


def test_prices_depend_on_the_category(market: Market) -> None:
    prices = defaultdict(list)
    for row in market.items.to_pylist():
        prices[row["category"]].append(row["price"])
    assert all(2 <= len(path.split(" > ")) <= 3 for path in prices)
    assert np.median(prices["Electronics > Computers > Laptops"]) > 400
    assert np.median(prices["Stationery > Notebooks"]) < 20
    assert min(min(values) for values in prices.values()) > 0


def test_titles_name_the_category_and_the_style(market: Market, catalogue: Catalogue) -> None:
    puzzles = [row for row in market.items.to_pylist() if row["category"] == "Toys > Games > Puzzles"]
    assert all("puzzle" in row["title"] or "jigsaw" in row["title"] for row in puzzles)
    styles = defaultdict(set)
    for title, style in zip(catalogue.titles, catalogue.style_group, strict=True):
        for word in title.split():
            styles[word].add(style)
    assert len(styles["nordic"]) == len(styles["hygge"]) == 1
    assert len(styles["nordic"] | styles["floral"]) == 2


def test_some_sessions_log_the_source_of_their_clicks_and_others_never_do(market: Market) -> None:
    sessions = [s for s in by_session(market.events).values() if not is_bot(s)]
    logs_source = [any(row["source_item_id"] for row in s) for s in sessions]
    assert 0.25 <= np.mean(logs_source) <= 0.5
    for session in sessions:
        seen: set[str | None] = set()
        for row in session:
            if row["source_item_id"]:
                assert row["event_type"] == "click"
                assert row["source_item_id"] in seen
                assert row["source_item_id"] != row["item_id"]
            seen.add(row["item_id"])


def test_searches_have_a_query_and_the_clicks_that_follow_carry_it(market: Market) -> None:
    searches = [row for row in market.events if row["event_type"] == "search"]
    assert all(row["query"] and row["item_id"] is None for row in searches)
    searched = followed = 0
    for session in by_session(market.events).values():
        for a, b in pairwise(session):
            if a["event_type"] == "search":
                searched += 1
                followed += b["query"] == a["query"] and b["item_id"] is not None
    assert followed > 0.85 * searched
    counts = Counter(" ".join(row["query"].casefold().split()) for row in searches)
    assert sum(n for n in counts.values() if n > 1) > 0.4 * len(searches)
    assert any(row["query"] != row["query"].strip() for row in searches)


def test_purchases_follow_carts_and_carts_follow_views(market: Market) -> None:
    purchases = 0
    for session in by_session(market.events).values():
        seen: dict[str, set[str]] = {"view": set(), "add_to_cart": set()}
        for row in session:
            if row["event_type"] == "purchase":
                purchases += 1
                assert row["item_id"] in seen["add_to_cart"]
            if row["event_type"] == "add_to_cart":
                assert row["item_id"] in seen["view"]
            kind = "add_to_cart" if row["event_type"] == "add_to_cart" else "view"
            seen[kind].add(row["item_id"])
    assert purchases > 100


def test_bots_open_hundreds_of_pages_without_a_user_id(market: Market) -> None:
    bots = [session for session in by_session(market.events).values() if is_bot(session)]
    assert len(bots) == SMALL.bot_sessions
    assert all(row["user_id"] is None and row["event_type"] == "view" for bot in bots for row in bot)
    assert max(len(bot) for bot in bots) > 150


def test_some_rows_are_duplicated(market: Market) -> None:
    ids = Counter(row["event_id"] for row in market.events)
    repeated = sum(n - 1 for n in ids.values())
    assert 0.003 * len(ids) <= repeated <= 0.007 * len(ids)


def test_the_log_has_every_kind_of_broken_row(market: Market) -> None:
    rows = market.all_events.to_pylist()
    assert sum(not is_valid(row) for row in rows) == SMALL.dirty_rows
    assert any(row["session_id"] is None for row in rows)
    assert any(row["timestamp"] is None for row in rows)
    assert any(row["event_type"] == "hover" for row in rows)
    assert any(row["item_id"] is None and row["event_type"] != "search" for row in rows)


def test_the_shop_has_cold_new_and_delisted_items(market: Market) -> None:
    listed = set(market.items["item_id"].to_pylist())
    first_event: dict[str, datetime] = {}
    for row in market.events:
        first_event[row["item_id"]] = min(first_event.get(row["item_id"], END), row["timestamp"])
    tested = {row["item_id"] for row in market.test_events.to_pylist()} - {None}
    assert len(listed - first_event.keys() - tested) >= 0.04 * len(listed)
    assert len(tested & (listed - first_event.keys())) >= 10
    new = [item for item, time in first_event.items() if time >= END - timedelta(days=1)]
    assert len(new) >= 0.02 * len(listed)
    assert first_event.keys() - listed - {None}


def test_some_campaigns_have_ended_start_later_are_paused_or_limited_to_countries(market: Market) -> None:
    ads = market.ads.to_pylist()
    assert 0.3 <= len({ad["item_id"] for ad in ads}) / market.items.num_rows <= 0.4
    ended = [ad for ad in ads if ad["ends_at"] and ad["ends_at"] <= END]
    later = [ad for ad in ads if ad["starts_at"] and ad["starts_at"] > END]
    running = [ad for ad in ads if ad not in ended and ad not in later and ad["status"] in (None, "active")]
    assert ended
    assert later
    assert len(running) > 0.5 * len(ads)
    assert {"active", "paused", None} <= {ad["status"] for ad in ads}
    assert 0.15 <= np.mean([bool(ad["countries"]) for ad in ads]) <= 0.6
    assert all(ad["bid"] >= 0 and ad["advertiser_id"] and ad["campaign_id"] for ad in ads)
    assert max(Counter(ad["item_id"] for ad in ads).values()) == 2


def test_ads_are_mostly_for_rarely_opened_items(market: Market) -> None:
    counts = Counter(row["item_id"] for row in market.events)
    advertised = set(market.ads["item_id"].to_pylist())
    without_ad = set(market.items["item_id"].to_pylist()) - advertised
    assert np.mean([counts[item] <= 5 for item in advertised]) > np.mean([counts[item] <= 5 for item in without_ad])


def test_related_items_share_the_style_within_and_beyond_the_category(catalogue: Catalogue) -> None:
    related = related_items(catalogue, np.random.default_rng(2))
    rows = np.arange(len(related))[:, None]
    assert not (related == rows).any()
    same = catalogue.leaf[related] == catalogue.leaf[rows]
    assert 0.2 < same[:, :10].mean() < 0.7
    style = np.einsum("nd,nkd->nk", catalogue.style, catalogue.style[related])
    all_pairs = catalogue.style @ catalogue.style.T
    assert style[:, :10][same[:, :10]].mean() > all_pairs.mean() + 0.2
    assert style[:, :10][~same[:, :10]].mean() > all_pairs.mean() + 0.2


def test_next_clicks_depend_on_more_than_category_and_popularity(market: Market) -> None:
    """More pairs of items from two categories share a style than if the second items are shuffled.

    Shuffling keeps the two categories and the number of clicks of each item, but breaks up the pairs.
    """
    style_of = {word: group for group, words in enumerate(STYLES) for word in words}
    category, style = {}, {}
    for row in market.items.to_pylist():
        category[row["item_id"]] = row["category"]
        style[row["item_id"]] = next((style_of[w] for w in row["title"].split() if w in style_of), None)
    groups = defaultdict(list)
    for row in market.events:
        a, b = row["source_item_id"], row["item_id"]
        if category.get(a) != category.get(b) and style.get(a) is not None and style.get(b) is not None:
            groups[category[a], category[b]].append((style[a], style[b]))
    rng = np.random.default_rng(0)
    hits, by_chance = 0, np.zeros(100)
    for group in groups.values():
        first, second = np.array(group).T
        hits += (first == second).sum()
        by_chance += [(first == rng.permutation(second)).sum() for _ in range(100)]
    assert hits > by_chance.mean() + 4 * by_chance.std()


def test_the_reported_progress_rises_from_zero_to_nearly_one(tmp_path: Path) -> None:
    shares: list[float] = []
    generate(SMALL, tmp_path, lambda message, share: shares.append(share))
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.1
    assert 0.85 < shares[-1] <= 1


def test_settings_out_of_range_and_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="items"):
        MarketplaceConfig(items=5)
    with pytest.raises(ValidationError, match="itmes"):
        MarketplaceConfig.model_validate({"itmes": 2_000})


@pytest.mark.slow
def test_the_default_marketplace_has_the_size_and_tail_of_a_shop(tmp_path: Path) -> None:
    files = generate(MarketplaceConfig(), tmp_path)
    events, items = pq.read_table(files.events), pq.read_table(files.items)
    assert 300_000 <= events.num_rows <= 400_000
    assert items.num_rows >= 20_000
    counts = np.array([*Counter(item for item in events["item_id"].to_pylist() if item).values()])
    assert 0.55 <= (counts <= 5).mean() <= 0.7
