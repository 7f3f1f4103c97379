"""What a night leaves behind: `nights/<date>/` with night.json, the morning report, and metrics for Prometheus."""

import datetime as dt
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.nightly.gates import Gate
from jobs.workspace.workspace import Workspace

if TYPE_CHECKING:
    from graph_build.summary import GraphSummary

log = logging.getLogger(__name__)

FORMAT_VERSION = 1


class NightRecord(BaseModel):
    """`night.json`. A night that is begun again for the same date replaces what it left before, unless published.

    Args:
        outcome: published; unchanged: recognised, nothing was built; refused by its gates; failed.
        parent: the version that it follows, is compared with and warmed by. forced: the gates that --force overrode.
        figures: `gates.sizes`' of the graph. days: item events by stored day. quality, ratios: `judge.Judgement`.
        curve: (step, loss, validation score) of the fit. overlap: `canary.neighbour_overlap`.
    """

    model_config = ConfigDict(extra="forbid")

    format_version: int = FORMAT_VERSION
    date: dt.date
    began: dt.datetime = Field(default_factory=lambda: dt.datetime.now(dt.UTC))
    ended: dt.datetime | None = None
    outcome: Literal["published", "unchanged", "refused", "failed"] = "failed"
    error: str | None = None
    version: str | None = None
    parent: str | None = None
    warm: bool = False
    forced: list[str] = []
    gates: list[Gate] = []
    days: dict[str, int] = {}
    edges: dict[str, int] = {}
    figures: dict[str, float] = {}
    quarantined: dict[str, dict[str, int]] = {}
    doubts: list[str] = []
    degrees: dict[str, list[tuple[int, int]]] = {}
    curve: list[list[float | None]] = []
    quality: list[dict[str, Any]] = []
    ratios: dict[str, dict[str, list[float]]] = {}
    overlap: float | None = None
    index_recall: float | None = None
    stages: list[dict[str, Any]] = []
    reused: list[str] = []
    removed: list[str] = []

    def take_graph(self, summary: "GraphSummary", graph: Path) -> None:
        """Note the graph's figures."""
        total = max(1, sum(summary.edges.values()))
        self.edges, self.quarantined, self.doubts = summary.edges, summary.quarantined, [*self.doubts, *summary.doubts]
        self.figures = {
            "count:items": summary.nodes,
            "count:edges": total,
            "count:sessions of the day": summary.holdout_sessions,
            **{f"mix:{kind}": n / total for kind, n in summary.edges.items()},
            "alone": alone_share(graph / "full"),
        }
        self.degrees = degrees(graph / "full")

    def value(self, model: str, metric: str, part: str = "all", k: int | None = None) -> float | None:
        """One figure of the day's quality; None where it was not measured."""
        found = (
            row["value"]
            for row in self.quality
            if row["model"] == model and row["metric"] == metric and row["slice"] == part and k in (None, row["k"])
        )
        return next(found, None)

    @property
    def folder(self) -> str:
        """Where it lies in the workspace."""
        return f"nights/{self.date}"


def records(workspace: Workspace, date: str = "*") -> list[NightRecord]:
    """What the nights of a workspace left, or one date's, by date; one that cannot be read is left out, and said."""
    found = []
    for path, content in workspace.notes(f"nights/{date}/night.json").items():
        try:
            found.append(NightRecord.model_validate_json(content))
        except ValidationError as error:
            log.warning("%s cannot be read and is left out: %s", path, error)
    return sorted(found, key=lambda night: night.date)


def alone_share(graph: Path) -> float:
    """The share of a graph's items that no edge touches."""
    import pyarrow.parquet as pq

    nodes = pq.read_table(graph / "nodes", columns=["item_id"])
    edges = pq.read_table(graph / "edges", columns=["src", "dst"], read_dictionary=["src", "dst"])
    touched: set[str] = set()
    for column in edges.columns:
        touched.update(*(chunk.dictionary.to_pylist() for chunk in column.chunks))
    return 1 - len(touched) / max(1, len(nodes))


def degrees(graph: Path) -> dict[str, list[tuple[int, int]]]:
    """By edge type: how many items have at least 1, 2, 4, … neighbours of it."""
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(graph / "edges", columns=["src", "edge_type"])
    found: dict[str, list[tuple[int, int]]] = {}
    for kind in sorted(pc.unique(table["edge_type"]).to_pylist()):
        counts = pc.value_counts(table.filter(pc.equal(table["edge_type"], kind))["src"]).field("counts").to_numpy()
        steps = 2 ** np.arange(int(np.log2(counts.max())) + 1)
        found[kind] = [(int(step), int((counts >= step).sum())) for step in steps]
    return found
