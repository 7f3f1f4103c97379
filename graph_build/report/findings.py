"""Writes the sentences with which the report begins: what stands out in a finished graph."""

from collections.abc import Iterator

from graph_build.report.terms import EDGE_LABELS
from graph_build.summary import GraphSummary

# Above these shares the report mentions something. Nothing fails because of them; nights have gates for that.
REFUSED, DUPLICATES, CUT, ISOLATED, ADS_WITHOUT_ITEM = 0.01, 0.1, 0.05, 0.4, 0.05


def graph_findings(summary: GraphSummary) -> list[str]:
    """Return what stands out: the warnings of the build, then shares that are unusually large, and missing edges."""
    return [*summary.doubts, *_of_the_log(summary), *_of_the_graph(summary)]


def _of_the_log(summary: GraphSummary) -> Iterator[str]:
    read, valid = max(1, summary.events["read"]), max(1, summary.events["valid"])
    refused = sum(summary.quarantined.get("events", {}).values()) / read
    if refused > REFUSED:
        yield f"{refused:.1%} of the rows of the log were refused. The section on refused rows says why."
    duplicates = summary.events["duplicates"] / read
    if duplicates > DUPLICATES:
        yield f"{duplicates:.1%} of the rows of the log are duplicates. Is something delivered or logged twice?"
    cut = summary.capped.get("session_items", 0) / valid
    if cut > CUT:
        yield f"{cut:.1%} of the events were cut from long sessions, which may be those of robots."


def _of_the_graph(summary: GraphSummary) -> Iterator[str]:
    isolated = (summary.isolated or 0) / max(1, summary.nodes)
    if isolated > ISOLATED:
        yield f"{isolated:.1%} of the items have no edge, so only their features place them in the model."
    if sum(summary.edges.values()):
        for edge_type, n in summary.edges.items():
            if not n:
                yield f"There are no {EDGE_LABELS[edge_type]} edges."
    ads = summary.ads
    if ads.get("rows") and ads["without_item"] / ads["rows"] > ADS_WITHOUT_ITEM:
        yield f"{ads['without_item'] / ads['rows']:.1%} of the ads are for items that are not known."
    if ads.get("total") and ads.get("in_flight") == 0 and not any("in flight" in doubt for doubt in summary.doubts):
        yield "No ad can be shown at the as-of time."
