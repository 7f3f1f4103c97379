"""`lightsage ingest` and `lightsage forget`: the days of logs that a workspace keeps for its nightly builds."""

import datetime as dt
import logging
from collections.abc import Sequence

from jobs.config import Config
from jobs.progress import ProgressCallback, StageProgress
from jobs.workspace.workspace import Workspace

log = logging.getLogger(__name__)


def days_of(workspace: Workspace, config: Config) -> str:
    """Where the days of logs are kept: in the workspace, unless the configuration names another place."""
    return config.nightly.days or f"{workspace.uri.rstrip('/')}/days"


def ingest(
    paths: Sequence[str], workspace: Workspace, config: Config, *, days: list[dt.date] | None, progress: StageProgress
) -> list[dt.date]:
    """Store whole days of events; a day that is stored already is replaced. Returns the days.

    Raises:
        GraphInputError: the events cannot be used; what was stored before still is.
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
    """What `ingest` does, in the hands of the workspace's lock. source: by which the same days are recognised."""
    from graph_build.days import store
    from graph_build.spark.session import session_for_one_build

    report("starting Spark", 0.0)
    with session_for_one_build(master=config.spark.master, driver_memory=config.spark.driver_memory) as spark:
        new = store.ingest(spark, list(paths), days_of(workspace, config), config.graph, days, source)
    for day, found in new.items():
        log.info("%s: %s events stored", day, f"{found.events:,}")
    return list(new)


def forget(user_ids: Sequence[str], workspace: Workspace, config: Config, *, progress: StageProgress) -> int:
    """Delete the stored sessions of users; returns how many. Published versions hold items and no users."""
    from graph_build.days import store
    from graph_build.spark.session import session_for_one_build

    with workspace.lock(), progress.stage("forget"):  # noqa: SIM117
        with session_for_one_build(master=config.spark.master, driver_memory=config.spark.driver_memory) as spark:
            return store.forget(spark, list(user_ids), days_of(workspace, config), config.graph)
