"""Which version a night follows, and which days it learns from."""

import datetime as dt
from collections.abc import Callable

from jobs.config import Config
from jobs.errors import CorruptVersionError, FormatVersionError, NightError, NoVersionError
from jobs.pipeline.days import days_uri
from jobs.workspace.workspace import Version, Workspace

# The parts that a night reads of its parent.
PARTS = ("index", "embeddings", "model", "graph/full")

Warn = Callable[[str], None]


def find_parent(workspace: Workspace, date: dt.date, warn: Warn, *, force: bool) -> Version | None:
    """Return the version that the night of a date follows, is compared with, and starts its training from.

    This is the published version. If that one is of the same date, its parent is returned instead. If a version cannot
    be read, the newest one before it takes its place.

    Args:
        workspace: the workspace of the nightly builds.
        date: the date of the night.
        warn: called with a warning about versions that cannot be read.
        force: if the published version is of a later date, follow one of its ancestors instead of raising an error.

    Raises:
        NightError: the published version is of a later date, and the night would replace it.
    """
    begin = dt.datetime.combine(date, dt.time(), dt.UTC)
    try:
        name: str | None = workspace.current()
    except NoVersionError:
        return None
    except CorruptVersionError as error:
        warn(f"the name of the published version cannot be read: {error}")
        name = next(reversed(workspace.versions()), None)
    while name is not None:
        try:
            manifest = workspace.manifest(name)
            if manifest.as_of < begin:
                return workspace.open(name, verify=True, parts=PARTS)
        except (CorruptVersionError, FormatVersionError, NoVersionError) as error:
            warn(f"version {name} cannot be read, and is passed over: {error}")
            name = next((older for older in reversed(workspace.versions()) if older < name), None)
            continue
        if manifest.as_of >= begin + dt.timedelta(days=1) and not force:
            raise NightError(
                f"the published version {name} is of {manifest.as_of:%Y-%m-%d %H:%M} UTC: the night of {date} would "
                "replace it with an earlier one. Give --force to do so"
            )
        name = manifest.config.get("parent")
    return None


def find_days(workspace: Workspace, config: Config, date: dt.date, warn: Warn) -> tuple[dict[str, str], dict[str, int]]:
    """Find the stored days up to a date, from which its night learns.

    Args:
        workspace: where the days are stored.
        config: the full configuration.
        date: the date of the night.
        warn: called with a warning about missing days.

    Returns:
        (day → a name that changes whenever its sessions do; day → number of item events).

    Raises:
        NightError: the date is not stored, or no day before it is.
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
        warn(f"no events are stored of {', '.join(missing)}")
    return stored.contents, {str(day): facts.events for day, facts in days.items()}
