"""The marketplace's tables follow the input contract, are reproducible, and look like those of a real shop."""

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from jobs.marketplace import MarketplaceConfig, generate
from jobs.marketplace.catalogue import Catalogue, build_catalogue
from jobs.marketplace.related import related_items
from tests.jobs.marketplace.market import END, SMALL, Market

UTC_TIME = pa.timestamp("us", tz="UTC")


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return build_catalogue(SMALL, np.random.default_rng(1))


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


def test_the_same_settings_write_the_same_bytes_and_another_seed_writes_others(tmp_path: Path) -> None:
    first, second = generate(SMALL, tmp_path / "a"), generate(SMALL, tmp_path / "b")
    reseeded = generate(SMALL.model_copy(update={"seed": 1}), tmp_path / "c")
    for name in ("events", "items", "ads", "test_events"):
        assert getattr(first, name).read_bytes() == getattr(second, name).read_bytes()
        assert getattr(first, name).read_bytes() != getattr(reseeded, name).read_bytes()


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
