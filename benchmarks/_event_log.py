"""Generates seeded event logs of any size, in which sessions stay mostly within small groups of items."""

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

FIRST_DAY = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
DAY = 86_400_000_000
CHUNK = 1_000_000  # events in one file
TYPES = pa.array(["view", "click", "add_to_cart", "purchase", "search"])

# On a bad day, this many users click the star item, a bot makes this many clicks, and one query opens this many items.
STAR_USERS, BOT_CLICKS, FLOOD_ITEMS = 1_000_000, 200_000, 50_000
BAD_EVENTS = 2 * STAR_USERS + BOT_CLICKS + FLOOD_ITEMS + 1


def write_log(
    folder: Path,
    events: int,
    *,
    days: int = 7,
    first: int = 0,
    shop: int | None = None,
    skew: bool = False,
    session_ids: bool = True,
) -> Path:
    """Write a log as Parquet files, with about 50 events per item and 10 per user; returns the folder.

    Args:
        folder: the folder to create.
        events: the approximate number of events.
        days: the number of days.
        first: the number of the first day.
        shop: have as many items and users as a log with this many events.
        skew: let BAD_EVENTS of the events be those of a bad last day: a million users click the same item and one
            other, a bot makes 200,000 clicks, half of them in one session, and one query opens 50,000 items.
        session_ids: write session ids; without them, sessions follow from users and times.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(first)
    items, users = max((shop or events) // 50, 1000), max((shop or events) // 10, 100)
    # The popularity of an item does not depend on its group.
    rank = np.random.default_rng(0).permutation(items)
    share = np.cumsum(np.arange(1, items + 1) ** -0.9)
    share /= share[-1]
    done, ordinary = 0, events - BAD_EVENTS if skew else events
    while done < ordinary:
        size = min(CHUNK, ordinary - done)
        table = _sessions(rng, size, items, users, (first, first + days), rank, share, f"{done // CHUNK}")
        if not session_ids:
            table = table.drop_columns(["session_id"])
        pq.write_table(table, folder / f"part-{done // CHUNK:04d}.parquet")
        done += size
    if skew:
        pq.write_table(_skewed(rng, items, first + days - 1), folder / "part-skew.parquet")
    return folder


def _sessions(
    rng: np.random.Generator,
    events: int,
    items: int,
    users: int,
    days: tuple[int, int],
    rank: np.ndarray,
    share: np.ndarray,
    name: str,
) -> pa.Table:
    lengths = np.minimum(rng.geometric(0.18, events // 4), 60)
    lengths = lengths[: np.searchsorted(np.cumsum(lengths), events) + 1]
    session = np.repeat(np.arange(len(lengths)), lengths)[:events]
    n = len(session)
    # A session stays in the group of 200 items that contains its first item; one event in five may leave the group.
    start = rank[np.searchsorted(share, rng.random(len(lengths)))]
    group = start[session] // 200 * 200
    inside = group + np.minimum((200 * rng.random(n) ** 2).astype(np.int64), 199)
    item = np.where(rng.random(n) < 0.8, inside, rank[np.searchsorted(share, rng.random(n))])
    item = np.minimum(item, items - 1)
    kind = rng.choice(5, n, p=[0.62, 0.2, 0.06, 0.04, 0.08])
    day = rng.integers(*days, len(lengths))
    begin = rng.integers(0, DAY - 3_600_000_000, len(lengths))
    first = np.concatenate([[0], np.cumsum(lengths)])[session]
    time = (day * DAY + begin)[session] + (np.arange(n) - first) * 20_000_000 + rng.integers(0, 15_000_000, n)
    search = kind == 4
    query = pa.array(group // 200).cast(pa.string())
    logged = (rng.random(len(lengths)) < 0.3)[session] & (kind == 1)
    before = np.concatenate([item[:1], item[:-1]])
    return _table(
        f"s{name}-",
        session,
        time,
        kind,
        item,
        search,
        query,
        logged,
        before,
        (rng.integers(0, users, len(lengths)))[session],
    )


def _skewed(rng: np.random.Generator, items: int, day: int) -> pa.Table:
    """The events of a bad day, by the users who click the star item, by the bot, and by the user who searches."""
    bot, searcher = STAR_USERS, STAR_USERS + 1
    user = np.concatenate([np.repeat(np.arange(STAR_USERS), 2), np.full(BOT_CLICKS, bot)])
    user = np.append(user, np.full(FLOOD_ITEMS + 1, searcher))
    n = len(user)
    item = rng.integers(0, items, n)
    item[: 2 * STAR_USERS : 2] = 0
    item[-FLOOD_ITEMS:] = rng.permutation(max(items, FLOOD_ITEMS))[:FLOOD_ITEMS] % items
    # The first half of the bot's clicks is one session. The other half and the opened items have sessions of 100 rows.
    session = user.copy()
    short = np.flatnonzero(user >= bot)[BOT_CLICKS // 2 :]
    session[short] = searcher + 1 + np.arange(len(short)) // 100
    kind = np.where(user == searcher, 0, 1)
    search = np.zeros(n, np.bool_)
    search[-FLOOD_ITEMS - 1 :: 100] = True  # each of the searcher's sessions starts with a search
    kind[search] = 4
    time = day * DAY + np.arange(n) * (DAY // n)
    query = pa.array(np.where(search, "everything", None), pa.string())
    return _table("skew-", session, time, kind, item, search, query, np.zeros(n, np.bool_), item, user)


def _table(
    name: str, session: np.ndarray, time: np.ndarray, kind: np.ndarray, item: np.ndarray, search: np.ndarray,
    query: pa.Array, logged: np.ndarray, before: np.ndarray, user: np.ndarray,
) -> pa.Table:  # fmt: skip
    def ids(prefix: str, numbers: np.ndarray, missing: np.ndarray) -> pa.Array:
        text = pc.binary_join_element_wise(prefix, pa.array(numbers).cast(pa.string()), "")
        return pc.if_else(pa.array(missing), None, text)

    none = np.zeros(len(session), np.bool_)
    origin = int(FIRST_DAY.timestamp() * 1_000_000)
    return pa.table(
        {
            "session_id": ids(name, session, none),
            "timestamp": pa.array(origin + time).cast(pa.timestamp("us", "UTC")),
            "event_type": TYPES.take(pa.array(kind)),
            "item_id": ids("item-", item, search),
            "user_id": ids("u", user, none),
            "source_item_id": ids("item-", before, ~logged),
            "query": pc.if_else(pa.array(search), query, None),
        }
    )
