"""Builds, retrains and publishes versions, as `lightsage run`, `run --graph` and `publish` do."""

import datetime as dt
from typing import TYPE_CHECKING, Any

from jobs.errors import InputNotFoundError
from jobs.pipeline.build import run
from jobs.pipeline.inputs import RunInputs
from jobs.progress import StageProgress
from jobs.python.arguments import Paths, Place, Settings, as_config, as_date, as_paths, as_workspace
from jobs.workspace.version_folder import Version

if TYPE_CHECKING:
    from jobs.candidates.publish import Publication


def build(
    workspace: Place,
    events: Paths,
    *,
    items: Any = None,
    ads: Any = None,
    date: dt.date | str | None = None,
    config: Settings = None,
    publish: bool = True,
) -> Version:
    """Build a version from logs and publish it, as `lightsage run` does.

    Args:
        workspace: where the version is stored.
        events: files or folders of events.
        items: path of the item catalogue, if there is one.
        ads: path of the ads table; without it, every item counts as advertised.
        date: the last day to use; None = the day of the last event.
        config: the settings.
        publish: if false, the version is only stored, and the published version stays the same.

    Returns:
        The version: its `name`, its folder `path` and its `manifest`.

    Raises:
        JobError, StoreError and the errors of graph_build, model and retrieval: nothing was published; the message says
            what to change.
    """
    tables = (None if path is None else str(path) for path in (items, ads))
    return _run(RunInputs(as_paths(events), *tables), workspace, config, as_date(date), publish)


def train(workspace: Place, version: str | None = None, *, config: Settings = None, publish: bool = False) -> Version:
    """Train again on the item graph of a version, with other settings and without Spark, as `run --graph` does.

    The graph, its hold-out and its ads stay as they are, so settings of `[input]` and `[graph]` change nothing. The
    settings of the model, the session encoder, the pre-ranker, the validation and the retrieval take effect.

    Args:
        workspace: where both versions are stored.
        version: the version whose graph is used; None = the published one.
        config: the settings.
        publish: whether to publish the new version.

    Returns:
        The new version; `compare` says whether it is better.

    Raises:
        JobError, StoreError and the errors of graph_build, model and retrieval: nothing was stored; the message says
            what to change.
    """
    graph = as_workspace(workspace).open(version, verify=True, parts=("graph",)).path / "graph"
    if not (graph / "summary.json").is_file():
        raise InputNotFoundError(f"{graph} holds no item graph; build a version from logs first")
    return _run(RunInputs(graph=str(graph)), workspace, config, None, publish)


def publish(
    workspace: Place, version: str, *, events: Paths = (), config: Settings = None, force: bool = False
) -> "Publication":
    """Publish a version that was built with `publish=False`, if it passes the gates of a night.

    Args:
        workspace: where the version is stored.
        version: its name.
        events: files or folders of later events, on which the version's hits are judged; empty = hits are not judged.
        config: the settings; `[nightly]` sets the limits of the gates.
        force: publish even if gates fail; this is recorded.

    Returns:
        The names of this version and of the version published before, and the gates.

    Raises:
        GateError: a gate failed; the version published before stays current.
    """
    from jobs.candidates.publish import publish_version

    return publish_version(
        as_workspace(workspace),
        version,
        as_config(config),
        events=as_paths(events),
        force=force,
        progress=StageProgress(),
    )


def _run(inputs: RunInputs, workspace: Place, config: Settings, date: dt.date | None, publish: bool) -> Version:
    return run(inputs, as_workspace(workspace), as_config(config), date=date, progress=StageProgress(), publish=publish)
