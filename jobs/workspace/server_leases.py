"""Leases: files in which servers name the versions that they use, so that no version in use is deleted."""

import contextlib
import datetime as dt
import json
import logging
import math
import os
import socket
import time
import uuid

from jobs.errors import StoreError
from jobs.workspace.workspace import Workspace

log = logging.getLogger(__name__)

# A lease older than this belongs to a server that is gone.
VALID_FOR = dt.timedelta(hours=24)


def served_versions(workspace: Workspace, within: dt.timedelta = VALID_FOR) -> set[str]:
    """Return the versions that servers are serving or loading, according to their leases.

    The clocks of servers may be wrong. So a lease counts if it is young enough by the time that the server wrote into
    it, or by the time that the store recorded for it.

    Args:
        workspace: the workspace of the leases.
        within: the age up to which a lease counts.

    Raises:
        StoreError: a lease that counts cannot be read, so the version in use is unknown.
    """
    versions: set[str] = set()
    now = dt.datetime.now(dt.UTC)
    for name, written in workspace.written_at("serving").items():
        if not name.endswith(".json") or (content := workspace.read_file(f"serving/{name}")) is None:
            continue
        try:
            lease = json.loads(content)
            named, at = set(map(str, lease["versions"])), dt.datetime.fromisoformat(lease["at"])
            times = [at if at.tzinfo else at.replace(tzinfo=dt.UTC), *([written] if written else [])]
        except (ValueError, KeyError, TypeError) as error:
            if written is None or now - written <= within:
                raise StoreError(
                    f"serving/{name} is not a readable lease of a server ({error}), so any version may be in use: "
                    f"delete it in workspace {workspace.uri} once its server has ended"
                ) from error
            continue
        if any(now - time <= within for time in times):
            versions |= named
    return versions


class Lease:
    """The lease of this server, which names the versions that the server is serving or loading.

    A server that cannot write to the workspace has no lease. For such servers, set `[nightly] keep_versions` so high
    that no version in use is deleted.
    """

    RENEW_SECONDS = 3600.0

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        # Random, because two containers may share a host name and a process id.
        self._name = f"serving/{uuid.uuid4().hex}.json"
        self._versions: list[str] = []
        self._written = -math.inf

    def take(self, version: str) -> None:
        """Add a version that is about to be loaded."""
        self._versions.append(version)
        self._write()

    def drop(self, version: str) -> None:
        """Remove a version that is no longer served, or could not be loaded; the lease changes at the next renewal."""
        self._versions.remove(version)
        self._written = -math.inf

    def current(self) -> str:
        """Return the name of the published version, and renew the lease if RENEW_SECONDS have passed."""
        if time.monotonic() - self._written > self.RENEW_SECONDS:
            self._write()
        return self._workspace.current()

    def end(self) -> None:
        """Delete the lease, because this server no longer serves anything."""
        with contextlib.suppress(OSError, StoreError):
            self._workspace.delete_file(self._name)

    def _write(self) -> None:
        self._written = time.monotonic()
        lease = {
            "versions": self._versions,
            "at": dt.datetime.now(dt.UTC).isoformat(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        try:
            self._workspace.write_file(self._name, json.dumps(lease).encode())
        except (OSError, StoreError) as error:
            log.debug("the lease cannot be written: %s", error)
