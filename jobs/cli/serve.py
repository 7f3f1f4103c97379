"""`lightsage serve`: serves the published version over HTTP, with the ads of the current time or of a fixed time."""

import datetime as dt
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import finalize

from jobs.config import Config, load_config
from jobs.pipeline.evaluate import as_time
from jobs.workspace.server_leases import Lease
from jobs.workspace.workspace import Workspace

if TYPE_CHECKING:
    from retrieval.api.app import Snapshot
    from retrieval.catalogue.ads import Ads
    from retrieval.live.change_log import ChangeLog

log = logging.getLogger(__name__)

Clock = Callable[[dt.datetime], dt.datetime]
"""A function that takes the version's as-of time, and returns the time for requests that name no time."""


def serve(
    uri: str, config_path: Path | None, *, host: str, port: int, at: str | None, changes: Path | None = None
) -> int:
    """Serve until a signal stops the server, and return the exit code.

    Args:
        uri: the workspace.
        config_path: the configuration file; None = the defaults.
        host: the address to listen on.
        port: the port to listen on; 0 = any free port.
        at: the time for requests that name no time, as an ISO time; "as-of" = the version's as-of time, None = now.
        changes: the SQLite file of the live changes; None = `changes.sqlite` in the workspace. If the workspace is
            remote, None = the live changes are kept in memory only.

    Raises:
        TokenError: a token is empty, or cannot be sent in a header.
        AddressError: the server cannot listen on that host and port.
        NoVersionError, CorruptVersionError, IndexFolderError: there is no version that can be served.
        ChangeLogError: the live changes cannot be read.
    """
    from retrieval.api.app import Tokens, create_app
    from retrieval.api.server import bind, create_server
    from retrieval.api.state import warm

    config, workspace = load_config(config_path), Workspace(uri)
    tokens = Tokens(os.environ.get("LIGHTSAGE_WRITE_TOKEN"), os.environ.get("LIGHTSAGE_READ_TOKEN"))
    sockets = bind(host, port)  # before the slow load of the version, so that an error comes at once
    clock, lease = _clock(at), Lease(workspace)
    loader = _SnapshotLoader(workspace, lease, config, clock)
    try:
        # Load the version and the log before the server starts: if one is unreadable, the command ends with an error.
        first = [loader.load()]
        warm(first[0].retriever, clock(first[0].as_of))
        path = changes or workspace.local_path("changes.sqlite")
        change_log = _change_log(path, uri, takes_changes=tokens.write is not None)
    except BaseException:
        lease.end()
        raise
    app = create_app(
        lambda: first.pop() if first else loader.load(),
        lease.current,
        config.serve,
        clock,
        change_log,
        tokens,
    )
    server = create_server(app, host=host, port=port, on_stop=lease.end)
    server.run(sockets)
    return 0 if server.started else 1


class _SnapshotLoader:
    """Loads the published version of a workspace, and holds a lease on it while it is in memory."""

    def __init__(self, workspace: Workspace, lease: Lease, config: Config, clock: Clock) -> None:
        self._workspace, self._lease, self._config, self._clock = workspace, lease, config, clock

    def load(self) -> "Snapshot":
        from retrieval.api.app import Snapshot
        from retrieval.index_folder import read_index
        from retrieval.search.retriever import Retriever

        name = self._workspace.current()
        self._lease.take(name)
        try:
            # To verify the checksums takes a third of the time that reading the index takes (measured on 0.2 GB). In
            # return, the error names the damaged file.
            version = self._workspace.open(name, verify=True, parts=("index",))
            index = read_index(version.path / "index")
            log.info("version %s, as of %s", version.name, index.as_of.isoformat())
            if index.ads is not None:
                _log_ads_in_flight(index.ads, self._clock(index.as_of), index.as_of)
            snapshot = Snapshot(version.name, index.as_of, Retriever.of(index, self._config.retrieval))
        except BaseException:
            self._lease.drop(name)
            raise
        finalize(snapshot, self._lease.drop, name).atexit = False
        return snapshot


def _clock(at: str | None) -> Clock:
    if at is None:
        return lambda _as_of: dt.datetime.now(dt.UTC)
    if at == "as-of":
        return lambda as_of: as_of
    fixed = as_time(at)
    return lambda _as_of: fixed


def _change_log(path: Path | None, uri: str, *, takes_changes: bool) -> "ChangeLog":
    """Open and read the log of live changes; a server that takes no changes does not change the file."""
    from retrieval.live.change_log import MemoryChangeLog, SqliteChangeLog

    if path is None:
        log.warning(
            "workspace %s is remote, so live changes are lost when this server stops; keep them in a local file with "
            "--changes FILE",
            uri,
        )
        return MemoryChangeLog()
    change_log = SqliteChangeLog(path, read_only=not takes_changes)
    start = time.perf_counter()
    changes = change_log.read_ahead()
    if changes:
        seconds = time.perf_counter() - start
        log.info("%s: %d ads and campaigns with live changes, read in %.1f s", path, changes, seconds)
    return change_log


def _log_ads_in_flight(ads: "Ads", at: dt.datetime, as_of: dt.datetime) -> None:
    """Log how many ads are in flight; if none is, as is usual for an old version, also log what to do."""
    from retrieval.times import microseconds

    n = ads.in_flight(microseconds(at))
    message = f"{n:,} of {len(ads):,} ads are in flight at {at.isoformat(timespec='seconds')}"
    if n:
        log.info(message)
        return
    then = ads.in_flight(microseconds(as_of))
    way_out = (
        f"to serve the version as of its as-of time, when {then:,} ads were in flight, add --at as-of"
        if then
        else "none was in flight at the version's as-of time either; build a version with current campaigns"
    )
    log.warning("%s, so requests that name no other time get no results; %s", message, way_out)
