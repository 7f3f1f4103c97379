"""The marketplace's ads: campaigns with start, end, status, countries and bids, mostly for rarely opened items."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from jobs.marketplace.catalogue import Catalogue, Ints
from jobs.marketplace.config import MarketplaceConfig
from jobs.marketplace.shoppers import COUNTRIES

# The state of a campaign on the test day, and the percentage of campaigns in that state.
_STATES = {"running": 58, "open-ended": 14, "ended": 12, "later": 8, "paused": 6, "rejected": 2}
SECOND_AD_SHARE = 0.1


def ads_table(config: MarketplaceConfig, catalogue: Catalogue, rng: np.random.Generator) -> pa.Table:
    """Return the input table `ads`, sorted by ad_id: one ad for most advertised items, two for some.

    Args:
        config: the number of campaigns, the share of advertised items, and the days of the log.
        catalogue: all items.
        rng: the source of random numbers.
    """
    items = _advertised_items(config, catalogue, rng)
    n = len(items)
    advertiser, campaign = _assign_campaigns(config, catalogue, items, rng)
    starts, ends, status = _schedules(config, rng)
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


def _advertised_items(config: MarketplaceConfig, catalogue: Catalogue, rng: np.random.Generator) -> Ints:
    """The item of each ad. Rare items get ads more often: sellers advertise items that shoppers would not find."""
    listed = np.flatnonzero(catalogue.listed)
    weight = np.argsort(np.argsort(-catalogue.popularity[listed])) + 0.15 * len(listed)
    advertised = rng.choice(
        listed, round(config.advertised_share * len(listed)), replace=False, p=weight / weight.sum()
    )
    second = advertised[rng.random(len(advertised)) < SECOND_AD_SHARE]
    return np.concatenate([advertised, second])


def _assign_campaigns(
    config: MarketplaceConfig, catalogue: Catalogue, items: Ints, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Advertiser and campaign of each ad. An advertiser sells a few brands, and runs some campaigns."""
    advertisers = max(config.campaigns // 3, 2)
    advertiser_of_brand = rng.integers(advertisers, size=len(catalogue.brand_names))
    advertiser_of_campaign = rng.permutation(config.campaigns) % advertisers
    campaigns = [np.flatnonzero(advertiser_of_campaign == a) for a in range(advertisers)]
    advertiser = advertiser_of_brand[catalogue.brand[items]]
    pick = rng.random(len(items))
    campaign = np.array([campaigns[a][int(x * len(campaigns[a]))] for a, x in zip(advertiser, pick, strict=True)])
    return advertiser, campaign


def _schedules(
    config: MarketplaceConfig, rng: np.random.Generator
) -> tuple[list[datetime | None], list[datetime | None], list[str | None]]:
    """Start, end and status of each campaign. Every state has its percentage even if there are few campaigns."""
    names = list(_STATES)
    slots = np.repeat(np.arange(len(names)), list(_STATES.values()))
    spread = slots[(np.arange(config.campaigns) * len(slots)) // config.campaigns]
    states = [names[slot] for slot in rng.permutation(spread)]
    first_day = datetime(config.start.year, config.start.month, config.start.day, tzinfo=UTC)
    test_day = first_day + timedelta(days=config.days)
    starts: list[datetime | None] = []
    ends: list[datetime | None] = []
    for state in states:
        before, after, hour = (int(x) for x in rng.integers((1, 3, 0), (40, 45, 24)))
        start = first_day + timedelta(days=min(config.days - 2, 8) - before, hours=hour)
        if state == "ended":
            starts.append(start - timedelta(days=30))
            ends.append(test_day - timedelta(days=1 + before % config.days, hours=hour))
        elif state == "later":
            starts.append(test_day + timedelta(days=after, hours=hour))
            ends.append(test_day + timedelta(days=after + 30))
        else:
            starts.append(None if state == "open-ended" else start)
            ends.append(None if state == "open-ended" else test_day + timedelta(days=after, hours=hour))
    status = {"paused": "paused", "rejected": "rejected", "open-ended": None}
    return starts, ends, [status.get(state, "active") for state in states]


def _countries(campaigns: int, rng: np.random.Generator) -> list[list[str] | None]:
    """The countries of each campaign: one to three for a third of the campaigns, None (everywhere) for the others.

    Some campaigns write their countries in lower case.
    """
    limited = rng.permutation(campaigns) < 0.35 * campaigns
    lists: list[list[str] | None] = []
    for is_limited in limited:
        countries = sorted(str(c) for c in rng.choice(COUNTRIES, 1 + rng.integers(3), replace=False))
        lower_case = rng.random() < 0.1
        lists.append([c.lower() if lower_case else c for c in countries] if is_limited else None)
    return lists
