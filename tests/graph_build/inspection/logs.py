"""Logs for the tests of inspection."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEGIN = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)


def millis(n: int, seconds: int = 20) -> int:
    """Return the time of the n-th event in milliseconds since 1970."""
    return round((BEGIN + dt.timedelta(seconds=seconds * n)).timestamp() * 1000)


def write_rows(
    path: Path, n: int, row: Callable[[int], list[Any]], header: str, separator: str = ",", encoding: str = "utf-8"
) -> Path:
    """Write a CSV file of n rows; if `header` is "", it has none."""
    lines = [separator.join(map(str, row(at))) for at in range(n)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\n" for line in ([header] if header else []) + lines).encode(encoding))
    return path


def seven_faults(path: Path, n: int = 100_000) -> Path:
    """Write a log with foreign event types and seven other faults: four in how it is written, three in some rows."""

    def row(at: int) -> list[Any]:
        cells: list[Any] = [f"v{at // 4}", millis(at), ("detail", "detail", "zzz")[at % 3], f"p{at % 80}", "Köln"]
        if at % 50 == 0:
            cells[3] = ""
        if at % 60 == 3:
            cells[1] = "gestern"
        return [*cells, "zuviel"] if at % 70 == 1 else cells

    return write_rows(path, n, row, "session_id;timestamp;event_type;sku;ort", ";", "latin-1")


def plain_log(path: Path, n: int = 3000) -> Path:
    """Write a log of events that needs no settings."""

    def row(at: int) -> list[Any]:
        return [f"v{at // 4}", f"{BEGIN + dt.timedelta(seconds=20 * at):%Y-%m-%dT%H:%M:%SZ}", "view", f"p{at % 80}"]

    return write_rows(path, n, row, "session_id,timestamp,event_type,item_id")
