"""The built-in marketplace: logs, items and ads of a shop that does not exist, for the demo and for tests.

Shoppers with tastes walk over a long-tailed catalogue; around what they mean lie wandering clicks, bots, rows
sent twice and broken ones. `generate` writes the input tables; the commands read them like anybody's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.marketplace.campaigns import ads_table
from jobs.marketplace.catalogue import build_catalogue, items_table, related_items
from jobs.marketplace.config import MarketplaceConfig
from jobs.marketplace.log import bot_rows, events_table, with_faults
from jobs.marketplace.sessions import Rows, Walk
from jobs.marketplace.shoppers import DAY_SECONDS, build_shoppers, build_visits

__all__ = ["MarketplaceConfig", "MarketplaceFiles", "generate"]


@dataclass(frozen=True)
class MarketplaceFiles:
    """Where the tables are: the log, the catalogue, the ads, and the log of the day after."""

    events: Path
    items: Path
    ads: Path
    test_events: Path


def generate(
    config: MarketplaceConfig, out_dir: str | Path, progress: Callable[[str, float], None] | None = None
) -> MarketplaceFiles:
    """Write events, items, ads and test_events as parquet into the folder, which is made if need be.

    The same configuration writes the same bytes. The default takes some seconds and 1 GB of memory.
    """
    report = progress or (lambda message, share: None)
    # A stream of random numbers for each part: a change in one leaves the others as they were.
    for_catalogue, for_related, for_shoppers, for_walk, for_bots, for_ads, for_faults = (
        np.random.default_rng(seed) for seed in np.random.SeedSequence(config.seed).spawn(7)
    )
    report("the catalogue", 0.0)
    catalogue = build_catalogue(config, for_catalogue)
    report("related items", 0.1)
    related = related_items(catalogue, for_related)
    shoppers = build_shoppers(config, catalogue, for_shoppers)
    visits = build_visits(config, shoppers, for_shoppers)
    walk = Walk(config, catalogue, related, shoppers, visits, for_walk)
    log = walk.run(lambda message, share: report(message, 0.3 + 0.4 * share))

    report("the log", 0.7)
    bots = bot_rows(config, catalogue, len(visits.day), for_bots)
    end = config.days * DAY_SECONDS
    before = Rows.join([log.take(log.seconds < end), bots.take(bots.seconds < end)])
    after = log.take((log.seconds >= end) & (log.seconds < end + DAY_SECONDS))
    events = events_table(config, catalogue, shoppers, visits, before)
    test_events = events_table(config, catalogue, shoppers, visits, after, first_event=len(before.seconds))

    report("writing", 0.9)
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return MarketplaceFiles(
        events=_write(with_faults(config, events, for_faults), folder / "events.parquet"),
        items=_write(items_table(catalogue), folder / "items.parquet"),
        ads=_write(ads_table(config, catalogue, for_ads), folder / "ads.parquet"),
        test_events=_write(test_events, folder / "test_events.parquet"),
    )


def _write(table: pa.Table, path: Path) -> Path:
    pq.write_table(table, path, compression="zstd")
    return path
