"""Sessions for tests, made from lists of items."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa

from retrieval.evaluation.sessions import Sessions, sessions_from_graph

START = datetime(2024, 5, 1, 9, tzinfo=UTC)


def as_ids(lists: list[list[int]]) -> list[list[str]]:
    """Return item ids for rows of the small catalogue. It has 60 items, so rows from 60 on give unknown items."""
    return [[f"item{row:05d}" for row in rows] for rows in lists]


def sessions_of(lists: list[list[str]]) -> Sessions:
    """Return one session for each list; session n starts n hours after `START`, with an event a minute."""
    return _sessions([[(minute, item) for minute, item in enumerate(items)] for items in lists])


def baskets_of(lists: list[list[str]]) -> Sessions:
    """Return a basket for each list with at least two distinct items: these items, at their first times."""
    firsts = [[(items.index(item), item) for item in dict.fromkeys(items)] for items in lists]
    return _sessions([basket if len(basket) > 1 else [] for basket in firsts])


def _sessions(lists: list[list[tuple[int, str]]]) -> Sessions:
    rows = [
        {
            "session": f"s{hour}",
            "kind": "browse",
            "items": [item for _, item in items],
            "times": [START + timedelta(hours=hour, minutes=minute) for minute, _ in items],
        }
        for hour, items in enumerate(lists)
        if items
    ]
    schema = [("session", pa.string()), ("kind", pa.string()), ("items", pa.list_(pa.string()))]
    times = ("times", pa.list_(pa.timestamp("us", "UTC")))
    return sessions_from_graph(pa.Table.from_pylist(rows, schema=pa.schema([*schema, times])))
