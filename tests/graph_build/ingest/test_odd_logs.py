"""Logs that can be read but look odd: what is done with their rows, and what is said about them."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph_build.decay import weight_of_day
from tests.graph_build.conftest import at, event, table, write_events

GOOD = [event("s", at(1), "view", "a"), event("s", at(2), "view", "b"), event("t", at(3), "view", "a")]


def ids(path: Path, values: list[Any]) -> str:
    pq.write_table(pa.table({"item_id": values}), path)
    return str(path)


def test_an_event_of_tomorrow_does_not_make_the_others_old(checked: Callable[..., Any]) -> None:
    now = dt.datetime.now(dt.UTC)
    found = checked([*GOOD, event("s", now + dt.timedelta(days=2), "view", "a")])
    assert found.refused == {"time_in_future": 1}
    assert found.as_of == at(3)


def test_what_looks_wrong_is_said(built: Callable[..., Any], tmp_path: Path) -> None:
    rows = [event(f"s{s}", at(0), "view", f"{i}") for s in range(150) for i in range(3)]
    rows += [event("late", at(0, day=40), "view", "1")]
    items = ids(tmp_path / "items.parquet", [f"000{i}" for i in range(3)])
    summary, out = built(rows, items=items)
    for doubt, part in zip(summary.doubts, ("2026-04-11", "same time", "'0', '1', '2'"), strict=True):
        assert part in doubt
        assert part.replace("'", "&#39;") in (out / "report.html").read_text()


def test_a_clock_that_is_years_behind_links_nothing_and_makes_nothing_old(built: Callable[..., Any]) -> None:
    behind = event("s", dt.datetime(1999, 1, 1, tzinfo=dt.UTC), "view", "z")
    summary, out = built([*GOOD, behind])
    edges = {(row["src"], row["dst"], row["edge_type"]): row["weight"] for row in table(out / "full/edges")}
    kind = "strong_click"
    assert edges == {("a", "b", kind): 1.0, ("b", "a", kind): pytest.approx(0.5)}, "its day is another one"
    assert summary.as_of == at(3)
    assert {row["item_id"] for row in table(out / "full/nodes")} == {"a", "b", "z"}


def test_a_search_without_a_query_is_refused(checked: Callable[..., Any]) -> None:
    found = checked([*(event("s", at(0), "search", query=query) for query in (None, "  ")), *GOOD])
    assert found.refused == {"query_missing": 2}
    assert found.usable.where("event_type = 'search'").count() == 0


@pytest.mark.slow
def test_a_search_without_a_query_finds_nothing(built: Callable[..., Any]) -> None:
    summary, _ = built([*(event("s", at(0), "search", query=query) for query in (None, "  ")), *GOOD])
    assert summary.quarantined["events"] == {"query_missing": 2}
    assert summary.edges["co_search"] == 0
    assert summary.edges["strong_click"] == 2


@pytest.mark.parametrize("user", ["u", pytest.param(None, marks=pytest.mark.slow)])
def test_sessions_of_one_event_link_nothing_and_are_doubted(built: Callable[..., Any], user: str | None) -> None:
    rows = [event(f"s{i}", at(i), "view", f"i{i % 4}", user_id=user and f"{user}{i // 4}") for i in range(40)]
    summary, out = built(rows)
    assert (summary.nodes, summary.sessions, summary.edges["strong_click"]) == (4, 40, 0)
    # What users do over several sessions still counts.
    assert summary.edges["swing"] == (12 if user else 0)
    assert [doubt for doubt in summary.doubts if "40 of 40 sessions hold at most one item event" in doubt]
    assert "at most one item event" in (out / "report.html").read_text()
    assert summary.most_cut == {}


@pytest.mark.slow
def test_items_that_the_catalogue_lacks_stay_in_the_graph(built: Callable[..., Any], tmp_path: Path) -> None:
    summary, out = built(GOOD, items=ids(tmp_path / "items.parquet", ["b", "c"]))
    nodes = {row["item_id"]: row["in_catalogue"] for row in table(out / "full/nodes")}
    assert nodes == {"a": False, "b": True, "c": True}
    assert {(row["src"], row["dst"]) for row in table(out / "full/edges")} == {("a", "b"), ("b", "a")}
    assert not summary.doubts


def test_ids_that_are_numbers_in_one_file_and_text_in_another_meet_as_text(
    built: Callable[..., Any], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    write_events(log / "1.parquet", [event("s", at(1), "view", "7"), event("s", at(2), "view", "007")])
    numbers = pa.table(
        {"session_id": ["t", "t"], "timestamp": [at(1), at(2)], "event_type": ["view"] * 2, "item_id": [7, 8]}
    )
    pq.write_table(numbers, log / "2.parquet")
    summary, out = built(str(log))
    assert {row["item_id"] for row in table(out / "full/nodes")} == {"7", "007", "8"}
    (doubt,) = summary.doubts
    assert "'item_id' of events is string in" in doubt
    assert "1.parquet and int64 in" in doubt


def test_what_is_held_out_years_later_does_not_overflow() -> None:
    assert weight_of_day(20_000, 10, 1.0) == weight_of_day(10, 10, 1.0) == 1 << 32
