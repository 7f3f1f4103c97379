"""The report of a graph shows every number of the summary and of the statistics, and works offline."""

import dataclasses
import datetime as dt

import pytest

from graph_build.report.html import render_report
from graph_build.report.statistics import CategoryMixing, DensificationStep, GraphStatistics
from graph_build.summary import GraphSummary
from tests.html_page import Page

SUMMARY = GraphSummary(
    as_of=dt.datetime(2026, 3, 15, 23, 59, 58, tzinfo=dt.UTC),
    events={
        **{"read": 347_569, "valid": 345_681, "duplicates": 1728, "opened_views": 39_391, "left_out": 17},
        "by_type": {"click": 112_408, "view": 167_051},
    },
    quarantined={"events": {"type_unknown": 40}, "ads": {"no_item": 3}, "items": {}},
    nodes=23_975,
    tail=17_456,
    edges={"strong_click": 294_878, "swing": 0, "co_search": 289_360},
    transitions={"browse": 234_000, "basket": 504},
    sessions=50_625,
    holdout_sessions=5060,
    capped={"session_items": 3511, "swing_item_users": 20_307},
    ads={"total": 9248, "by_status": {"paused": 423, "active": 8825}},
    most_cut={"session_items": {"bot": 1162, "bot 2": 1090}, "swing_item_users": {"i9": 2261}},
    doubts=["All events have the same time."],
    seconds={"check": 16.84, "sessions": 15.2},
    isolated=6401,
    mean_degree=22.44,
)
STATISTICS = GraphStatistics(
    isolated=6401,
    mean_degree=22.44,
    degrees={"strong_click": [(1, 20_000), (2, 9000)]},
    hubs={"strong_click": [("i531026", 1369), ("i4", 1294)], "co_search": [("i403424", 1541)]},
    steps=[
        DensificationStep("strong_click", 148_799, 5.13e-4, 0.991, 0.529, 6639, 0.722, 0.276, 0.353, 30),
        DensificationStep("co_search", 273_415, 9.48e-4, 0.997, 0.536, 6420, 0.731, 0.267),
    ],
    notes=["Clustering is left out."],
    mixing=CategoryMixing(["Home", "Sports"], [[60, 20], [20, 0]], 50, 0.6, 0.68),
    titles={"i4": "Running shoes", "i9": "A kettle"},
)


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_report(SUMMARY, STATISTICS))


def test_the_page_works_offline_in_light_and_dark(page: Page) -> None:
    assert page.is_self_contained
    assert "prefers-color-scheme: dark" in page.source
    assert "width=device-width" in page.source
    assert "<title>Item graph, 2026-03-15</title>" in page.source


@pytest.mark.parametrize(
    "text",
    [
        "All valid events up to 2026-03-15 23:59:58 UTC.",
        "23,975 items",
        "17,456 tail items",
        "6,401 isolated items",
        "584,238 edges",
        "22.4 neighbours per item",
        "234,504 training pairs",
        "50,625 sessions",
        "5,060 held-out sessions",
        "All events have the same time.",
        "The log has 347,569 rows, and 345,681 of them are used. 1,728 are duplicates. 39,391 views count as one event",
        "17 events were left out because our own ads caused them.",
        "Clustering is left out.",
        "60% of 50 pairs of neighbours stay within one top-level category. By chance it would be 68%.",
        "9,248 ads by status.",
    ],
)
def test_the_page_has_the_sentence(page: Page, text: str) -> None:
    assert text in page.text


@pytest.mark.parametrize(
    "row",
    [
        ["type", "events", "share of used events", "0100%"],
        ["view", "167,051", "48.3%", ""],
        ["type_unknown", "40", "< 0.1%", ""],
        ["ads: no_item", "3"],
        ["strong click", "294,878", "50.5%", ""],
        ["Swing", "0", "0.0%", ""],
        ["strong click", "148,799", "5.13e-04", "99.1%", "52.9%", "6,639", "72.2%", "27.6%", "0.353", "30"],
        ["+ co-search", "273,415", "9.48e-04", "99.7%", "53.6%", "6,420", "73.1%", "26.7%", "–", "–"],
        ["item", "neighbours"],
        ["i531026", "1,369"],
        ["Running shoes i4", "1,294"],
        ["i403424", "1,541"],
        ["Home", "75%", "25%"],
        ["Sports", "100%", "0%"],
        ["items per session", "3,511"],
        ["users per item (Swing)", "20,307"],
        ["bot", "1,162"],
        ["bot 2", "1,090"],
        ["A kettle i9", "2,261"],
        ["active", "8,825", "95.4%", ""],
        ["paused", "423", "4.6%", ""],
        ["check", "16.84 s", "52.6%", ""],
    ],
)
def test_the_page_has_the_row(page: Page, row: list[str]) -> None:
    assert row in page.rows()


def test_each_edge_type_has_the_same_colour_in_bars_and_lines(page: Page) -> None:
    assert 'style="width:50.5%;background:var(--strong_click)"' in page.source
    assert 'stroke="var(--strong_click)"' in page.source


def test_terms_are_explained_where_they_are_used_and_at_the_foot(page: Page) -> None:
    assert '<abbr title="Items without any edge.">isolated</abbr>' in page.source
    assert "isolated Items without any edge." in page.text


def test_a_cell_of_the_category_mixing_shows_its_number_of_pairs(page: Page) -> None:
    assert 'title="Home → Sports: 25.0% (20 of 80)"' in page.source


def test_what_to_look_at_comes_first(page: Page) -> None:
    text = page.text
    assert text.index("What to look at All events have the same time.") < text.index("23,975 items")


def test_an_empty_graph_has_a_page(page: Page) -> None:
    no_edges = GraphStatistics(isolated=2, mean_degree=None, degrees={}, hubs={}, steps=[], notes=[])
    summary = dataclasses.replace(
        SUMMARY,
        quarantined={"events": {}},
        most_cut={},
        doubts=[],
        edges={"strong_click": 0},
        ads={"total": 0, "by_status": {}},
        mean_degree=None,
    )
    text = Page(render_report(summary, no_edges)).text
    assert "No row was refused." in text
    assert "The graph has no edges." in text
    assert "neighbours per item" not in text
    assert "Nothing stands out." in text
    assert "by status" not in text


def test_text_from_the_log_is_escaped() -> None:
    script = "<script>alert(1)</script>"
    summary = dataclasses.replace(
        SUMMARY,
        events=SUMMARY.events | {"by_type": {script: 1}},
        quarantined={"events": {script: 1}},
        most_cut={"session_items": {script: 9}},
        doubts=[script],
        ads={"total": 1, "by_status": {script: 1}},
    )
    mixing = CategoryMixing([script, "b"], [[1, 1], [1, 1]], 2, 0.5, 0.5)
    titles = {script: script}
    statistics = dataclasses.replace(STATISTICS, hubs={"swing": [(script, 1)]}, mixing=mixing, titles=titles)
    page = Page(render_report(summary, statistics))
    assert page.is_self_contained
    assert page.text.count(script) >= 6
