"""A summary is unchanged after it was written and read, and files of earlier versions still load."""

import datetime as dt

from graph_build.summary import GraphSummary

# A file of a version that did not have `isolated`, `mean_degree` and `degrees` yet.
EARLIER = """{
  "as_of": "2026-03-15T23:59:58+00:00",
  "events": {"read": 12, "valid": 10, "duplicates": 1, "opened_views": 2, "left_out": 0, "by_type": {"view": 10}},
  "quarantined": {"events": {"item_missing": 1}, "items": {}, "ads": {}},
  "nodes": 5, "tail": 4, "edges": {"strong_click": 6, "swing": 2, "co_search": 0},
  "transitions": {"strong_click": 3}, "sessions": 4, "holdout_sessions": 1,
  "capped": {"session_items": 0}, "ads": {"total": 0, "by_status": {}},
  "most_cut": {}, "doubts": ["the log ends early"], "seconds": {"check": 0.5}
}"""


def test_a_summary_of_an_earlier_version_loads_with_defaults_for_the_missing_fields() -> None:
    summary = GraphSummary.from_json(EARLIER)
    assert summary.as_of == dt.datetime(2026, 3, 15, 23, 59, 58, tzinfo=dt.UTC)
    assert (summary.nodes, summary.edges["strong_click"], summary.doubts) == (5, 6, ["the log ends early"])
    assert (summary.isolated, summary.mean_degree, summary.degrees) == (None, None, {})


def test_a_summary_is_the_same_after_it_was_written_and_read() -> None:
    earlier = GraphSummary.from_json(EARLIER)
    fields = vars(earlier) | {"isolated": 2, "mean_degree": 1.5, "degrees": {"swing": [(1, 3), (2, 1)]}}
    summary = GraphSummary(**fields)
    assert GraphSummary.from_json(summary.to_json()) == summary
