"""A build from stored days equals a build from the whole log, in whatever order the days were ingested."""

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
from tests.graph_build.conftest import GRAPH_TABLES, at, event, sorted_tables, write_events

Rows = list[dict[str, Any]]
# What format 2 stored for `day_log(0)`.
FORMAT_2 = Path(__file__).parents[1] / "fixtures" / "stored_days_v2"


def day_log(day: int, seed: int | None = None) -> Rows:
    """Return thirty sessions with searches, purchases, logged sources and users who come back on other days."""
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


@pytest.fixture
def store(spark: Any, tmp_path: Path) -> Callable[..., str]:
    """Return a function that ingests rows as the days of these numbers, and returns the folder of the stored days."""
    root = str(tmp_path / "days")

    def run(rows: Rows, *numbers: int, config: GraphConfig | None = None) -> str:
        path = write_events(tmp_path / f"in-{len(list(tmp_path.iterdir()))}.parquet", rows)
        ingest(spark, [path], root, config or GraphConfig(), [date_of(n) for n in numbers] or None)
        return root

    return run


def build_from_days(spark: Any, root: str, out: Path, config: GraphConfig | None = None, **more: Any) -> Path:
    build_graphs(spark, GraphInputs(days=root), str(out), config or GraphConfig(), **more)
    return out


def test_a_build_from_days_equals_one_from_the_log_with_a_late_day_and_a_day_that_was_sent_again(
    spark: Any, store: Callable[..., str], built: Callable[..., Any], tmp_path: Path
) -> None:
    store(day_log(0), 0)
    store(day_log(3, seed=99), 3)  # will be sent again
    store(day_log(2), 2)
    store(day_log(1), 1)  # late
    root = store([*day_log(3), *day_log(1, seed=7)], 3)  # the rows of day 1 are refused, because only day 3 is named
    _, from_log = built([row for day in range(4) for row in day_log(day)])
    night = sorted_tables(build_from_days(spark, root, tmp_path / "night"))
    assert night == sorted_tables(from_log)
    assert all(night[name] for name in GRAPH_TABLES)
    quarantine = pq.read_table(next(Path(root).glob("*/quarantine"))).to_pylist()
    assert {row["reason"] for row in quarantine} == {"other_day"}


@pytest.mark.slow
def test_a_build_from_days_follows_changed_settings_without_the_logs(
    spark: Any, store: Callable[..., str], built: Callable[..., Any], tmp_path: Path
) -> None:
    root = store([*day_log(0), *day_log(1), *day_log(2)])
    changed = GraphConfig(
        strong_click=StrongClickConfig(max_steps=2, backward=0.25),
        co_search=CoSearchConfig(max_items_per_search=2),
        window_days=2,
    )
    _, from_log = built([*day_log(1), *day_log(2)], config=changed)
    assert sorted_tables(build_from_days(spark, root, tmp_path / "night", changed)) == sorted_tables(from_log)
    _, earlier = built([*day_log(0), *day_log(1)])
    assert sorted_tables(build_from_days(spark, root, tmp_path / "earlier", date=date_of(1))) == sorted_tables(earlier)
    with pytest.raises(GraphInputError, match="max_session_items"):
        build_from_days(spark, root, tmp_path / "no", GraphConfig(strong_click=StrongClickConfig(max_session_items=9)))


def rows_in(frame: Any) -> list[str]:
    return sorted(json.dumps(row.asDict(), default=str, sort_keys=True) for row in frame.collect())


def test_days_of_format_2_are_read_like_days_that_are_ingested_now(spark: Any, store: Callable[..., str]) -> None:
    earlier = stored_days(str(FORMAT_2), GraphConfig())
    now = stored_days(store(day_log(0), 0), GraphConfig())
    assert earlier.aggregates_match
    assert earlier.as_of == now.as_of
    assert earlier.days[date_of(0)].source == "a fingerprint"
    assert earlier.days[date_of(0)].events == now.days[date_of(0)].events == 105
    assert rows_in(earlier.rows(spark)) == rows_in(now.rows(spark))
    for name, schema in (("clicks", CLICKS), ("searches", SEARCHES)):
        counts = [days.aggregates(spark, name, schema, before=10**6) for days in (earlier, now)]
        assert counts[0].count() > 0
        assert rows_in(counts[0]) == rows_in(counts[1])


def test_an_ingest_that_fails_leaves_the_stored_days_unchanged(
    spark: Any, store: Callable[..., str], tmp_path: Path
) -> None:
    root = store(day_log(0), 0)
    before = sorted(str(path) for path in Path(root).rglob("*"))
    with pytest.raises(GraphInputError, match=str(date_of(5))):
        store(day_log(1), 1, 5)
    with pytest.raises(GraphInputError, match="max_session_items"):
        store(day_log(1), 1, config=GraphConfig(strong_click=StrongClickConfig(max_session_items=9)))
    assert sorted(str(path) for path in Path(root).rglob("*")) == before
    with pytest.raises(GraphInputError, match="no day is stored"):
        build_from_days(spark, str(tmp_path / "nothing"), tmp_path / "out")


@pytest.mark.slow
def test_forgetting_users_gives_the_graph_of_a_log_without_their_sessions(
    spark: Any, store: Callable[..., str], built: Callable[..., Any], tmp_path: Path
) -> None:
    log = [*day_log(0), *day_log(1)]
    root = store(log)
    deleted = {row["session_id"] for row in log if row["user_id"] in ("u1", "u2")}
    assert forget(spark, ["u1", "u2"], root, GraphConfig()) == len(deleted)
    assert forget(spark, ["u1", "nobody"], root, GraphConfig()) == 0
    with pytest.raises(GraphInputError, match="max_gap_minutes"):
        forget(spark, ["u3"], root, GraphConfig(strong_click=StrongClickConfig(max_gap_minutes=5)))
    _, from_log = built([row for row in log if row["session_id"] not in deleted])
    assert sorted_tables(build_from_days(spark, root, tmp_path / "night")) == sorted_tables(from_log)
    assert len(json.loads((Path(root) / "days.json").read_text())["days"]) == 2
    assert len(list(Path(root).glob("*/2026*"))) == 2, "the folders that were replaced are deleted"


@pytest.mark.slow
def test_with_the_last_day_held_out_the_fit_graph_is_the_graph_of_the_days_before(
    spark: Any, store: Callable[..., str], built: Callable[..., Any], tmp_path: Path
) -> None:
    root = store([*day_log(0), *day_log(1), *day_log(2)])
    _, before = built([*day_log(0), *day_log(1)])
    expected = {
        name.removeprefix("full/"): rows for name, rows in sorted_tables(before).items() if name.startswith("full/")
    }
    _, from_log = built([row for day in range(3) for row in day_log(day)], holdout_day=date_of(2))
    for out in (build_from_days(spark, root, tmp_path / "night", holdout_day=date_of(2)), from_log):
        tables = sorted_tables(out)
        assert {name: tables[f"fit/{name}"] for name in expected} == expected
        held_out = {
            row["session"] for row in pq.read_table(out / "sessions", filters=[("held", "=", True)]).to_pylist()
        }
        assert held_out
        assert len(held_out) < len(pq.read_table(out / "sessions"))
