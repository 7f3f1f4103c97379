"""The report of a graph as one HTML page: what went in, what was cut, and what the graph is made of."""

from typing import Any

from graph_build.report.charts import degree_chart
from graph_build.report.findings import graph_findings
from graph_build.report.pages import render_page
from graph_build.report.statistics import GraphStatistics
from graph_build.report.terms import EDGE_LABELS, GRAPH_TERMS
from graph_build.summary import GraphSummary

CAP_LABELS = {
    "session_items": "items per session",
    "basket_items": "items per basket",
    "co_search_items": "items per search",
    "swing_item_users": "users per item (Swing)",
    "swing_user_items": "items per user (Swing)",
}


def render_report(summary: GraphSummary, statistics: GraphStatistics) -> str:
    """Render the report of one graph.

    Args:
        summary: the counts of the build.
        statistics: what was measured of the full graph.
    """
    return render_page(
        "graph.html.j2",
        summary=summary,
        statistics=statistics,
        terms=GRAPH_TERMS,
        labels=EDGE_LABELS,
        findings=graph_findings(summary),
        tile_texts=_tile_texts(summary),
        refused_events=summary.quarantined.get("events", {}),
        refused_others={
            f"{table}: {reason}": n
            for table, reasons in summary.quarantined.items()
            for reason, n in reasons.items()
            if table != "events"
        },
        edges={EDGE_LABELS[edge_type]: n for edge_type, n in summary.edges.items()},
        colours={label: edge_type for edge_type, label in EDGE_LABELS.items()},
        degrees=degree_chart(statistics.degrees, summary.nodes),
        hubs={EDGE_LABELS[edge_type]: hubs for edge_type, hubs in statistics.hubs.items()},
        capped={CAP_LABELS[rule]: n for rule, n in summary.capped.items()},
        most_cut={CAP_LABELS[rule]: list(sizes.items()) for rule, sizes in summary.most_cut.items() if sizes},
    )


def _tile_texts(summary: GraphSummary) -> dict[str, str]:
    counts: dict[str, Any] = {
        "items": summary.nodes,
        "tail items": summary.tail,
        "isolated items": summary.isolated,
        "edges": sum(summary.edges.values()),
        "neighbours per item": None if summary.mean_degree is None else round(summary.mean_degree, 1),
        "training pairs": sum(summary.transitions.values()),
        "sessions": summary.sessions,
        "held-out sessions": summary.holdout_sessions,
    }
    return {label: f"{n:,}" for label, n in counts.items() if n is not None}
