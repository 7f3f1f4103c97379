"""The morning report: every figure is on the page, whatever is missing; and what Prometheus reads is well-formed."""

import datetime as dt
import re
from html.parser import HTMLParser

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobs.nightly.charts import bars, lines
from jobs.nightly.gates import Gate
from jobs.nightly.record import NightRecord
from jobs.nightly.report import metrics_text, render

DAY = dt.date(2026, 3, 6)
VOID = {"meta", "circle", "line", "polyline", "rect"}


class Balanced(HTMLParser):
    """Fails on a tag that is closed but was not opened, and counts those left open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def a_night(day: dt.date = DAY) -> NightRecord:
    quality = [
        {"model": model, "slice": part, "metric": metric, "k": k, "value": value, "low": 0.1, "high": 0.9, "n": 7}
        for model, value in (("fit", 0.41), ("published", 0.39))
        for part in ("all", "tail", "cold")
        for metric, k in (("HR", 20), ("HR", 100), ("MRR", 20))
    ]
    return NightRecord(
        date=day,
        ended=dt.datetime(2026, 3, 7, 3, tzinfo=dt.UTC),
        outcome="published",
        version="20260306T235959-01234567",
        parent="20260305T235959-89abcdef",
        gates=[
            Gate(name="edges", found=12_345, least=10_000, passed=True),
            Gate(name="items <b>", found=None, passed=False, remark="less & less"),
        ],
        days={str(day - dt.timedelta(days=1)): 10, str(day): 20},
        edges={"swing": 9, "co_search": 0},
        figures={"count:items": 50, "count:edges": 9, "count:sessions of the day": 3, "alone": 0.2},
        quarantined={"events": {"no_item": 2}, "ads": {}},
        doubts=["no events are stored of 2026-03-01 <script>"],
        degrees={"swing": [(1, 9), (2, 3)]},
        curve=[[1, 5.0, 0.2], [2, 4.0, None]],
        quality=quality,
        ratios={"published": {"all": [1.0, 0.9, 1.1, 7]}},
        overlap=0.8,
        index_recall=0.99,
        stages=[{"name": "graph", "seconds": 3.25, "peak_bytes": 2**30}],
        reused=["ingest"],
        removed=["20260201T000000-00000000"],
    )


@pytest.mark.parametrize("before", [0, 3])
def test_the_page_says_everything_and_is_well_formed(before: int) -> None:
    earlier = [a_night(DAY - dt.timedelta(days=n)) for n in range(before, 0, -1)]
    page = render(a_night(), earlier)
    parser = Balanced()
    parser.feed(page)
    assert parser.open == ["html", "body"] or parser.open == []
    for said in (
        "Published: 20260306T235959-01234567",
        "0.410",
        "0.390",
        "12,345",
        "less &amp; less",
        "no_item",
        "3.25",
    ):
        assert said in page, said
    assert "<script" not in page
    assert not re.search(r'(src|href)="', page), "self-contained"
    assert "prefers-color-scheme: dark" in page
    assert "width=device-width" in page


def test_a_night_that_failed_at_once_has_a_page_too() -> None:
    night = NightRecord(date=DAY, error="events: <none>", parent="v1")
    page = render(night, [])
    assert "Failed" in page
    assert "events: &lt;none&gt;" in page
    assert "v1 is served on." in page


def test_a_record_comes_back_as_it_was() -> None:
    night = a_night()
    assert NightRecord.model_validate_json(night.model_dump_json()) == night


def test_prometheus_reads_the_metrics() -> None:
    families = {family.name: family for family in text_string_to_metric_families(metrics_text(a_night()))}
    outcome = {s.labels["outcome"]: s.value for s in families["lightsage_night_outcome"].samples}
    assert outcome == {"published": 1, "unchanged": 0, "refused": 0, "failed": 0}
    assert families["lightsage_night_gates_failed"].samples[0].value == 1
    quality = {s.labels["slice"]: s.value for s in families["lightsage_night_quality"].samples}
    assert quality == {"all": 0.41, "tail": 0.41, "cold": 0.41}
    assert metrics_text(NightRecord(date=DAY))


def test_charts_hold_their_points_inside_the_frame() -> None:
    drawn = lines({"a": [(1, 2.0), (3, 8.0)], "b": [(2, float("nan")), (2, 4.0)]}, "a & b")
    places = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawn)]
    assert len(places) == 3
    assert all(0 <= x <= 480 and 0 <= y <= 210 for x, y in places)
    assert places[0][1] > places[1][1], "larger is higher"
    for flat in ({"a": [(1, 5.0)]}, {"a": [(1, 0.0), (2, 0.0)]}):
        assert "<circle" in lines(flat, "flat")
        assert "nan" not in lines(flat, "flat")
    assert "Nothing to draw" in lines({}, "none")
    assert "Nothing to draw" in bars({}, "none")
    assert "width:50.0%" in bars({"a": 2, "b": 1}, "bars")
    assert "<circle" in lines({"a": [(1, 9), (4, 1)]}, "log", logarithmic=True)
