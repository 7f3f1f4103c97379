"""The pipeline that `lightsage run` and `lightsage nightly` share: the stages of one version, and its publication.

    graph → fit → refit → index → publish

`fit` learns from the events before the hold-out, and chooses settings on the hold-out. `refit` learns from all events,
and its result is served. All stages but the last are checkpointed.
"""

import contextlib
import dataclasses
import datetime as dt
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.config import Config
from jobs.pipeline.graph_stage import build_graph, copy_graph, read_summary
from jobs.pipeline.index_stage import index_version
from jobs.pipeline.inputs import RunInputs
from jobs.pipeline.training import HoldoutChoice, choose, fit_everything
from jobs.progress import ProgressCallback
from jobs.workspace.checkpoints import Checkpoints, StageResult
from jobs.workspace.manifest import InputFile, Manifest, fingerprint, version_name
from jobs.workspace.version_folder import Version
from jobs.workspace.workspace import Workspace

if TYPE_CHECKING:
    from graph_build.summary import GraphSummary
    from model.embeddings import Embeddings
    from model.trained import TrainingRecord
    from model.warm_start import WarmStart

log = logging.getLogger(__name__)

# The sections of the configuration on which training depends.
TRAINING_SECTIONS = ("model", "session", "prerank", "retrieval", "validation")


@dataclass(frozen=True)
class Provenance:
    """Everything that a version depends on; versions with the same fingerprint are the same.

    Args:
        inputs: role → the input files.
        settings: the configuration, and the options of the command.
        code: result of `code_version`.
    """

    inputs: dict[str, tuple[InputFile, ...]]
    settings: dict[str, Any]
    code: str

    @property
    def fingerprint(self) -> str:
        """The hash by which the workspace recognises a version that is already built."""
        return fingerprint(self.inputs, self.settings, self.code)

    @property
    def key(self) -> str:
        """The fingerprint that ignores which version a night follows; see `build_key`."""
        return fingerprint(self.inputs, {k: v for k, v in self.settings.items() if k != "parent"}, self.code)

    def contents(self) -> dict[str, list[tuple[str, str]]]:
        """Role → (name, checksum) of the input files."""
        return {role: [(file.name, file.checksum) for file in files] for role, files in self.inputs.items()}


@dataclass(frozen=True)
class BuildPlan:
    """How a version is built.

    Args:
        inputs: the tables, or a graph.
        provenance: the inputs, settings and code that the manifest records.
        date: the last day whose events count; None = the day of the last event.
        holdout_day: the day that is held out of `fit`; None = the configured share of the last events is held out.
        holdout_half: the half of the hold-out's sessions (0 or 1) on which settings are chosen; None = all.
        parent: the version that a night follows. The new embeddings are aligned to its embeddings and, with `[nightly]
            warm_start`, training starts from its weights. None = training starts from scratch.
        warm: whether training may start from the parent's weights; false if the parent has seen the night's day, or its
            weights cannot be used.
        graph_inputs: the inputs by which the graph's checkpoint is recognised; None = the tables, the date and the
            share that is held out.
        labels: stage → another name for it in the progress and the manifest.
    """

    inputs: RunInputs
    provenance: Provenance
    date: dt.date | None = None
    holdout_day: dt.date | None = None
    holdout_half: int | None = None
    parent: Version | None = None
    warm: bool = True
    graph_inputs: Mapping[str, Any] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


class VersionBuild:
    """The stages of one version.

    The attributes `graph`, `fit`, `refit` and `index` are the finished stages. When one of them is read, its stage and
    the stages before it are run, except those whose checkpoints can be reused.
    """

    def __init__(self, plan: BuildPlan, config: Config, checkpoints: Checkpoints) -> None:
        self.plan, self.config, self.checkpoints = plan, config, checkpoints

    @cached_property
    def graph(self) -> StageResult:
        """The item graph of all events (`full/`), and the item graph of the events before the hold-out (`fit/`)."""
        plan = self.plan

        def build(folder: Path, report: ProgressCallback) -> None:
            if plan.inputs.graph is not None:
                copy_graph(plan.inputs.graph, folder)
            else:
                build_graph(plan.inputs, folder, self.config, plan.date, report, holdout_day=plan.holdout_day)

        inputs = plan.graph_inputs or {
            "tables": plan.provenance.contents(),
            "date": plan.date,
            "validation": self.config.validation.share,
        }
        settings = {"graph": self.config.graph.model_dump(mode="json"), "code": plan.provenance.code}
        return self._run("graph", {**inputs, **settings}, build)

    @cached_property
    def fit(self) -> StageResult:
        """The embeddings of the model trained on `fit/`, and the settings chosen on the hold-out (see `choice`)."""

        def build(folder: Path, report: ProgressCallback) -> None:
            half = self.plan.holdout_half
            choose(self.graph.folder, self.config, report, start=self._warm_start(), half=half).save(folder)

        return self._run("fit", self._training_inputs() | {"graph": self.graph.fingerprint}, build)

    @cached_property
    def refit(self) -> StageResult:
        """`model/` and `embeddings/`: the model trained on all events, with the chosen settings."""

        def build(folder: Path, report: ProgressCallback) -> None:
            from model.artefact import save_model

            share = self.choice.record.share
            trained = fit_everything(self.graph.folder, self.config, share, report, start=self._warm_start())
            save_model(folder / "model", trained, self.config.model)
            self._aligned(trained.embeddings).save(folder / "embeddings")

        earlier = {"graph": self.graph.fingerprint, "fit": self.fit.fingerprint}
        return self._run("refit", self._training_inputs() | earlier, build)

    @cached_property
    def index(self) -> StageResult:
        """The index folder."""

        def build(folder: Path, report: ProgressCallback) -> None:
            embeddings, as_of = self.refit.folder / "embeddings", self.summary.as_of
            index_version(self.graph.folder, embeddings, folder, as_of, self.config, self.choice, report)

        earlier = {"graph": self.graph.fingerprint, "refit": self.refit.fingerprint}
        return self._run("index", self._settings("retrieval", "session", "prerank") | earlier, build)

    @cached_property
    def summary(self) -> "GraphSummary":
        """The counts of the graph."""
        return read_summary(self.graph.folder)

    @cached_property
    def choice(self) -> HoldoutChoice:
        """The settings chosen on the hold-out, and the embeddings with which they were chosen."""
        return HoldoutChoice.load(self.fit.folder)

    @cached_property
    def index_recall(self) -> float:
        """Recall@100 of the index, as measured when it was built."""
        meta = json.loads((self.index.folder / "meta.json").read_text(encoding="utf-8"))
        return meta["recall_at_100"]

    def publish(self, workspace: Workspace, metrics: Mapping[str, Any] | None = None) -> Version:
        """Assemble the version from hard links to the outputs of the stages, and publish it.

        Args:
            workspace: where to publish.
            metrics: further metrics for the manifest.

        Raises:
            RolledBackError: a person rolled back during the build; the version is in the workspace, but not current.
            StoreError: the version cannot be published; the version published before stays current.
        """
        manifest = self.manifest(metrics or {})
        with self._assembled("publish", workspace) as folder:
            return workspace.publish(folder, manifest)

    def add(self, workspace: Workspace) -> Version:
        """Assemble the version as `publish` does, but leave it unpublished.

        Args:
            workspace: where the version is stored.

        Raises:
            StoreError: the version cannot be stored.
        """
        manifest = self.manifest({})
        with self._assembled("store", workspace) as folder:
            return workspace.add(folder, manifest)

    @contextlib.contextmanager
    def _assembled(self, label: str, workspace: Workspace) -> Iterator[Path]:
        with self.checkpoints.progress.stage(label), workspace.scratch_folder() as folder:
            self.graph.link_into(folder / "graph")
            self.refit.link_into(folder)
            self.index.link_into(folder / "index")
            yield folder

    def manifest(self, metrics: Mapping[str, Any]) -> Manifest:
        """Return the manifest of the version, without the fields that the workspace fills in later."""
        plan, choice, summary, index_recall = self.plan.provenance, self.choice, self.summary, self.index_recall
        return Manifest(
            version=version_name(summary.as_of, plan.fingerprint),
            fingerprint=plan.fingerprint,
            as_of=summary.as_of,
            config=plan.settings,
            inputs=plan.inputs,
            code_version=plan.code,
            metrics={
                "validation": _validation_metrics(choice.record),
                "score_weights": choice.weights.model_dump(),
                "session_encoder": choice.encoder_share,
                "pre_ranker": None if choice.reranker is None else dataclasses.asdict(choice.reranker),
                "index_recall_at_100": index_recall,
                **metrics,
            },
            summary=_summary_counts(summary)
            | {"stages": [record.model_dump() for record in self.checkpoints.progress.records]},
        )

    def _run(self, name: str, inputs: dict[str, Any], build: Any) -> StageResult:
        return self.checkpoints.run(name, inputs, build, label=self.plan.labels.get(name))

    def _settings(self, *sections: str) -> dict[str, Any]:
        return {name: getattr(self.config, name).model_dump(mode="json") for name in sections}

    @property
    def _is_warm(self) -> bool:
        return self.plan.warm and self.config.nightly.warm_start

    def _training_inputs(self) -> dict[str, Any]:
        parent = self.plan.parent.name if self.plan.parent else None
        warm = parent if self._is_warm else None
        options = {"warm": warm, "aligned": parent, "half": self.plan.holdout_half, "code": self.plan.provenance.code}
        return self._settings(*TRAINING_SECTIONS) | options

    def _warm_start(self) -> "WarmStart | None":
        from model.errors import ModelFormatError
        from model.warm_start import WarmStart

        parent = self.plan.parent
        if parent is None or not self._is_warm:
            return None
        try:
            return WarmStart.load(parent.path / "model", parent.path / "graph" / "full")
        except ModelFormatError as error:
            log.warning(
                "training starts from scratch, because the weights of %s cannot be used: %s", parent.name, error
            )
            return None

    def _aligned(self, embeddings: "Embeddings") -> "Embeddings":
        """Return the embeddings; if there is a parent, rotate them onto its embeddings first."""
        from model.align import align_embeddings
        from model.embeddings import Embeddings

        parent = self.plan.parent
        if parent is None:
            return embeddings
        earlier = Embeddings.load(parent.path / "embeddings")
        if (rotated := align_embeddings(embeddings, earlier, self.config.model.matryoshka)) is None:
            return embeddings
        embeddings, cosine = rotated
        log.info("embeddings aligned to %s: mean cosine of the shared items %.3f", parent.name, cosine)
        return embeddings


def _summary_counts(summary: "GraphSummary") -> dict[str, Any]:
    names = ("events", "quarantined", "nodes", "tail", "edges", "transitions", "ads")
    return {name: getattr(summary, name) for name in names}


def _validation_metrics(record: "TrainingRecord") -> dict[str, Any]:
    curve = [{"step": step, "loss": loss, "score": score} for step, loss, score in record.curve]
    return {"steps": record.steps, "schedule_steps": record.schedule_steps, "pairs": record.pairs, "curve": curve}
