"""Stored days: a build from them equals a build from the whole log, in whatever order the days were ingested."""

import datetime as dt
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from graph_build.build import GraphInputs, build_graphs
from graph_build.config import CoSearchConfig, GraphConfig, StrongClickConfig
from graph_build.days.store import CLICKS, SEARCHES, forget, ingest, stored_days
from graph_build.errors import GraphInputError
from tests.graph_build.conftest import at, event, write_events

Rows = list[dict[str, Any]]
# The store that format 2 made of `a_day(0)`.
FORMAT_2 = Path(__file__).parents[1] / "fixtures" / "stored_days_v2"
TABLES = ("full/nodes", "full/edges", "fit/nodes", "fit/edges", "transitions", "sessions")


def a_day(day: int, seed: int | None = None) -> Rows:
    """Thirty sessions with searches, purchases, logged sources and users who come back on other days."""
    rng = random.Random(day if seed is None else seed)
    rows = []
    for s in range(30):
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


def content(folder: Path) -> dict[str, list[str]]:
    return {
        name: sorted(json.dumps(row, default=str, sort_keys=True) for row in pq.read_table(folder / name).to_pylist())
        for name in TABLES
    }


@pytest.fixture
def store(spark: Any, tmp_path: Path) -> Callable[..., str]:
    """Ingests rows as the given days into one store, and returns where it is."""
    root = str(tmp_path / "days")

    def run(rows: Rows, *numbers: int, config: GraphConfig | None = None) -> str:
        path = write_events(tmp_path / f"in-{len(list(tmp_path.iterdir()))}.parquet", rows)
        ingest(spark, [path], root, config or GraphConfig(), [date_of(n) for n in numbers] or None)
        return root

    return run


def nightly(spark: Any, root: str, out: Path, config: GraphConfig | None = None, **more: Any) -> Path:
    build_graphs(spark, GraphInputs(days=root), str(out), config or GraphConfig(), **more)
    return out


def test_nights_equal_one_build_of_everything_with_a_late_day_and_a_day_sent_again(
    spark: Any, store: Callable[..., str], built: Callable[..., Any], tmp_path: Path
) -> None:
    store(a_day(0), 0)
    store(a_day(3, seed=99), 3)  # will be sent again
    store(a_day(2), 2)
    store(a_day(1), 1)  # late
    root = store([*a_day(3), *a_day(1, seed=7)], 3)  # rows of a day that was not named are refused
    _, from_log = built([row for day in range(4) for row in a_day(day)])
    night = content(nightly(spark, root, tmp_path / "night"))
    assert night == content(from_log)
    assert all(night[name] for name in TABLES)
    quarantine = pq.read_table(next(Path(root).glob("*/quarantine"))).to_pylist()
    assert {row["reason"] for row in quarantine} == {"other_day"}


@pytest.mark.slow
def test_settings_may_change_without_the_logs(
    spark: Any, store: Callable[..., str], built: Callable[..., Any], tmp_path: Path
) -> None:
    root = store([*a_day(0), *a_day(1), *a_day(2)])
    changed = GraphConfig(
        strong_click=StrongClickConfig(max_steps=2, backward=0.25),
        co_search=CoSearchConfig(max_items_per_search=2),
        window_days=2,
    )
    _, from_log = built([*a_day(1), *a_day(2)], config=changed)
    assert content(nightly(spark, root, tmp_path / "night", changed)) == content(from_log)
    _, earlier = built([*a_day(0), *a_day(1)])
    assert content(nightly(spark, root, tmp_path / "earlier", date=date_of(1))) == content(earlier)
    with pytest.raises(GraphInputError, match="max_session_items"):
        nightly(spark, root, tmp_path / "no", GraphConfig(strong_click=StrongClickConfig(max_session_items=9)))


def rows_in(frame: Any) -> list[str]:
    return sorted(json.dumps(row.asDict(), default=str, sort_keys=True) for row in frame.collect())


def test_days_of_format_2_are_read_as_if_they_were_ingested_now(spark: Any, store: Callable[..., str]) -> None:
    earlier = stored_days(str(FORMAT_2), GraphConfig())
    now = stored_days(store(a_day(0), 0), GraphConfig())
    assert earlier.aggregates_match
    assert earlier.as_of == now.as_of
    assert earlier.days[date_of(0)].source == "a fingerprint"
    assert earlier.days[date_of(0)].events == now.days[date_of(0)].events == 105
    assert rows_in(earlier.rows(spark)) == rows_in(now.rows(spark))
    for name, schema in (("clicks", CLICKS), ("searches", SEARCHES)):
        counts = [days.aggregates(spark, name, schema, before=10**6) for days in (earlier, now)]
        assert counts[0].count() > 0
        assert rows_in(counts[0]) == rows_in(counts[1])


def test_an_ingest_that_fails_changes_nothing(spark: Any, store: Callable[..., str], tmp_path: Path) -> None:
    root = store(a_day(0), 0)
    before = sorted(str(path) for path in Path(root).rglob("*"))
    with pytest.raises(GraphInputError, match=str(date_of(5))):
        store(a_day(1), 1, 5)
    with pytest.raises(GraphInputError, match="max_session_items"):
        store(a_day(1), 1, config=GraphConfig(strong_click=StrongClickConfig(max_session_items=9)))
    assert sorted(str(path) for path in Path(root).rglob("*")) == before
    with pytest.raises(GraphInputError, match="no day is stored"):
        nightly(spark, str(tmp_path / "nothing"), tmp_path / "out")


@pytest.mark.slow
def test_forgetting_a_user_leaves_what_a_log_without_their_sessions_would_give(
    spark: Any, store: Callable[..., str], built: Callable[..., Any], tmp_path: Path
) -> None:
    log = [*a_day(0), *a_day(1)]
    root = store(log)
    deleted = {row["session_id"] for row in log if row["user_id"] in ("u1", "u2")}
    assert forget(spark, ["u1", "u2"], root, GraphConfig()) == len(deleted)
    assert forget(spark, ["u1", "nobody"], root, GraphConfig()) == 0
    with pytest.raises(GraphInputError, match="max_gap_minutes"):
        forget(spark, ["u3"], root, GraphConfig(strong_click=StrongClickConfig(max_gap_minutes=5)))
    _, from_log = built([row for row in log if row["session_id"] not in deleted])
    assert content(nightly(spark, root, tmp_path / "night")) == content(from_log)
    assert len(json.loads((Path(root) / "days.json").read_text())["days"]) == 2
    assert len(list(Path(root).glob("*/2026*"))) == 2, "replaced folders are deleted"


@pytest.mark.slow
def test_the_last_day_held_out_leaves_the_graph_of_the_day_before(
    spark: Any, store: Callable[..., str], built: Callable[..., Any], tmp_path: Path
) -> None:
    root = store([*a_day(0), *a_day(1), *a_day(2)])
    _, before = built([*a_day(0), *a_day(1)])
    expected = {name.removeprefix("full/"): rows for name, rows in content(before).items() if name.startswith("full/")}
    _, from_log = built([row for day in range(3) for row in a_day(day)], holdout_day=date_of(2))
    for out in (nightly(spark, root, tmp_path / "night", holdout_day=date_of(2)), from_log):
        tables = content(out)
        assert {name: tables[f"fit/{name}"] for name in expected} == expected
        held = {row["session"] for row in pq.read_table(out / "sessions", filters=[("held", "=", True)]).to_pylist()}
        assert held
        assert len(held) < len(pq.read_table(out / "sessions"))
