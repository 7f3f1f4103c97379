"""Deletes users from a store of days, and keeps a list of them, so that no later read brings them back."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from graph_build.config import GraphConfig
from graph_build.days.days_file import (
    DaysFile,
    StoredDay,
    new_ingest_folder,
    put_days,
    read_days_file,
    sweep,
    undated_quarantine,
    write_days_file,
)
from graph_build.days.store import StoredDays, check_folders
from graph_build.days.writer import read_refused, write_days
from graph_build.decay import EPOCH, day_number
from graph_build.errors import GraphInputError
from graph_build.ingest.spark_reader import read_ids
from graph_build.sessions.rows import without_users
from graph_build.spark.storage import exists, join, remove_folder

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class ForgetResult:
    """The result of `forget`.

    Args:
        sessions: number of sessions that were deleted.
        refused: number of refused rows that were deleted.
        swept: folders that interrupted runs had left behind, and those of refused rows that were too old.
    """

    sessions: int
    refused: int
    swept: list[str]


def forget(
    spark: "SparkSession",
    user_ids: Sequence[str],
    root: str,
    config: GraphConfig,
    quarantine_days: float = 30,
    check: Callable[[], None] = lambda: None,
) -> ForgetResult:
    """Delete every stored session that has an event of one of the users, and the refused rows of the users.

    The users are listed in `days.json` first, so from then on no read returns their sessions. If a run is stopped at
    any point, the next run completes it, whichever users that run names.

    Args:
        spark: the Spark session.
        user_ids: raw ids, as in the log.
        root: the store.
        config: the settings with which the days were stored.
        quarantine_days: the age in days at which refused rows are deleted.
        check: called right before `days.json` is replaced; it raises an error if this process may no longer change the
            store.

    Raises:
        GraphInputError: nothing was ever stored, the days were stored with other settings, or a folder is missing or
            cannot be deleted.
    """
    file = read_days_file(root)
    if not file.exists:
        raise GraphInputError(f"{root}: no day is stored; run `lightsage ingest` first")
    file.check_settings(root, config)
    check_folders(root, file.days)
    new = [user for user in _hashes(spark, user_ids) if user not in file.forgotten]
    if new:
        file = replace(file, forgotten=(*file.forgotten, *new))
        check()
        write_days_file(root, file)
    swept = sweep(root, file, quarantine_days)
    undated = undated_quarantine(root)  # an earlier release did not record to which users these rows belong
    for folder in undated:
        remove_folder(join(root, folder))
    done = min((stored.forgotten for stored in file.days.values()), default=len(file.forgotten))
    sessions = refused = 0
    removed = [*swept, *undated]
    if done < len(file.forgotten):
        sessions, refused, replaced = _delete(spark, file, file.forgotten[done:], root, config, check)
        removed += replaced
    if left := [folder for folder in removed if exists(join(root, folder))]:
        raise GraphInputError(f"{root}: {', '.join(left)} cannot be deleted; correct the permissions and run again")
    return ForgetResult(sessions, refused, swept)


def _hashes(spark: "SparkSession", user_ids: Sequence[str]) -> list[int]:
    """Read ids in the same way as the ids of a log, and return their hashes."""
    users = spark.createDataFrame([(user,) for user in user_ids], "user string")
    ids = users.select(read_ids(F.col("user")).alias("user")).where("user is not null").distinct()
    return sorted(row[0] for row in ids.select(F.xxhash64("user")).collect())


def _delete(
    spark: "SparkSession",
    file: DaysFile,
    users: tuple[int, ...],
    root: str,
    config: GraphConfig,
    check: Callable[[], None],
) -> tuple[int, int, list[str]]:
    """Delete the users from every day.

    Returns:
        (sessions deleted, refused rows deleted, the folders that were replaced).
    """
    rows = StoredDays(root, file.days, True).rows(spark)
    of_users = rows.select("day", "session").exceptAll(without_users(rows, users).select("day", "session")).persist()
    sessions = {EPOCH + dt.timedelta(days=row[0]): row[1] for row in of_users.groupBy("day").count().collect()}
    quarantine = read_refused(spark, root, file.days)
    refused: dict[dt.date, int] = {}
    if quarantine is not None:
        rest_rows = _without(quarantine, of_users, users).groupBy("day").count()
        counts = quarantine.groupBy("day").count().join(rest_rows.withColumnRenamed("count", "rest"), "day", "left")
        lost = counts.select("day", F.col("count") - F.coalesce("rest", F.lit(0))).collect()
        refused = {dt.date.fromisoformat(row[0]): row[1] for row in lost if row[1]}
    touched = {day: file.days[day] for day in file.days if day in sessions or day in refused}
    with new_ingest_folder(root) as folder:
        new: dict[dt.date, StoredDay | None] = {
            day: replace(stored, forgotten=len(file.forgotten)) for day, stored in file.days.items()
        }
        if touched:
            rest = without_users(StoredDays(root, touched, True).rows(spark), users)
            impressions = {day_number(day): stored.impressions for day, stored in touched.items()}
            new |= dict.fromkeys(touched)  # a day of which nothing is left is deleted
            new |= _like_before(write_days(rest, root, folder, config, impressions), file)
            for day in touched:
                _write_kept_refused(spark, root, day, touched, new[day], of_users, users)
        check()
        put_days(root, file, new, config)
    of_users.unpersist()
    replaced = [folder for day, stored in touched.items() for folder in (stored.folder, stored.quarantine(day))]
    return sum(sessions.values()), sum(refused.values()), replaced


def _like_before(stored: Mapping[dt.date, StoredDay], file: DaysFile) -> dict[dt.date, StoredDay]:
    """Return rewritten days with the facts about their input that they had before.

    The source stays the same, so that the same files are still recognised and not read again.
    """
    before = file.days
    return {
        day: replace(
            facts,
            source=before[day].source,
            refused=before[day].refused,
            whole=before[day].whole,
            forgotten=len(file.forgotten),
        )
        for day, facts in stored.items()
    }


def _write_kept_refused(
    spark: "SparkSession",
    root: str,
    day: dt.date,
    before: Mapping[dt.date, StoredDay],
    after: StoredDay | None,
    of_users: "DataFrame",
    users: tuple[int, ...],
) -> None:
    """Write the refused rows of a rewritten day, without the rows of the users."""
    rows = read_refused(spark, root, {day: before[day]})
    if rows is not None and after is not None:
        _without(rows, of_users, users).drop("day").write.parquet(join(root, after.quarantine(day)))


def _without(refused: "DataFrame", of_users: "DataFrame", users: tuple[int, ...]) -> "DataFrame":
    """Return the refused rows without those of users and of their sessions."""
    rows = refused.where(~F.coalesce(F.col("user").isin(*users), F.lit(False)))
    return rows.join(of_users.select("session"), "session", "left_anti")
