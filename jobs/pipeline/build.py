"""`lightsage run`: build one version, from the events up to the end of a day, and publish it.

Servers get the new version only after every part of it is on disk. If a run is stopped, the same command continues
after the last finished stage.
"""

import datetime as dt
import logging
from typing import Any

from jobs.config import Config
from jobs.errors import RolledBackError
from jobs.pipeline.inputs import RunInputs, check_features
from jobs.pipeline.version_build import BuildPlan, Provenance, VersionBuild
from jobs.progress import StageProgress
from jobs.workspace.checkpoints import Checkpoints
from jobs.workspace.manifest import code_version, describe_inputs
from jobs.workspace.version_folder import Version
from jobs.workspace.workspace import Workspace

log = logging.getLogger(__name__)

# Names of the stages in the progress of a run and in its manifest.
LABELS = {"fit": "train: choose steps", "refit": "train: all events"}


def run(
    inputs: RunInputs,
    workspace: Workspace,
    config: Config,
    *,
    date: dt.date | None,
    progress: StageProgress,
    publish: bool = True,
) -> Version:
    """Build a version, and publish it.

    A version with the same inputs, configuration and code is not rebuilt. It is published again, unless a person rolled
    it back.

    Args:
        inputs: the tables, or a graph that was built elsewhere.
        workspace: where the version is published. Its work folder `build` keeps the finished stages until a run ends
            well.
        config: the full configuration.
        date: the last day whose events count; None = the day of the last event.
        progress: shows and times the stages.
        publish: if false, the version is only stored, and the published version stays the same.

    Raises:
        RolledBackError: the version is not made current, because a person rolled it back before, or made another
            version current during this run.
        GraphInputError, ModelError, RetrievalError, StoreError: nothing was published; the version published before
            stays current.
    """
    check_features(inputs, config)
    with progress.stage("read") as report:
        report("checksums of the input", 0.0)
        settings: dict[str, Any] = config.model_dump(mode="json") | {"date": date and date.isoformat()}
        provenance = Provenance(describe_inputs(inputs.by_role()), settings, code_version())
    with workspace.lock():
        checkpoints = Checkpoints(workspace.work_folder("build"), progress, workspace.check_lock)
        existing = workspace.find(provenance.fingerprint)
        if existing and publish and (entry := workspace.rollback_of(existing)):
            raise RolledBackError(
                f"version {existing} was rolled back on {entry.at:%Y-%m-%d %H:%M} UTC and stays so: "
                f"{workspace.current()} stays published. `lightsage rollback --to {existing}` publishes it again"
            )
        if existing:
            log.info("nothing changed since version %s: it is%s not rebuilt", existing, " published again," * publish)
            version = workspace.promote(existing) if publish else workspace.open(existing)
        else:
            labels = LABELS | ({"graph": "graph: copy"} if inputs.graph else {})
            build = VersionBuild(BuildPlan(inputs, provenance, date=date, labels=labels), config, checkpoints)
            version = build.publish(workspace) if publish else build.add(workspace)
            if checkpoints.reused:
                log.info("stages reused from a run that was stopped: %s", ", ".join(checkpoints.reused))
        checkpoints.remove()
    return version
