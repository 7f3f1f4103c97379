"""Reads stored days, so that a nightly build reads only one new day of the log instead of the whole window.

A store is a folder, which `days_file` describes. Users are stored as hashes; no part of the build keeps their ids.
"""

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from graph_build.config import GraphConfig
from graph_build.days.days_file import StoredDay, read_days_file, settings_of
from graph_build.decay import day_number
from graph_build.edges.caps import CutGroup
from graph_build.errors import GraphInputError
from graph_build.sessions.rows import without_users
from graph_build.sessions.schema import SESSION_ROW_IN_SPARK
from graph_build.spark.session import by_literal_name, reader
from graph_build.spark.storage import exists, join

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

CLICKS = "day int, src bigint, dst bigint, steps int, count bigint"
SEARCHES = "day int, low bigint, high bigint, count bigint"


@dataclass(frozen=True)
class StoredDays:
    """The stored days that a build reads.

    Args:
        root: the store.
        days: date → day.
        aggregates_match: whether the aggregates were made from the same sessions with the settings of the build.
        forgotten: hashes of users whose sessions are left out. Empty if the days hold no forgotten users.
    """

    root: str
    days: dict[dt.date, StoredDay]
    aggregates_match: bool
    forgotten: tuple[int, ...] = ()

    @property
    def as_of(self) -> dt.datetime:
        """The time of the last event."""
        last = max(day.last for day in self.days.values())
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=last)

    def rows(self, spark: "SparkSession") -> "DataFrame":
        """Return the rows of sessions of all days, without those of forgotten users."""
        return without_users(self._read(spark, "sessions", SESSION_ROW_IN_SPARK, list(self.days)), self.forgotten)

    def aggregates(self, spark: "SparkSession", name: str, schema: str, before: int) -> "DataFrame":
        """Return the stored counts of the days before a day number, in two equal columns `full` and `fit`."""
        early = [day for day in self.days if day_number(day) < before]
        counts = self._read(spark, name, schema, early)
        return counts.withColumnRenamed("count", "full").withColumn("fit", F.col("full"))

    @property
    def most_cut(self) -> list[CutGroup]:
        """One list of the groups that the caps cut most on each day."""
        return [CutGroup(*group) for day in self.days.values() for group in day.most_cut]

    @property
    def refused(self) -> dict[str, int]:
        """Reason → number of rows that were refused when the days were stored."""
        total: dict[str, int] = {}
        for day in self.days.values():
            for reason, n in day.refused.items():
                total[reason] = total.get(reason, 0) + n
        return total

    @property
    def contents(self) -> dict[str, str]:
        """Date → a name for the sessions of the day that the build reads. The same name means the same sessions."""
        users = f" without {len(self.forgotten)} users" if self.forgotten else ""
        return {str(day): stored.folder + users for day, stored in sorted(self.days.items())}

    def _read(self, spark: "SparkSession", name: str, schema: "str | StructType", days: list[dt.date]) -> "DataFrame":
        if not days:
            return spark.createDataFrame([], schema)
        folders = [join(self.root, self.days[day].folder, name) for day in sorted(days)]
        return by_literal_name(folders, lambda paths: reader(spark).schema(schema).parquet(*paths))


def stored_days(root: str, config: GraphConfig, date: dt.date | None = None) -> StoredDays:
    """Return the stored days that a build reads: those up to a date, within `window_days` calendar days of the newest.

    Args:
        root: the store.
        config: settings of the build.
        date: the last day that is read; None for the last stored day.

    Raises:
        GraphInputError: no such day is stored, the rows were stored with other settings, or a day's folder is missing.
    """
    file = read_days_file(root)
    settings = settings_of(config)
    if file.days and file.settings["rows"] != settings["rows"]:
        raise GraphInputError(
            f"{root}: the days were stored with {file.settings['rows']}, but the configuration says "
            f"{settings['rows']}; ingest the days again into another store, or change the configuration back"
        )
    days = {day: stored for day, stored in sorted(file.days.items()) if date is None or day <= date}
    if not days:
        raise GraphInputError(
            f"{root}: no day is stored{f' up to {date}' if date else ''}; run `lightsage ingest` first"
        )
    if config.window_days is not None:
        first = max(days) - dt.timedelta(days=config.window_days - 1)
        days = {day: stored for day, stored in days.items() if day >= first}
    check_folders(root, days)
    # If a run of `forget` was stopped, it listed the users, but did not delete all their sessions.
    done = min(stored.forgotten for stored in days.values())
    forgotten = file.forgotten[done:]
    matches = file.settings["aggregates"] == settings["aggregates"] and not forgotten
    return StoredDays(root, days, matches, forgotten)


def check_folders(root: str, days: dict[dt.date, StoredDay]) -> None:
    """Check that the folders of stored days exist.

    Args:
        root: the store.
        days: the days to check.

    Raises:
        GraphInputError: a folder is missing; the message names its day.
    """
    lost = {day: stored for day, stored in days.items() if not has_folder(root, stored)}
    if lost:
        flags = " ".join(f"--day {day}" for day in lost)
        raise GraphInputError(
            f"{root}: days.json names {', '.join(stored.folder for stored in lost.values())}, but there is no such "
            f"folder with sessions: ingest the events of {', '.join(map(str, lost))} again, with `lightsage ingest "
            f"{flags}`"
        )


def source_of(root: str, day: dt.date) -> str | None:
    """Return the source of a stored day; None if it has none, if the day is not stored, or if its folder is missing.

    Args:
        root: the store.
        day: the day.
    """
    stored = read_days_file(root).days.get(day)
    return stored.source if stored is not None and has_folder(root, stored) else None


def has_folder(root: str, stored: StoredDay) -> bool:
    """Return whether the folder with the sessions of a stored day exists.

    Args:
        root: the store.
        stored: the day.
    """
    return exists(join(root, stored.folder, "sessions"))
