"""Builds the item graph from event logs, items and ads: the one call that `jobs` makes into this room.

Events are read, checked and cut into sessions once. From there two graphs are derived: `full/`, and `fit/`, which is
built as if the hold-out sessions had not happened, for model selection.
"""

import datetime as dt
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pyspark import StorageLevel
from pyspark.sql import functions as F

from graph_build import (
    co_search,
    edges,
    events,
    figures,
    nodes,
    read,
    report,
    sessions,
    strong_click,
    swing,
    tables,
    transitions,
)
from graph_build.config import GraphConfig
from graph_build.decay import ONE, day_number
from graph_build.errors import GraphInputError
from graph_build.files import join, remove_folder, write_text
from graph_build.spark import QUERY_SETTINGS
from graph_build.summary import GraphSummary

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger(__name__)

# Steps meet in parquet rather than in one long plan: planning stays short, and a lost executor loses nothing.
STAGING = "_staging"

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class GraphInputs:
    """Paths of the three tables: files or folders, parquet or CSV. Several events paths are one log."""

    events: list[str]
    items: str | None = None
    ads: str | None = None


@dataclass(frozen=True)
class _Log:
    """The clean log, and what is derived from it once for both graphs."""

    clean: "DataFrame"
    codes: "DataFrame"
    transitions: "DataFrame"
    sessions: "DataFrame"
    catalogue: "DataFrame | None"
    columns: list[str]

    def without(self, held: "DataFrame") -> "_Log":
        """The same log, had the sessions of `held` not happened."""

        def kept(frame: "DataFrame") -> "DataFrame":
            return frame.join(held, "session", "left_anti")

        return replace(self, clean=kept(self.clean), transitions=kept(self.transitions), sessions=kept(self.sessions))


@dataclass
class _Clock:
    """Wall time by stage, and the progress that the caller sees."""

    progress: Progress | None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, done: float) -> Iterator[None]:
        """Times one stage; `done` is the share of the whole build finished when it begins."""
        if self.progress is not None:
            self.progress(name, done)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)
        log.info("%s: %.1f s", name, self.seconds[name])


def build_graphs(
    spark: "SparkSession",
    inputs: GraphInputs,
    out: str,
    config: GraphConfig,
    *,
    date: dt.date | None = None,
    holdout_share: float = 0.1,
    progress: Progress | None = None,
) -> GraphSummary:
    """Writes the item graph of `inputs` into the folder `out` (layout: docs/artefacts.md).

    Args:
        out: a local path or a URI that Spark can write; created.
        date: events up to the end of this UTC day are used; by default all.
        holdout_share: share of the item events that the last sessions hold out of `fit/`, in [0, 1).
        progress: called with a stage's name and the share done, in [0, 1].

    Raises:
        GraphInputError: the input cannot be used. Nothing has been written then.
    """
    if not 0 <= holdout_share < 1:
        raise GraphInputError(f"holdout_share is {holdout_share}, expected a share in [0, 1)")
    if not inputs.events:
        raise GraphInputError("no events were given; expected at least one path")
    for name, value in QUERY_SETTINGS.items():
        spark.conf.set(name, value)
    clock = _Clock(progress)
    try:
        return _build(spark, inputs, out, config, date, holdout_share, clock)
    finally:
        spark.catalog.clearCache()  # what the steps share is of no use to anyone after them
        remove_folder(join(out, STAGING))


def _build(
    spark: "SparkSession",
    inputs: GraphInputs,
    out: str,
    config: GraphConfig,
    date: dt.date | None,
    holdout_share: float,
    clock: _Clock,
) -> GraphSummary:
    with clock.stage("check", 0.0):
        found = {
            "events": read.sources(spark, "events", inputs.events, config.input),
            "items": read.sources(spark, "items", [inputs.items] if inputs.items else [], config.input),
            "ads": read.sources(spark, "ads", [inputs.ads] if inputs.ads else [], config.input),
        }
        checked = tables.checked_events(spark, found["events"], config, date)
        items = tables.checked_items(spark, found["items"], config) if inputs.items else None
        codes = events.item_codes(checked.usable).persist(StorageLevel.MEMORY_AND_DISK)
        known = items.table.select("item_id").union(codes.select("item_id")) if items else None
        ads = tables.checked_ads(spark, found["ads"], config, known) if inputs.ads else None

    with clock.stage("tables", 0.1):
        quarantine = checked.quarantine
        if items is not None:
            _write(items.table, out, "tables/items")
            quarantine = quarantine.union(items.quarantine)
        if ads is not None:
            _write(ads.table, out, "tables/ads")
            quarantine = quarantine.union(ads.quarantine)
        _write(quarantine, out, "quarantine")

    with clock.stage("sessions", 0.15):
        whole = _log(checked, codes, items.table if items else None, config, out)
        by_type = {row[0]: row[1:] for row in _count_types(whole.clean)}
        held = _kept(sessions.held_out(whole.clean, holdout_share), out, f"{STAGING}/held")
        _write(whole.sessions.join(held, "session", "left_semi"), out, "holdout")

    capped = _cap_counts(whole, config)
    as_of_day = day_number(checked.as_of.date())
    n_edges, code_edges = _write_graph(spark, whole, out, "full", config, as_of_day, clock, 0.3, capped)
    fit = whole.without(held)
    last = fit.clean.agg(F.max("day")).collect()[0][0]
    _write_graph(spark, fit, out, "fit", config, as_of_day if last is None else last, clock, 0.6, None)

    with clock.stage("report", 0.9):
        table = spark.read.parquet(join(out, "full", "nodes"))
        n_nodes, n_tail = table.agg(F.count(F.lit(1)), F.sum(F.col("is_tail").cast("int"))).collect()[0]
        pairs = spark.read.parquet(join(out, "full", "transitions")).groupBy("kind").count().collect()
        statuses = ads.table.groupBy(F.coalesce("status", F.lit("active"))).count().collect() if ads else []
        valid = {kind: n for kind, (n, _) in by_type.items()}
        if checked.by_type.get("impression"):
            valid["impression"] = checked.by_type["impression"]
        summary = GraphSummary(
            as_of=checked.as_of,
            events={
                "read": checked.read,
                "valid": sum(valid.values()),
                "duplicates": sum(checked.by_type.values()) - sum(valid.values()),
                "opened_views": sum(opened for _, opened in by_type.values()),
                "left_out": checked.left_out,
                "by_type": dict(sorted(valid.items())),
            },
            quarantined={
                "events": checked.refused,
                "items": items.refused if items else {},
                "ads": ads.refused if ads else {},
            },
            nodes=n_nodes,
            tail=n_tail or 0,
            edges=n_edges,
            transitions={row[0]: row[1] for row in pairs},
            sessions=spark.read.parquet(join(out, "full", "sessions")).count(),
            holdout_sessions=spark.read.parquet(join(out, "holdout")).count(),
            capped=capped,
            ads={
                "total": sum(row[1] for row in statuses),
                "by_status": {row[0]: row[1] for row in statuses},
            },
            seconds=clock.seconds,
        )
        measured = figures.measure(code_edges, n_nodes, n_edges, config.report)
    write_text(join(out, "report.html"), report.render(summary, measured))
    write_text(join(out, "summary.json"), summary.to_json())
    if clock.progress is not None:
        clock.progress("graph built", 1.0)
    return summary


def _log(
    checked: tables.Events, codes: "DataFrame", catalogue: "DataFrame | None", config: GraphConfig, out: str
) -> _Log:
    most = config.strong_click.max_session_items
    codes = _kept(codes, out, f"{STAGING}/codes")
    clean = _kept(events.clean(checked.usable, codes, checked.columns, most), out, f"{STAGING}/clean")
    checked.rows.unpersist()
    baskets = transitions.baskets(clean, config.co_purchase)
    pairs = transitions.strong_clicks(clean, config.strong_click)
    pairs = pairs.unionByName(transitions.co_purchases(baskets, config.co_purchase))
    lists = sessions.browse_sessions(clean, most).unionByName(sessions.basket_sessions(baskets))
    return _Log(
        clean,
        codes,
        _kept(pairs, out, f"{STAGING}/transitions"),
        _kept(lists, out, "full/sessions"),
        catalogue.select("item_id") if catalogue is not None else None,
        checked.columns,
    )


def _write_graph(
    spark: "SparkSession",
    source: _Log,
    out: str,
    name: str,
    config: GraphConfig,
    as_of_day: int,
    clock: _Clock,
    done: float,
    capped: dict[str, int] | None,
) -> tuple[dict[str, int], "DataFrame"]:
    """Writes nodes, edges, transitions and sessions; returns the number of edges by type, and the raw edges."""
    with clock.stage(f"{name}: nodes, transitions, sessions", done):
        linked = None
        if "source_item_id" in source.columns:
            pages = source.clean.where("source is not null").select(F.col("source").alias("item"))
            linked = pages.distinct().join(source.codes, "item").select("item_id")
        table = nodes.nodes(
            source.clean,
            source.catalogue,
            linked,
            as_of_day=as_of_day,
            half_life_days=config.popularity_half_life_days,
            tail_max_events=config.tail.max_events,
        )
        _write(table, out, f"{name}/nodes")
        pairs = edges.named(source.transitions.drop("day"), source.codes)
        _write(pairs.select("session", "time", "src", "dst", "steps", "kind"), out, f"{name}/transitions")
        if name != "full":
            _write(source.sessions, out, f"{name}/sessions")

    with clock.stage(f"{name}: swing", done + 0.08):
        user_item = swing.user_items(source.clean, config.swing)
        kept = swing.capped(user_item, config.swing)
        if capped is not None:
            user_item, kept = user_item.persist(), kept.persist()
            capped["swing_user_items"] = user_item.count() - kept.count()
        lists = swing.user_lists(kept, config.swing).persist(StorageLevel.MEMORY_AND_DISK)
        entries = lists.agg(F.sum(F.size("list"))).collect()[0][0] or 0
        buckets = swing.buckets_for(entries, spark.sparkContext.defaultParallelism)
        scored = swing.score(lists, config.swing, buckets).persist(StorageLevel.MEMORY_AND_DISK)
        scored.count()

    with clock.stage(f"{name}: edges", done + 0.2):
        clicks = strong_click.weigh(strong_click.daily(source.transitions), as_of_day, config.strong_click)
        together = clicks.where("false")
        if "query" in source.columns:
            found = co_search.capped(co_search.searches(source.clean), config.co_search)
            if capped is not None:
                found = found.persist()
                capped["co_search_items"] = found.where("not is_kept").count()
            together = co_search.weigh(co_search.daily(found.where("is_kept")), as_of_day, config.co_search)
        raw = edges.assemble(
            edges.within_quota(clicks, config.strong_click.quota),
            scored,
            edges.within_quota(together, config.co_search.quota),
        ).persist(StorageLevel.MEMORY_AND_DISK)
        total = F.sum(F.col("raw").cast("decimal(38,0)"))
        sums = raw.groupBy("edge_type").agg(total, F.count(F.lit(1))).collect()
        totals = {row[0]: (int(row[1]), int(row[2])) for row in sums}
        _write(edges.weighted(raw, edges.scales(totals, ONE), source.codes), out, f"{name}/edges")
    return {kind: totals.get(kind, (0, 0))[1] for kind in edges.EDGE_TYPES}, raw


def _count_types(clean: "DataFrame") -> "list[tuple[str, int, int]]":
    opened = F.sum((~F.col("counted") & F.col("type").isin(*events.ITEM_TYPES)).cast("int"))
    return [tuple(row) for row in clean.groupBy("type").agg(F.count(F.lit(1)), opened).collect()]


def _cap_counts(source: _Log, config: GraphConfig) -> dict[str, int]:
    """How many rows each cap cut, in the whole log."""
    most = config.strong_click.max_session_items
    beyond = F.sum((F.col("opened") & (F.col("position") > most)).cast("bigint"))
    opened = source.clean.agg(beyond).collect()[0][0] or 0
    cut = F.sum(F.col("all_items") - F.size("basket"))
    bought = transitions.baskets(source.clean, config.co_purchase).agg(cut).collect()[0][0] or 0
    return {"session_items": int(opened), "basket_items": int(bought)}


def _kept(frame: "DataFrame", out: str, folder: str) -> "DataFrame":
    """The same rows, computed once and read from where they were written."""
    _write(frame, out, folder)
    return frame.sparkSession.read.schema(frame.schema).parquet(join(out, folder))


def _write(frame: "DataFrame", out: str, folder: str) -> None:
    frame.write.mode("overwrite").parquet(join(out, folder))
