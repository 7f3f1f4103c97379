"""Writes the tables of stored days: the rows of sessions, the counts of clicks and searches, and the refused rows."""

import datetime as dt
from collections.abc import Mapping
from operator import itemgetter
from typing import TYPE_CHECKING

from pyspark import StorageLevel
from pyspark.sql import functions as F

from graph_build.config import GraphConfig
from graph_build.days.days_file import StoredDay
from graph_build.days.store import CLICKS, SEARCHES
from graph_build.decay import EPOCH
from graph_build.edges.caps import most_cut_in_days
from graph_build.edges.co_search import count_cut_items, daily_searches, search_pairs, searched_items
from graph_build.edges.strong_click import daily_clicks
from graph_build.sessions.schema import SESSION_ROW_IN_SPARK
from graph_build.spark.session import reader
from graph_build.spark.storage import exists, join

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

# A refused row. `forget` finds it by the hashes of its user and its session.
REFUSED_ROW = "input string, reason string, row string, user bigint, session bigint"


def write_days(
    rows: "DataFrame",
    root: str,
    folder: str,
    config: GraphConfig,
    impressions: Mapping[int, int],
    usable: "DataFrame | None" = None,
) -> dict[dt.date, StoredDay]:
    """Write the rows and aggregates of each day into a folder of its own.

    Args:
        rows: rows of sessions, of one day or several.
        root: the store.
        folder: the folder of the ingest, below the store.
        config: the settings of the aggregates.
        impressions: day number → number of impressions.
        usable: the checked events behind the rows, from which cut groups get their names; None = their hashes are used.
    """
    last = F.max(F.element_at("time", -1))
    cut = [F.sum(F.when(kind, F.col("cut"))) for kind in (F.col("browsed"), ~F.col("browsed"))]
    facts = rows.groupBy("day").agg(F.sum("counted"), last, *cut).collect()
    stored = {}
    for number, counted, time, of_sessions, of_baskets in sorted((tuple(row) for row in facts), key=itemgetter(0)):
        day = EPOCH + dt.timedelta(days=number)
        day_folder = f"{folder}/{day}"
        of_day = rows.where(F.col("day") == number)
        of_day = write_and_read(of_day, root, f"{day_folder}/sessions", SESSION_ROW_IN_SPARK)
        clicks = daily_clicks(of_day, None, config).groupBy("day", "src", "dst", "steps")
        write_and_read(clicks.agg(F.sum("full").alias("count")), root, f"{day_folder}/clicks", CLICKS)
        pairs = search_pairs(searched_items(of_day, None), config.co_search).persist(StorageLevel.DISK_ONLY)
        searches = daily_searches(pairs).select("day", "low", "high", F.col("full").alias("count"))
        write_and_read(searches, root, f"{day_folder}/searches", SEARCHES)
        of_searches = count_cut_items(pairs, config.co_search)
        by_rule = {"session_items": of_sessions, "basket_items": of_baskets, "co_search_items": of_searches}
        most_cut = most_cut_in_days(of_day, pairs, usable, config, by_rule)
        pairs.unpersist()
        stored[day] = StoredDay(day_folder, int(counted), int(time), impressions.get(number, 0), of_searches, most_cut)
    return stored


def write_and_read(frame: "DataFrame", root: str, folder: str, schema: "str | StructType") -> "DataFrame":
    """Write a table into a folder of the store, and return the table as it is read from there.

    Args:
        frame: the table.
        root: the store.
        folder: a path below the store.
        schema: the schema of the table.
    """
    frame.write.parquet(join(root, folder))
    return reader(frame.sparkSession).schema(schema).parquet(join(root, folder))


def write_refused(
    refused: "DataFrame", root: str, stored: Mapping[dt.date, StoredDay]
) -> dict[dt.date, dict[str, int]]:
    """Write the refused rows of an ingest beside the days that it stores; return day → reason → number of rows.

    A row is written beside the day of its time. If this ingest does not store that day, or the time cannot be read, the
    row is written beside the newest day.

    Args:
        refused: the columns of REFUSED_ROW, and `day` (day number, or null).
        root: the store.
        stored: the days that the ingest stores; not empty.
    """
    known = F.to_date(F.date_from_unix_date("day")).isin(list(stored))
    home = F.when(known, F.date_from_unix_date("day")).otherwise(F.lit(max(stored)))
    folder = join(root, stored[max(stored)].quarantine(max(stored)).rpartition("/")[0])
    refused.withColumn("day", home.cast("string")).write.partitionBy("day").parquet(folder)
    written = reader(refused.sparkSession).schema(f"{REFUSED_ROW}, day string").parquet(folder)
    counts: dict[dt.date, dict[str, int]] = {}
    for day, reason, n in written.groupBy("day", "reason").count().collect():
        counts.setdefault(dt.date.fromisoformat(day), {})[reason] = n
    return counts


def read_refused(spark: "SparkSession", root: str, days: Mapping[dt.date, StoredDay]) -> "DataFrame | None":
    """Return the refused rows of stored days (REFUSED_ROW, and `day` as text); None if there are none.

    Args:
        spark: the Spark session.
        root: the store.
        days: the days to read.
    """
    folders = {day: join(root, stored.quarantine(day)) for day, stored in days.items()}
    parts = [
        reader(spark).schema(REFUSED_ROW).parquet(folder).withColumn("day", F.lit(str(day)))
        for day, folder in folders.items()
        if exists(folder)
    ]
    if not parts:
        return None
    union = parts[0]
    for part in parts[1:]:
        union = union.unionByName(part)
    return union
