"""The built-in marketplace: generated events, items and ads of an imaginary shop, for the demo and for tests.

Shoppers with individual tastes click through a long-tailed catalogue. The log also has the noise of real logs: random
clicks, bots, duplicated rows and broken rows. `generate` writes the input tables, which the commands read like those
of any real shop. This folder imports no other folder of `jobs`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.marketplace.campaigns import ads_table
from jobs.marketplace.catalogue import build_catalogue, items_table
from jobs.marketplace.config import MarketplaceConfig
from jobs.marketplace.log import add_faults, bot_rows, events_table
from jobs.marketplace.related import related_items
from jobs.marketplace.sessions import LogRows, SessionSimulator
from jobs.marketplace.shoppers import DAY_SECONDS, build_shoppers, build_visits
from jobs.progress import ProgressCallback, portion

__all__ = ["MarketplaceConfig", "MarketplaceFiles", "generate"]


@dataclass(frozen=True)
class MarketplaceFiles:
    """The paths of the generated tables. `test_events` is the log of the day after the last day of `events`."""

    events: Path
    items: Path
    ads: Path
    test_events: Path


def generate(
    config: MarketplaceConfig, out_dir: str | Path, progress: ProgressCallback | None = None
) -> MarketplaceFiles:
    """Write the tables events, items, ads and test_events as Parquet files.

    The same configuration gives the same bytes. With the default configuration, this takes a few seconds and 1 GB of
    memory.

    Args:
        config: the size of the marketplace and the habits of its shoppers.
        out_dir: the folder to write to; it is created if it does not exist.
        progress: takes a message and the share of the work that is done.
    """
    report = progress or (lambda message, share: None)
    # Every part has a random generator of its own, so that a change to one part leaves the others as they were.
    catalogue_rng, related_rng, shoppers_rng, sessions_rng, bots_rng, ads_rng, faults_rng = (
        np.random.default_rng(seed) for seed in np.random.SeedSequence(config.seed).spawn(7)
    )
    report("generating the catalogue", 0.0)
    catalogue = build_catalogue(config, catalogue_rng)
    report("choosing related items", 0.1)
    related = related_items(catalogue, related_rng)
    shoppers = build_shoppers(config, catalogue, shoppers_rng)
    visits = build_visits(config, shoppers, shoppers_rng)
    simulator = SessionSimulator(config, catalogue, related, shoppers, visits, sessions_rng)
    log = simulator.run(portion(report, 0.3, 0.7))

    report("assembling the log", 0.7)
    bots = bot_rows(config, catalogue, len(visits.day), bots_rng)
    end = config.days * DAY_SECONDS
    before = LogRows.concatenate([log.take(log.seconds < end), bots.take(bots.seconds < end)])
    after = log.take((log.seconds >= end) & (log.seconds < end + DAY_SECONDS))
    events = events_table(config, catalogue, shoppers, visits, before)
    test_events = events_table(config, catalogue, shoppers, visits, after, first_event=len(before.seconds))

    report("writing the tables", 0.9)
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return MarketplaceFiles(
        events=_write(add_faults(config, events, faults_rng), folder / "events.parquet"),
        items=_write(items_table(catalogue), folder / "items.parquet"),
        ads=_write(ads_table(config, catalogue, ads_rng), folder / "ads.parquet"),
        test_events=_write(test_events, folder / "test_events.parquet"),
    )


def _write(table: pa.Table, path: Path) -> Path:
    pq.write_table(table, path, compression="zstd")
    return path
