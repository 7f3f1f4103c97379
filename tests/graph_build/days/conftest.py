"""A store of days in a temporary folder, and logs of single days."""

import datetime as dt
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graph_build.config import GraphConfig
from graph_build.days.ingest import IngestOptions, ingest
from tests.graph_build.conftest import at, event, write_events

Rows = list[dict[str, Any]]


def day_log(day: int, seed: int | None = None, sessions: int = 30) -> Rows:
    """Return a day of sessions with searches, purchases and logged sources; their users come back on other days."""
    rng = random.Random(day if seed is None else seed)
    rows = []
    for s in range(sessions):
        for i in range(rng.randrange(1, 8)):
            kind = rng.choice(["view", "view", "click", "purchase", "search"])
            item = None if kind == "search" else f"i{rng.randrange(12)}"
            query = rng.choice(["red", "blue"]) if kind == "search" else None
            source = f"i{rng.randrange(12)}" if kind == "click" and s % 4 == 0 else None
            time = at(s * 40 + i, day=day)
            rows.append(event(f"{day}-{s}", time, kind, item, query=query, user_id=f"u{s % 9}", source_item_id=source))
    return rows


def date_of(day: int) -> dt.date:
    return at(0, day=day).date()  # type: ignore[no-any-return]


@pytest.fixture
def store(spark: Any, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that ingests rows as one file, and returns the result; the stored days are in `root`."""

    def run(
        rows: Rows,
        *numbers: int,
        name: str = "log",
        folder: str = "days",
        config: GraphConfig | None = None,
        **options: Any,
    ) -> Any:
        """Ingest rows as the days with these numbers; without numbers, the input decides which days it holds."""
        path = write_events(tmp_path / f"in-{len(list(tmp_path.iterdir()))}" / f"{name}.parquet", rows)
        options = {"days": [date_of(n) for n in numbers] or None} | options
        return ingest(spark, [path], str(tmp_path / folder), config or GraphConfig(), IngestOptions(**options))

    return run


@pytest.fixture
def root(tmp_path: Path) -> str:
    """Return the folder of the stored days."""
    return str(tmp_path / "days")
