"""The moment at which a night is published: a record is written before `current` changes, and confirmed afterwards.

Until it is confirmed, the record is in `publishing.json` beside `night.json`. If the run is killed in between, or its
store fails, the next run finds the record there, and knows the gates and figures of that night.
"""

import datetime as dt
import logging
from collections.abc import Callable

from pydantic import ValidationError

from jobs.errors import CorruptVersionError, NoVersionError
from jobs.nightly.record import NightRecord
from jobs.workspace.workspace import Workspace

log = logging.getLogger(__name__)


def announce(night: NightRecord, workspace: Workspace) -> None:
    """Write the record of a night whose version is about to become current.

    Args:
        night: the record, with the name of the version.
        workspace: the workspace of the nightly builds.
    """
    record = night.model_copy(update={"outcome": "published"})
    workspace.write_file(_pending(night.date), record.model_dump_json(indent=1).encode())


def announced(workspace: Workspace, date: dt.date) -> NightRecord | None:
    """Return the record that a run announced, but did not confirm; None if there is none.

    Args:
        workspace: the workspace of the nightly builds.
        date: the date of the night.
    """
    if (content := workspace.read_file(_pending(date))) is None:
        return None
    try:
        return NightRecord.model_validate_json(content)
    except ValidationError as error:
        log.warning("%s cannot be read and is left out: %s", _pending(date), error)
        return None


def confirm(workspace: Workspace, date: dt.date) -> None:
    """Delete the announcement of a night, once its record is written.

    Args:
        workspace: the workspace of the nightly builds.
        date: the date of the night.
    """
    workspace.delete_file(_pending(date))


def settle(workspace: Workspace, tonight: dt.date, write: Callable[[NightRecord], None]) -> None:
    """Finish the records of nights that were stopped at the moment of their publication.

    Args:
        workspace: the workspace of the nightly builds, whose lock the caller holds.
        tonight: the date of the night that begins now. If an earlier run of this night was stopped before its version
            became current, that record is left for the new run.
        write: writes the outputs of a night.
    """
    for name in workspace.names("nights"):
        try:
            date = dt.date.fromisoformat(name)
        except ValueError:
            continue  # lightsage.prom
        if (night := announced(workspace, date)) is None:
            continue
        night.ended = night.ended or night.began
        if _was_current(workspace, str(night.version)):
            log.warning(
                "the run of %s was stopped after it had published %s: its record is completed", date, night.version
            )
            write(night)
        elif date == tonight:
            continue
        elif workspace.read_file(f"{night.folder}/night.json") is None:
            night.outcome = "failed"
            night.error = f"the run was stopped before {night.version} was made current"
            night.version = None
            write(night)
        confirm(workspace, date)


def _was_current(workspace: Workspace, version: str) -> bool:
    """Whether the version is current, or was current before a person rolled it back or another one was published."""
    if workspace.rollback_of(version):
        return True
    try:
        pointer = workspace.pointer()
    except (NoVersionError, CorruptVersionError):
        return False
    return version in (pointer.version, pointer.before)


def _pending(date: dt.date) -> str:
    return f"nights/{date}/publishing.json"
