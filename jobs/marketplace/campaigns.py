"""The marketplace's ads: campaigns with a term, a status, countries and bids, mostly for tail items."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from jobs.marketplace.catalogue import Catalogue
from jobs.marketplace.config import MarketplaceConfig
from jobs.marketplace.shoppers import COUNTRIES

# What a campaign is on the test day, and how many of a hundred are.
_TERMS = {"running": 58, "open-ended": 14, "ended": 12, "later": 8, "paused": 6, "rejected": 2}
SECOND_AD_SHARE = 0.1


def ads_table(config: MarketplaceConfig, catalogue: Catalogue, rng: np.random.Generator) -> pa.Table:
    """Return the input table `ads`, sorted by ad_id: one ad for most advertised items, two for some."""
    listed = np.flatnonzero(catalogue.listed)
    # Sellers pay for what nobody finds: the rarer, the likelier.
    weight = np.argsort(np.argsort(-catalogue.popularity[listed])) + 0.15 * len(listed)
    advertised = rng.choice(
        listed, round(config.advertised_share * len(listed)), replace=False, p=weight / weight.sum()
    )
    twice = advertised[rng.random(len(advertised)) < SECOND_AD_SHARE]
    items = np.concatenate([advertised, twice])
    n = len(items)

    # An advertiser sells a few brands, and runs some campaigns at a time.
    advertisers = max(config.campaigns // 3, 2)
    advertiser_of_brand = rng.integers(advertisers, size=len(catalogue.brand_names))
    campaigns = rng.permutation(config.campaigns) % advertisers
    by_advertiser = [np.flatnonzero(campaigns == a) for a in range(advertisers)]
    advertiser = advertiser_of_brand[catalogue.brand[items]]
    pick = rng.random(n)
    campaign = np.array(
        [by_advertiser[a][int(x * len(by_advertiser[a]))] for a, x in zip(advertiser, pick, strict=True)]
    )

    starts, ends, status = _terms(config, rng)
    countries = _countries(config.campaigns, rng)
    serial = rng.choice(np.arange(10_000, 1_000_000), n, replace=False)
    table = pa.table(
        {
            "ad_id": pa.array([f"a{number}" for number in serial]),
            "item_id": pa.array(catalogue.item_ids[items]),
            "campaign_id": pa.array([f"c{number:04d}" for number in campaign]),
            "advertiser_id": pa.array([f"adv{number:03d}" for number in advertiser]),
            "starts_at": pa.array([starts[c] for c in campaign], pa.timestamp("us", tz="UTC")),
            "ends_at": pa.array([ends[c] for c in campaign], pa.timestamp("us", tz="UTC")),
            "status": pa.array([status[c] for c in campaign], pa.string()),
            "countries": pa.array([countries[c] for c in campaign], pa.list_(pa.string())),
            "bid": pa.array(np.round(rng.lognormal(-1.2, 0.6, n), 2)),
            "version": pa.array(rng.choice([1, 2, 3], n, p=(0.8, 0.15, 0.05)), pa.int64()),
        }
    )
    return table.sort_by("ad_id")


def _terms(
    config: MarketplaceConfig, rng: np.random.Generator
) -> tuple[list[datetime | None], list[datetime | None], list[str | None]]:
    """Start, end and status of each campaign; every term has its share even among few campaigns."""
    names = list(_TERMS)
    slots = np.repeat(np.arange(len(names)), list(_TERMS.values()))
    spread = slots[(np.arange(config.campaigns) * len(slots)) // config.campaigns]
    term = [names[slot] for slot in rng.permutation(spread)]
    day_zero = datetime(config.start.year, config.start.month, config.start.day, tzinfo=UTC)
    starts: list[datetime | None] = []
    ends: list[datetime | None] = []
    for name in term:
        before, after, hour = (int(x) for x in rng.integers((1, 3, 0), (40, 45, 24)))
        start = day_zero + timedelta(days=min(config.days - 2, 8) - before, hours=hour)
        test_day = day_zero + timedelta(days=config.days)
        if name == "ended":
            starts.append(start - timedelta(days=30))
            ends.append(test_day - timedelta(days=1 + before % config.days, hours=hour))
        elif name == "later":
            starts.append(test_day + timedelta(days=after, hours=hour))
            ends.append(test_day + timedelta(days=after + 30))
        else:
            starts.append(None if name == "open-ended" else start)
            ends.append(None if name == "open-ended" else test_day + timedelta(days=after, hours=hour))
    status = {"paused": "paused", "rejected": "rejected", "open-ended": None}
    return starts, ends, [status.get(name, "active") for name in term]


def _countries(campaigns: int, rng: np.random.Generator) -> list[list[str] | None]:
    """A third of the campaigns run in one to three countries, some written small; the others everywhere."""
    limited = rng.permutation(campaigns) < 0.35 * campaigns
    lists: list[list[str] | None] = []
    for is_limited in limited:
        chosen = sorted(str(c) for c in rng.choice(COUNTRIES, 1 + rng.integers(3), replace=False))
        small = rng.random() < 0.1
        lists.append([c.lower() if small else c for c in chosen] if is_limited else None)
    return lists
