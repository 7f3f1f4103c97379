"""Which version a night follows, and which days it learns from."""

import datetime as dt
from collections.abc import Callable

from jobs.config import Config
from jobs.errors import CorruptVersionError, FormatVersionError, NightError, NoVersionError
from jobs.pipeline.days import days_of
from jobs.workspace.workspace import Version, Workspace

# What a night reads of the version that it follows.
PARTS = ("index", "embeddings", "model", "graph/full")

Doubt = Callable[[str], None]


def followed(workspace: Workspace, date: dt.date, doubt: Doubt, *, force: bool) -> Version | None:
    """The version that the night of a date follows: the published one, or where that is of this date, its parent.

    It is compared with, and warms the start. One that cannot be read is passed over for the newest before it.

    Args:
        doubt: is told what cannot be read. force: go back behind a version of a later date.

    Raises:
        NightError: what is published is of a later date, and a night must not replace it.
    """
    begin = dt.datetime.combine(date, dt.time(), dt.UTC)
    try:
        name: str | None = workspace.current()
    except NoVersionError:
        return None
    except CorruptVersionError as error:
        doubt(f"which version is published cannot be read: {error}")
        name = next(reversed(workspace.versions()), None)
    while name is not None:
        try:
            manifest = workspace.manifest(name)
            if manifest.as_of < begin:
                return workspace.open(name, verify=True, parts=PARTS)
        except (CorruptVersionError, FormatVersionError, NoVersionError) as error:
            doubt(f"version {name} cannot be read, and is passed over: {error}")
            name = next((older for older in reversed(workspace.versions()) if older < name), None)
            continue
        if manifest.as_of >= begin + dt.timedelta(days=1) and not force:
            raise NightError(
                f"version {name} is published, and of {manifest.as_of:%Y-%m-%d %H:%M} UTC: the night of {date} would "
                "replace it by an earlier one. Give --force if that is wanted"
            )
        name = manifest.config.get("parent")
    return None


def learned_days(
    workspace: Workspace, config: Config, date: dt.date, doubt: Doubt
) -> tuple[dict[str, str], dict[str, int]]:
    """The stored days up to the date: the folder of each, which `forget` and a log sent again change; its item events.

    Raises:
        NightError: the date is not among them, or none before it is.
        GraphInputError: none is stored, or they were stored with other settings.
    """
    from graph_build.days.store import stored

    days = dict(sorted(stored(days_of(workspace, config), config.graph, date).days.items()))
    if date not in days:
        raise NightError(f"no events of {date} are stored: give --events that hold them, or `lightsage ingest` them")
    if len(days) < 2:
        raise NightError(
            f"{date} is the only stored day; a night learns from the days before it: `lightsage ingest` them first"
        )
    first = min(days)
    every = (first + dt.timedelta(days=n) for n in range((date - first).days))
    if missing := [str(day) for day in every if day not in days]:
        doubt(f"no events are stored of {', '.join(missing)}")
    folders = {str(day): facts.folder for day, facts in days.items()}
    return folders, {str(day): facts.events for day, facts in days.items()}
