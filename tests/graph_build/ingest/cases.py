"""Cases that both readers must read alike: a column as it is written, and the values read from it."""

import datetime as dt
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pyarrow as pa

NOW = dt.datetime(2026, 4, 1, tzinfo=dt.UTC)
# Column → the reason for which a row is refused when the column is null.
REASON_OF_NULL = {
    "session_id": "session_missing",
    "timestamp": "time_invalid",
    "event_type": "type_unknown",
    "item_id": "item_missing",
}


@dataclass(frozen=True)
class Case:
    """A column of a log. Times are compared as ISO 8601 text in UTC. `csv`: the case is tested as CSV, too."""

    name: str
    column: str
    written: pa.Array
    read: list[Any]
    events: dict[str, Any] = field(default_factory=dict)
    csv: bool = False


def texts(name: str, column: str, pairs: dict[str, Any], **events: Any) -> Case:
    """Return a case of strings; `pairs` maps each string to the value that is read from it."""
    return Case(name, column, pa.array(pairs), list(pairs.values()), events, csv=True)


NOON = "2026-03-14T12:00:00"
WRITTEN_TIMES = {
    "2026-03-14": "2026-03-14T00:00:00",
    "2026-3-4": "2026-03-04T00:00:00",
    "2026-03-14 12": NOON,
    "2026-03-14 12:30": "2026-03-14T12:30:00",
    "2026-03-14T9:5": "2026-03-14T09:05:00",
    " 2026-03-14 9:05:07 ": "2026-03-14T09:05:07",
    "2026-03-14T12:00:00.1": f"{NOON}.100000",
    "2026-03-14T12:00:00.123456789": f"{NOON}.123456",
    "2026-03-14 12:00:00,123": f"{NOON}.123000",
    "2026-03-14 12:00:00,5+02:00": "2026-03-14T10:00:00.500000",
    "2026-03-14T12:00:00.": NOON,
    "2026-03-14T12:00:00Z": NOON,
    "2026-03-14 12:00:00 UTC": NOON,
    "2026-03-14 12:00:00UTC": NOON,
    "2026-03-14 12:00:00 GMT": NOON,
    "2026-03-14T12:00Z": NOON,
    "2026-03-14T12:00+01:00": "2026-03-14T11:00:00",
    "2026-03-14 12:00:00 +02:00": "2026-03-14T10:00:00",
    "2026-03-14T12:00:00+2": "2026-03-14T10:00:00",
    "2026-03-14T12:00:00+02": "2026-03-14T10:00:00",
    "2026-03-14T12:00:00-0230": "2026-03-14T14:30:00",
    "2026-03-14T12:00:00UTC+2": "2026-03-14T10:00:00",
    "2026-03-14T12:00:00+18:00": "2026-03-13T18:00:00",
    "2026-03-14 12:00:00 Europe/Berlin": "2026-03-14T11:00:00",
    "2025-10-26 02:30:00 Europe/Berlin": "2025-10-26T00:30:00",
    "2025-03-30 02:30:00 Europe/Berlin": "2025-03-30T01:30:00",
    "2026-03-14 12:00:00 America/Argentina/Buenos_Aires": "2026-03-14T15:00:00",
    "2024-02-29 00:00:00": "2024-02-29T00:00:00",
    "1582-10-10": "1582-10-10T00:00:00",
    "0001-01-01": "0001-01-01T00:00:00",
    "0001-01-01T00:00+14:00": None,
    "0000-12-31": None,
    "2026-02-29": None,
    "1900-02-29": None,
    "2026-13-01": None,
    "2026-00-10": None,
    "2026-03-00": None,
    "2026-03-14 24:00:00": None,
    "2026-03-14 12:60:00": None,
    "2026-03-14 12:00:60": None,
    "2026-03-14T12:00:00-19:00": None,
    "2026-03-14T12:00:00+05:75": None,
    "2026-03-14T12:00:00+200": None,
    "2026-03-14 12:00:00 BST": None,
    "2026-03-14 12:00:00 Middle/Nowhere": None,
    "2026-03-14T12:00:00z": None,
    "2026-03-14Z": None,
    "2026-03-14T": None,
    "2026-03-14  12:00:00": None,
    "2026-W11-6": None,
    "20260314": None,
    "14.3.2026": None,
    "12:30": None,
    "1773489600": None,
    "now": None,
    "": None,
}

CASES = [
    texts("written times", "timestamp", WRITTEN_TIMES),
    texts(
        "times as text of seconds",
        "timestamp",
        {
            "1773489600": NOON,
            " +1773489600 ": NOON,
            "0": "1970-01-01T00:00:00",
            "-86400": "1969-12-31T00:00:00",
            "9000000001": None,
            "-9223372036854775808": None,
            "1773489600.5": None,
            "2026-03-14": None,
            "": None,
        },
        timestamp_unit="s",
    ),
    Case(
        "times as milliseconds",
        "timestamp",
        pa.array([1_773_489_600_123, -(2**63), 9_000_000_000_001, None]),
        [f"{NOON}.123000", None, None, None],
        {"timestamp_unit": "ms"},
    ),
    Case(
        "times as unsigned microseconds",
        "timestamp",
        pa.array([1_773_489_600_000_001, 2**64 - 1], pa.uint64()),
        [f"{NOON}.000001", None],
        {"timestamp_unit": "us"},
    ),
    Case(
        "times of nanoseconds",
        "timestamp",
        pa.array([1_773_489_600_000_000_999, -999, None], pa.timestamp("ns")),
        [NOON, "1970-01-01T00:00:00", None],
    ),
    Case(
        "times of a zone",
        "timestamp",
        pa.array([1_773_489_600_000], pa.timestamp("ms", "Europe/Berlin")),
        [NOON],
    ),
    Case("times without a zone", "timestamp", pa.array([1_773_489_600_000_000], pa.timestamp("us")), [NOON]),
    Case("dates", "timestamp", pa.array([dt.date(2026, 3, 14), None]), ["2026-03-14T00:00:00", None]),
    Case("times as categories", "timestamp", pa.array([f"{NOON}Z", "x"]).dictionary_encode(), [NOON, None]),
    texts(
        "ids as text",
        "item_id",
        {"7": "7", "007": "007", " 7 ": "7", "\t7": "\t7", "": None, "  ": None, "null": "null", "Ü, x": "Ü, x"},
    ),
    Case("ids as integers", "item_id", pa.array([7, -1, 2**53 + 1, None]), ["7", "-1", "9007199254740993", None]),
    Case("ids as large integers", "item_id", pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
    Case("ids as categories", "item_id", pa.array([" a", "", None]).dictionary_encode(), ["a", None, None]),
    Case("sessions as large text", "session_id", pa.array([" s ", ""], pa.large_string()), ["s", None]),
    texts(
        "integers as text",
        "sequence",
        {
            "3": 3,
            "-3": -3,
            "+3": 3,
            " 3\t": 3,
            "9223372036854775807": 2**63 - 1,
            "9223372036854775808": None,
            "-9223372036854775808": -(2**63),
            "00000000000000000000003": 3,
            "0": 0,
            "3.7": None,
            "1e3": None,
            "3L": None,
            "- 3": None,
            "٣": None,
            "": None,
        },
    ),
    Case(
        "integers as doubles",
        "sequence",
        pa.array([3.0, 3.7, -3.7, float("nan"), float("inf"), 1e19, -1e19, None]),
        [3, 3, -3, None, None, None, None, None],
    ),
    Case(
        "integers as decimals",
        "sequence",
        pa.array([Decimal("3.70"), Decimal("-3.70"), Decimal("10000000000000000000.00"), None], pa.decimal128(25, 2)),
        [3, -3, None, None],
    ),
    Case("unsigned integers", "position", pa.array([3, 2**64 - 1], pa.uint64()), [3, None]),
    texts(
        "numbers as text",
        "price",
        {
            "1.5": 1.5,
            " 1.5 ": 1.5,
            "1e3": 1000.0,
            "1E+3": 1000.0,
            ".5": 0.5,
            "5.": 5.0,
            "+5": 5.0,
            "-5": -5.0,
            "Infinity": float("inf"),
            "-inf": float("-inf"),
            "1e-400": 0.0,
            "12,50": None,
            "1.5d": None,
            "0x1p3": None,
            "1_0": None,
            "": None,
        },
    ),
    Case("numbers as decimals", "price", pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)), [1.5, None]),
    Case("numbers as integers", "price", pa.array([2**53 + 1, 3]), [float(2**53), 3.0]),
    texts(
        "event types",
        "event_type",
        {" CLICK ": "click", "PageView": "view", "detail": "view", "view": "click", "Search": "search", "fly": None},
        types={"pageview": "view", "DETAIL": "view", "view": "click"},
    ),
    Case("a column of nulls", "country", pa.nulls(2), [None, None]),
    Case("a country as it is", "country", pa.array([" de ", ""]), ["de", None]),
]
