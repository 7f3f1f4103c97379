"""The page of a comparison says what to look at first, and escapes all text."""

from typing import Any

from jobs.candidates.page import headlines, render_comparison, signed
from tests.html_page import Page


def row(part: str, k: int, difference: float | None, verdict: str, metric: str = "HR") -> dict[str, Any]:
    known = difference is not None
    return {
        "slice": part,
        "metric": metric,
        "k": k,
        "a": 0.25 if known else None,
        "b": 0.25 + difference if difference is not None else None,
        "difference": difference,
        "low": difference - 0.01 if difference is not None and verdict != "too few sessions" else None,
        "high": difference + 0.01 if difference is not None and verdict != "too few sessions" else None,
        "n": 1234,
        "groups": 400,
        "verdict": verdict,
    }


ROWS = [
    row("all", 20, 0.02, "better"),
    row("all", 100, -0.03, "worse"),
    row("tail", 100, 0.005, "no clear difference"),
    row("cold", 100, None, ""),
    row("ads", 100, 0.1, "too few sessions"),
]


def content(**update: Any) -> dict[str, Any]:
    dials = [
        [{"popularity": p, "all": 0.4 - p, "tail": top + p, "served": p == 0.1} for p in (0.0, 0.1)]
        for top in (0.1, 0.2)
    ]
    return {
        "versions": ["first<", "second"],
        "as_of": ["2026-03-06T00:00:00+00:00", "2026-03-07T00:00:00+00:00"],
        "protocol": "item",
        "rows": ROWS,
        "settings": {"model.dim": [64, None]},
        "notes": ["a <b> note"],
        "frontier": dials,
    } | update


def test_the_hits_among_the_first_hundred_come_first() -> None:
    assert headlines(ROWS) == [
        ("HR@100: 0.250 → 0.220 (−0.030, interval −0.040 to −0.020): worse", "bad"),
        ("tail HR@100: 0.250 → 0.255 (+0.005, interval −0.005 to +0.015): no clear difference", ""),
        ("ads HR@100: 0.250 → 0.350 (+0.100): too few sessions", ""),
    ]
    assert signed(None) == "–"


def test_the_page_works_offline_and_shows_every_row_note_and_setting() -> None:
    page = Page(render_comparison(content()))
    assert page.is_self_contained
    assert "second beside first<" in page.text
    assert "a <b> note" in page.text
    rows = page.rows()
    assert ["all HR@20", "0.250", "0.270", "+0.020", "+0.010 to +0.030", "better", "1,234"] in rows
    assert ["cold HR@100", "–", "–", "–", "–", "", "1,234"] in rows
    assert ["model.dim", "64", "–"] in rows
    assert "first<, as served, 30%: 20%" in page.text
    assert "second, 40%: 20%" in page.text


def test_a_page_without_dials_or_settings_says_so() -> None:
    page = Page(render_comparison(content(frontier=None, settings={}, notes=[])))
    assert "Frontier" not in page.text
    assert "the versions differ in their inputs or their code" in page.text
