"""`lightsage nightly`: one night's stages, its gates, and publishing what passes them.

    ingest → graph → fit → judge → [gates] → refit → index → canary → [gates] → publish

`fit` learns from the days before the date, `judge` measures it on the date itself; `refit` learns from all days and is
what is served. Stages keep their outputs (`jobs.workspace.checkpoints`), so that a night that failed goes on where it
stopped. The same date with the same input, configuration, code and earlier version is recognised.
"""

import datetime as dt
import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.config import Config
from jobs.errors import GateError, NightError
from jobs.nightly.gates import Gate, canaries, coverage, failed, quality, sizes
from jobs.nightly.metrics import metrics_text
from jobs.nightly.parent import followed, learned_days
from jobs.nightly.record import NightRecord, records
from jobs.nightly.report import render_night
from jobs.pipeline.build import (
    RunInputs,
    build_graph,
    check_features,
    graph_facts,
    index_version,
    stage_facts,
    validation_facts,
)
from jobs.pipeline.days import days_of
from jobs.progress import ProgressCallback, StageProgress
from jobs.workspace.atomic_files import full_disk
from jobs.workspace.checkpoints import STAMP, Done, Stages
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
    from model.warm_start import WarmStart

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NightInputs:
    """What a night reads.

    events: logs that hold the date wholly, `{date}` in a path stands for it; without any, the day is stored already.
    """

    date: dt.date
    events: tuple[str, ...] = ()
    items: str | None = None
    ads: str | None = None


def nightly(
    inputs: NightInputs, workspace: Workspace, config: Config, *, force: bool, progress: StageProgress
) -> NightRecord:
    """Build the night, and publish it if it passes its gates, or all the same with `force`, which is recorded.

    Raises:
        GateError: it did not pass; the version before stays.
        JobError, StoreError and the rooms' errors: it could not be built; the version before stays.
    """
    with workspace.lock():
        night = _Night(inputs, workspace, config, force, progress)
        try:
            night.build()
        except BaseException as error:
            night.record.outcome = "refused" if isinstance(error, GateError) else "failed"
            night.record.error = str(error) or type(error).__name__
            raise
        finally:
            night.close()
    return night.record


def write_night(night: NightRecord, workspace: Workspace, earlier: Sequence[NightRecord]) -> None:
    """Write what a night leaves behind: night.json, report.html and lightsage.prom.

    Re-running a published date keeps its record and its report: later nights are compared with them.

    Args:
        night: the record to write.
        workspace: where the files go, into the folder `nights`.
        earlier: the records of earlier nights by date, for the charts of the report.
    """
    workspace.note("nights/lightsage.prom", metrics_text(night).encode())
    published = any(record.outcome == "published" for record in records(workspace, str(night.date)))
    if published and night.outcome != "published":
        log.info("%s keeps the record of the night that was published", night.folder)
        return
    workspace.note(f"{night.folder}/night.json", night.model_dump_json(indent=1).encode())
    workspace.note(f"{night.folder}/report.html", render_night(night, earlier).encode())


class _Night:
    """One night while it is built; everything that happens is noted in `record`."""

    def __init__(
        self, inputs: NightInputs, workspace: Workspace, config: Config, force: bool, progress: StageProgress
    ) -> None:
        self.inputs, self.workspace, self.config, self.force, self.progress = inputs, workspace, config, force, progress
        self.record = NightRecord(date=inputs.date)
        self.folder = workspace.work(f"nights/{inputs.date}")
        self.stages = Stages(self.folder / "work", progress)
        self.code = code_version()
        self.before = [night for night in records(workspace) if night.date < inputs.date]

    def build(self) -> None:
        """All stages."""
        if self.config.nightly.days is None and self.workspace.local("days") is None:
            raise NightError(
                f"workspace {self.workspace.uri} is remote, and Spark must be able to read and write the days of logs: "
                "name a place for them that it can in [nightly] days"
            )
        parent = followed(self.workspace, self.inputs.date, self._doubt, force=self.force)
        self.record.parent = parent.name if parent else None
        run = RunInputs((), self.inputs.items, self.inputs.ads, None, days_of(self.workspace, self.config))
        check_features(run, self.config)
        self._ingest()
        described = describe_inputs({role: paths for role, paths in run.by_role().items() if role != "days"})
        content = {role: [(file.name, file.checksum) for file in files] for role, files in described.items()}
        days, self.record.days = learned_days(self.workspace, self.config, self.inputs.date, self._doubt)
        settings: dict[str, Any] = self.config.model_dump(mode="json") | {"date": str(self.inputs.date)}
        settings |= {"days": days, "parent": parent.name if parent else None}
        mark = fingerprint(described, settings, self.code)
        if known := self.workspace.find(mark):
            forced = self.workspace.manifest(known).metrics.get("forced")
            if forced and not self.force and known != self.workspace.current():
                raise GateError(
                    f"version {known} was published against its gates ({', '.join(forced)}); --force does so again"
                )
            log.info("nothing changed since version %s: it is published again, not built again", known)
            self.workspace.promote(known)
            self.record.outcome, self.record.version = "unchanged", known
            return
        graph = self._graph(run, content, days)
        fit = self._fit(graph, parent)
        self._judge(graph, fit, parent)
        refit = self._refit(graph, fit, parent)
        index = self._index(graph, refit, fit)
        self._canary(index, refit, parent)
        self._publish(mark, described, settings, {"graph": graph, "model": refit, "embeddings": refit, "index": index})
        self._clear_old()

    def close(self) -> None:
        """Note what happened; what was built is kept until a night is published."""
        record = self.record
        record.ended = dt.datetime.now(dt.UTC)
        record.stages = [stage.model_dump() for stage in self.progress.records]
        record.reused = self.stages.reused
        try:
            write_night(record, self.workspace, self.before)
        except OSError as error:
            log.error("the night's report cannot be written: %s", error)
        if record.outcome in ("published", "unchanged"):
            shutil.rmtree(self.stages.folder, ignore_errors=True)

    # Stages

    def _ingest(self) -> None:
        """Store the date's events, unless the same files are stored already."""
        from graph_build.days.store import source_of
        from jobs.pipeline.days import store_days

        if not self.inputs.events:
            return
        day = self.inputs.date
        paths = [path.replace("{date}", str(day)) for path in self.inputs.events]
        settings = self.config.graph.input.model_dump(mode="json")
        source = fingerprint(describe_inputs({"events": paths}), settings, self.code)
        if source_of(days_of(self.workspace, self.config), day) == source:
            log.info("ingest: the same events are stored already")
            self.stages.reused.append("ingest")
            return
        with self.progress.stage("ingest") as report, full_disk(self.folder):
            store_days(paths, self.workspace, self.config, [day], report, source)

    def _graph(self, run: RunInputs, content: dict[str, Any], days: dict[str, str]) -> Done:
        def build(out: Path, report: ProgressCallback) -> None:
            day = self.inputs.date
            build_graph(run, out, self.config, day, report, holdout_day=day)

        inputs = {
            "days": days,
            "tables": content,
            "graph": self.config.graph.model_dump(mode="json"),
            "code": self.code,
        }
        graph = self.stages.run("graph", inputs, build)
        summary = self._summary(graph)
        self.record.take_graph(summary, graph.folder)
        return graph

    def _fit(self, graph: Done, parent: Version | None) -> Done:
        from jobs.nightly.comparison import CHOOSING
        from jobs.pipeline.training import Chosen, choose

        def build(out: Path, report: ProgressCallback) -> None:
            choose(graph.folder, self.config, report, start=self._start(parent), half=CHOOSING).save(out)

        fit = self.stages.run("fit", self._learning(parent) | {"graph": graph.mark}, build)
        self.record.curve = [list(row) for row in Chosen.load(fit.folder).record.curve]
        return fit

    def _judge(self, graph: Done, fit: Done, parent: Version | None) -> None:
        from jobs.nightly.comparison import judge
        from jobs.pipeline.training import Chosen

        def build(out: Path, report: ProgressCallback) -> None:
            published = parent.path if parent else None
            found = judge(graph.folder, Chosen.load(fit.folder), published, self.config, report)
            content = found and {"rows": found.rows, "ratios": found.ratios}
            (out / "judgement.json").write_text(json.dumps(content), encoding="utf-8")

        name = parent.name if parent else None
        judged = self.stages.run("judge", {"fit": fit.mark, "published": name}, build)
        found = json.loads((judged.folder / "judgement.json").read_text(encoding="utf-8"))
        limits, record = self.config.nightly, self.record
        gates = sizes(record.figures, [night.figures for night in self._published_before()], limits)
        if found is None:
            record.doubts.append(f"no session of {self.inputs.date} has two items: quality could not be judged")
        else:
            record.quality, record.ratios = found["rows"], found["ratios"]
            gates += quality(found["ratios"], limits)
            covered = [record.value(model, "coverage") for model in ("fit", "published")]
            gates.append(coverage(covered[0] or 0.0, covered[1], limits))
        self._pass(gates)

    def _refit(self, graph: Done, fit: Done, parent: Version | None) -> Done:
        from jobs.pipeline.training import Chosen, fit_everything
        from model.align import align_embeddings
        from model.artefact import save_model
        from model.embeddings import Embeddings

        def build(out: Path, report: ProgressCallback) -> None:
            share = Chosen.load(fit.folder).record.share
            trained = fit_everything(graph.folder, self.config, share, report, start=self._start(parent))
            save_model(out / "model", trained, self.config.model)
            embeddings = trained.embeddings
            before = Embeddings.load(parent.path / "embeddings") if parent else None
            prefixes = self.config.model.matryoshka
            if parent and before and (turned := align_embeddings(embeddings, before, prefixes)):
                embeddings, cosine = turned
                log.info("aligned to %s: mean cosine of the shared items %.3f", parent.name, cosine)
            embeddings.save(out / "embeddings")

        return self.stages.run("refit", self._learning(parent) | {"graph": graph.mark, "fit": fit.mark}, build)

    def _index(self, graph: Done, refit: Done, fit: Done) -> Done:
        from jobs.pipeline.training import Chosen

        def build(out: Path, report: ProgressCallback) -> None:
            chosen, as_of = Chosen.load(fit.folder), self._summary(graph).as_of
            index_version(graph.folder, refit.folder / "embeddings", out, as_of, self.config, chosen, report)

        settings = {
            name: getattr(self.config, name).model_dump(mode="json") for name in ("retrieval", "session", "prerank")
        }
        return self.stages.run("index", settings | {"refit": refit.mark, "graph": graph.mark}, build)

    def _canary(self, index: Done, refit: Done, parent: Version | None) -> None:
        from jobs.nightly.drift import neighbour_overlap, worst_norm

        settings = self.config.nightly
        overlap = None
        with self.progress.stage("canary") as report:
            if parent is not None:
                report("neighbours of the probes", 0.0)
                overlap = neighbour_overlap(index.folder, parent.path / "index", self.config, settings.probes)
            norm = worst_norm(refit.folder / "embeddings")
        self.record.overlap = overlap
        self._pass(canaries(overlap, norm, settings))

    def _publish(self, mark: str, described: Any, settings: dict[str, Any], parts: dict[str, Done]) -> None:
        from jobs.pipeline.training import Chosen

        meta = json.loads((parts["index"].folder / "meta.json").read_text(encoding="utf-8"))
        chosen = Chosen.load(self.stages.folder / "fit")
        summary = self._summary(parts["graph"])
        self.record.index_recall = meta["recall_at_100"]
        with self.progress.stage("publish"), self.workspace.stage() as folder:
            for name, done in parts.items():
                here = done.folder / name if (done.folder / name).is_dir() else done.folder
                _link(here, folder / name)
            manifest = Manifest(
                version=version_name(summary.as_of, mark),
                fingerprint=mark,
                as_of=summary.as_of,
                config=settings,
                inputs=described,
                code_version=self.code,
                metrics={
                    "validation": validation_facts(chosen.record),
                    "score_weights": chosen.weights.model_dump(),
                    **stage_facts(chosen),
                    "index_recall_at_100": meta["recall_at_100"],
                    "gates": [gate.model_dump() for gate in self.record.gates],
                    "forced": self.record.forced,
                },
                summary=graph_facts(summary) | {"stages": [stage.model_dump() for stage in self.progress.records]},
            )
            version = self.workspace.publish(folder, manifest)
        self.record.outcome, self.record.version = "published", version.name

    def _clear_old(self) -> None:
        from jobs.nightly.versions import clear_old

        try:
            self.record.removed = clear_old(self.workspace, self.config.nightly.keep_versions)
        except Exception as error:  # the night is published, whatever becomes of old ones
            self._doubt(f"old versions could not be cleared away: {error}")
        for old in self.folder.parent.glob("*/work"):
            if old != self.stages.folder:
                shutil.rmtree(old, ignore_errors=True)

    # What stages share

    def _doubt(self, said: str) -> None:
        log.warning("%s", said)
        self.record.doubts.append(said)

    def _pass(self, gates: list[Gate]) -> None:
        """Note the gates; stop at those that fail, unless forced."""
        self.record.gates += gates
        for gate in gates:
            log.log(
                logging.INFO if gate.passed else logging.ERROR, "gate %s: %s", "ok" if gate.passed else "FAILED", gate
            )
        if not (bad := failed(gates)):
            return
        said = "; ".join(map(str, bad))
        if not self.force:
            raise GateError(f"{self.inputs.date} is not published, as it fails {len(bad)} of its gates: {said}")
        self.record.forced += [gate.name for gate in bad]
        log.warning("published all the same, as --force was given: %s", said)

    def _start(self, parent: Version | None) -> "WarmStart | None":
        from model.errors import ModelFormatError
        from model.warm_start import WarmStart

        if parent is None or not self.config.nightly.warm_start:
            return None
        try:
            start = WarmStart.load(parent.path / "model", parent.path / "graph" / "full")
        except ModelFormatError as error:
            log.warning("no warm start: %s", error)
            return None
        return start

    def _learning(self, parent: Version | None) -> dict[str, Any]:
        sections = ("model", "session", "prerank", "retrieval", "validation")
        settings = {name: getattr(self.config, name).model_dump(mode="json") for name in sections}
        warm = parent.name if parent and self.config.nightly.warm_start else None
        self.record.warm = warm is not None
        return settings | {"warm": warm, "aligned": parent.name if parent else None, "code": self.code}

    def _summary(self, graph: Done) -> "GraphSummary":
        from graph_build.summary import GraphSummary

        return GraphSummary.from_json((graph.folder / "summary.json").read_text(encoding="utf-8"))

    def _published_before(self) -> list[NightRecord]:
        there = [night for night in self.before if night.outcome == "published"]
        return there[-self.config.nightly.history :]


def _link(source: Path, target: Path) -> None:
    """The same files in another folder, without a copy where the disk is the same one; a stage's stamp stays behind."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.name != STAMP:
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, place)
            except OSError:
                shutil.copyfile(path, place)
