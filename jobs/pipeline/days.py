"""`lightsage ingest` and `lightsage forget`: the days of logs that a workspace keeps for its nightly builds."""

import datetime as dt
import logging
from collections.abc import Sequence

from jobs.config import Config
from jobs.progress import ProgressCallback, StageProgress
from jobs.workspace.workspace import Workspace

log = logging.getLogger(__name__)


def days_uri(workspace: Workspace, config: Config) -> str:
    """Return where the days of logs are stored: in the workspace, unless the configuration names another folder.

    Args:
        workspace: the workspace of the nightly builds.
        config: `[nightly] days` overrides the folder.
    """
    return config.nightly.days or f"{workspace.uri.rstrip('/')}/days"


def ingest(
    paths: Sequence[str], workspace: Workspace, config: Config, *, days: list[dt.date] | None, progress: StageProgress
) -> list[dt.date]:
    """Store whole days of events, replacing days that are stored already; return the days.

    Args:
        paths: files or folders of events.
        workspace: where the days are stored; its lock is taken.
        config: the full configuration.
        days: the days that the events contain completely; None = all days found.
        progress: shows and times the work.

    Raises:
        GraphInputError: the events cannot be used; the stored days stay as they are.
    """
    with workspace.lock(), progress.stage("ingest") as report:
        return store_days(paths, workspace, config, days, report)


def store_days(
    paths: Sequence[str],
    workspace: Workspace,
    config: Config,
    days: list[dt.date] | None,
    report: ProgressCallback,
    source: str | None = None,
) -> list[dt.date]:
    """Store days as `ingest` does, for a caller that holds the workspace's lock.

    Args:
        paths: files or folders of events.
        workspace: where the days are stored.
        config: the full configuration.
        days: the days that the events contain completely; None = all days found.
        report: called with the progress.
        source: fingerprint of the events, by which a later night recognises that they are stored already.
    """
    from graph_build.days import store
    from graph_build.spark.session import session_for_one_build

    report("starting Spark", 0.0)
    with session_for_one_build(master=config.spark.master, driver_memory=config.spark.driver_memory) as spark:
        stored = store.ingest(spark, list(paths), days_uri(workspace, config), config.graph, days, source)
    for day, facts in stored.items():
        log.info("%s: %s events stored", day, f"{facts.events:,}")
    return list(stored)


def forget(user_ids: Sequence[str], workspace: Workspace, config: Config, *, progress: StageProgress) -> int:
    """Delete the stored sessions of users; return the number of sessions. Published versions hold items and no users.

    Args:
        user_ids: the ids of the users, as in the events' `user_id`.
        workspace: the workspace whose stored days are changed; its lock is taken.
        config: the full configuration.
        progress: shows and times the work.
    """
    from graph_build.days import store
    from graph_build.spark.session import session_for_one_build

    with workspace.lock(), progress.stage("forget"):  # noqa: SIM117
        with session_for_one_build(master=config.spark.master, driver_memory=config.spark.driver_memory) as spark:
            return store.forget(spark, list(user_ids), days_uri(workspace, config), config.graph)
