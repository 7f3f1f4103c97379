"""`lightsage serve`: the published version over HTTP, as of now or as of a fixed time."""

import datetime as dt
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import finalize

from jobs.config import load_config
from jobs.pipeline.evaluate import as_time
from jobs.workspace.server_leases import Lease
from jobs.workspace.workspace import Workspace

if TYPE_CHECKING:
    from retrieval.api.app import Snapshot
    from retrieval.catalogue.ads import Ads
    from retrieval.live.change_log import ChangeLog

log = logging.getLogger(__name__)


def serve(
    uri: str, config_path: Path | None, *, host: str, port: int, at: str | None, changes: Path | None = None
) -> int:
    """Serve until a signal says stop; returns the exit code.

    Args:
        at: the time of requests that name none: None = now, "as-of" = the version's as-of time, else an ISO time.
        changes: the SQLite file of the live changes; None = `changes.sqlite` in the workspace.

    Raises:
        AddressError: nothing can listen on that host and port.
        NoVersionError, CorruptVersionError, IndexFolderError: there is nothing to serve.
        ChangeLogError: the live changes cannot be read.
    """
    from retrieval.api.app import Snapshot, Tokens, create_app
    from retrieval.api.server import bind, create_server
    from retrieval.api.state import warm
    from retrieval.index_folder import read_index
    from retrieval.search.retriever import Retriever

    config, workspace = load_config(config_path), Workspace(uri)
    sockets = bind(host, port)  # before the work
    fixed = None if at in (None, "as-of") else as_time(str(at))

    def clock(as_of: dt.datetime) -> dt.datetime:
        return fixed or (as_of if at == "as-of" else dt.datetime.now(dt.UTC))

    lease = Lease(workspace)

    def load() -> "Snapshot":
        # The checksums take a third of the time that reading the index takes (measured on 0.2 GB), and name the damage.
        taken = workspace.current()
        lease.take(taken)
        try:
            version = workspace.open(taken, verify=True, parts=("index",))
            index = read_index(version.path / "index")
            log.info("version %s, as of %s", version.name, index.as_of.isoformat())
            if index.ads is not None:
                _say_in_flight(index.ads, clock(index.as_of), index.as_of)
            snapshot = Snapshot(version.name, index.as_of, Retriever.of(index, config.retrieval))
        except BaseException:
            lease.drop(taken)
            raise
        finalize(snapshot, lease.drop, taken).atexit = False
        return snapshot

    try:
        first = [load()]  # what is wrong with it must be said before a server starts
        warm(first[0].retriever, clock(first[0].as_of))
    except BaseException:
        lease.end()
        raise
    tokens = Tokens(os.environ.get("LIGHTSAGE_WRITE_TOKEN") or None, os.environ.get("LIGHTSAGE_READ_TOKEN") or None)
    app = create_app(
        lambda: first.pop() if first else load(),
        lease.current,
        config.serve,
        clock,
        _change_log(changes or workspace.local_path("changes.sqlite"), uri),
        tokens,
    )
    server = create_server(app, host=host, port=port, config=config.serve, on_stop=lease.end)
    server.run(sockets)
    return 0 if server.started else 1


def _change_log(path: Path | None, uri: str) -> "ChangeLog":
    from retrieval.live.change_log import MemoryChangeLog, SqliteChangeLog

    if path is None:
        log.warning(
            "workspace %s is remote: live changes end with this server; keep them in a file with --changes", uri
        )
        return MemoryChangeLog()
    return SqliteChangeLog(path)


def _say_in_flight(ads: "Ads", at: dt.datetime, as_of: dt.datetime) -> None:
    """How many ads can be answered with; none is what a historical version has now."""
    from retrieval.times import microseconds

    n = ads.in_flight(microseconds(at))
    said = f"{n:,} of {len(ads):,} ads are in flight at {at.isoformat(timespec='seconds')}"
    if n:
        log.info(said)
        return
    then = ads.in_flight(microseconds(as_of))
    way_out = (
        f"serve the version as it would have been with --at as-of ({then:,} ads were in flight then)"
        if then
        else "none was at the version's as-of time either: run again with the campaigns of today"
    )
    log.warning("%s, so requests that name no other time get no result; %s", said, way_out)
