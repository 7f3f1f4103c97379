"""In a browser, on narrow and wide screens, light and dark, axe finds no fault in any report and nothing is clipped."""

import dataclasses
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graph_build.report.html import render_report
from graph_build.report.statistics import CategoryMixing
from jobs.candidates.page import render_comparison
from jobs.nightly.outputs import write_night
from jobs.nightly.overview import render_overview
from jobs.nightly.record import NightRecord
from jobs.nightly.report import render_night
from jobs.pipeline.quality_page import render_quality
from jobs.workspace.workspace import Workspace
from tests.browser import OVERFLOWING, axe_faults, chromium
from tests.graph_build.report.test_html import STATISTICS, SUMMARY
from tests.jobs.candidates.test_page import content
from tests.jobs.nightly.nights import DAY, published_night
from tests.jobs.nightly.test_overview import publish
from tests.jobs.pipeline.test_quality_page import RESULT

pytestmark = [pytest.mark.slow, pytest.mark.thorough]

LONG = "a-very-long-name-without-any-blank-" * 4


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the HTML of each report by its name."""
    categories = [f"Category number {n}" for n in range(13)]
    mixing = CategoryMixing(categories, [[n + m for m in range(13)] for n in range(13)], 1000, 0.6, 0.2)
    statistics = dataclasses.replace(
        STATISTICS, mixing=mixing, titles={"i4": f"Shoes {LONG}"}, hubs={"swing": [(LONG, 9), ("i4", 8)]}
    )
    summary = dataclasses.replace(SUMMARY, quarantined={"events": {LONG: 70_000}}, doubts=[LONG, "All is odd."])
    nights = [published_night(DAY - dt.timedelta(days=n)) for n in range(14, 0, -1)]
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    publish(workspace, "20260306T235959-01234567")
    write_night(nights[-1], workspace, [])
    workspace.write_file(f"quality/{LONG}.html", b"")
    return {
        "graph": render_report(summary, statistics),
        "night": render_night(published_night(), nights),
        "failed night": render_night(NightRecord(date=DAY, error=LONG, parent="v1"), []),
        "quality": render_quality(RESULT),
        "comparison": render_comparison(content(settings={f"model.{LONG}": [LONG, None]}, notes=[LONG])),
        "overview": render_overview(workspace),
        "empty overview": render_overview(Workspace(tmp_path_factory.mktemp("empty"))),
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize(
    "name", ["graph", "night", "failed night", "quality", "comparison", "overview", "empty overview"]
)
def test_axe_finds_nothing_and_nothing_is_clipped(
    browser: Any, reports: dict[str, str], name: str, tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text(reports[name])
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    page.locator("summary").evaluate_all("all => all.forEach(one => { one.parentNode.open = true })")
    for width, scheme in ((1280, "dark"), (1280, "light"), (390, "light"), (390, "dark"), (320, "light")):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        assert axe_faults(page) == [], (width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(OVERFLOWING) == []
        hidden = page.locator(".scroll:visible").evaluate_all(
            "all => all.filter(one => one.scrollWidth > one.clientWidth).length"
        )
        assert hidden == 0, f"no table is wider than its place at {width} pixels"
    page.close()
