"""`lightsage ingest` and `lightsage forget`: the days of logs that a workspace keeps for its nightly builds."""

import datetime as dt
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.config import Config
from jobs.errors import NightError
from jobs.pipeline.input_check import check_inputs
from jobs.progress import ProgressCallback, StageProgress
from jobs.workspace.workspace import Workspace

if TYPE_CHECKING:
    from graph_build.days.forget import ForgetResult
    from graph_build.days.ingest import IngestResult

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DayInputs:
    """The events that an ingest stores.

    Args:
        paths: files or folders of events.
        days: the days to store; the events must hold each of them completely. None = the days that
            `graph_build.days.claims` chooses from the events.
        force: replace stored days even if many of their events are lost.
        source: fingerprint of the events, by which a later night recognises that they are stored already.
    """

    paths: Sequence[str]
    days: list[dt.date] | None = None
    force: bool = False
    source: str | None = None


def days_uri(workspace: Workspace, config: Config) -> str:
    """Return where the days of logs are stored: in the workspace, unless the configuration names another folder.

    Args:
        workspace: the workspace of the nightly builds.
        config: `[nightly] days` overrides the folder.

    Raises:
        NightError: the workspace is remote, and the configuration names no folder.
    """
    if config.nightly.days is None and workspace.local_path("days") is None:
        raise NightError(
            f"workspace {workspace.uri} is remote. Set [nightly] days to a folder or URI that Spark can read "
            "and write; the days of events are stored there."
        )
    return config.nightly.days or f"{workspace.uri.rstrip('/')}/days"


def ingest(inputs: DayInputs, workspace: Workspace, config: Config, *, progress: StageProgress) -> "IngestResult":
    """Store days of events.

    Args:
        inputs: the events.
        workspace: where the days are stored; its lock is taken.
        config: the full configuration.
        progress: shows and times the work.

    Raises:
        GraphInputError: the events cannot be used; the stored days stay as they are.
        NightError: the workspace is remote, and the configuration names no folder for the days.
    """
    days_uri(workspace, config)
    with workspace.lock(), progress.stage("ingest") as report:
        return store_days(inputs, workspace, config, report)


def store_days(inputs: DayInputs, workspace: Workspace, config: Config, report: ProgressCallback) -> "IngestResult":
    """Store days as `ingest` does, for a caller that holds the workspace's lock.

    Args:
        inputs: the events.
        workspace: where the days are stored.
        config: the full configuration.
        report: called with the progress.
    """
    from graph_build.days.ingest import IngestOptions
    from graph_build.days.ingest import ingest as ingest_days
    from graph_build.spark.session import session_for_one_build

    options = IngestOptions(
        inputs.days,
        config.nightly.day_share,
        inputs.force,
        config.nightly.quarantine_days,
        inputs.source,
        workspace.check_lock,
    )
    report("checking the input", 0.0)
    check_inputs({"events": inputs.paths}, config)
    report("starting Spark", 0.0)
    with session_for_one_build(master=config.spark.master, driver_memory=config.spark.driver_memory) as spark:
        result = ingest_days(spark, list(inputs.paths), days_uri(workspace, config), config.graph, options)
    for line in result.lines:
        log.info("%s", line)
    return result


def forget(user_ids: Sequence[str], workspace: Workspace, config: Config, *, progress: StageProgress) -> "ForgetResult":
    """Delete users from the stored days, and list them there, so that they stay out if a day is read again.

    The stages of unfinished runs and nights are deleted too, because they hold sessions. Published versions stay as
    they are. They name no user, but they hold traces of users: the lists of items of sessions, training pairs, refused
    rows, and the names of sessions that a cap cut. Later versions that are built from the stored days are built without
    the users.

    Args:
        user_ids: the ids of the users, as in the events' `user_id`.
        workspace: the workspace of the stored days; its lock is taken.
        config: the full configuration.
        progress: shows and times the work.

    Raises:
        GraphInputError: nothing is stored, or something cannot be deleted.
        NightError: the workspace is remote, and the configuration names no folder for the days.
    """
    from graph_build.days.forget import forget as forget_users
    from graph_build.spark.session import session_for_one_build

    root = days_uri(workspace, config)
    with workspace.lock(), progress.stage("forget"):
        for stages in (workspace.work_folder("build"), *workspace.work_folder("nights").glob("*/work")):
            if stages.exists():
                shutil.rmtree(stages)
        with session_for_one_build(master=config.spark.master, driver_memory=config.spark.driver_memory) as spark:
            return forget_users(
                spark, user_ids, root, config.graph, config.nightly.quarantine_days, workspace.check_lock
            )
