"""Leases: notes in a workspace of the versions that servers serve, so that none of those is deleted."""

import contextlib
import datetime as dt
import json
import logging
import math
import os
import socket
import time

from jobs.workspace.workspace import Workspace

log = logging.getLogger(__name__)

# A server that says nothing for so long is taken to be gone.
VALID = dt.timedelta(hours=24)


def served(workspace: Workspace, within: dt.timedelta = VALID) -> set[str]:
    """The versions that servers have said, within that time, to serve or to be about to."""
    found: set[str] = set()
    for path, content in workspace.notes("serving/*.json").items():
        try:
            said = json.loads(content)
            if dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(said["at"]) <= within:
                found.update(map(str, said["versions"]))
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s says nothing about what is served (%s): delete it", path, error)
    return found


class Lease:
    """A note in the workspace of the versions that this server serves or tries to, so that none of them is deleted.

    Where the workspace cannot be written to there is none: keep enough versions then.
    """

    RENEW_SECONDS = 3600.0

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._name = f"serving/{socket.gethostname()}-{os.getpid()}.json"
        self._versions: list[str] = []
        self._written = -math.inf

    def take(self, version: str) -> None:
        """This version is about to be served, beside those that were taken and not dropped."""
        self._versions.append(version)
        self._write()

    def drop(self, version: str) -> None:
        """This version is not served any more, or could not be; the note says so when it is renewed next."""
        self._versions.remove(version)
        self._written = -math.inf

    def current(self) -> str:
        """The published version's name; now and then the note is renewed."""
        if time.monotonic() - self._written > self.RENEW_SECONDS:
            self._write()
        return self._workspace.current()

    def end(self) -> None:
        """Nothing is served any more."""
        with contextlib.suppress(OSError):
            self._workspace.forget_note(self._name)

    def _write(self) -> None:
        self._written = time.monotonic()
        said = {"versions": self._versions, "at": dt.datetime.now(dt.UTC).isoformat()}
        try:
            self._workspace.note(self._name, json.dumps(said).encode())
        except OSError as error:
            log.debug("no note of what is served: %s", error)
