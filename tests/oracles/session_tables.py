"""Tables of test sessions, written out from lists of items."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa

START = datetime(2024, 5, 1, 9, tzinfo=UTC)
SCHEMA = pa.schema(
    [
        ("session_id", pa.string()),
        ("timestamp", pa.timestamp("us", "UTC")),
        ("event_type", pa.string()),
        ("item_id", pa.string()),
    ]
)


def session_table(lists: list[list[str]], event_type: str = "view") -> pa.Table:
    """Return events of one session for each list; session n starts n hours after `START`, with an event a minute."""
    rows = [
        {
            "session_id": f"s{number}",
            "timestamp": START + timedelta(hours=number, minutes=minute),
            "event_type": event_type,
            "item_id": item,
        }
        for number, items in enumerate(lists)
        for minute, item in enumerate(items)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def as_ids(lists: list[list[int]]) -> list[list[str]]:
    """Return the item ids of rows of the small catalogue, which has 60 items; from 60 on they are unknown items."""
    return [[f"item{row:05d}" for row in rows] for rows in lists]
