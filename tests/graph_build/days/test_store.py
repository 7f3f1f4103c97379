"""A build from stored days equals a build from the whole log, in whatever order the days were ingested."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from graph_build.build import GraphInputs, build_graphs
from graph_build.config import CoSearchConfig, GraphConfig, StrongClickConfig
from graph_build.day_zone import midnight
from graph_build.days.days_file import read_days_file, settings_of
from graph_build.days.forget import forget
from graph_build.days.store import CLICKS, SEARCHES, stored_days
from graph_build.errors import GraphInputError
from tests.graph_build.conftest import GRAPH_TABLES, at, event, sorted_rows, sorted_tables
from tests.graph_build.days.conftest import date_of, day_log

# The day `day_log(0)` as format 2 stored it.
FORMAT_2 = Path(__file__).parents[1] / "fixtures" / "stored_days_v2"


def build_from_days(spark: Any, root: str, out: Path, config: GraphConfig | None = None, **more: Any) -> Path:
    build_graphs(spark, GraphInputs(days=root), str(out), config or GraphConfig(), **more)
    return out


@pytest.mark.slow
def test_a_build_from_days_equals_one_from_the_log_with_a_late_day_and_a_day_that_was_sent_again(
    spark: Any, store: Callable[..., Any], root: str, built: Callable[..., Any], tmp_path: Path
) -> None:
    store(day_log(0), 0)
    store(day_log(3, seed=99), 3)  # will be sent again
    store(day_log(2), 2)
    store(day_log(1), 1)  # late
    again = store([*day_log(3), *day_log(1, seed=7)], 3)  # the rows of day 1 are passed over: only day 3 is named
    assert (again.other_days, again.refused) == (len(day_log(1, seed=7)), {})
    _, from_log = built([row for day in range(4) for row in day_log(day)])
    night = sorted_tables(build_from_days(spark, root, tmp_path / "night"))
    assert night == sorted_tables(from_log)
    assert all(night[name] for name in GRAPH_TABLES)
    assert not list(Path(root).glob("*/quarantine")), "rows of other days are not kept"


@pytest.mark.slow
def test_a_build_from_days_follows_changed_settings_without_the_logs(
    spark: Any, store: Callable[..., Any], root: str, built: Callable[..., Any], tmp_path: Path
) -> None:
    store([*day_log(0), *day_log(1), *day_log(2)])
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


@pytest.mark.slow
def test_days_of_format_2_are_read_like_days_that_are_ingested_now(
    spark: Any, store: Callable[..., Any], root: str
) -> None:
    earlier = stored_days(str(FORMAT_2), GraphConfig())
    store(day_log(0), 0)
    now = stored_days(root, GraphConfig())
    assert earlier.aggregates_match
    assert earlier.as_of == now.as_of
    assert earlier.days[date_of(0)].source == "a fingerprint"
    assert earlier.days[date_of(0)].events == now.days[date_of(0)].events == 105
    # Earlier releases did not store the hash of the session id.
    assert earlier.rows(spark).where("id is not null").count() == 0
    assert rows_in(earlier.rows(spark).drop("id")) == rows_in(now.rows(spark).drop("id"))
    for name, schema in (("clicks", CLICKS), ("searches", SEARCHES)):
        counts = [days.aggregates(spark, name, schema, before=10**6) for days in (earlier, now)]
        assert counts[0].count() > 0
        assert rows_in(counts[0]) == rows_in(counts[1])


def lose_the_store() -> None:
    """Fail like a process that stood still while another process took the store over."""
    raise LookupError("lost")


@pytest.mark.slow
def test_an_ingest_that_fails_leaves_the_stored_days_unchanged(
    spark: Any, store: Callable[..., Any], root: str, tmp_path: Path
) -> None:
    store(day_log(0), 0)
    before = sorted(str(path) for path in Path(root).rglob("*"))
    with pytest.raises(GraphInputError, match=str(date_of(5))):
        store(day_log(1), 1, 5)
    with pytest.raises(GraphInputError, match="max_session_items"):
        store(day_log(1), 1, config=GraphConfig(strong_click=StrongClickConfig(max_session_items=9)))
    with pytest.raises(LookupError, match="lost"):
        store(day_log(1), 1, check=lose_the_store)
    with pytest.raises(LookupError, match="lost"):
        forget(spark, ["u1"], root, GraphConfig(), check=lose_the_store)
    assert sorted(str(path) for path in Path(root).rglob("*")) == before
    assert read_days_file(root).forgotten == ()
    with pytest.raises(GraphInputError, match="no day is stored"):
        build_from_days(spark, str(tmp_path / "nothing"), tmp_path / "out")


@pytest.mark.slow
def test_with_the_last_day_held_out_the_fit_graph_is_the_graph_of_the_days_before(
    spark: Any, store: Callable[..., Any], root: str, built: Callable[..., Any], tmp_path: Path
) -> None:
    store([*day_log(0), *day_log(1), *day_log(2)])
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


@pytest.mark.slow
def test_days_of_a_time_zone_are_stored_and_held_out_as_they_are_read_from_a_log(
    spark: Any, store: Callable[..., Any], root: str, built: Callable[..., Any], tmp_path: Path
) -> None:
    config = GraphConfig.model_validate({"input": {"day_zone": "America/New_York"}})
    log = [
        row | {"timestamp": row["timestamp"] + dt.timedelta(hours=hours), "session_id": f"{row['session_id']}-{hours}"}
        for hours in (0, 3, 9)
        for row in day_log(1, sessions=20)
    ]
    result = store(log, config=config)
    assert list(result.days) == [date_of(0), date_of(1)], "until 5 o'clock it is still the day before there"
    assert settings_of(GraphConfig())["rows"].keys() == settings_of(config)["rows"].keys() - {"day_zone"}
    with pytest.raises(GraphInputError, match="day_zone"):
        stored_days(root, GraphConfig())
    _, from_log = built(log, config=config, holdout_day=date_of(1), date=date_of(1))
    night = build_from_days(spark, root, tmp_path / "night", config, holdout_day=date_of(1), date=date_of(1))
    assert sorted_tables(night) == sorted_tables(from_log)
    held = pq.read_table(night / "sessions").to_pylist()
    border = midnight(date_of(1), "America/New_York")
    assert {row["held"] for row in held} == {True, False}
    assert all(row["held"] == (row["start"] >= border) for row in held)
    _, before = built(log, config=config, date=date_of(0))
    assert sorted_rows(before / "full/nodes") == sorted_rows(night / "fit/nodes")


@pytest.mark.slow
def test_a_log_cut_into_days_of_another_zone_is_doubted(store: Callable[..., Any]) -> None:
    rows = [event(f"s{n}", at(300 + 7 * n, day=0), "view", f"i{n % 5}") for n in range(200)]
    (doubt,) = store(rows, 0).doubts
    assert f"82% of {date_of(0)} and 18% of {date_of(1)}" in doubt
    assert "Set [input] day_zone" in doubt
    config = GraphConfig.model_validate({"input": {"day_zone": "America/New_York"}})
    assert store(rows, config=config, folder="other").doubts == []
