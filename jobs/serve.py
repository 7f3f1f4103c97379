"""`lightsage serve`: the published version over HTTP, as of now or as of a fixed time."""

import datetime as dt
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.config import load_config
from jobs.evaluate import as_time
from jobs.store import Workspace

if TYPE_CHECKING:
    from retrieval.api import Snapshot

log = logging.getLogger(__name__)


def serve(uri: str, config_path: Path | None, *, host: str, port: int, at: str | None) -> int:
    """Serve until a signal says stop; returns the exit code.

    Args:
        at: the time of requests that name none: None = now, "as-of" = the version's as-of time, else an ISO time.

    Raises:
        NoVersionError, IndexFolderError: there is nothing to serve; no socket was opened.
    """
    from retrieval.api import Snapshot, create_app
    from retrieval.index import read_index
    from retrieval.retriever import Retriever
    from retrieval.server import create_server

    config, workspace = load_config(config_path), Workspace(uri)
    version = workspace.open()
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
    server.run()
    return 0 if server.started else 1
