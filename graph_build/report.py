"""The static HTML report of a graph."""

from typing import TYPE_CHECKING, Any

from graph_build.config import ReportConfig
from graph_build.summary import GraphSummary

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def measure(edges: "DataFrame", nodes: int, counts: dict[str, int], config: ReportConfig) -> dict[str, Any]:
    """Figures of the graph for the report."""
    return {}


def render(summary: GraphSummary, figures: dict[str, Any]) -> str:
    """The report as one self-contained page."""
    return f"<!doctype html><title>Item graph</title><pre>{summary.to_json()}</pre>"
