"""The log of sessions that a graph is built from: assembled from checked events, or read from stored days."""

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyspark import StorageLevel
from pyspark.sql import functions as F

from graph_build.config import GraphConfig
from graph_build.day_zone import local_day, microseconds
from graph_build.days.store import CLICKS, SEARCHES, StoredDays, stored_days
from graph_build.decay import day_number
from graph_build.edges.caps import CutGroup, most_cut_in_days
from graph_build.edges.co_search import count_cut_items, daily_searches, search_pairs, searched_items
from graph_build.edges.strong_click import daily_clicks
from graph_build.ingest import checked_tables
from graph_build.sessions.holdout import HoldoutCutoff
from graph_build.sessions.rows import session_rows
from graph_build.spark.session import reader

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class SessionLog:
    """The sessions that a graph is built from, and the counts of the events behind them.

    Args:
        rows: rows of sessions.
        as_of: time of the last event.
        read: number of events that were read; None for stored days, which do not keep this number.
        left_out: number of events of our own ads that were excluded.
        other_days: number of events of days that were not requested.
        ignored: number of events of types that mean nothing.
        impressions: number of impressions.
        refused: reason → number of events that were refused.
        quarantine: the refused events; None if there are none, and for stored days (they are in the store).
        usable: the checked events behind the rows; None for stored days.
        stored: the stored days, if the sessions come from them.
    """

    rows: "DataFrame"
    as_of: dt.datetime
    read: int | None = None
    left_out: int = 0
    other_days: int = 0
    ignored: int = 0
    impressions: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    quarantine: "DataFrame | None" = None
    usable: "DataFrame | None" = None
    stored: StoredDays | None = None

    def clicks(self, cutoff: HoldoutCutoff | None, config: GraphConfig) -> "DataFrame":
        """Return `strong_click.daily_clicks` of all days.

        The stored counts are used for days before the hold-out, if they were made with the build's settings.
        """
        rows, early = self._split(cutoff, "clicks", CLICKS, config)
        late = daily_clicks(rows, cutoff, config)
        return late if early is None else late.unionByName(early)

    def searches(self, cutoff: HoldoutCutoff | None, config: GraphConfig) -> "tuple[DataFrame, DataFrame]":
        """Return `co_search.search_pairs` of the days that are counted here, and `daily_searches` of all days."""
        rows, early = self._split(cutoff, "searches", SEARCHES, config)
        pairs = search_pairs(searched_items(rows, cutoff), config.co_search).persist(StorageLevel.DISK_ONLY)
        late = daily_searches(pairs)
        return pairs, late if early is None else late.unionByName(early)

    def count_cut_searches(self, pairs: "DataFrame", config: GraphConfig) -> int:
        """Count the items that the cap removed from searches; `pairs` is the first result of `searches`."""
        if self.stored is not None and self.stored.aggregates_match:
            return sum(day.cut_searches for day in self.stored.days.values())
        return count_cut_items(pairs, config.co_search)

    def most_cut(self, pairs: "DataFrame", config: GraphConfig, cut: dict[str, int]) -> list[CutGroup]:
        """Return the sessions, baskets and searches that were cut most, with names (`caps.most_cut_in_days`)."""
        if self.stored is not None:
            return self.stored.most_cut
        return most_cut_in_days(self.rows, pairs, self.usable, config, cut)

    def _split(
        self, cutoff: HoldoutCutoff | None, name: str, schema: str, config: GraphConfig
    ) -> "tuple[DataFrame, DataFrame | None]":
        """Return the rows of the days that are counted here, and the stored counts of the days before them."""
        if self.stored is None or not self.stored.aggregates_match:
            return self.rows, None
        first = cutoff.day(config.input.day_zone) if cutoff else day_number(max(self.stored.days)) + 1
        early = self.stored.aggregates(self.rows.sparkSession, name, schema, first)
        return self.rows.where(F.col("day") >= first), early


def assemble_log(checked: checked_tables.Events, folder: str, config: GraphConfig) -> SessionLog:
    """Assemble checked events into sessions, write the sessions to a folder once, and read them from there.

    Args:
        checked: the events.
        folder: where the rows of sessions go.
        config: caps and window.
    """
    usable = checked.usable
    if config.window_days is not None:
        last = local_day(microseconds(checked.as_of), config.input.day_zone)
        first = day_number(last) - config.window_days + 1
        usable = usable.where(F.col("day") >= first)
    rows = session_rows(usable, config, checked.n_events)
    rows.write.mode("overwrite").parquet(folder)
    return SessionLog(
        rows=reader(usable.sparkSession).schema(rows.schema).parquet(folder),
        as_of=checked.as_of,
        read=checked.read,
        left_out=checked.left_out,
        other_days=checked.unused,
        ignored=checked.ignored,
        impressions=checked.by_type.get("impression", 0),
        refused=checked.refused,
        quarantine=checked.quarantine if checked.refused else None,
        usable=usable,
    )


def stored_log(spark: "SparkSession", root: str, config: GraphConfig, date: dt.date | None) -> SessionLog:
    """Read the sessions of stored days.

    Args:
        spark: the Spark session.
        root: the store (`store`).
        config: settings of the build.
        date: the last day that is read; None for the last one stored.

    Raises:
        GraphInputError: the days cannot be used (`stored_days`).
    """
    stored = stored_days(root, config, date)
    impressions = sum(day.impressions for day in stored.days.values())
    return SessionLog(stored.rows(spark), stored.as_of, impressions=impressions, refused=stored.refused, stored=stored)
