"""The three input tables after checking, and the rows that were refused."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark import StorageLevel
from pyspark.sql import functions as F

from graph_build.config import GraphConfig
from graph_build.errors import GraphInputError
from graph_build.ingest import events, item_tables, spark_reader
from graph_build.ingest.contract import ITEM_TYPES, SESSION_TYPES
from graph_build.ingest.files import Source
from graph_build.ingest.refusals import (
    IGNORED,
    OTHER_DAYS,
    SESSION_STORED,
    SHOWN_TYPES,
    UNUSED,
    check_bad_share,
    check_unit,
    listed,
    named_types,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

QUARANTINE = "input string, reason string, row string"


@dataclass(frozen=True)
class Events:
    """Checked events.

    Args:
        rows: the result of `events.checked`, including the refused rows (`reason` not null).
        read: number of all rows.
        left_out: number of events of our own ads that the configuration leaves out.
        by_type: type → number of usable events; impressions are counted too.
        without_session: number of usable events without a session id; impressions are not counted.
        refused: reason → number of refused rows.
        unused: number of rows of days that were not requested; they are not refused.
        ignored: number of rows of types that mean nothing; they are not refused.
        by_day: day number → number of rows that are not refused, including those of days that were not requested.
        as_of: time of the last usable event.
        unknown_types: the commonest types that are refused as unknown → number of rows.
    """

    rows: "DataFrame"
    read: int
    left_out: int
    by_type: dict[str, int]
    without_session: int
    refused: dict[str, int]
    unused: int
    ignored: int
    by_day: dict[int, int]
    as_of: dt.datetime
    unknown_types: dict[str, int]

    @property
    def n_events(self) -> int:
        """The number of usable events, without impressions."""
        return sum(self.by_type.get(kind, 0) for kind in SESSION_TYPES)

    @property
    def usable(self) -> "DataFrame":
        """Return the rows that the graph is built from."""
        return events.usable(self.rows)

    @property
    def refused_rows(self) -> "DataFrame":
        """Return the refused rows."""
        return self.rows.where(F.col("reason").isNotNull() & ~F.col("reason").isin(*UNUSED))

    @property
    def quarantine(self) -> "DataFrame":
        """Return the refused rows in the schema of the quarantine table."""
        return _quarantined("events", self.refused_rows)


@dataclass(frozen=True)
class Checked:
    """A checked items or ads table, its refused rows, and their number by reason."""

    table: "DataFrame"
    quarantine: "DataFrame"
    refused: dict[str, int]


def checked_events(
    spark: "SparkSession",
    sources: list[Source],
    config: GraphConfig,
    date: dt.date | None,
    days: list[dt.date] | None = None,
) -> Events:
    """Read and check the events in one pass.

    Args:
        spark: the session to read in.
        sources: the events' files.
        config: the graph build's configuration.
        date: the last day that is used; None for all.
        days: the only days that are used; None for all.

    Raises:
        GraphInputError: there is no row or no usable event of an item, more than `max_bad_share` of the rows are
            refused, or the times seem to have another unit.
    """
    columns = spark_reader.present("events", sources, config.input)
    reason = events.reason(date, config.input.events.types, dt.datetime.now(dt.UTC), days, config.input.day_zone)
    raw = spark_reader.read(spark, "events", sources, config.input, reason)
    rows = events.checked(raw, columns, config.input.events, config.input.day_zone)
    type_ = F.when(F.col("reason").isNull(), F.col("event_type"))
    sums = (F.count(F.lit(1)), F.max("time"), F.min("time"), F.count_if(F.col("id").isNull()))
    counts = rows.groupBy("reason", type_, "left_out", "day").agg(*sums).collect()
    total = sum(row[4] for row in counts)
    refused: dict[str, int] = {}
    by_day: dict[int, int] = {}
    by_type: dict[str, int] = {}
    left_out = without_session = 0
    last = first = None
    for reason_name, type_name, is_left_out, day, n, time, earliest, n_without in counts:
        if reason_name is None or reason_name in OTHER_DAYS:
            by_day[day] = by_day.get(day, 0) + n
        if reason_name is not None:
            refused[reason_name] = refused.get(reason_name, 0) + n
        elif is_left_out:
            left_out += n
        else:
            by_type[type_name] = by_type.get(type_name, 0) + n
            # Impressions do not count for `as_of`, just as in the stored days.
            if type_name != "impression":
                last = time if last is None else max(last, time)
                first = earliest if first is None else min(first, earliest)
                without_session += n_without
    files = _first_files(sources)
    if total == 0:
        raise GraphInputError(f"{files}: the events are empty (0 rows); expected at least one event")
    faults = {name: n for name, n in refused.items() if name not in UNUSED}
    judged, max_share = total - sum(refused.get(name, 0) for name in UNUSED), config.input.max_bad_share
    unknown = _unknown_types(raw) if faults.get("type_unknown") else {}

    def example(name: str) -> str:
        return named_types(unknown) if name == "type_unknown" else _example(rows, name)

    check_bad_share("events", files, judged, faults, example, max_share)
    if not any(by_type.get(name) for name in ITEM_TYPES):
        raise GraphInputError(
            f"{files}: none of {total} events can be used: {listed(refused) or 'none is of an item'}"
            f"{f', {left_out} of our own ads left out' if left_out else ''}; expected valid events of the types "
            f"{', '.join(ITEM_TYPES)}{f' up to the end of {date}' if date else ''}"
        )
    assert first is not None
    assert last is not None
    check_unit(files, first, last, config.input.events.timestamp_unit, dt.datetime.now(dt.UTC))
    as_of = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=last)
    unused, ignored = sum(refused.get(name, 0) for name in OTHER_DAYS), refused.get(IGNORED, 0)
    return Events(rows, total, left_out, by_type, without_session, faults, unused, ignored, by_day, as_of, unknown)


def events_of_days(
    spark: "SparkSession", sources: list[Source], config: GraphConfig, days: Sequence[dt.date]
) -> "DataFrame":
    """Return the usable events of some days, all with the reason `session_stored`. The caller keeps some sessions only.

    Args:
        spark: the session to read in.
        sources: the events' files.
        config: the graph build's configuration.
        days: the days.
    """
    columns = spark_reader.present("events", sources, config.input)
    faults = events.reason(None, config.input.events.types, dt.datetime.now(dt.UTC), list(days), config.input.day_zone)
    reason = F.coalesce(faults, F.lit(SESSION_STORED))
    raw = spark_reader.read(spark, "events", sources, config.input, reason)
    rows = events.checked(raw, columns, config.input.events, config.input.day_zone)
    return rows.where(f"reason = '{SESSION_STORED}' and not left_out and event_type != 'impression'")


def checked_items(spark: "SparkSession", sources: list[Source], config: GraphConfig) -> Checked:
    """Read and check the catalogue.

    Args:
        spark: the session to read in.
        sources: the items' files.
        config: the graph build's configuration.

    Raises:
        GraphInputError: the table is empty, or more than `max_bad_share` of it is refused.
    """
    columns = spark_reader.present("items", sources, config.input)
    raw = spark_reader.read(spark, "items", sources, config.input, item_tables.item_reason())
    rows = item_tables.items(raw, columns).persist(StorageLevel.MEMORY_AND_DISK)
    refused = _refusals("items", sources, rows, config, item_tables.KEPT)
    table = item_tables.items_table(rows, columns, config.input.items.features)
    return Checked(table, _quarantined("items", rows.where("reason is not null")), refused)


def checked_ads(
    spark: "SparkSession", sources: list[Source], config: GraphConfig, known_items: "DataFrame | None"
) -> Checked:
    """Read and check the ads.

    Args:
        spark: the session to read in.
        sources: the ads' files.
        config: the graph build's configuration.
        known_items: (item_id) of the catalogue and the log; None if there is no catalogue.

    Raises:
        GraphInputError: the table is empty, or more than `max_bad_share` of it is refused.
    """
    raw = spark_reader.read(spark, "ads", sources, config.input, item_tables.ad_reason())
    rows = item_tables.ads(raw, known_items).persist(StorageLevel.MEMORY_AND_DISK)
    refused = _refusals("ads", sources, rows, config, ())
    return Checked(item_tables.ads_table(rows), _quarantined("ads", rows.where("reason is not null")), refused)


def _refusals(
    table: str, sources: list[Source], rows: "DataFrame", config: GraphConfig, value_faults: tuple[str, ...]
) -> dict[str, int]:
    """Return reason → number of rows. Rows with a reason in `value_faults` lose only a value and do not count as bad.

    Rows that newer rows replace do not count as bad either, nor as rows of the table.
    """
    counts = rows.groupBy("reason").agg(F.count(F.lit(1)), F.max("raw")).collect()
    refused = {reason: n for reason, n, _ in counts if reason is not None}
    files = _first_files(sources)
    total = sum(n for _, n, _ in counts)
    if total == 0:
        raise GraphInputError(f"{files}: the {table} table is empty (0 rows); leave it out, or give one with rows")
    replaced = sum(refused.get(reason, 0) for reason in item_tables.REPLACED)
    spared = {*value_faults, *item_tables.REPLACED}
    bad = {reason: n for reason, n in refused.items() if reason not in spared}
    example = {reason: raw for reason, _, raw in counts if reason}
    check_bad_share(table, files, total - replaced, bad, lambda reason: example[reason], config.input.max_bad_share)
    return refused


def _first_files(sources: list[Source]) -> str:
    return ", ".join(file for source in sources for file in source.files[:3])


def _unknown_types(raw: "DataFrame") -> dict[str, int]:
    """Return the commonest types that are refused as unknown, as they were written, with their numbers of rows."""
    names = raw.where("reason = 'type_unknown'").groupBy(F.coalesce("event_type", F.lit("")).alias("name")).count()
    return {row[0]: row[1] for row in names.sort(F.desc("count"), "name").take(SHOWN_TYPES)}


def _example(rows: "DataFrame", reason: str) -> str:
    raw: str = rows.where(F.col("reason") == reason).select("raw").first()[0]  # type: ignore[index]
    return raw


def _quarantined(table: str, rows: "DataFrame") -> "DataFrame":
    return rows.select(F.lit(table).alias("input"), "reason", F.col("raw").alias("row"))
