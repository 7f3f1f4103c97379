"""The three input tables after checking, and what was refused of them."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark import StorageLevel
from pyspark.sql import functions as F

from graph_build.config import GraphConfig
from graph_build.errors import GraphInputError
from graph_build.ingest import events, item_tables, reader
from graph_build.ingest.contract import Source

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

QUARANTINE = "input string, reason string, row string"


@dataclass(frozen=True)
class Events:
    """Checked events. `rows` holds the refused ones too (`reason` not null); `as_of`: time of the last usable one."""

    rows: "DataFrame"
    read: int
    left_out: int
    by_type: dict[str, int]
    refused: dict[str, int]
    as_of: dt.datetime

    @property
    def usable(self) -> "DataFrame":
        """The rows that the graph is built from."""
        return events.usable(self.rows)

    @property
    def quarantine(self) -> "DataFrame":
        """The refused rows in the schema of the quarantine table."""
        return _quarantined("events", self.rows.where("reason is not null"))


@dataclass(frozen=True)
class Checked:
    """A checked items or ads table, its refused rows, and how many of them for which reason."""

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
    """Reads the events once; of those after `date`, or of other days than `days`, none is used.

    Raises:
        GraphInputError: no row, no usable row, or more than `max_bad_share` of them refused.
    """
    columns = reader.present("events", sources, config.input)
    why = events.reason(date, config.input.events.types, dt.datetime.now(dt.UTC), days)
    raw = reader.read(spark, "events", sources, config.input, why)
    rows = events.checked(raw, columns, config.input.events)
    kind = F.when(F.col("reason").isNull(), F.col("event_type"))
    counts = rows.groupBy("reason", kind, "left_out").agg(F.count(F.lit(1)), F.max("time")).collect()
    total = sum(row[3] for row in counts)
    refused: dict[str, int] = {}
    by_type: dict[str, int] = {}
    left_out = 0
    last = 0
    for reason, kind, is_left_out, n, time in counts:
        if reason is not None:
            refused[reason] = refused.get(reason, 0) + n
        elif is_left_out:
            left_out += n
        else:
            by_type[kind] = by_type.get(kind, 0) + n
            # As in the stored days: what was merely shown makes a version no later.
            if kind != "impression":
                last = max(last, time)
    files = ", ".join(file for source in sources for file in source.files[:3])
    if total == 0:
        raise GraphInputError(f"{files}: the events are empty (0 rows); expected at least one event")
    _check_share("events", files, total, refused, lambda reason: _example(rows, reason), config)
    if not any(by_type.get(kind) for kind in events.ITEM_TYPES):
        raise GraphInputError(
            f"{files}: none of {total} events can be used: {_counted(refused) or 'none is of an item'}"
            f"{f', {left_out} of our own ads left out' if left_out else ''}; expected valid events of the types "
            f"{', '.join(events.ITEM_TYPES)}{f' up to the end of {date}' if date else ''}"
        )
    as_of = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=last)
    return Events(rows, total, left_out, by_type, refused, as_of)


def checked_items(spark: "SparkSession", sources: list[Source], config: GraphConfig) -> Checked:
    """The catalogue. Raises GraphInputError when it is empty or more than `max_bad_share` of it is refused."""
    columns = reader.present("items", sources, config.input)
    raw = reader.read(spark, "items", sources, config.input, item_tables.item_reason())
    rows = item_tables.items(raw, columns).persist(StorageLevel.MEMORY_AND_DISK)
    refused = _refusals("items", sources, rows, config, item_tables.KEPT)
    table = item_tables.items_table(rows, columns, config.input.items.features)
    return Checked(table, _quarantined("items", rows.where("reason is not null")), refused)


def checked_ads(
    spark: "SparkSession", sources: list[Source], config: GraphConfig, known_items: "DataFrame | None"
) -> Checked:
    """The ads. Raises GraphInputError when more than `max_bad_share` of them is refused."""
    raw = reader.read(spark, "ads", sources, config.input, item_tables.ad_reason())
    rows = item_tables.ads(raw, known_items).persist(StorageLevel.MEMORY_AND_DISK)
    refused = _refusals("ads", sources, rows, config, ())
    return Checked(item_tables.ads_table(rows), _quarantined("ads", rows.where("reason is not null")), refused)


def _refusals(
    table: str, sources: list[Source], rows: "DataFrame", config: GraphConfig, kept: tuple[str, ...]
) -> dict[str, int]:
    counts = rows.groupBy("reason").agg(F.count(F.lit(1)), F.max("raw")).collect()
    refused = {reason: n for reason, n, _ in counts if reason is not None}
    files = ", ".join(file for source in sources for file in source.files[:3])
    total = sum(n for _, n, _ in counts)
    if total == 0:
        raise GraphInputError(f"{files}: the {table} table is empty (0 rows); leave it out, or give one with rows")
    bad = {reason: n for reason, n in refused.items() if reason not in kept}
    example = {reason: raw for reason, _, raw in counts if reason}
    _check_share(table, files, total, bad, lambda reason: example[reason], config)
    return refused


def _check_share(
    table: str, files: str, total: int, refused: dict[str, int], example: Callable[[str], str], config: GraphConfig
) -> None:
    """Rows of days that were not asked for are no fault of the log, and do not count."""
    unasked = {events.AFTER_DATE, events.OTHER_DAY}
    faults = {reason: n for reason, n in refused.items() if reason not in unasked}
    judged = total - sum(n for reason, n in refused.items() if reason in unasked)
    bad = sum(faults.values())
    if not bad or bad <= config.input.max_bad_share * judged:
        return
    worst = max(faults, key=lambda reason: faults[reason])
    hint = {
        "time_invalid": "; times are expected as timestamps, as ISO 8601 strings, or as integers with "
        "[input.events] timestamp_unit set",
        "type_unknown": f"; event types are {', '.join(events.TYPES)}; name yours under [input.events.types]",
    }.get(worst, "")
    raise GraphInputError(
        f"{files}: {bad} of {judged} {table} rows are bad ({_counted(faults)}), more than "
        f"input.max_bad_share = {config.input.max_bad_share:g} allows; e.g. {worst}: {example(worst)}{hint}"
    )


def _example(rows: "DataFrame", reason: str) -> str:
    found: str = rows.where(F.col("reason") == reason).select("raw").first()[0]  # type: ignore[index]
    return found


def _counted(refused: dict[str, int]) -> str:
    return ", ".join(f"{reason}: {n}" for reason, n in sorted(refused.items()))


def _quarantined(table: str, rows: "DataFrame") -> "DataFrame":
    return rows.select(F.lit(table).alias("input"), "reason", F.col("raw").alias("row"))
