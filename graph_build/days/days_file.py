"""The file `days.json` of a store of days: which folder holds which day, and which users are forgotten.

    STORE/days.json
    STORE/<ingest>/<day>/sessions/ clicks/ searches/     one folder for each day that an ingest stored
    STORE/<ingest>/quarantine/day=<day>/                 the rows that were refused when that day was stored

`days.json` is replaced in one step. The folders that the new file names are written before, and the folders that it no
longer names are removed afterwards. So a process that is killed leaves the store intact, and the next writer deletes
the folders that `days.json` does not name. Only one process may write to a store at a time: the caller holds the lock
of the workspace.
"""

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from uuid import uuid4

from graph_build.config import EventsInput, GraphConfig
from graph_build.day_zone import UTC
from graph_build.edges.caps import CutGroup
from graph_build.errors import GraphInputError
from graph_build.spark.storage import join, list_folder, read_text, remove_folder, write_text

FORMAT = 3
READ_FORMATS = (2, FORMAT)
_INGEST = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")
_INGEST_TIME = "%Y%m%dT%H%M%S"


@dataclass(frozen=True)
class StoredDay:
    """A stored day, as it stands in `days.json`.

    Args:
        folder: the day's folder, as a path below the store.
        events: number of item events.
        last: time of the last event, in microseconds since 1970.
        impressions: number of impressions.
        cut_searches: number of items that the cap removed from searches.
        most_cut: the groups that the caps cut most (`caps.most_cut_in_days`).
        source: a fingerprint of the files behind the day, so that the same files are not read again.
        refused: reason → number of rows that were refused when the day was stored.
        whole: False if only a few stray rows of the day came, with the logs of other days. Its own log completes it.
        forgotten: number of users that are deleted from the day. They are the first in `DaysFile.forgotten`.
    """

    folder: str
    events: int
    last: int
    impressions: int
    cut_searches: int
    most_cut: list[CutGroup]
    source: str | None = None
    refused: dict[str, int] = field(default_factory=dict)
    whole: bool = True
    forgotten: int = 0

    @property
    def ingest(self) -> str:
        """The folder of the ingest that stored the day, as a name in the store."""
        return self.folder.split("/")[0]

    def quarantine(self, day: dt.date) -> str:
        """Return the folder of the refused rows, as a path below the store. It may be missing."""
        return f"{self.ingest}/quarantine/day={day}"


@dataclass(frozen=True)
class DaysFile:
    """The content of `days.json`.

    Args:
        settings: the settings with which the days were stored (`settings_of`).
        days: date → day.
        forgotten: hashes of the forgotten users, in the order in which they were forgotten. Later reads leave out
            the sessions of these users.
        exists: whether the file exists. If it does not, nothing is known about the folders of the store.
    """

    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    days: dict[dt.date, StoredDay] = field(default_factory=dict)
    forgotten: tuple[int, ...] = ()
    exists: bool = False

    def check_settings(self, root: str, config: GraphConfig) -> None:
        """Refuse a configuration whose settings differ from those of the stored days.

        Raises:
            GraphInputError: the settings differ.
        """
        settings = settings_of(config)
        if self.days and self.settings != settings:
            raise GraphInputError(
                f"{root}: the days were stored with {self.settings}, but the configuration says {settings}; "
                "a store has one configuration: use another store, or change the configuration back"
            )


def settings_of(config: GraphConfig) -> dict[str, dict[str, Any]]:
    """Return the settings on which the stored `rows` and `aggregates` depend."""
    clicks = config.strong_click
    # Earlier releases stored days of UTC without naming the zone, so UTC is still not named.
    zone = {} if config.input.day_zone == UTC else {"day_zone": config.input.day_zone}
    # They did not cut sessions at pauses, so the default gap is not named either.
    gap = config.input.events.session_gap
    pauses = {} if gap == EventsInput().session_gap else {"session_gap": gap}
    return {
        "rows": zone
        | pauses
        | {
            "max_session_items": clicks.max_session_items,
            "max_basket_items": config.co_purchase.max_basket_items,
            "exclude_ad_events": config.input.events.exclude_ad_events,
        },
        "aggregates": {
            "max_gap_minutes": clicks.max_gap_minutes,
            "max_steps": clicks.max_steps,
            "max_items_per_search": config.co_search.max_items_per_search,
            "seed": config.co_search.seed,
        },
    }


def read_days_file(root: str) -> DaysFile:
    """Read `days.json`. If the file does not exist, the store is empty.

    Args:
        root: the store.

    Raises:
        GraphInputError: the file is damaged, or of another format.
    """
    text = read_text(join(root, "days.json"))
    if text is None:
        return DaysFile()
    try:
        content = json.loads(text)
        version = content["format_version"]
        if version in READ_FORMATS:
            days = {dt.date.fromisoformat(name): StoredDay(**day) for name, day in content["days"].items()}
            return DaysFile(content["settings"], days, tuple(map(int, content.get("forgotten", ()))), exists=True)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GraphInputError(
            f"{root}/days.json is damaged ({error}): ingest the days again into another store"
        ) from None
    raise GraphInputError(
        f"{root}/days.json has format {version}, this program reads the formats 2 and {FORMAT}: ingest the days again "
        "into another store"
    )


def write_days_file(root: str, file: DaysFile) -> None:
    """Replace `days.json` in one step.

    Args:
        root: the store.
        file: the new content.
    """
    content = {
        "format_version": FORMAT,
        "settings": file.settings,
        "forgotten": [str(user) for user in file.forgotten],  # as text: many programs read numbers of JSON as doubles
        "days": {str(day): asdict(stored) for day, stored in sorted(file.days.items())},
    }
    write_text(join(root, "days.json"), json.dumps(content, indent=2))


def put_days(root: str, file: DaysFile, new: Mapping[dt.date, StoredDay | None], config: GraphConfig) -> None:
    """Put new days into the store (None deletes a day), then remove the days that they replace, with their quarantine.

    Args:
        root: the store.
        file: the content of `days.json` so far.
        new: date → its new entry.
        config: the settings with which the new days were stored.
    """
    days = {day: stored for day, stored in {**file.days, **new}.items() if stored is not None}
    write_days_file(root, replace(file, settings=settings_of(config), days=days))
    folders = {stored.folder for stored in days.values()}
    ingests = {stored.ingest for stored in days.values()}
    replaced = {day: stored for day, stored in file.days.items() if stored.folder not in folders}
    for ingest in sorted({stored.ingest for stored in replaced.values()} - ingests):
        remove_folder(join(root, ingest))
    for day, stored in replaced.items():
        if stored.ingest in ingests:
            remove_folder(join(root, stored.folder))
            remove_folder(join(root, stored.quarantine(day)))


@contextmanager
def new_ingest_folder(root: str) -> Iterator[str]:
    """Yield the name of a new folder of the store. If the `with` block fails, remove the folder."""
    folder = f"{dt.datetime.now(dt.UTC).strftime(_INGEST_TIME)}-{uuid4().hex[:8]}"
    try:
        yield folder
    except BaseException:
        remove_folder(join(root, folder))
        raise


def sweep(root: str, file: DaysFile, quarantine_days: float) -> list[str]:
    """Remove folders that `days.json` does not name (killed processes left them), and quarantine that is too old.

    Args:
        root: the store.
        file: the content of `days.json`. If the file does not exist, nothing is removed.
        quarantine_days: the age in days at which refused rows are deleted.

    Returns:
        The removed folders, as paths below the store.
    """
    if not file.exists:
        return []
    named = {stored.folder for stored in file.days.values()}
    named |= {stored.quarantine(day) for day, stored in file.days.items()}
    oldest = dt.datetime.now(dt.UTC) - dt.timedelta(days=quarantine_days)
    removed = []
    for ingest in filter(_INGEST.fullmatch, list_folder(root)):
        time = dt.datetime.strptime(ingest[:15], _INGEST_TIME).replace(tzinfo=dt.UTC)
        if not any(folder.startswith(f"{ingest}/") for folder in named):
            removed.append(ingest)
            continue
        unnamed = [f"{ingest}/{name}" for name in list_folder(join(root, ingest)) if name != "quarantine"]
        parts = [f"{ingest}/quarantine/{name}" for name in list_folder(join(root, ingest, "quarantine"))]
        removed += [folder for folder in unnamed if folder not in named]
        if time <= oldest:
            removed += [f"{ingest}/quarantine"] if parts else []
        else:
            removed += [part for part in parts if "/day=" in part and part not in named]
    for folder in removed:
        remove_folder(join(root, folder))
    return removed


def undated_quarantine(root: str) -> list[str]:
    """Return the folders in which format 2 kept refused rows, not split by day, as paths below the store."""
    folders = [f"{ingest}/quarantine" for ingest in filter(_INGEST.fullmatch, list_folder(root))]
    return [folder for folder in folders if any(name.endswith(".parquet") for name in list_folder(join(root, folder)))]
