"""Checks items and ads: one row of each item and each ad stays, copies of item rows are dropped, other rows refused."""

import datetime as dt
from typing import TYPE_CHECKING, Any

from pyspark.sql import Window
from pyspark.sql import functions as F

from graph_build.ingest.contract import PLACE, column_kinds
from graph_build.ingest.spark_reader import feature
from graph_build.ingest.values import BLANKS

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

AD_COLUMNS = (
    "ad_id",
    "item_id",
    "campaign_id",
    "advertiser_id",
    "starts_at",
    "ends_at",
    "status",
    "countries",
    "bid",
    "version",
)
# A row with one of these reasons loses only the value and stays, because every item of the catalogue is embedded. The
# reason is still counted.
KEPT_WITHOUT_EMBEDDING = ("embedding_not_finite", "embedding_dimension", "embedding_unreadable")
KEPT_WITHOUT_PRICE = ("price_not_finite", "price_unreadable")
KEPT = KEPT_WITHOUT_EMBEDDING + KEPT_WITHOUT_PRICE
# The reasons of rows that a newer row of the same id replaces, as in a folder of daily snapshots. These rows are
# counted, but do not count as bad.
REPLACED = ("duplicate_item_id", "duplicate_ad_id")
# Statuses with which shops hide ads. Any other status may be a mistake, except `active`.
HIDING_STATUSES = (
    "paused", "inactive", "ended", "stopped", "disabled", "archived", "deleted", "removed", "draft", "pending",
    "rejected", "suspended", "exhausted", "expired", "scheduled", "completed", "finished", "off",
)  # fmt: skip


def item_reason() -> "Column":
    """Return why an item row is refused; null if it is not."""
    return F.when(F.col("item_id").isNull(), "item_missing")


def items(rows: "DataFrame", columns: list[str]) -> "DataFrame":
    """Return item rows with a final `reason`. The last row of an item stays, copies are dropped, other rows refused.

    The last row is the one in the last file. Files are in the order of their names, so that the newest of several daily
    snapshots counts.

    An item loses a price that is not a finite number, and an embedding that holds NaN or infinity or does not have the
    commonest length. The `reason` is then one of KEPT.

    Args:
        rows: the result of `spark_reader.read` for items.
        columns: the contract columns that the input has.
    """
    content = [name for name in rows.columns if name in columns or name.startswith("feature_")]
    same = Window.partitionBy("item_id", F.col("reason").isNull())
    last = same.orderBy(*map(F.desc, PLACE))
    hashed = F.xxhash64(*content)
    rows = (
        rows.withColumn("content", hashed)
        .withColumn("rank", F.row_number().over(last))
        .withColumn("is_copy", (F.first("content").over(last) == F.col("content")) & (F.col("rank") > 1))
        .where(F.col("reason").isNotNull() | ~F.col("is_copy"))
        .withColumn("reason", F.coalesce("reason", F.when(F.col("rank") > 1, REPLACED[0])))
        .drop("content", "rank", "is_copy")
    )
    infinite = F.isnan("price") | (F.abs("price") == float("inf"))
    rows = rows.withColumn("reason", F.coalesce("reason", "unreadable", F.when(infinite, KEPT_WITHOUT_PRICE[0])))
    rows = rows.withColumn("price", F.when(~infinite, F.col("price")))
    if "embedding" not in columns:
        return rows
    size = F.size("embedding")
    usual = rows.where("embedding is not null and reason is null").groupBy(size.alias("d")).count()
    top = usual.orderBy(F.desc("count"), F.desc("d")).limit(1).collect()
    dimension = top[0]["d"] if top else 0
    broken = F.exists("embedding", lambda x: x.isNull() | F.isnan(x) | (F.abs(x) == float("inf")))
    fault = F.when(broken, KEPT_WITHOUT_EMBEDDING[0]).when(size != dimension, KEPT_WITHOUT_EMBEDDING[1])
    fault = F.when(F.col("embedding").isNotNull(), fault)
    rows = rows.withColumn("fault", fault).withColumn("reason", F.coalesce("reason", "fault"))
    return rows.withColumn("embedding", F.when(F.col("fault").isNull(), F.col("embedding"))).drop("fault")


def items_table(checked: "DataFrame", columns: list[str], features: tuple[str, ...]) -> "DataFrame":
    """Return the catalogue: item_id, the optional columns that the input has, and the configured features.

    Args:
        checked: the result of `items`.
        columns: the contract columns that the input has.
        features: the configured features, by the names of their columns.
    """
    accepted = checked.where(F.col("reason").isNull() | F.col("reason").isin(*KEPT))
    known = [name for name in column_kinds("items") if name in columns]
    further = [
        F.col(feature(rank)).alias(name) for rank, name in enumerate(features) if feature(rank) in accepted.columns
    ]
    return accepted.select(*known, *further)


def ad_reason() -> "Column":
    """Return why an ad row is refused; null if it is not."""
    return (
        F.when(F.col("ad_id").isNull(), "ad_missing")
        .when(F.col("item_id").isNull(), "item_missing")
        .when(F.col("campaign_id").isNull(), "campaign_missing")
        .when(F.col("ends_at") < F.col("starts_at"), "ends_before_start")
        .when(F.isnan("bid") | (F.abs(F.col("bid")) == float("inf")), "bid_not_finite")
        # An unreadable date must not count as "for ever", and an unreadable country not as "everywhere".
        .when(F.col("unreadable").isNotNull(), F.col("unreadable"))
        .when(
            F.exists("countries", lambda code: code.isNull() | ~_trimmed(code).rlike("^([A-Za-z]{2})?$")),
            "country_invalid",
        )
    )


def ads(rows: "DataFrame", known_items: "DataFrame | None") -> "DataFrame":
    """Return ad rows with a final `reason`. Only the newest row of each ad stays.

    It is the row with the highest version or, if several have the same version, the last row. That is the one in the
    last file. Files are in the order of their names, so that the newest of several daily snapshots counts. The newest
    row replaces older rows even if it is refused: an older row might show an ad that has been paused since.

    Args:
        rows: the result of `spark_reader.read` for ads.
        known_items: (item_id) of the catalogue and the log; None if there is no catalogue.
    """
    newest = Window.partitionBy("ad_id").orderBy(
        F.desc(F.coalesce("version", F.lit(0).cast("bigint"))), *map(F.desc, PLACE)
    )
    is_replaced = (F.col("rank") > 1) & F.col("ad_id").isNotNull()
    rows = rows.withColumn("rank", F.row_number().over(newest)).withColumn(
        "reason", F.when(is_replaced, REPLACED[1]).otherwise(F.col("reason"))
    )
    if known_items is not None:
        flagged = known_items.distinct().select("item_id", F.lit(True).alias("known"))
        rows = rows.join(flagged, "item_id", "left").withColumn(
            "reason", F.coalesce("reason", F.when(F.col("known").isNull(), "item_unknown"))
        )
    return rows


def count_ads(ads: "DataFrame", nodes: "DataFrame", as_of: dt.datetime) -> dict[str, Any]:
    """Count accepted ads: total, by_status, in_flight at the as-of time, and without_item.

    Args:
        ads: `ads_table`.
        nodes: the items of the graph, with their item_id.
        as_of: the as-of time.
    """
    now = F.lit(as_of)
    has_begun = F.col("starts_at").isNull() | (F.col("starts_at") <= now)
    has_ended = F.coalesce(F.col("ends_at") <= now, F.lit(False))
    in_flight = F.col("known") & (F.col("status") == "active") & has_begun & ~has_ended
    known = ads.join(nodes.select("item_id", F.lit(True).alias("known")), "item_id", "left")
    rows = known.select(
        F.coalesce("status", F.lit("active")).alias("status"),
        F.coalesce("known", F.lit(False)).alias("known"),
        "starts_at",
        "ends_at",
    )
    sums = [F.count(F.lit(1)), F.sum(in_flight.cast("bigint")), F.sum((~F.col("known")).cast("bigint"))]
    counts = rows.groupBy("status").agg(*sums).collect()
    total, running, lost = (sum(row[n] for row in counts) for n in (1, 2, 3))
    by_status = {row[0]: row[1] for row in counts}
    return {"total": total, "by_status": by_status, "in_flight": running, "without_item": lost}


def ads_table(checked: "DataFrame") -> "DataFrame":
    """Return the accepted ads with all columns of the contract, with countries in upper and status in lower case."""
    trimmed = F.transform("countries", lambda country: F.upper(_trimmed(country)))
    countries = F.filter(F.array_distinct(trimmed), lambda country: country != "")
    return (
        checked.where("reason is null")
        .withColumn("countries", countries)
        .withColumn("status", F.lower("status"))
        .select(*AD_COLUMNS)
    )


def _trimmed(text: "Column") -> "Column":
    return F.btrim(text, F.lit(BLANKS))
