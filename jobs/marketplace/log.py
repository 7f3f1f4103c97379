"""The marketplace's event log as a table: the rows of shoppers and bots, with the faults that real logs have."""

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.marketplace.catalogue import Catalogue, Ints
from jobs.marketplace.config import MarketplaceConfig
from jobs.marketplace.queries import query_texts
from jobs.marketplace.sessions import EVENT_TYPES, NONE, VIEW, LogRows, log_rows
from jobs.marketplace.shoppers import COUNTRIES, DAY_SECONDS, Shoppers, Visits

FAULTS = ("no session", "no item", "unknown type", "no time")


def bot_rows(config: MarketplaceConfig, catalogue: Catalogue, first_session: int, rng: np.random.Generator) -> LogRows:
    """Return the page views of price-comparing bots.

    Each bot has one session, in which it opens the pages of two categories, one every second or two.

    Args:
        config: the number of bots, and how many items they open.
        catalogue: all items.
        first_session: the position of the first bot's session; the sessions before it are those of shoppers.
        rng: the source of random numbers.
    """
    parts = []
    for bot in range(config.bot_sessions):
        day = int(rng.integers(config.days))
        leaves = rng.integers(len(catalogue.leaves), size=2)
        pages = np.flatnonzero(np.isin(catalogue.leaf, leaves))
        pages = pages[catalogue.on_sale(pages, np.full(len(pages), day))]
        if not len(pages):
            continue
        opened = np.resize(pages, int(config.bot_items * rng.lognormal(-0.32, 0.8)))
        start = day * DAY_SECONDS + rng.uniform(0, 20 * 3_600)
        seconds = start + np.cumsum(rng.uniform(0.8, 2.2, len(opened)))
        parts.append(log_rows(np.full(len(opened), first_session + bot), seconds, VIEW, opened))
    return LogRows.concatenate(parts) if parts else log_rows(np.zeros(0, np.int64), np.zeros(0), VIEW, 0)


def events_table(
    config: MarketplaceConfig,
    catalogue: Catalogue,
    shoppers: Shoppers,
    visits: Visits,
    log: LogRows,
    first_event: int = 0,
) -> pa.Table:
    """Return log rows as the input table `events`, sorted by time.

    Args:
        config: the first day of the log, and the number of bots.
        catalogue: all items.
        shoppers: the people who may visit the shop.
        visits: the sessions of shoppers. Sessions with a position beyond the last visit belong to bots.
        log: the rows, in any order.
        first_event: the number in the first row's event_id.
    """
    order = np.lexsort((log.type, log.session, log.seconds))
    log = log.take(order)
    human = log.session < len(visits.shopper)
    shopper = visits.shopper[np.minimum(log.session, len(visits.shopper) - 1)]
    bots = np.array([f"s{number:09x}-bot" for number in range(config.bot_sessions + 1)])
    session_ids = np.concatenate([visits.ids.astype(object), bots.astype(object)])
    midnight = datetime(config.start.year, config.start.month, config.start.day, tzinfo=UTC)
    microseconds = np.round(log.seconds * 1_000).astype(np.int64) * 1_000 + int(midnight.timestamp()) * 1_000_000
    return pa.table(
        {
            "event_id": pa.array([f"e{number:07d}" for number in range(first_event, first_event + len(order))]),
            "session_id": pa.array(session_ids[log.session], pa.string()),
            "user_id": pa.array(
                shoppers.ids[shopper].astype(object), pa.string(), mask=~(human & shoppers.signed_in[shopper])
            ),
            "timestamp": pa.array(microseconds, pa.timestamp("us", tz="UTC")),
            "event_type": pa.array(np.array(EVENT_TYPES, dtype=object)[log.type], pa.string()),
            "item_id": _item_ids(catalogue, log.item),
            "source_item_id": _item_ids(catalogue, log.source),
            "query": pa.array(query_texts(catalogue, np.maximum(log.query, 0)), pa.string(), mask=log.query == NONE),
            "price": pa.array(catalogue.price[np.maximum(log.item, 0)], mask=log.item == NONE),
            "country": pa.array(np.array(COUNTRIES, dtype=object)[shoppers.country[shopper]], pa.string(), mask=~human),
        }
    )


def add_faults(config: MarketplaceConfig, table: pa.Table, rng: np.random.Generator) -> pa.Table:
    """Return the events, with copies of some rows a little later, and with broken rows of each kind in FAULTS.

    Args:
        config: how many rows are repeated and how many are broken.
        table: the events, sorted by time.
        rng: the source of random numbers.
    """
    n = table.num_rows
    repeated = rng.choice(n, round(config.duplicate_share * n), replace=False)
    broken = rng.choice(n, config.dirty_rows)
    copies = table.take(pa.array(broken))
    fault = np.arange(len(broken)) % len(FAULTS)
    columns = {
        "event_id": pa.array([f"x{number:07d}" for number in range(len(broken))]),
        "session_id": _with_nulls(copies["session_id"], fault == FAULTS.index("no session")),
        "user_id": _with_nulls(copies["user_id"], fault == FAULTS.index("no session")),
        "event_type": _with_value(copies["event_type"], fault == FAULTS.index("unknown type"), "hover"),
        "timestamp": _with_nulls(copies["timestamp"], fault == FAULTS.index("no time")),
        "item_id": _with_nulls(copies["item_id"], fault == FAULTS.index("no item")),
    }
    # A search never has an item, so a row without an item is broken only if it is of another type.
    columns["event_type"] = _with_value(columns["event_type"], fault == FAULTS.index("no item"), "view")
    for name, column in columns.items():
        copies = copies.set_column(copies.column_names.index(name), name, column)
    later = np.minimum(repeated + rng.integers(1, 500, len(repeated)), n)
    order = np.argsort(np.concatenate([np.arange(n), later, broken]), kind="stable")
    return pa.concat_tables([table, table.take(pa.array(repeated)), copies]).take(pa.array(order))


def _item_ids(catalogue: Catalogue, items: Ints) -> pa.Array:
    ids = catalogue.item_ids.astype(object)
    return pa.array(ids[np.maximum(items, 0)], pa.string(), mask=items == NONE)


def _with_nulls(column: pa.ChunkedArray, where: npt.NDArray[np.bool_]) -> pa.Array:
    return pa.array([None if x else value for value, x in zip(column.to_pylist(), where, strict=True)], column.type)


def _with_value(column: pa.ChunkedArray, where: npt.NDArray[np.bool_], new: str) -> pa.Array:
    return pa.array([new if x else value for value, x in zip(column.to_pylist(), where, strict=True)])
