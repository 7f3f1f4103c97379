"""The page of quality shows every figure with its interval, and says where another model is ahead."""

from typing import Any

from jobs.pipeline.quality_page import quality_findings, render_quality
from tests.html_page import Page

EVIL = "<script>alert(1)</script>"


def row(model: str, part: str, metric: str, k: int, value: float | None, spread: float = 0.01) -> dict[str, Any]:
    low, high = (None, None) if value is None else (value - spread, value + spread)
    return {
        "model": model,
        "slice": part,
        "metric": metric,
        "k": k,
        "value": value,
        "low": low,
        "high": high,
        "n": 1218,
    }


RESULT = {
    "version": EVIL,
    "as_of": "2026-03-15T23:59:58+00:00",
    "protocol": "item",
    "rows": [
        row("LightSAGE", "all", "HR", 20, 0.4),
        row("LightSAGE", "all", "HR", 100, 0.6),
        row("LightSAGE", "all", "coverage", 20, 0.1),
        row("item-kNN", "all", "HR", 20, 0.41),
        row("item-kNN", "all", "HR", 100, 0.7),
        row("item-kNN", "all", "coverage", 20, 0.9),
        row("LightSAGE", "cold", "HR", 100, None),
        row(EVIL, "cold", "HR", 100, 0.5),
    ],
}


def test_every_figure_stands_beside_its_interval() -> None:
    page = Page(render_quality(RESULT))
    assert page.is_self_contained
    assert page.text.count(EVIL) >= 3
    rows = page.rows()
    assert ["LightSAGE", "0.400 0.390 to 0.410", "0.600 0.590 to 0.610", "0.100 0.090 to 0.110", ""] in rows
    assert ["LightSAGE", "–", ""] in rows, "what was not measured is a dash"
    assert "1,218 questions." in page.text
    assert "<b>0.410</b>" in page.source, "the best value is bold"


def test_it_says_where_another_model_is_ahead_and_what_is_doubtful() -> None:
    assert quality_findings(RESULT | {"unknown_share": 0.71, "overlapping_events": 1200}) == [
        "71% of the test events are of items that the version does not know.",
        "1,200 test events are not after the as-of time; the model may know them.",
        "item-kNN is ahead in HR@20: 0.410 against 0.400, within the intervals.",
        "item-kNN is ahead in HR@100: 0.700 against 0.600.",
    ]
