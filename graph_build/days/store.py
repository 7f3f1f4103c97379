"""Whole days of a log, kept so that a nightly build reads one new day instead of all of them.

A store is a folder: `days.json` names, for each UTC day, the folder that holds its rows of sessions and its aggregates.
A day that is given again replaces itself; `days.json` is written last and whole, so that an ingest that fails changes
nothing. Users are hashes here as everywhere; `forget` deletes one.
"""

import datetime as dt
import json
import logging
import uuid
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pyspark import StorageLevel
from pyspark.sql import functions as F

from graph_build.config import GraphConfig
from graph_build.decay import EPOCH, day_number
from graph_build.edges import caps, co_search, strong_click
from graph_build.errors import GraphInputError
from graph_build.ingest import checked_tables, events, reader
from graph_build.ingest.contract import mixed_ids
from graph_build.sessions import rows as sessions
from graph_build.spark.storage import join, read_text, remove_folder, write_text

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

log = logging.getLogger(__name__)

FORMAT = 2
CLICKS = "day int, src bigint, dst bigint, steps int, count bigint"
SEARCHES = "day int, low bigint, high bigint, count bigint"


@dataclass(frozen=True)
class Day:
    """A stored day: where it is, its item events, the time of the last one (microseconds), and what the caps cut.

    `source` is what its giver said of where it came from, by which the same day given again is recognised.
    `cut_searches` are items of searches, `most_cut` what `capped.in_days` found.
    """

    folder: str
    events: int
    last: int
    impressions: int
    cut_searches: int
    most_cut: list[caps.Capped]
    source: str | None = None


@dataclass(frozen=True)
class Stored:
    """The stored days that a build reads. `matches` says whether the aggregates were made with its settings."""

    root: str
    days: dict[dt.date, Day]
    matches: bool

    @property
    def as_of(self) -> dt.datetime:
        """The time of the last event."""
        last = max(day.last for day in self.days.values())
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=last)

    def rows(self, spark: "SparkSession") -> "DataFrame":
        """The rows of sessions of all days."""
        return self._read(spark, "sessions", sessions.ROWS, list(self.days))

    def aggregates(self, spark: "SparkSession", name: str, schema: str, before: int) -> "DataFrame":
        """Counts of the days before the day number, the same in the whole graph and in the fit graph."""
        early = [day for day in self.days if day_number(day) < before]
        found = self._read(spark, name, schema, early)
        return found.withColumnRenamed("count", "full").withColumn("fit", F.col("full"))

    @property
    def most_cut(self) -> list[caps.Capped]:
        """What the caps of each day cut most."""
        return [caps.Capped(*one) for day in self.days.values() for one in day.most_cut]

    def _read(self, spark: "SparkSession", name: str, schema: str, days: list[dt.date]) -> "DataFrame":
        if not days:
            return spark.createDataFrame([], schema)
        return spark.read.schema(schema).parquet(
            *[join(self.root, self.days[day].folder, name) for day in sorted(days)]
        )


def settings(config: GraphConfig) -> dict[str, dict[str, Any]]:
    """What the stored rows depend on (`rows`), and what the aggregates do (`aggregates`)."""
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


def stored(root: str, config: GraphConfig, date: dt.date | None = None) -> Stored:
    """The days of a store up to a date, at most `window_days` of them back from the last.

    Raises:
        GraphInputError: there is no such day, or they were stored with settings that cannot be undone.
    """
    content = _content(root)
    mine = settings(config)
    if content["days"] and content["settings"]["rows"] != mine["rows"]:
        raise GraphInputError(
            f"{root}: the days were stored with {content['settings']['rows']}, the configuration says {mine['rows']}; "
            "ingest them again into another store, or set it back"
        )
    days = {dt.date.fromisoformat(name): Day(**day) for name, day in content["days"].items()}
    days = {day: found for day, found in days.items() if date is None or day <= date}
    if not days:
        raise GraphInputError(
            f"{root}: no day is stored{f' up to {date}' if date else ''}; run `lightsage ingest` first"
        )
    if config.window_days is not None:
        first = max(days) - dt.timedelta(days=config.window_days - 1)
        days = {day: found for day, found in days.items() if day >= first}
    return Stored(root, days, content["settings"]["aggregates"] == mine["aggregates"])


def source_of(root: str, day: dt.date) -> str | None:
    """What was said of where a stored day came from; None if nothing was, or it is not stored."""
    found: str | None = _content(root)["days"].get(str(day), {}).get("source")
    return found


def ingest(
    spark: "SparkSession",
    paths: list[str],
    root: str,
    config: GraphConfig,
    days: list[dt.date] | None = None,
    source: str | None = None,
) -> dict[dt.date, Day]:
    """Stores whole days of events, each in the place of what was stored of it before.

    Args:
        days: the days that the input holds wholly; rows of others are refused as `other_day`. By default every day
            that it has a valid event of.
        source: kept with each of them.

    Returns:
        The days stored. Refused rows stand in the folder's `quarantine/`.

    Raises:
        GraphInputError: the events cannot be used. The store is as it was then.
    """
    content = _content(root)
    _check_settings(root, content, config)
    found = reader.sources(spark, "events", paths, config.input)
    for doubt in mixed_ids("events", found, config.input):
        log.warning(doubt)
    checked = checked_tables.checked_events(spark, found, config, None, days)
    n = sum(checked.by_type.get(kind, 0) for kind in events.TYPES[1:])
    name = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    try:
        rows = _written(sessions.session_rows(checked.usable, config, n), root, f"{name}/all", sessions.ROWS)
        if checked.refused:
            checked.quarantine.write.parquet(join(root, name, "quarantine"))
        stored_days = _store(rows, root, name, config, _impressions(checked), checked.usable)
        new = {day: replace(facts, source=source) for day, facts in stored_days.items()}
        remove_folder(join(root, name, "all"))
        if days is not None and (empty := sorted(set(days) - set(new))):
            raise GraphInputError(f"{', '.join(paths)}: no valid event of {', '.join(map(str, empty))}")
    except BaseException:
        remove_folder(join(root, name))
        raise
    _replace(root, content, new, config)
    return new


def forget(spark: "SparkSession", user_ids: list[str], root: str, config: GraphConfig) -> int:
    """Deletes every stored session that holds an event of one of the users; returns how many there were."""
    content = _content(root)
    _check_settings(root, content, config)
    place = stored(root, config.model_copy(update={"window_days": None}))
    users = spark.createDataFrame([(user,) for user in user_ids], "user string")
    hashes = [row[0] for row in users.select(F.xxhash64("user")).collect()]
    theirs: Column = F.arrays_overlap("user", F.array(*[F.lit(value) for value in hashes]))
    rows = place.rows(spark)
    touched = {EPOCH + dt.timedelta(days=row[0]): row[1] for row in rows.where(theirs).groupBy("day").count().collect()}
    if not touched:
        return 0
    name = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    left = Stored(root, {day: place.days[day] for day in touched}, True).rows(spark).where(~theirs)
    shown = {day_number(day): place.days[day].impressions for day in touched}
    try:
        stored_days = _store(left, root, name, config, shown)
    except BaseException:
        remove_folder(join(root, name))
        raise
    # They come from where they came from: the same log, given again, is not read again.
    new = {day: replace(facts, source=place.days[day].source) for day, facts in stored_days.items()}
    gone = {day: None for day in touched if day not in new}
    _replace(root, content, {**new, **gone}, config)
    return sum(touched.values())


def _check_settings(root: str, content: dict[str, Any], config: GraphConfig) -> None:
    if content["days"] and content["settings"] != settings(config):
        raise GraphInputError(
            f"{root}: days were stored with {content['settings']}, the configuration says {settings(config)}; "
            "a store has one configuration: use another, or set it back"
        )


def _impressions(checked: checked_tables.Events) -> dict[int, int]:
    """Day number → impressions."""
    if not checked.by_type.get("impression"):
        return {}
    shown = checked.rows.where("reason is null and not left_out and event_type = 'impression'")
    return {row[0]: row[1] for row in shown.groupBy("day").count().collect()}


def _store(
    rows: "DataFrame",
    root: str,
    name: str,
    config: GraphConfig,
    impressions: dict[int, int],
    usable: "DataFrame | None" = None,
) -> dict[dt.date, Day]:
    """Writes rows and aggregates of each of their days into folders of its own.

    Args:
        usable: the events that the rows come from, where what the caps cut can be looked up by name.
    """
    last = F.max(F.element_at("time", -1))
    cut = [F.sum(F.when(kind, F.col("cut"))) for kind in (F.col("browsed"), ~F.col("browsed"))]
    facts = rows.groupBy("day").agg(F.sum("counted"), last, *cut).collect()
    new = {}
    for number, counted, at, of_sessions, of_baskets in sorted((tuple(row) for row in facts), key=itemgetter(0)):
        day = EPOCH + dt.timedelta(days=number)
        folder = f"{name}/{day}"
        mine = _written(rows.where(F.col("day") == number), root, f"{folder}/sessions", sessions.ROWS)
        clicks = strong_click.daily(mine, None, config).groupBy("day", "src", "dst", "steps")
        _written(clicks.agg(F.sum("full").alias("count")), root, f"{folder}/clicks", CLICKS)
        pairs = co_search.pairs(co_search.found(mine, None), config.co_search).persist(StorageLevel.DISK_ONLY)
        searches = co_search.daily(pairs).select("day", "low", "high", F.col("full").alias("count"))
        _written(searches, root, f"{folder}/searches", SEARCHES)
        of_searches = co_search.cut_items(pairs, config.co_search)
        by_rule = {"session_items": of_sessions, "basket_items": of_baskets, "co_search_items": of_searches}
        most = caps.in_days(mine, pairs, usable, config, by_rule)
        pairs.unpersist()
        new[day] = Day(folder, int(counted), int(at), impressions.get(number, 0), of_searches, most)
    return new


def _written(frame: "DataFrame", root: str, folder: str, schema: str) -> "DataFrame":
    frame.write.parquet(join(root, folder))
    return frame.sparkSession.read.schema(schema).parquet(join(root, folder))


def _replace(
    root: str, content: dict[str, Any], new: "dict[dt.date, Day | None] | dict[dt.date, Day]", config: GraphConfig
) -> None:
    """Makes the new days those of the store (None: the day goes), then removes what they replace."""
    days = dict(content["days"])
    old = [days.pop(str(day))["folder"] for day in new if str(day) in days]
    days |= {str(day): vars(found) for day, found in new.items() if found is not None}
    whole = {"format_version": FORMAT, "settings": settings(config), "days": dict(sorted(days.items()))}
    write_text(join(root, "days.json"), json.dumps(whole, indent=2))
    for folder in old:
        remove_folder(join(root, folder))


def _content(root: str) -> dict[str, Any]:
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
            f"{root}/days.json has format {content.get('format_version')}, this program reads {FORMAT}"
        )
    return content
