"""Writes the files of a night: its record, its morning report, and the metrics of the last attempt."""

import datetime as dt
import logging
from collections.abc import Sequence

from jobs.errors import StoreError
from jobs.nightly.metrics import metrics_text
from jobs.nightly.overview import write_overview
from jobs.nightly.record import NightRecord, records
from jobs.nightly.report import render_night
from jobs.workspace.workspace import Workspace

log = logging.getLogger(__name__)


def write_night(night: NightRecord, workspace: Workspace, earlier: Sequence[NightRecord]) -> None:
    """Write the outputs of a night: lightsage.prom, night.json, report.html and the overview of the workspace.

    If a published night is run again, and the new run is not published, the record and the report of the published
    night stay. If a rollback keeps its version from being current, they are written again and say so.

    Args:
        night: the record to write.
        workspace: the workspace; the files are written to its folder `nights`.
        earlier: the records of earlier nights by date, for the charts of the report.
    """
    write_metrics(night, workspace)
    published = [record for record in records(workspace, str(night.date)) if record.outcome == "published"]
    if published and night.outcome != "published":
        log.info("%s keeps the record of the night that was published", night.folder)
        if night.held is None:
            return
        night = published[0].model_copy(update={"held": night.held})
    workspace.write_file(f"{night.folder}/night.json", night.model_dump_json(indent=1).encode())
    workspace.write_file(f"{night.folder}/report.html", render_night(night, earlier).encode())
    write_overview(workspace)


def report_failure(date: dt.date, error: BaseException, workspace: Workspace) -> None:
    """Write the outputs of a night that failed before it began, for example because of its configuration.

    Args:
        date: the date of the night.
        error: why it failed.
        workspace: the workspace.
    """
    try:
        write_night(failed_attempt(date, error), workspace, [])
    except (OSError, StoreError) as failure:
        log.warning("the report of the night cannot be written: %s", failure)


def failed_attempt(date: dt.date, error: BaseException) -> NightRecord:
    """Return the record of a night that failed before it began.

    Args:
        date: the date of the night.
        error: why it failed.
    """
    now = dt.datetime.now(dt.UTC)
    return NightRecord(date=date, began=now, ended=now, outcome="failed", error=str(error) or type(error).__name__)


def write_metrics(attempt: NightRecord, workspace: Workspace, *, running: bool = False) -> None:
    """Write lightsage.prom: the outcome of the last attempt, and the figures of the date's published night, if any.

    An error is only logged, because the metrics must not stop a night.

    Args:
        attempt: the record of the attempt.
        workspace: the workspace; the file is written to its folder `nights`.
        running: whether the attempt has not ended yet.
    """
    try:
        published = [night for night in records(workspace, str(attempt.date)) if night.outcome == "published"]
        standing = published[0] if published and (running or attempt.outcome != "published") else None
        text = metrics_text(attempt, standing, running=running)
        workspace.write_file("nights/lightsage.prom", text.encode())
    except Exception as error:
        log.warning("nights/lightsage.prom cannot be written: %s", error)
