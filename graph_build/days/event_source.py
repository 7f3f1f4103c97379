"""The log that a graph is built from: loose events that are put together now, or days that were stored before."""

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyspark import StorageLevel
from pyspark.sql import functions as F

from graph_build.config import GraphConfig
from graph_build.days.store import CLICKS, SEARCHES, Stored, stored
from graph_build.decay import day_number
from graph_build.edges import caps, co_search, strong_click
from graph_build.ingest import checked_tables, events
from graph_build.sessions import rows as sessions

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class Log:
    """The sessions that the graph is built from, and what was found on the way to them."""

    rows: "DataFrame"
    as_of: dt.datetime
    read: int | None = None
    left_out: int = 0
    impressions: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    quarantine: "DataFrame | None" = None
    usable: "DataFrame | None" = None
    stored: Stored | None = None

    def clicks(self, held: sessions.HoldOut | None, config: GraphConfig) -> "DataFrame":
        """`strong_click.daily`, from the stored counts of days that the hold-out does not touch."""
        rows, early = self._split(held, "clicks", CLICKS)
        late = strong_click.daily(rows, held, config)
        return late if early is None else late.unionByName(early)

    def searches(self, held: sessions.HoldOut | None, config: GraphConfig) -> "tuple[DataFrame, DataFrame]":
        """`co_search.daily` likewise, and the pairs of searches that it comes from."""
        rows, early = self._split(held, "searches", SEARCHES)
        pairs = co_search.pairs(co_search.found(rows, held), config.co_search).persist(StorageLevel.DISK_ONLY)
        late = co_search.daily(pairs)
        return pairs, late if early is None else late.unionByName(early)

    def cut_searches(self, pairs: "DataFrame", config: GraphConfig) -> int:
        """How many items of searches the cap cut."""
        if self.stored is not None and self.stored.matches:
            return sum(day.cut_searches for day in self.stored.days.values())
        return co_search.cut_items(pairs, config.co_search)

    def most_cut(self, pairs: "DataFrame", config: GraphConfig, cut: dict[str, int]) -> list[caps.Capped]:
        """What the caps of a day cut most, by name. `cut`: rule → how much."""
        if self.stored is not None:
            return self.stored.most_cut
        return caps.in_days(self.rows, pairs, self.usable, config, cut)

    def _split(self, held: sessions.HoldOut | None, name: str, schema: str) -> "tuple[DataFrame, DataFrame | None]":
        """The rows that must be counted again, and the counts of the days before them."""
        if self.stored is None or not self.stored.matches:
            return self.rows, None
        first = held.day if held else day_number(max(self.stored.days)) + 1
        early = self.stored.aggregates(self.rows.sparkSession, name, schema, first)
        return self.rows.where(F.col("day") >= first), early


def put_together(checked: checked_tables.Events, folder: str, config: GraphConfig) -> Log:
    """Checked events as rows of sessions, which are written to `folder` once and read from there."""
    n_events = sum(checked.by_type.get(kind, 0) for kind in events.TYPES[1:])
    usable = checked.usable
    if config.window_days is not None:
        first = day_number(checked.as_of.date()) - config.window_days + 1
        usable = usable.where(F.col("day") >= first)
    rows = sessions.session_rows(usable, config, n_events)
    rows.write.mode("overwrite").parquet(folder)
    return Log(
        usable.sparkSession.read.schema(rows.schema).parquet(folder),
        checked.as_of,
        checked.read,
        checked.left_out,
        checked.by_type.get("impression", 0),
        checked.refused,
        checked.quarantine if checked.refused else None,
        usable,
    )


def from_store(spark: "SparkSession", root: str, config: GraphConfig, date: dt.date | None) -> Log:
    """The stored days up to `date`. Raises GraphInputError when there are none."""
    found = stored(root, config, date)
    impressions = sum(day.impressions for day in found.days.values())
    return Log(found.rows(spark), found.as_of, impressions=impressions, stored=found)
