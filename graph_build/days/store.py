"""Stores whole days of a log, so that a nightly build reads one new day instead of the whole window.

A store is a folder. Its `days.json` names for each UTC day the folder with its rows of sessions and its aggregates. A
day that is ingested again is replaced. `days.json` is written last and as a whole, so that an ingest that fails
changes nothing. Users are stored as hashes, as in the whole build; `forget` deletes the sessions of given users.
"""

import datetime as dt
import json
import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pyspark import StorageLevel
from pyspark.sql import functions as F

from graph_build.config import GraphConfig
from graph_build.decay import EPOCH, day_number
from graph_build.edges.caps import CutGroup, most_cut_in_days
from graph_build.edges.co_search import count_cut_items, daily_searches, search_pairs, searched_items
from graph_build.edges.strong_click import daily_clicks
from graph_build.errors import GraphInputError
from graph_build.ingest import checked_tables, spark_reader
from graph_build.ingest.contract import SESSION_TYPES
from graph_build.ingest.files import mixed_ids
from graph_build.sessions.rows import session_rows
from graph_build.sessions.schema import SESSION_ROW_IN_SPARK
from graph_build.spark.storage import join, read_text, remove_folder, write_text

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

log = logging.getLogger(__name__)

FORMAT = 2
CLICKS = "day int, src bigint, dst bigint, steps int, count bigint"
SEARCHES = "day int, low bigint, high bigint, count bigint"


@dataclass(frozen=True)
class StoredDay:
    """A stored day, as it stands in `days.json`.

    Args:
        folder: the day's folder, as a path below the store.
        events: number of item events.
        last: time of the last event, in microseconds since 1970.
        impressions: number of impressions.
        cut_searches: how many items the cap removed from searches.
        most_cut: the groups that the caps cut most (`caps.most_cut_in_days`).
        source: a fingerprint of the files behind the day, so that the same files are not read again.
    """

    folder: str
    events: int
    last: int
    impressions: int
    cut_searches: int
    most_cut: list[CutGroup]
    source: str | None = None


@dataclass(frozen=True)
class StoredDays:
    """The stored days that a build reads.

    Args:
        root: the store.
        days: date → day.
        aggregates_match: whether the aggregates were made with the settings of the build.
    """

    root: str
    days: dict[dt.date, StoredDay]
    aggregates_match: bool

    @property
    def as_of(self) -> dt.datetime:
        """The time of the last event."""
        last = max(day.last for day in self.days.values())
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=last)

    def rows(self, spark: "SparkSession") -> "DataFrame":
        """Return the rows of sessions of all days."""
        return self._read(spark, "sessions", SESSION_ROW_IN_SPARK, list(self.days))

    def aggregates(self, spark: "SparkSession", name: str, schema: str, before: int) -> "DataFrame":
        """Return the stored counts of the days before a day number. `full` and `fit` hold the same counts."""
        early = [day for day in self.days if day_number(day) < before]
        counts = self._read(spark, name, schema, early)
        return counts.withColumnRenamed("count", "full").withColumn("fit", F.col("full"))

    @property
    def most_cut(self) -> list[CutGroup]:
        """For every day, the groups that the caps cut most, in one list."""
        return [CutGroup(*group) for day in self.days.values() for group in day.most_cut]

    def _read(self, spark: "SparkSession", name: str, schema: "str | StructType", days: list[dt.date]) -> "DataFrame":
        if not days:
            return spark.createDataFrame([], schema)
        return spark.read.schema(schema).parquet(
            *[join(self.root, self.days[day].folder, name) for day in sorted(days)]
        )


def settings_of(config: GraphConfig) -> dict[str, dict[str, Any]]:
    """Return the settings on which the stored `rows` and `aggregates` depend."""
    clicks = config.strong_click
    return {
        "rows": {
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


def stored_days(root: str, config: GraphConfig, date: dt.date | None = None) -> StoredDays:
    """Return the days of a store that a build reads: up to a date, and at most `window_days` back from the last.

    Args:
        root: the store.
        config: settings of the build.
        date: the last day that is read; None for the last one stored.

    Raises:
        GraphInputError: there is no such day, or the rows were stored with other settings.
    """
    content = _read_content(root)
    settings = settings_of(config)
    if content["days"] and content["settings"]["rows"] != settings["rows"]:
        raise GraphInputError(
            f"{root}: the days were stored with {content['settings']['rows']}, but the configuration says "
            f"{settings['rows']}; ingest the days again into another store, or change the configuration back"
        )
    days = {dt.date.fromisoformat(name): StoredDay(**day) for name, day in content["days"].items()}
    days = {day: stored for day, stored in days.items() if date is None or day <= date}
    if not days:
        raise GraphInputError(
            f"{root}: no day is stored{f' up to {date}' if date else ''}; run `lightsage ingest` first"
        )
    if config.window_days is not None:
        first = max(days) - dt.timedelta(days=config.window_days - 1)
        days = {day: stored for day, stored in days.items() if day >= first}
    return StoredDays(root, days, content["settings"]["aggregates"] == settings["aggregates"])


def source_of(root: str, day: dt.date) -> str | None:
    """Return the source of a stored day; None if it has none, or if the day is not stored.

    Args:
        root: the store.
        day: a UTC day.
    """
    source: str | None = _read_content(root)["days"].get(str(day), {}).get("source")
    return source


def ingest(
    spark: "SparkSession",
    paths: list[str],
    root: str,
    config: GraphConfig,
    days: list[dt.date] | None = None,
    source: str | None = None,
) -> dict[dt.date, StoredDay]:
    """Store whole days of events; each replaces what the store has of that day.

    Args:
        spark: the Spark session.
        paths: files or folders of events.
        root: the store; it is created if there is none.
        config: how the events are read, and the settings on which stored days depend.
        days: the days that the input holds completely; rows of other days are refused as `other_day`. By default every
            day of which the input has a valid event.
        source: the fingerprint to store with each day (`StoredDay.source`).

    Returns:
        The days stored. Refused rows are in `quarantine/` beside them.

    Raises:
        GraphInputError: the events cannot be used. The store is unchanged then.
    """
    content = _read_content(root)
    _check_settings(root, content, config)
    sources = spark_reader.sources(spark, "events", paths, config.input)
    for doubt in mixed_ids("events", sources, config.input):
        log.warning(doubt)
    checked = checked_tables.checked_events(spark, sources, config, None, days)
    n_events = sum(checked.by_type.get(kind, 0) for kind in SESSION_TYPES)
    with _new_folder(root) as folder:
        rows = session_rows(checked.usable, config, n_events)
        rows = _write_and_read(rows, root, f"{folder}/all", SESSION_ROW_IN_SPARK)
        if checked.refused:
            checked.quarantine.write.parquet(join(root, folder, "quarantine"))
        stored = _store_days(rows, root, folder, config, _impressions_by_day(checked), checked.usable)
        stored = {day: replace(facts, source=source) for day, facts in stored.items()}
        remove_folder(join(root, folder, "all"))
        if days is not None and (empty := sorted(set(days) - set(stored))):
            raise GraphInputError(f"{', '.join(paths)}: no valid event of {', '.join(map(str, empty))}")
    _replace_days(root, content, stored, config)
    return stored


def forget(spark: "SparkSession", user_ids: list[str], root: str, config: GraphConfig) -> int:
    """Delete every stored session that has an event of one of the users; return the number of sessions deleted.

    Args:
        spark: the session.
        user_ids: raw ids, as in the log.
        root: the store.
        config: the settings with which the days were stored.

    Raises:
        GraphInputError: nothing is stored, or the days were stored with other settings.
    """
    content = _read_content(root)
    _check_settings(root, content, config)
    store = stored_days(root, config.model_copy(update={"window_days": None}))
    users = spark.createDataFrame([(user,) for user in user_ids], "user string")
    hashes = [row[0] for row in users.select(F.xxhash64("user")).collect()]
    is_of_users = F.arrays_overlap("user", F.array(*[F.lit(value) for value in hashes]))
    sessions = store.rows(spark).where(is_of_users).groupBy("day").count().collect()
    touched = {EPOCH + dt.timedelta(days=row[0]): row[1] for row in sessions}
    if not touched:
        return 0
    rest = StoredDays(root, {day: store.days[day] for day in touched}, True).rows(spark).where(~is_of_users)
    impressions = {day_number(day): store.days[day].impressions for day in touched}
    with _new_folder(root) as folder:
        stored = _store_days(rest, root, folder, config, impressions)
    # The source is kept, so that the same files are still recognised and not read again.
    changed = {day: replace(facts, source=store.days[day].source) for day, facts in stored.items()}
    emptied = {day: None for day in touched if day not in changed}
    _replace_days(root, content, {**changed, **emptied}, config)
    return sum(touched.values())


def _check_settings(root: str, content: dict[str, Any], config: GraphConfig) -> None:
    settings = settings_of(config)
    if content["days"] and content["settings"] != settings:
        raise GraphInputError(
            f"{root}: the days were stored with {content['settings']}, but the configuration says {settings}; "
            "a store has one configuration: use another store, or change the configuration back"
        )


@contextmanager
def _new_folder(root: str) -> Iterator[str]:
    """Name a new folder of the store for the block, and remove the folder if the block fails."""
    folder = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    try:
        yield folder
    except BaseException:
        remove_folder(join(root, folder))
        raise


def _impressions_by_day(checked: checked_tables.Events) -> dict[int, int]:
    """Return day number → impressions."""
    if not checked.by_type.get("impression"):
        return {}
    impressions = checked.rows.where("reason is null and not left_out and event_type = 'impression'")
    return {row[0]: row[1] for row in impressions.groupBy("day").count().collect()}


def _store_days(
    rows: "DataFrame",
    root: str,
    folder: str,
    config: GraphConfig,
    impressions: dict[int, int],
    usable: "DataFrame | None" = None,
) -> dict[dt.date, StoredDay]:
    """Write the rows and aggregates of each day into a folder of its own.

    Args:
        impressions: day number → number of impressions.
        usable: the events behind the rows, in which the names of cut groups can be looked up.
    """
    last = F.max(F.element_at("time", -1))
    cut = [F.sum(F.when(kind, F.col("cut"))) for kind in (F.col("browsed"), ~F.col("browsed"))]
    facts = rows.groupBy("day").agg(F.sum("counted"), last, *cut).collect()
    stored = {}
    for number, counted, time, of_sessions, of_baskets in sorted((tuple(row) for row in facts), key=itemgetter(0)):
        day = EPOCH + dt.timedelta(days=number)
        day_folder = f"{folder}/{day}"
        of_day = rows.where(F.col("day") == number)
        of_day = _write_and_read(of_day, root, f"{day_folder}/sessions", SESSION_ROW_IN_SPARK)
        clicks = daily_clicks(of_day, None, config).groupBy("day", "src", "dst", "steps")
        _write_and_read(clicks.agg(F.sum("full").alias("count")), root, f"{day_folder}/clicks", CLICKS)
        pairs = search_pairs(searched_items(of_day, None), config.co_search).persist(StorageLevel.DISK_ONLY)
        searches = daily_searches(pairs).select("day", "low", "high", F.col("full").alias("count"))
        _write_and_read(searches, root, f"{day_folder}/searches", SEARCHES)
        of_searches = count_cut_items(pairs, config.co_search)
        by_rule = {"session_items": of_sessions, "basket_items": of_baskets, "co_search_items": of_searches}
        most_cut = most_cut_in_days(of_day, pairs, usable, config, by_rule)
        pairs.unpersist()
        stored[day] = StoredDay(day_folder, int(counted), int(time), impressions.get(number, 0), of_searches, most_cut)
    return stored


def _write_and_read(frame: "DataFrame", root: str, folder: str, schema: "str | StructType") -> "DataFrame":
    frame.write.parquet(join(root, folder))
    return frame.sparkSession.read.schema(schema).parquet(join(root, folder))


def _replace_days(
    root: str, content: dict[str, Any], new: Mapping[dt.date, StoredDay | None], config: GraphConfig
) -> None:
    """Put new days into the store (None deletes the day), then remove the folders that they replace."""
    days = dict(content["days"])
    replaced = [days.pop(str(day))["folder"] for day in new if str(day) in days]
    days |= {str(day): vars(stored) for day, stored in new.items() if stored is not None}
    content = {"format_version": FORMAT, "settings": settings_of(config), "days": dict(sorted(days.items()))}
    write_text(join(root, "days.json"), json.dumps(content, indent=2))
    for folder in replaced:
        remove_folder(join(root, folder))


def _read_content(root: str) -> dict[str, Any]:
    """Read `days.json`; without one the store is empty."""
    text = read_text(join(root, "days.json"))
    if text is None:
        return {"format_version": FORMAT, "settings": {}, "days": {}}
    try:
        content: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise GraphInputError(
            f"{root}/days.json is damaged ({error}): ingest the days again into another store"
        ) from None
    if content.get("format_version") != FORMAT:
        raise GraphInputError(
            f"{root}/days.json has format {content.get('format_version')}, this program reads format {FORMAT}: ingest "
            "the days again into another store"
        )
    return content
