"""`lightsage nightly`: build the version of one night, compare it with the published one, and publish it if it passes.

    ingest → graph → fit → judge → [gates] → refit → index → canary → [gates] → publish

`fit` is trained without the events of the date. Its settings are chosen on one half of the date's sessions; `judge`
measures both the fit and the published version on the other half. `refit` is trained on all days, and its result is
served. The outputs of finished stages are kept, so a failed night continues after them when it is run again. A night
with the same date, inputs, configuration, code and parent is recognised and not built again.
"""

import datetime as dt
import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jobs.config import Config
from jobs.errors import GateError, RolledBackError, StoreError
from jobs.nightly.comparison import CHOOSING, compare
from jobs.nightly.drift import neighbour_overlap, worst_norm
from jobs.nightly.gates import (
    Gate,
    ads_gates,
    coverage_gate,
    drift_gates,
    failed,
    quality_gates,
    size_gates,
    unmeasured_gate,
)
from jobs.nightly.outputs import failed_attempt, write_metrics, write_night
from jobs.nightly.parent import Parent, find_days, find_parent
from jobs.nightly.publication import announce, announced, confirm, settle
from jobs.nightly.record import NightRecord, history, records
from jobs.nightly.versions import delete_old_versions
from jobs.pipeline.days import DayInputs, days_uri, store_days
from jobs.pipeline.graph_stage import check_night_graph
from jobs.pipeline.input_check import check_inputs
from jobs.pipeline.inputs import RunInputs, check_features
from jobs.pipeline.version_build import BuildPlan, Provenance, VersionBuild
from jobs.progress import ProgressCallback, StageProgress
from jobs.workspace.atomic_files import full_disk
from jobs.workspace.checkpoints import Checkpoints
from jobs.workspace.manifest import code_version, describe_inputs, fingerprint
from jobs.workspace.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NightInputs:
    """The inputs of a night.

    Args:
        date: the day that has ended.
        events: paths of logs that contain the whole day; `{date}` in a path is replaced by the date. Leave this empty
            if the day is already stored.
        items: the items table, if there is one.
        ads: the ads table; without it, every item counts as advertised.
        graph: a graph that was built elsewhere from the days up to the date, with the date held out; it is used instead
            of the stored days and all tables.
    """

    date: dt.date
    events: tuple[str, ...] = ()
    items: str | None = None
    ads: str | None = None
    graph: str | None = None

    def tables(self) -> dict[str, list[str]]:
        """Return table → paths; a table that is not given has an empty list."""
        single = {table: [path] if path else [] for table, path in (("items", self.items), ("ads", self.ads))}
        return {"events": [path.replace("{date}", str(self.date)) for path in self.events], **single}


def nightly(
    inputs: NightInputs, workspace: Workspace, config: Config, *, force: bool, progress: StageProgress
) -> NightRecord:
    """Build a night, and publish it if it passes its gates.

    Args:
        inputs: the night's inputs.
        workspace: the workspace in which to publish; its lock is taken.
        config: the full configuration.
        force: publish even if gates fail; the manifest and the record name the failed gates.
        progress: shows and times the stages.

    Raises:
        GateError: the night failed its gates; the version published before stays current.
        JobError, StoreError and the errors of graph_build, model and retrieval: the night cannot be built; the
            version published before stays current.
    """
    night: _Night | None = None
    try:
        with workspace.lock():
            settle(workspace, inputs.date, lambda night: write_night(night, workspace, _before(night.date, workspace)))
            night = _Night(inputs, workspace, config, force, progress)
            write_metrics(night.record, workspace, running=True)
            try:
                night.build()
            except BaseException as error:
                night.record.outcome = "refused" if isinstance(error, GateError) else "failed"
                night.record.error = str(error) or type(error).__name__
                night.close()
                raise
            if unwritten := night.close():
                raise unwritten
    except BaseException as error:
        if night is None:  # this run may not have the lock, and another run may be writing the record of this night
            write_metrics(failed_attempt(inputs.date, error), workspace)
        raise
    return night.record


def _before(date: dt.date, workspace: Workspace) -> list[NightRecord]:
    return [night for night in records(workspace) if night.date < date]


class _Night:
    """One night, with a record of everything that happens in it."""

    def __init__(
        self, inputs: NightInputs, workspace: Workspace, config: Config, force: bool, progress: StageProgress
    ) -> None:
        self.inputs, self.workspace, self.config, self.force, self.progress = inputs, workspace, config, force, progress
        self.record = NightRecord(date=inputs.date)
        self.checkpoints = Checkpoints(
            workspace.work_folder(f"nights/{inputs.date}") / "work", progress, workspace.check_lock
        )
        self.code = code_version()
        self.earlier = _before(inputs.date, workspace)
        self.stages_of_a_killed_run: list[dict[str, Any]] = []

    def build(self) -> None:
        """Run all stages. If the version of this night exists already, publish that version instead."""
        tables = self._tables()  # before any work, because this finds missing inputs
        zone = self.config.graph.input.day_zone
        parent = find_parent(self.workspace, self.inputs.date, self._warn, force=self.force, zone=zone)
        self.record.parent = parent.version.name if parent else None
        check_features(tables, self.config)
        check_inputs(self.inputs.tables(), self.config, warn=False)
        self._ingest()
        plan = self._plan(tables, parent)
        if self._publish_existing(plan.provenance):
            if self.record.outcome != "held":
                self._delete_old()
            return
        build = VersionBuild(plan, self.config, self.checkpoints)
        self.record.add_graph(build.summary)
        self.record.curve = [list(row) for row in build.choice.record.curve]
        self._compare(build, judge_published=not (parent and parent.has_seen_the_day))
        self._check_drift(build)
        self._publish(build)
        if self.record.outcome == "published":
            self._delete_old()

    def close(self) -> Exception | None:
        """Write the record. Finished stages stay on disk until this night or another one is published.

        Returns:
            The error, if the night ended well and its record cannot be written; the next run then writes the record.
            None otherwise.
        """
        record = self.record
        self._note_stages()
        try:
            self.workspace.check_lock()
            write_night(record, self.workspace, self.earlier)
            if record.outcome in ("published", "held"):
                confirm(self.workspace, record.date)
        except (OSError, StoreError) as error:
            log.warning("the report of the night cannot be written: %s", error)
            return None if record.outcome in ("refused", "failed") else error
        if record.outcome in ("published", "unchanged"):
            self.checkpoints.remove()
        return None

    def _note_stages(self) -> None:
        self.record.ended = dt.datetime.now(dt.UTC)
        self.record.stages = [*self.stages_of_a_killed_run, *(stage.model_dump() for stage in self.progress.records)]
        self.record.reused = self.checkpoints.reused

    def _tables(self) -> RunInputs:
        inputs = self.inputs
        if inputs.graph is None:
            return RunInputs((), inputs.items, inputs.ads, None, days_uri(self.workspace, self.config))
        check_night_graph(inputs.graph, inputs.date, self.config.graph.input.day_zone)
        return RunInputs(graph=inputs.graph)

    def _ingest(self) -> None:
        """Store the date's events, unless the events of the same files are stored already."""
        from graph_build.days.store import source_of

        if not self.inputs.events:
            return
        day = self.inputs.date
        paths = self.inputs.tables()["events"]
        settings = self.config.graph.input.model_dump(mode="json")
        source = fingerprint(describe_inputs({"events": paths}), settings, self.code)
        if source_of(days_uri(self.workspace, self.config), day) == source:
            log.info("ingest: the same events are stored already")
            self.checkpoints.reused.append("ingest")
            return
        with self.progress.stage("ingest") as report, full_disk(self.checkpoints.folder.parent):
            inputs = DayInputs(paths, [day], self.force, source)
            result = store_days(inputs, self.workspace, self.config, report)
        self.record.doubts += result.doubts
        self.record.quarantined = {"events": result.refused}  # the graph later counts the refused rows of all days

    def _plan(self, tables: RunInputs, followed: Parent | None) -> BuildPlan:
        """Return the build plan.

        The fingerprint depends on the folder names of the stored days up to this date, so it stays the same if later
        days are stored.
        """
        day, parent = self.inputs.date, followed.version if followed else None
        days: dict[str, str] = {}
        if tables.graph is None:
            days, self.record.days = find_days(self.workspace, self.config, day, self._warn)
        files = describe_inputs({role: paths for role, paths in tables.by_role().items() if role != "days"})
        settings: dict[str, Any] = self.config.model_dump(mode="json") | {"date": str(day)}
        settings |= {"days": days, "parent": parent.name if parent else None}
        provenance = Provenance(files, settings, self.code)
        warm = self.config.nightly.warm_start and self._has_usable_weights(followed)
        self.record.warm = warm
        return BuildPlan(
            tables,
            provenance,
            date=day,
            holdout_day=day,
            holdout_half=CHOOSING,
            parent=parent,
            warm=warm,
            graph_inputs={"days": days, "tables": provenance.contents()},
            labels={} if tables.graph is None else {"graph": "graph: copy"},
        )

    def _has_usable_weights(self, followed: Parent | None) -> bool:
        """Return whether training may start from the weights of the version that the night follows."""
        if followed is None or followed.has_seen_the_day:
            return False
        from model.warm_start import WarmStart

        try:
            WarmStart.load(followed.version.path / "model", followed.version.path / "graph" / "full")
        except Exception as error:  # an unknown format may raise any error, and none of them must fail the night
            self._warn(f"training starts from scratch: the weights of {followed.version.name} cannot be used: {error}")
            return False
        return True

    def _publish_existing(self, provenance: Provenance) -> bool:
        """If this night's version exists already, publish it again; return whether nothing is left to build.

        A night that was rolled back is not published again without --force. If an earlier run was stopped just before
        it made the version current, this run completes the night.
        """
        existing = self.workspace.find(provenance.fingerprint)
        stopped = announced(self.workspace, self.inputs.date)
        if stopped is None or existing is None or stopped.version != existing:
            stopped = None
        forced = existing and self.workspace.manifest(existing).metrics.get("forced")
        if forced and not stopped and not self.force and existing != self.workspace.current():
            raise GateError(
                f"version {existing} failed gates ({', '.join(forced)}) and was published only with --force; "
                "give --force to publish it again"
            )
        if not self.force and (entry := self.workspace.rollback_of(existing, provenance.key)):
            at = f"{entry.at:%Y-%m-%d %H:%M} UTC"
            self._hold(f"a person rolled the night of {self.inputs.date} back on {at}; --force publishes it again")
            return True
        if existing is None:
            return False
        log.info("nothing changed since version %s: it is published again, not rebuilt", existing)
        try:
            self.workspace.promote(existing)
        except RolledBackError as error:
            self._hold(str(error))
            return True
        if stopped:
            self.record, self.stages_of_a_killed_run = stopped, stopped.stages
        else:
            self.record.outcome, self.record.version = "unchanged", existing
        return True

    def _hold(self, why: str) -> None:
        """End the night without making its version current."""
        log.warning("%s", why)
        self.record.outcome, self.record.held, self.record.version = "held", why, self.workspace.current()

    def _compare(self, build: VersionBuild, *, judge_published: bool) -> None:
        """Measure the fit on the day, and check the gates on size and quality.

        Args:
            build: the night's build.
            judge_published: whether a gate compares the fit's hits with the hits of the published version.
        """
        parent = build.plan.parent

        def compare_models(folder: Path, report: ProgressCallback) -> None:
            published = parent.path if parent else None
            comparison = compare(build.graph.folder, build.choice, published, self.config, report)
            content = comparison and asdict(comparison)
            (folder / "judgement.json").write_text(json.dumps(content), encoding="utf-8")

        inputs = {"fit": build.fit.fingerprint, "published": parent.name if parent else None}
        stage = self.checkpoints.run("judge", inputs, compare_models)
        comparison = json.loads((stage.folder / "judgement.json").read_text(encoding="utf-8"))
        limits, record = self.config.nightly, self.record
        nights, last = history(self.earlier, set(self.workspace.rollbacks()), limits.history)
        gates = size_gates(record.figures, [night.figures for night in nights], limits)
        gates += ads_gates(record.ads, [night.ads for night in nights], last.ads if last else {}, limits)
        if comparison is None:
            gates.append(unmeasured_gate(str(self.inputs.date)))
        else:
            record.quality, record.ratios = comparison["rows"], comparison["ratios"]
            judged = {model: ratio for model, ratio in record.ratios.items() if judge_published or model != "published"}
            gates += quality_gates(judged, limits, baskets=comparison["baskets"])
            of_fit = next(row for row in record.quality if row["model"] == "fit" and row["metric"] == "coverage")
            before = record.value("published", "coverage")
            gates.append(coverage_gate(of_fit["value"], before, limits, of_fit["n"]))
        self._check(gates)

    def _check_drift(self, build: VersionBuild) -> None:
        """Check the gates on the refit."""
        index, parent, limits = build.index, build.plan.parent, self.config.nightly
        with self.progress.stage("canary") as report:
            if parent is not None:
                report("neighbours of the probes", 0.0)
                old = parent.path / "index"
                self.record.overlap = neighbour_overlap(index.folder, old, self.config, limits.probes)
            norm_error = worst_norm(build.refit.folder / "embeddings")
        self._check(drift_gates(self.record.overlap, norm_error, limits))

    def _publish(self, build: VersionBuild) -> None:
        record = self.record
        record.index_recall = build.index_recall
        metrics = {"gates": [gate.model_dump() for gate in record.gates], "forced": record.forced}
        self._note_stages()
        self.workspace.check_lock()
        announce(record.model_copy(update={"version": build.manifest(metrics).version}), self.workspace)
        try:
            version = build.publish(self.workspace, metrics)
        except RolledBackError as error:
            self._hold(str(error))
        else:
            record.outcome, record.version = "published", version.name

    def _delete_old(self) -> None:
        """Delete old versions, and the stages of other nights."""
        try:
            limits = self.config.nightly
            self.record.removed = delete_old_versions(self.workspace, limits.keep_versions, limits.unpublished_days)
        except Exception as error:  # the night is published even if old versions cannot be deleted
            self._warn(f"old versions could not be deleted: {error}")
        folder = self.checkpoints.folder
        for stages in folder.parent.parent.glob("*/work"):
            if stages != folder:
                shutil.rmtree(stages, ignore_errors=True)

    def _warn(self, text: str) -> None:
        log.warning("%s", text)
        self.record.doubts.append(text)

    def _check(self, gates: list[Gate]) -> None:
        """Record the results of gates, and raise an error if one fails, unless --force is given."""
        self.record.gates += gates
        for gate in gates:
            log.log(logging.INFO if gate.passed else logging.ERROR, "gate %s: %s", gate.verdict, gate)
        if not (failures := failed(gates)):
            return
        reasons = "; ".join(map(str, failures))
        if not self.force:
            raise GateError(
                f"{self.inputs.date} is not published, because {len(failures)} of its gates fail: {reasons}"
            )
        self.record.forced += [gate.name for gate in failures]
        log.warning("%d gates failed; the night continues because --force was given: %s", len(failures), reasons)
