"""The marketplace's event log as a table: what shoppers and bots did, with the faults that real logs have."""

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.marketplace.catalogue import Catalogue, Ints
from jobs.marketplace.config import MarketplaceConfig
from jobs.marketplace.queries import query_texts
from jobs.marketplace.sessions import NONE, TYPES, VIEW, Rows, rows
from jobs.marketplace.shoppers import COUNTRIES, DAY_SECONDS, Shoppers, Visits

DIRT = ("no session", "no item", "unknown type", "no time")


def bot_rows(config: MarketplaceConfig, catalogue: Catalogue, first_session: int, rng: np.random.Generator) -> Rows:
    """Return what price robots do: page after page of two categories, a second apart, in one session."""
    parts = []
    for bot in range(config.bot_sessions):
        day = int(rng.integers(config.days))
        chosen = rng.integers(len(catalogue.leaves), size=2)
        pages = np.flatnonzero(np.isin(catalogue.leaf, chosen))
        pages = pages[catalogue.on_sale(pages, np.full(len(pages), day))]
        if not len(pages):
            continue
        opened = np.resize(pages, int(config.bot_items * rng.lognormal(-0.32, 0.8)))
        start = day * DAY_SECONDS + rng.uniform(0, 20 * 3_600)
        seconds = start + np.cumsum(rng.uniform(0.8, 2.2, len(opened)))
        parts.append(rows(np.full(len(opened), first_session + bot), seconds, VIEW, opened))
    return Rows.join(parts) if parts else rows(np.zeros(0, np.int64), np.zeros(0), VIEW, 0)


def events_table(
    config: MarketplaceConfig,
    catalogue: Catalogue,
    shoppers: Shoppers,
    visits: Visits,
    log: Rows,
    first_event: int = 0,
) -> pa.Table:
    """Return rows, sorted by time, as the input table `events`; sessions beyond the visits are bots."""
    order = np.lexsort((log.type, log.session, log.seconds))
    log = log.take(order)
    human = log.session < len(visits.shopper)
    shopper = visits.shopper[np.minimum(log.session, len(visits.shopper) - 1)]
    bots = np.array([f"s{number:09x}-bot" for number in range(config.bot_sessions + 1)])
    names = np.concatenate([visits.ids.astype(object), bots.astype(object)])
    midnight = datetime(config.start.year, config.start.month, config.start.day, tzinfo=UTC)
    micros = np.round(log.seconds * 1_000).astype(np.int64) * 1_000 + int(midnight.timestamp()) * 1_000_000
    return pa.table(
        {
            "event_id": pa.array([f"e{number:07d}" for number in range(first_event, first_event + len(order))]),
            "session_id": pa.array(names[log.session], pa.string()),
            "user_id": pa.array(
                shoppers.ids[shopper].astype(object), pa.string(), mask=~(human & shoppers.signed_in[shopper])
            ),
            "timestamp": pa.array(micros, pa.timestamp("us", tz="UTC")),
            "event_type": pa.array(np.array(TYPES, dtype=object)[log.type], pa.string()),
            "item_id": _ids(catalogue, log.item),
            "source_item_id": _ids(catalogue, log.source),
            "query": pa.array(query_texts(catalogue, np.maximum(log.query, 0)), pa.string(), mask=log.query == NONE),
            "price": pa.array(catalogue.price[np.maximum(log.item, 0)], mask=log.item == NONE),
            "country": pa.array(np.array(COUNTRIES, dtype=object)[shoppers.country[shopper]], pa.string(), mask=~human),
        }
    )


def with_faults(config: MarketplaceConfig, table: pa.Table, rng: np.random.Generator) -> pa.Table:
    """Return the table with some rows sent a second time, later, and broken ones of each kind of DIRT."""
    n = table.num_rows
    twice = rng.choice(n, round(config.duplicate_share * n), replace=False)
    broken = rng.choice(n, config.dirty_rows)
    copies = table.take(pa.array(broken))
    kind = np.arange(len(broken)) % len(DIRT)
    columns = {
        "event_id": pa.array([f"x{number:07d}" for number in range(len(broken))]),
        "session_id": _without(copies["session_id"], kind == DIRT.index("no session")),
        "event_type": _replaced(copies["event_type"], kind == DIRT.index("unknown type"), "hover"),
        "timestamp": _without(copies["timestamp"], kind == DIRT.index("no time")),
        "item_id": _without(copies["item_id"], kind == DIRT.index("no item")),
    }
    # A search has no item, so that it cannot lack one.
    columns["event_type"] = _replaced(columns["event_type"], kind == DIRT.index("no item"), "view")
    for name, column in columns.items():
        copies = copies.set_column(copies.column_names.index(name), name, column)
    place = np.concatenate([np.arange(n), np.minimum(twice + rng.integers(1, 500, len(twice)), n), broken])
    order = np.argsort(place, kind="stable")
    return pa.concat_tables([table, table.take(pa.array(twice)), copies]).take(pa.array(order))


def _ids(catalogue: Catalogue, items: Ints) -> pa.Array:
    names = catalogue.item_ids.astype(object)
    return pa.array(names[np.maximum(items, 0)], pa.string(), mask=items == NONE)


def _without(column: pa.ChunkedArray, gone: npt.NDArray[np.bool_]) -> pa.Array:
    return pa.array([None if x else value for value, x in zip(column.to_pylist(), gone, strict=True)], column.type)


def _replaced(column: pa.ChunkedArray, where: npt.NDArray[np.bool_], by: str) -> pa.Array:
    return pa.array([by if x else value for value, x in zip(column.to_pylist(), where, strict=True)])
