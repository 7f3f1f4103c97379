"""The findings name what is unusual in a graph, and nothing else."""

import dataclasses
from typing import Any

import pytest

from graph_build.report.findings import graph_findings
from graph_build.summary import GraphSummary
from tests.graph_build.report.test_html import SUMMARY

USUAL = dataclasses.replace(
    SUMMARY,
    edges={"strong_click": 9, "swing": 1, "co_search": 2},
    quarantined={"events": {"type_unknown": 40}},
    ads={"total": 10, "by_status": {"active": 10}, "in_flight": 4, "without_item": 0, "rows": 10},
    doubts=[],
)


def test_nothing_stands_out_of_a_usual_graph_or_of_the_summary_of_an_older_version() -> None:
    assert graph_findings(USUAL) == []
    old = dataclasses.replace(USUAL, ads={"total": 3, "by_status": {"active": 3}}, isolated=None)
    assert graph_findings(old) == []


@pytest.mark.parametrize(
    ("changed", "finding"),
    [
        ({"doubts": ["All events have the same time."]}, "All events have the same time."),
        ({"quarantined": {"events": {"time_invalid": 34_757}}}, "10.0% of the rows of the log were refused."),
        ({"events": USUAL.events | {"duplicates": 69_514}}, "20.0% of the rows of the log are duplicates."),
        ({"capped": {"session_items": 34_568}}, "10.0% of the events were cut from long sessions"),
        ({"isolated": 12_000}, "50.1% of the items have no edge"),
        ({"edges": {"strong_click": 9, "swing": 0}}, "There are no Swing edges."),
        ({"ads": USUAL.ads | {"without_item": 5}}, "50.0% of the ads are for items that are not known."),
        ({"ads": USUAL.ads | {"in_flight": 0}}, "No ad can be shown at the as-of time."),
    ],
)
def test_what_is_unusual_is_said(changed: dict[str, Any], finding: str) -> None:
    summary: GraphSummary = dataclasses.replace(USUAL, **changed)
    (sentence,) = graph_findings(summary)
    assert sentence.startswith(finding)
