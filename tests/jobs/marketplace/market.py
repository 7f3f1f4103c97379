"""The tables of a small marketplace, as its tests read them."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa

from jobs.marketplace import MarketplaceConfig

SMALL = MarketplaceConfig.small()
START = datetime(2026, 3, 2, tzinfo=UTC)
END = START + timedelta(days=SMALL.days)


class Market(NamedTuple):
    events: list[dict[str, Any]]  # the valid rows of all_events
    all_events: pa.Table
    items: pa.Table
    ads: pa.Table
    test_events: pa.Table


def is_valid(row: dict[str, Any]) -> bool:
    return bool(
        row["session_id"]
        and row["timestamp"]
        and row["event_type"] != "hover"
        and (row["item_id"] or row["event_type"] == "search")
    )


def by_session(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    sessions: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        sessions[row["session_id"]].append(row)
    return sessions


def is_bot(session: list[dict[str, Any]]) -> bool:
    return len(session) > 80
