"""Finds the version that a night follows, and the days from which the night learns."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobs.config import Config
from jobs.errors import CorruptVersionError, FormatVersionError, NightError, NoVersionError
from jobs.pipeline.days import days_uri
from jobs.workspace.version_folder import Version
from jobs.workspace.workspace import Workspace

# The parts of its parent that a night reads.
PARTS = ("index", "embeddings", "model", "graph/full")

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Parent:
    """The version that a night follows.

    Args:
        version: the version; its parts are readable.
        has_seen_the_day: whether the version was built by `run` and learned from the night's day too. If so, its hit
            rates on that day say nothing, and a model that starts from its weights would know the answers.
    """

    version: Version
    has_seen_the_day: bool = False


def find_parent(workspace: Workspace, date: dt.date, warn: Warn, *, force: bool, zone: str = "UTC") -> Parent | None:
    """Return the version that the night of a date follows: it is the one to compare with and to start training from.

    This is the published version. If that is a night of the same date, its parent is returned instead. If a version
    cannot be read, or has a part in another format, the version that was published before it is returned instead.

    Args:
        workspace: the workspace of the nightly builds.
        date: the date of the night.
        warn: called with a warning about versions that cannot be read.
        zone: the time zone of the days (`[input] day_zone`).
        force: if the published version is of a later date, follow one of its ancestors instead of raising an error.

    Raises:
        NightError: the published version is of a later date, and the night would replace it.
    """
    from graph_build.day_zone import midnight

    begin, end = midnight(date, zone), midnight(date + dt.timedelta(days=1), zone)
    try:
        published, doubt = workspace.published()
    except NoVersionError:
        return None
    except CorruptVersionError as error:
        warn(f"the name of the published version cannot be read: {error}")
        return None
    if doubt:
        warn(doubt)
    order, passed_over = workspace.versions(), workspace.rollbacks()
    name: str | None = published
    before: str | None
    problem: str | None
    older = order
    while name is not None:
        older = order[: order.index(name)] if name in order else older
        before = next((version for version in reversed(older) if version not in passed_over), None)
        try:
            manifest = workspace.manifest(name)
            if manifest.as_of >= end and not force:
                raise NightError(
                    f"the published version {name} is of {manifest.as_of:%Y-%m-%d %H:%M} UTC: the night of {date} "
                    "would replace it with an earlier one. Give --force to do so"
                )
            if manifest.as_of >= begin and ("parent" in manifest.config or manifest.as_of >= end):
                name = manifest.config.get("parent", before)
                continue
            version = workspace.open(name, verify=True, parts=PARTS)
        except (CorruptVersionError, FormatVersionError, NoVersionError) as error:
            problem = str(error)
        else:
            if (problem := unreadable_part(version.path)) is None:
                if seen := manifest.as_of >= begin:
                    warn(
                        f"the published version {name} was built by `run` and has seen {date}: it is followed and "
                        "compared, but no gate judges its hits on that day, and training starts from scratch"
                    )
                return Parent(version, seen)
        warn(f"version {name} cannot be read, and is passed over: {problem}")
        name = before
    return None


def unreadable_part(version: Path) -> str | None:
    """Return why the index or the embeddings of a version cannot be read; None if they can.

    Args:
        version: the folder of the version.
    """
    from model.embeddings import Embeddings
    from retrieval.index_folder import read_index

    try:
        read_index(version / "index")
        Embeddings.load(version / "embeddings")
    except Exception as error:  # an unknown format may raise any error, and it must not fail the night later on
        return " ".join(str(error).split()) or type(error).__name__
    return None


def find_days(workspace: Workspace, config: Config, date: dt.date, warn: Warn) -> tuple[dict[str, str], dict[str, int]]:
    """Find the stored days up to a date, from which its night learns.

    Args:
        workspace: where the days are stored.
        config: the full configuration.
        date: the date of the night.
        warn: called with a warning about missing days.

    Returns:
        (day → a name that changes whenever the day's sessions change; day → number of item events).

    Raises:
        NightError: the date is not stored, or no day before the date is stored.
        GraphInputError: no day is stored, or the days were stored with other settings.
    """
    from graph_build.days.store import stored_days

    stored = stored_days(days_uri(workspace, config), config.graph, date)
    days = stored.days
    if date not in days:
        raise NightError(
            f"no events of {date} are stored: give them with --events, or store them with `lightsage ingest`"
        )
    if len(days) < 2:
        raise NightError(
            f"{date} is the only stored day, but a night learns from the days before it: `lightsage ingest` them first"
        )
    first = min(days)
    calendar = (first + dt.timedelta(days=n) for n in range((date - first).days))
    if missing := [str(day) for day in calendar if day not in days]:
        warn(f"no events are stored for {', '.join(missing)}")
    return stored.contents, {str(day): facts.events for day, facts in days.items()}
