"""Logs that can be read but look odd: what the graph makes of their rows, and what the warnings say."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.graph_build.conftest import GOOD, at, event, table, write_events


def catalogue(path: Path, item_ids: list[str]) -> str:
    pq.write_table(pa.table({"item_id": item_ids}), path)
    return str(path)


def doubts_of(summary: Any) -> list[str]:
    """Return the doubts without the one that every log of a test raises: the log is small."""
    small = [doubt for doubt in summary.doubts if "a model learns little from fewer than 5,000" in doubt]
    assert len(small) == 1
    return [doubt for doubt in summary.doubts if doubt not in small]


@pytest.mark.slow
def test_the_summary_and_the_report_warn_of_what_looks_wrong(built: Callable[..., Any], tmp_path: Path) -> None:
    rows = [event(f"s{s}", at(0), "view", f"{i}") for s in range(150) for i in range(3)]
    rows += [event("late", at(0, day=40), "view", "1")]
    items = catalogue(tmp_path / "items.parquet", [f"000{i}" for i in range(3)])
    summary, out = built(rows, items=items)
    for warning, part in zip(doubts_of(summary), ("2026-04-11", "same time", "lost zeros of its ids"), strict=True):
        assert part in warning
        assert part.replace("'", "&#39;") in (out / "report.html").read_text()
    assert "the log holds 451 events of items" in (out / "report.html").read_text()
    assert not (out / "counters").exists(), "they are counted only where they are configured"


@pytest.mark.slow
def test_an_event_whose_clock_is_years_behind_gets_no_edge_and_does_not_move_the_as_of_time(
    built: Callable[..., Any],
) -> None:
    behind = event("s", dt.datetime(1999, 1, 1, tzinfo=dt.UTC), "view", "z")
    summary, out = built([*GOOD, behind])
    edges = {(row["src"], row["dst"], row["edge_type"]): row["weight"] for row in table(out / "full/edges")}
    kind = "strong_click"
    # The event is in a session of another day.
    assert edges == {("a", "b", kind): 1.0, ("b", "a", kind): pytest.approx(0.5)}
    assert summary.as_of == at(3)
    assert {row["item_id"] for row in table(out / "full/nodes")} == {"a", "b", "z"}


@pytest.mark.slow
def test_searches_without_a_query_make_no_co_search_edges(built: Callable[..., Any]) -> None:
    summary, _ = built([*(event("s", at(0), "search", query=query) for query in (None, "  ")), *GOOD])
    assert summary.quarantined["events"] == {"query_missing": 2}
    assert summary.edges["co_search"] == 0
    assert summary.edges["strong_click"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("user", ["u", None])
def test_sessions_of_one_event_make_no_strong_clicks_and_cause_a_warning(
    built: Callable[..., Any], user: str | None
) -> None:
    rows = [event(f"s{i}", at(i), "view", f"i{i % 4}", user_id=user and f"{user}{i // 4}") for i in range(40)]
    summary, out = built(rows)
    assert (summary.nodes, summary.sessions, summary.edges["strong_click"]) == (4, 40, 0)
    # Swing still counts the items that a user opens in several sessions.
    assert summary.edges["swing"] == (12 if user else 0)
    assert any("40 of 40 sessions hold at most one item event" in warning for warning in summary.doubts)
    assert "at most one item event" in (out / "report.html").read_text()
    assert summary.most_cut == {}


@pytest.mark.slow
def test_items_missing_from_the_catalogue_stay_in_the_graph(built: Callable[..., Any], tmp_path: Path) -> None:
    summary, out = built(GOOD, items=catalogue(tmp_path / "items.parquet", ["b", "c"]))
    nodes = {row["item_id"]: row["in_catalogue"] for row in table(out / "full/nodes")}
    assert nodes == {"a": False, "b": True, "c": True}
    assert {(row["src"], row["dst"]) for row in table(out / "full/edges")} == {("a", "b"), ("b", "a")}
    assert not doubts_of(summary)


@pytest.mark.slow
def test_ids_that_are_numbers_in_one_file_and_text_in_another_are_compared_as_text_with_a_warning(
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
    (warning,) = doubts_of(summary)
    assert "'item_id' of events is string in" in warning
    assert "1.parquet and int64 in" in warning


@pytest.mark.slow
def test_one_value_that_holds_a_large_share_of_the_events_is_named(built: Callable[..., Any]) -> None:
    rows = [event(f"s{s}", at(s), "view", f"{i}", user_id=f"u{s}") for s in range(100) for i in (s % 30, (s + 1) % 30)]
    rows += [event("no session", at(0.1 * n), "view", f"{n % 30}", user_id="anonymous") for n in range(80)]
    rows += [event(f"t{s}", at(s), "view", "unknown", user_id=f"u{s}") for s in range(100)]
    summary, _ = built(rows)
    assert [doubt.split(";")[0] for doubt in doubts_of(summary) if " holds " in doubt] == [
        "'unknown' of item_id holds 100 of 380 events",
        "'no session' of session_id holds 80 of 380 events",
        "'anonymous' of user_id holds 80 of 380 events",
    ]


@pytest.mark.slow
def test_ids_that_lost_their_zeros_are_named_from_both_tables(built: Callable[..., Any], tmp_path: Path) -> None:
    items = catalogue(tmp_path / "items.parquet", ["0007", "0008"])
    summary, _ = built([event("s", at(1), "view", "7"), event("s", at(2), "view", "8.0")], items=items)
    (doubt,) = [doubt for doubt in summary.doubts if "catalogue" in doubt]
    assert "events name '7', the catalogue '0007'; has one of the tables lost zeros" in doubt


@pytest.mark.slow
def test_unknown_statuses_and_a_table_of_ads_of_which_none_is_in_flight_are_told(
    built: Callable[..., Any], tmp_path: Path
) -> None:
    rows = [
        ("1", "activ", None),
        ("2", "activ", None),
        ("3", "Paused", None),
        ("4", "active", at(0)),
        ("5", None, at(0)),
    ]
    ads = pa.table(
        {
            "ad_id": [ad for ad, _, _ in rows],
            "item_id": ["a"] * 5,
            "campaign_id": ["c"] * 5,
            "status": [status for _, status, _ in rows],
            "ends_at": pa.array([end for _, _, end in rows], pa.timestamp("us", "UTC")),
        }
    )
    pq.write_table(ads, tmp_path / "ads.parquet")
    summary, out = built(GOOD, ads=str(tmp_path / "ads.parquet"))
    assert summary.ads["by_status"] == {"activ": 2, "paused": 1, "active": 2}
    hides, none = [doubt for doubt in summary.doubts if "ads" in doubt]
    assert hides.startswith("status 'activ' hides 2 ads;")
    assert none.endswith("2 have the status 'activ', 1 have the status 'paused', 2 have ended")
    assert "hides 2 ads" in (out / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.thorough
def test_ads_of_items_that_no_other_table_knows_are_told(built: Callable[..., Any], tmp_path: Path) -> None:
    ads = pa.table({"ad_id": ["1", "2"], "item_id": ["0x", "0y"], "campaign_id": ["c", "c"]})
    pq.write_table(ads, tmp_path / "ads.parquet")
    summary, _ = built(GOOD, ads=str(tmp_path / "ads.parquet"))
    (doubt,) = [doubt for doubt in summary.doubts if "with ads" in doubt]
    assert doubt.startswith("only 0 of 2 items with ads are among the 2 that are known: ads name ")
    assert "'0x'" in doubt
