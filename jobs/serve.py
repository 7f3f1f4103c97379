"""`lightsage serve`: the published version over HTTP, as of now or as of a fixed time."""

import datetime as dt
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.config import load_config
from jobs.evaluate import as_time
from jobs.store import Workspace

if TYPE_CHECKING:
    from retrieval.ads import Ads
    from retrieval.api import Snapshot

log = logging.getLogger(__name__)


def serve(uri: str, config_path: Path | None, *, host: str, port: int, at: str | None) -> int:
    """Serve until a signal says stop; returns the exit code.

    Args:
        at: the time of requests that name none: None = now, "as-of" = the version's as-of time, else an ISO time.

    Raises:
        AddressError: nothing can listen on that host and port.
        NoVersionError, CorruptVersionError, IndexFolderError: there is nothing to serve.
    """
    from retrieval.api import Snapshot, create_app
    from retrieval.index import read_index
    from retrieval.retriever import Retriever
    from retrieval.server import bind, create_server

    config, workspace = load_config(config_path), Workspace(uri)
    sockets = bind(host, port)  # before the work
    # The checksums take a third of the time that reading the index takes (measured on 0.2 GB), and name the damage.
    version = workspace.open(verify=True, parts=("index",))
    index = read_index(version.path / "index")
    snapshot = Snapshot(version.name, index.as_of, Retriever.of(index, config.retrieval))
    fixed = None if at is None else index.as_of if at == "as-of" else as_time(at)

    def load() -> "Snapshot":
        return snapshot

    def clock() -> dt.datetime:
        return fixed or dt.datetime.now(dt.UTC)

    app = create_app(load, workspace.current, config.serve, clock)
    server = create_server(app, host=host, port=port, config=config.serve)
    log.info("version %s, as of %s", version.name, index.as_of.isoformat())
    if index.ads is not None:
        _say_in_flight(index.ads, clock(), index.as_of)
    server.run(sockets)
    return 0 if server.started else 1


def _say_in_flight(ads: "Ads", at: dt.datetime, as_of: dt.datetime) -> None:
    """How many ads can be answered with; none is what a historical version has now."""
    from retrieval.ads import microseconds

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
