"""`lightsage run`: graph, train, embed, index, publish, from the events up to the end of a day.

Everything is built into a staging folder; what is served changes only when all of it is there.
"""

import dataclasses
import datetime as dt
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.config import Config
from jobs.errors import ConfigError, InputNotFoundError
from jobs.progress import ProgressCallback, StageProgress
from jobs.workspace.workspace import (
    Manifest,
    Version,
    Workspace,
    code_version,
    describe_inputs,
    fingerprint,
    version_name,
)

if TYPE_CHECKING:
    from graph_build.summary import GraphSummary
    from jobs.pipeline.training import Chosen
    from model.trained import TrainingRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunInputs:
    """Paths or URIs of the three input tables, or of a graph that was built from them elsewhere.

    `days`: a store of days instead of events.
    """

    events: tuple[str, ...] = ()
    items: str | None = None
    ads: str | None = None
    graph: str | None = None
    days: str | None = None

    def by_role(self) -> dict[str, list[str]]:
        """The paths that were given, by input."""
        single = {"items": self.items, "ads": self.ads, "graph": self.graph}
        found = {"events": list(self.events)} if self.events else {}
        if self.days is not None:
            found["days"] = [f"{self.days}/days.json"]  # names another folder whenever a day changes
        return found | {role: [path] for role, path in single.items() if path is not None}


def run(
    inputs: RunInputs, workspace: Workspace, config: Config, *, date: dt.date | None, progress: StageProgress
) -> Version:
    """Build and publish a version; the same inputs, configuration and code are recognised and not built again.

    Raises:
        GraphInputError, ModelError, RetrievalError, StoreError: nothing was published, what was served still is.
    """
    check_features(inputs, config)
    with progress.stage("read") as report:
        report("checksums of the input", 0.0)
        described = describe_inputs(inputs.by_role())
        settings: dict[str, Any] = config.model_dump(mode="json") | {"date": date and date.isoformat()}
        code = code_version()
        mark = fingerprint(described, settings, code)
    with workspace.lock():
        if known := workspace.find(mark):
            log.info("nothing changed since version %s: it is published again, not built again", known)
            return workspace.promote(known)
        with workspace.stage() as folder:
            if inputs.graph is None:
                with progress.stage("graph") as report:
                    summary = build_graph(inputs, folder / "graph", config, date, report)
            else:
                summary = take_graph(inputs.graph, folder / "graph", progress)
            chosen = train_model(folder, config, progress)
            with progress.stage("index") as report:
                parts = (folder / "graph", folder / "embeddings", folder / "index")
                meta = index_version(*parts, summary.as_of, config, chosen, report)
            manifest = Manifest(
                version=version_name(summary.as_of, mark),
                fingerprint=mark,
                as_of=summary.as_of,
                config=settings,
                inputs=described,
                code_version=code,
                metrics={
                    "validation": validation_facts(chosen.record),
                    "score_weights": chosen.weights.model_dump(),
                    **stage_facts(chosen),
                    "index_recall_at_100": meta["recall_at_100"],
                },
                summary=graph_facts(summary) | {"stages": [stage.model_dump() for stage in progress.records]},
            )
            return workspace.publish(folder, manifest)


def check_features(inputs: RunInputs, config: Config) -> None:
    """What the model is told to read must have been kept by the graph build; said before the first is built."""
    from graph_build.ingest.contract import OPTIONAL

    kept = {*OPTIONAL["items"], *config.graph.input.items.features}
    for name in config.model.features.columns:
        if inputs.items is None and inputs.graph is None:
            raise ConfigError(f"model.features.columns names {name!r}, but there is no items table; give --items")
        if name not in kept:
            raise ConfigError(
                f"model.features.columns names {name!r}, which the graph build does not keep; "
                f"add it to [input.items] features (now: {', '.join(config.graph.input.items.features) or 'none'})"
            )


def build_graph(
    inputs: RunInputs,
    folder: Path,
    config: Config,
    date: dt.date | None,
    report: ProgressCallback,
    *,
    holdout_day: dt.date | None = None,
) -> "GraphSummary":
    """The Spark stage; a session that was started here is ended here, so that its memory is free for training.

    `holdout_day`: held out of `fit/` instead of the configured share.
    """
    from graph_build.build import GraphInputs, build_graphs
    from graph_build.spark.session import session_for_one_build

    report("starting Spark", 0.0)
    with session_for_one_build(master=config.spark.master, driver_memory=config.spark.driver_memory) as spark:
        summary = build_graphs(
            spark,
            GraphInputs(list(inputs.events), inputs.items, inputs.ads, inputs.days),
            str(folder),
            config.graph,
            date=date,
            holdout_share=config.validation.share,
            holdout_day=holdout_day,
            progress=report,
        )
    edges = ", ".join(f"{n:,} {kind}" for kind, n in summary.edges.items())
    log.info("%s items, edges: %s", f"{summary.nodes:,}", edges)
    for table, reasons in summary.quarantined.items():
        if reasons:
            said = ", ".join(f"{n:,} {reason}" for reason, n in sorted(reasons.items()))
            log.warning("rows of %s in quarantine: %s (graph/quarantine has each of them)", table, said)
    return summary


def take_graph(uri: str, folder: Path, progress: StageProgress) -> "GraphSummary":
    """Copy a graph that `python -m graph_build` or `spark-submit` wrote; it is the version's own from then on."""
    from fsspec.core import url_to_fs

    from graph_build.summary import GraphSummary

    with progress.stage("graph: copy"):
        files, root = url_to_fs(uri)
        if not files.isfile(f"{root}/summary.json"):
            raise InputNotFoundError(f"{uri} holds no summary.json: it is no item graph, or one that was not finished")
        files.get(f"{root.rstrip('/')}/", f"{folder}/", recursive=True)
    return GraphSummary.from_json((folder / "summary.json").read_text(encoding="utf-8"))


def train_model(folder: Path, config: Config, progress: StageProgress) -> "Chosen":
    """Choose the number of steps and the score's weights on the hold-out, then fit everything with them."""
    from jobs.pipeline.training import choose, fit_everything
    from model.artefact import save_model

    with progress.stage("train: choose steps") as report:
        chosen = choose(folder / "graph", config, report)
    with progress.stage("train: all events") as report:
        trained = fit_everything(folder / "graph", config, chosen.record.share, report)
        save_model(folder / "model", trained, config.model)
        trained.embeddings.save(folder / "embeddings")
    return chosen


def index_version(
    graph: Path,
    embeddings: Path,
    folder: Path,
    as_of: dt.datetime,
    config: Config,
    chosen: "Chosen",
    report: ProgressCallback,
) -> dict[str, Any]:
    """Build the index folder from the embeddings, the graph's edges and the ads; with the stages that were chosen."""
    import pyarrow.parquet as pq

    from jobs.pipeline.rerank_stage import pre_ranker
    from jobs.pipeline.session_stage import served, train_encoder
    from model.embeddings import Embeddings
    from retrieval.catalogue.edges import Edges
    from retrieval.catalogue.items import read_catalogue
    from retrieval.index_folder import IndexContents, build_index

    items, ads = graph / "tables" / "items", graph / "tables" / "ads"
    nodes = pq.read_table(graph / "full" / "nodes")
    listed = pq.read_table(items) if items.exists() else None
    catalogue = read_catalogue(embeddings, nodes, listed, chosen.weights)
    edges = Edges.from_table(pq.read_table(graph / "full" / "edges"), catalogue.item_ids, chosen.weights)
    sessions = None
    if chosen.session:
        sessions = served(train_encoder(graph, Embeddings.load(embeddings), config, report), chosen.session)
    reranker = pre_ranker(graph, catalogue.item_ids, chosen.prerank, config) if chosen.prerank else None
    advertised = pq.read_table(ads) if ads.exists() else None
    contents = IndexContents(catalogue, edges, advertised, as_of, sessions, reranker)
    return build_index(folder, contents, config.retrieval, report)


def graph_facts(summary: "GraphSummary") -> dict[str, Any]:
    """What a manifest says of its graph."""
    names = ("events", "quarantined", "nodes", "tail", "edges", "transitions")
    return {name: getattr(summary, name) for name in names}


def stage_facts(chosen: "Chosen") -> dict[str, Any]:
    """What a manifest says of the stages around the index."""
    prerank = None if chosen.prerank is None else dataclasses.asdict(chosen.prerank)
    return {"session_encoder": chosen.session, "pre_ranker": prerank}


def validation_facts(record: "TrainingRecord") -> dict[str, Any]:
    """What a manifest says of the choice on the hold-out."""
    curve = [{"step": step, "loss": loss, "score": score} for step, loss, score in record.curve]
    return {"steps": record.steps, "schedule_steps": record.schedule_steps, "pairs": record.pairs, "curve": curve}
