"""The record of a night: `nights/<date>/night.json`, from which the morning report is made."""

import datetime as dt
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.nightly.gates import Gate
from jobs.workspace.workspace import Workspace

if TYPE_CHECKING:
    from graph_build.summary import GraphSummary

log = logging.getLogger(__name__)

FORMAT_VERSION = 1


class NightRecord(BaseModel):
    """The content of `night.json`.

    Args:
        date: the day of the night.
        began: when the night began, UTC.
        ended: when the night ended, UTC.
        outcome: published; unchanged = nothing had to be built; held = a rollback keeps the version from becoming
            current; refused = a gate failed; failed = any other error.
        held: why a rollback keeps the night's version from being current.
        error: why the night was refused or failed.
        version: the version that is published after the night.
        parent: the version that the night follows; the new version is compared with it, and if `warm`, training
            starts from its weights.
        warm: whether training started from the parent's weights.
        forced: names of the gates that --force overrode.
        gates: results of all gates.
        days: stored day → number of item events.
        edges: edge type → number of edges.
        figures: the figures of the graph, in the form that `gates.size_gates` needs.
        ads: the counts of `GraphSummary.ads`, and lost_share (the share of ads without an item); empty without an ads
            table.
        quarantined: input → reason → number of rows.
        doubts: warnings, in sentences.
        degrees: edge type → [(n, items with at least n neighbours of that type)].
        curve: [step, loss, validation score] of the fit.
        quality: rows of the comparison on the day, as in REPORT.json.
        ratios: model → slice → [ratio of the fit's HR@100 to the model's, low, high, questions, sessions].
        overlap: mean share of the probes' neighbours that stay.
        index_recall: recall@100 of the index.
        stages: name, seconds and peak_bytes of each stage that ran.
        reused: names of the stages that an earlier run had finished.
        removed: names of old versions that were deleted.
    """

    model_config = ConfigDict(extra="forbid")

    format_version: int = FORMAT_VERSION
    date: dt.date
    began: dt.datetime = Field(default_factory=lambda: dt.datetime.now(dt.UTC))
    ended: dt.datetime | None = None
    outcome: Literal["published", "unchanged", "held", "refused", "failed"] = "failed"
    held: str | None = None
    error: str | None = None
    version: str | None = None
    parent: str | None = None
    warm: bool = False
    forced: list[str] = []
    gates: list[Gate] = []
    days: dict[str, int] = {}
    edges: dict[str, int] = {}
    figures: dict[str, float] = {}
    ads: dict[str, Any] = {}
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

    def add_graph(self, summary: "GraphSummary") -> None:
        """Add the figures of the graph, and its warnings."""
        edges = max(1, sum(summary.edges.values()))
        self.edges, self.quarantined, self.degrees = summary.edges, summary.quarantined, summary.degrees
        self.doubts = [*self.doubts, *summary.doubts]
        self.figures = {
            "count:items": summary.nodes,
            "count:edges": edges,
            "count:sessions of the day": summary.holdout_sessions,
            **{f"mix:{kind}": count / edges for kind, count in summary.edges.items()},
        }
        if summary.ads.get("rows"):
            self.ads = {**summary.ads, "lost_share": summary.ads["without_item"] / summary.ads["rows"]}
        if summary.isolated is not None:
            self.figures["alone"] = summary.isolated / max(1, summary.nodes)

    def value(self, model: str, metric: str, part: str = "all", k: int | None = None) -> float | None:
        """Return one value of the comparison on the day; None if it was not measured.

        Args:
            model: `fit`, `published` or a counting peer.
            metric: e.g. `HR`.
            part: the slice.
            k: the cut-off, as in HR@k; None = the cut-off of the first row that fits.
        """
        values = (
            row["value"]
            for row in self.quality
            if row["model"] == model and row["metric"] == metric and row["slice"] == part and k in (None, row["k"])
        )
        return next(values, None)

    @property
    def hit_rate(self) -> str:
        """The metric of the day's hits: HR of sessions, or recall if the day has only baskets."""
        return "recall" if any(row["metric"] == "recall" for row in self.quality) else "HR"

    @property
    def folder(self) -> str:
        """The night's folder in the workspace."""
        return f"nights/{self.date}"


def history(
    nights: Sequence[NightRecord], rolled_back: set[str], most: int
) -> tuple[list[NightRecord], NightRecord | None]:
    """Return the nights whose figures are usual, and the last night that stands.

    A night stands if it was published and not rolled back. Its figures are usual if it also passed all gates: figures
    that a person published with --force do not count.

    Args:
        nights: earlier nights by date.
        rolled_back: names of the versions that were rolled back.
        most: the largest number of nights with usual figures; if there are more, the last ones are returned.
    """
    standing = [night for night in nights if night.outcome == "published" and night.version not in rolled_back]
    return [night for night in standing if not night.forced][-most:], standing[-1] if standing else None


def records(workspace: Workspace, date: str | None = None) -> list[NightRecord]:
    """Return the records of a workspace's nights by date; records that cannot be read are left out, with a warning.

    Args:
        workspace: the workspace of the nightly builds.
        date: only the night of this date, YYYY-MM-DD; None = all nights.
    """
    nights = []
    for folder in workspace.names("nights") if date is None else [date]:
        if (content := workspace.read_file(path := f"nights/{folder}/night.json")) is None:
            continue
        try:
            nights.append(NightRecord.model_validate_json(content))
        except ValidationError as error:
            log.warning("%s cannot be read and is left out: %s", path, error)
    return sorted(nights, key=lambda night: night.date)
