"""The morning report shows every number that the night has, whichever others are missing, and escapes all text."""

import datetime as dt

import pytest

from jobs.nightly.findings import night_findings
from jobs.nightly.gates import Gate
from jobs.nightly.record import NightRecord
from jobs.nightly.report import render_night
from tests.html_page import Page
from tests.jobs.nightly.nights import DAY, published_night


def page_of(night: NightRecord, earlier: int = 0) -> Page:
    nights = [published_night(DAY - dt.timedelta(days=n)) for n in range(earlier, 0, -1)]
    return Page(render_night(night, nights))


@pytest.mark.parametrize("earlier", [0, 3])
def test_the_page_works_offline_in_light_and_dark(earlier: int) -> None:
    page = page_of(published_night(), earlier)
    assert page.is_self_contained
    assert "prefers-color-scheme: dark" in page.source
    assert "width=device-width" in page.source
    assert "<title>Night of 2026-03-06: published</title>" in page.source


@pytest.mark.parametrize(
    "text",
    [
        "Published: 20260306T235959-01234567",
        "50 items",
        "9 edges",
        "3 sessions of the day",
        "20.0% isolated items",
        "0.410 HR@100",
        "0.410 tail HR@100",
        "0.990 index recall",
        "5 ads in flight",
        "5 can be shown at the as-of time; 1 have no item.",
        "from scratch start",
        "3.8 min duration",
        "no events are stored of 2026-03-01 <script>",
        "Swing, 1: 18%",
        "Swing, 2: 6%",
        "item events, 06 Mar: 20",
        "Swing, 06 Mar: 9",
        "fit, 06 Mar: 41%",
        "fit, tail, 06 Mar: 41%",
        "published before, 06 Mar: 39%",
        "same neighbours, 06 Mar: 80%",
        "loss, 2: 4",
        "validation, 1: 20%",
        "Stages that an earlier attempt had finished: ingest.",
        "Old versions deleted: 20260201T000000-00000000.",
    ],
)
def test_the_page_has_the_text(text: str) -> None:
    assert text in page_of(published_night()).text


@pytest.mark.parametrize(
    "row",
    [
        ["edges", "ok", "12,345", "10,000", "", ""],
        ["items <b>", "failed", "", "", "", "less & less"],
        ["coverage@20", "not judged", "0.5", "", "", "9 queries"],
        ["active", "6", "85.7%", ""],
        ["model"] + [f"{part}{metric}" for part in ("", "tail ", "cold ") for metric in ("HR@20", "HR@100", "MRR@20")],
        ["fit", *["0.410"] * 9],
        ["published", *["0.390"] * 9],
        ["events: no_item", "2"],
        ["graph", "3.2 s", "1.0 GiB", "100.0%", ""],
    ],
)
def test_the_page_has_the_row(row: list[str]) -> None:
    assert row in page_of(published_night()).rows()


def test_gates_that_failed_come_first() -> None:
    rows = page_of(published_night()).rows()
    assert rows.index(["items <b>", "failed", "", "", "", "less & less"]) == 1
    assert rows.index(["coverage@20", "not judged", "0.5", "", "", "9 queries"]) == 2


def test_gates_without_history_are_grey_and_edge_types_have_their_labels() -> None:
    gates = [
        Gate(
            name="share of edges: co_search",
            value=0.2,
            passed=True,
            judged=False,
            remark="1 earlier nights, fewer than 3",
        )
    ]
    page = page_of(published_night().model_copy(update={"gates": gates}))
    assert '<tr class="unjudged"><td class="wrap">share of edges: co-search</td>' in page.source
    assert "1 gate was not judged, for want of history or of data: share of edges: co-search." in page.text


def test_what_to_look_at_comes_first() -> None:
    text = page_of(published_night()).text
    first = "What to look at The gate on items <b> failed: nothing was measured; less & less."
    assert text.index(first) < text.index("50 items")


def test_a_day_with_far_more_events_and_a_fit_that_fell_are_to_be_looked_at() -> None:
    nights = [published_night(DAY - dt.timedelta(days=n)) for n in (2, 1)]
    days = {str(DAY - dt.timedelta(days=n)): events for n, events in enumerate((250, 100, 90, 110))}
    quality = [{**row, "value": 0.3} if row["model"] == "fit" else row for row in nights[0].quality]
    findings = night_findings(published_night().model_copy(update={"days": days, "quality": quality}), nights)
    assert "The last day has 250 item events, 150% more than the median of the 3 days before (100)." in findings
    assert "The fit's HR@100 fell from 0.410 on the night before to 0.300." in findings
    assert "The fit's tail HR@100 fell from 0.410 on the night before to 0.300." in findings
    quiet = NightRecord(date=DAY, outcome="published")
    assert night_findings(quiet, nights) == []


def test_charts_show_each_night_once() -> None:
    text = page_of(published_night(), earlier=3).text
    for date in ("03 Mar", "04 Mar", "05 Mar", "06 Mar"):
        assert text.count(f"fit, {date}: 41%") == 1


def test_edge_types_keep_their_colours_when_another_is_missing() -> None:
    source = page_of(published_night()).source
    assert 'stroke="var(--swing)"' in source
    assert 'stroke="var(--co_search)"' in source
    assert 'stroke="var(--strong_click)"' not in source


def test_a_night_that_failed_at_once_has_a_page_too() -> None:
    page = page_of(NightRecord(date=DAY, error="events: <none>", parent="v1"))
    assert "Failed events: <none> v1 is still served." in page.text
    assert "– items" in page.text
    assert "Gates" not in page.text


def test_a_refused_night_without_a_parent_says_that_nothing_is_served() -> None:
    page = page_of(NightRecord(date=DAY, outcome="refused"))
    assert "Refused by its gates Nothing was published before." in page.text


def test_a_forced_night_says_so() -> None:
    forced = published_night().model_copy(update={"forced": ["items <b>"]})
    page = page_of(forced)
    assert "Published: 20260306T235959-01234567 with --force, against 1 gate" in page.text
    assert ["items <b>", "forced", "", "", "", "less & less"] in page.rows()


def test_text_of_the_record_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    night = published_night().model_copy(
        update={
            "error": evil,
            "version": evil,
            "doubts": [evil],
            "gates": [Gate(name=evil, value=1.0, passed=True, remark=evil)],
            "quarantined": {"events": {evil: 1}},
            "stages": [{"name": evil, "seconds": 1, "peak_bytes": 1}],
            "removed": [evil],
        }
    )
    page = page_of(night)
    assert page.is_self_contained
    assert page.text.count(evil) >= 8


def test_a_record_comes_back_from_json_as_it_was() -> None:
    night = published_night()
    assert NightRecord.model_validate_json(night.model_dump_json()) == night
