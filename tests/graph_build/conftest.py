"""A small Spark session for all tests of the graph build, and helpers that write logs and read tables."""

import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph_build.config import GraphConfig
from graph_build.errors import GraphInputError
from tests.spark_sessions import small_session

DAY = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
GRAPH_TABLES = ("full/nodes", "full/edges", "fit/nodes", "fit/edges", "transitions", "sessions")

EVENT_SCHEMA = pa.schema(
    [
        ("session_id", pa.string()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("event_type", pa.string()),
        ("item_id", pa.string()),
        ("user_id", pa.string()),
        ("source_item_id", pa.string()),
        ("query", pa.string()),
        ("event_id", pa.string()),
        ("request_id", pa.string()),
        ("ad_id", pa.string()),
        ("sequence", pa.int64()),
        ("country", pa.string()),
    ]
)


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    from graph_build.spark.session import QUERY_SETTINGS

    session = small_session()
    # Adaptive plans run each shuffle as a job of its own, which is not worth it for two partitions.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(QUERY_SETTINGS, "spark.sql.adaptive.enabled", "false")
        yield session
    session.stop()


def at(minutes: float, day: int = 0) -> dt.datetime:
    """Return the time `minutes` after midnight UTC on the first test day, or `day` days later."""
    return DAY + dt.timedelta(days=day, minutes=minutes)


def event(session: str | None, time: Any, kind: str | None, item: str | None = None, **more: Any) -> dict[str, Any]:
    return {"session_id": session, "timestamp": time, "event_type": kind, "item_id": item, **more}


def write_events(path: Path, rows: list[dict[str, Any]], *, row_group_size: int | None = None) -> str:
    """Write events with the four required columns and every column that some row has; return the path."""
    used = {name for row in rows for name in row} | {"session_id", "timestamp", "event_type", "item_id"}
    schema = pa.schema([field for field in EVENT_SCHEMA if field.name in used])
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=row_group_size)
    return str(path)


def input_error(name: Any, path: str, settings: GraphConfig | None = None) -> str:
    """Return the message of the error with which a file or folder is refused before Spark starts."""
    from graph_build.ingest.files import find_sources

    with pytest.raises(GraphInputError) as caught:
        find_sources(name, [path], (settings or GraphConfig()).input)
    return str(caught.value)


def check_table(spark: Any, name: Any, path: str, settings: GraphConfig, known: list[str] | None = None) -> Any:
    """Return the checked items or ads of one file; ads may name only the items in `known`, or any if it is None."""
    from graph_build.ingest import checked_tables, spark_reader

    sources = spark_reader.sources(name, [path], settings.input)
    if name == "items":
        return checked_tables.checked_items(spark, sources, settings)
    items = spark.createDataFrame([(item,) for item in known], "item_id string") if known else None
    return checked_tables.checked_ads(spark, sources, settings, items)


def table(path: Path | str) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def sorted_rows(path: Path) -> list[str]:
    """Return the rows of a table as JSON, sorted, so that tables compare equal in any order of their rows."""
    return sorted(json.dumps(row, default=str, sort_keys=True) for row in table(path))


def sorted_tables(folder: Path) -> dict[str, list[str]]:
    """Return the sorted rows of the graphs and training tables of a build."""
    return {name: sorted_rows(folder / name) for name in GRAPH_TABLES}


@pytest.fixture
def checked(spark: Any, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that checks the events of rows or of a path, which is the first step of a build."""
    from graph_build.ingest import checked_tables, spark_reader

    def run(rows: list[dict[str, Any]] | str, config: GraphConfig | None = None, date: dt.date | None = None) -> Any:
        config = config or GraphConfig()
        n = len(list(tmp_path.iterdir()))
        path = rows if isinstance(rows, str) else write_events(tmp_path / f"events-{n}.parquet", rows)
        return checked_tables.checked_events(spark, spark_reader.sources("events", [path], config.input), config, date)

    return run


@pytest.fixture
def assembled(checked: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that makes rows of sessions from events or a path; later steps of a build start from them."""
    from graph_build.sessions.rows import session_rows

    def run(rows: list[dict[str, Any]] | str, config: GraphConfig | None = None) -> Any:
        config = config or GraphConfig()
        return session_rows(checked(rows, config).usable, config, 1).persist()

    return run


def events_of(rows: Any) -> list[dict[str, Any]]:
    """Return the events in rows of sessions, in their order, each with session, n, item_id, search and counted."""
    from graph_build.sessions.kernel import COUNTED

    return [
        {"session": row["session"], "n": n, "item_id": item_id, "search": search, "counted": bool(flags & COUNTED)}
        for row in rows.collect()
        for n, (item_id, search, flags) in enumerate(zip(row["item_id"], row["search"], row["flags"], strict=True), 1)
    ]


def named_pairs(pairs: Any, rows: Any) -> list[dict[str, Any]]:
    """Return pairs with the ids of their items; the ids are looked up in rows of sessions."""
    from pyspark.sql import functions as F

    from graph_build.edges.combine import with_item_ids

    columns = [
        F.explode(F.arrays_zip(F.col(a).alias("item"), F.col(b).alias("item_id"))).alias("z")
        for a, b in (("item", "item_id"), ("source", "source_id"))
    ]
    names = rows.select(columns[0]).union(rows.select(columns[1])).select("z.item", "z.item_id")
    names = names.where("item is not null").distinct()
    return [row.asDict(recursive=True) for row in with_item_ids(pairs, names).collect()]


def directed_weights(pairs: Any, rows: Any, graph: str) -> dict[tuple[str, str], int]:
    """Return the raw weight of each (src, dst) in one of the graphs."""
    weights = {}
    for row in named_pairs(pairs, rows):
        for src, dst, direction in ((row["low_id"], row["high_id"], "up"), (row["high_id"], row["low_id"], "down")):
            if row[f"{graph}_{direction}"]:
                weights[src, dst] = row[f"{graph}_{direction}"]
    return weights


@pytest.fixture
def built(spark: Any, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that builds the graph of rows or of a path, and returns the summary and the folder."""
    from graph_build.build import GraphInputs, build_graphs

    def run(
        rows: list[dict[str, Any]] | str,
        *,
        items: str | None = None,
        ads: str | None = None,
        config: GraphConfig | None = None,
        **more: Any,
    ) -> tuple[Any, Path]:
        n = len(list(tmp_path.iterdir()))
        events = rows if isinstance(rows, str) else write_events(tmp_path / f"log-{n}.parquet", rows)
        out = tmp_path / f"out-{n}"
        summary = build_graphs(spark, GraphInputs([events], items, ads), str(out), config or GraphConfig(), **more)
        return summary, out

    return run


def config(**sections: Any) -> GraphConfig:
    """Return a configuration with these keys in its `[input]` section."""
    return GraphConfig.model_validate({"input": sections})


def parquet(path: Path, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> str:
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return str(path)


GOOD = [event("s", at(1), "view", "a"), event("s", at(2), "view", "b"), event("t", at(3), "view", "a")]


def entries_of(log: list[tuple[int, int, int, int]]) -> Any:
    """Return rows (user, item, level in the full graph, level in the fit graph) as entries of Swing.

    The caps keep the entries with the highest levels; level 0 means that the graph does not have the entry.
    """
    import numpy as np

    from graph_build.edges.swing_lists import Entries

    code = [full | fit << 4 for _, _, full, fit in log]
    user, item = (np.array([row[n] for row in log], np.int64) for n in (0, 1))
    return Entries(user, item, np.array(code, np.uint8))


def levels_of(entries: Any) -> dict[tuple[int, int], tuple[int, int]]:
    """Return the levels of each (user, item) in the full graph and in the fit graph."""
    codes = zip(entries.user.tolist(), entries.item.tolist(), entries.code.tolist(), strict=True)
    return {(user, item): (code & 15, code >> 4) for user, item, code in codes}
