"""Leases: files in a workspace in which servers say what they serve, so that no version in use is deleted."""

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

# A lease older than this belongs to a server that is gone.
VALID_FOR = dt.timedelta(hours=24)


def served_versions(workspace: Workspace, within: dt.timedelta = VALID_FOR) -> set[str]:
    """Return the versions that servers are serving or loading, according to their leases.

    Args:
        workspace: where the leases lie.
        within: the age up to which a lease counts.
    """
    versions: set[str] = set()
    for path, content in workspace.read_files("serving/*.json").items():
        try:
            lease = json.loads(content)
            if dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(lease["at"]) <= within:
                versions.update(map(str, lease["versions"]))
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s is not a readable lease of a server (%s): delete it", path, error)
    return versions


class Lease:
    """The lease of this server: the versions that it is serving or loading.

    A server that cannot write to the workspace has no lease. In that case, set `[nightly] keep_versions` so high that
    no version in use is deleted.
    """

    RENEW_SECONDS = 3600.0

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._name = f"serving/{socket.gethostname()}-{os.getpid()}.json"
        self._versions: list[str] = []
        self._written = -math.inf

    def take(self, version: str) -> None:
        """Add a version that is about to be loaded."""
        self._versions.append(version)
        self._write()

    def drop(self, version: str) -> None:
        """Remove a version that is not served any more, or could not be loaded; takes effect at the next renewal."""
        self._versions.remove(version)
        self._written = -math.inf

    def current(self) -> str:
        """Return the name of the published version, and renew the lease if RENEW_SECONDS have passed."""
        if time.monotonic() - self._written > self.RENEW_SECONDS:
            self._write()
        return self._workspace.current()

    def end(self) -> None:
        """Delete the lease, because this server no longer serves anything."""
        with contextlib.suppress(OSError):
            self._workspace.delete_file(self._name)

    def _write(self) -> None:
        self._written = time.monotonic()
        lease = {"versions": self._versions, "at": dt.datetime.now(dt.UTC).isoformat()}
        try:
            self._workspace.write_file(self._name, json.dumps(lease).encode())
        except OSError as error:
            log.debug("the lease cannot be written: %s", error)
