"""Builds the item graph from event logs, items and ads: the one call that `jobs` makes into this room.

Events are read, checked and put together into sessions once. From there two graphs are derived side by side: `full/`,
and `fit/`, which is built as if the hold-out sessions had not happened, for model selection.
"""

import datetime as dt
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING

from pyspark import StorageLevel
from pyspark.sql import functions as F

from graph_build import counters
from graph_build.config import GraphConfig
from graph_build.days import event_source
from graph_build.decay import ONE
from graph_build.edges import caps, co_search, combine, nodes, strong_click, swing
from graph_build.errors import GraphInputError
from graph_build.ingest import checked_tables, reader
from graph_build.ingest.contract import Table, mixed_ids
from graph_build.ingest.warnings import doubts
from graph_build.report.html import render_report
from graph_build.report.measure import measure_graph
from graph_build.sessions import rows as sessions
from graph_build.spark.session import QUERY_SETTINGS, make_room
from graph_build.spark.storage import join, remove_folder, write_text
from graph_build.summary import GraphSummary

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger(__name__)

# Steps meet in parquet rather than in one long plan: planning stays short, and a lost executor loses nothing.
STAGING = "_staging"

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class GraphInputs:
    """Paths of the three tables: files or folders, parquet or CSV. Several events paths are one log.

    Instead of events, `days` names a store of days (`graph_build.days.store`).
    """

    events: list[str] = field(default_factory=list)
    items: str | None = None
    ads: str | None = None
    days: str | None = None


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
    holdout_day: dt.date | None = None,
    progress: Progress | None = None,
) -> GraphSummary:
    """Writes the item graph of `inputs` into the folder `out` (layout: docs/artefacts.md).

    Args:
        out: a local path or a URI that Spark can write; created.
        date: events up to the end of this UTC day are used; by default all.
        holdout_share: share of the item events that the last sessions hold out of `fit/`, in [0, 1).
        holdout_day: instead, the sessions of that UTC day and of later ones are held out.
        progress: called with a stage's name and the share done, in [0, 1].

    Raises:
        GraphInputError: the input cannot be used. Nothing has been written then.
    """
    if not 0 <= holdout_share < 1:
        raise GraphInputError(f"holdout_share is {holdout_share}, expected a share in [0, 1)")
    if not inputs.events and inputs.days is None:
        raise GraphInputError("no events were given; expected at least one path")
    for name, value in QUERY_SETTINGS.items():
        spark.conf.set(name, value)
    clock = _Clock(progress)
    try:
        return _build(spark, inputs, out, config, date, holdout_share, holdout_day, clock)
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
    holdout_day: dt.date | None,
    clock: _Clock,
) -> GraphSummary:
    with clock.stage("check", 0.0):
        paths: dict[Table, list[str]] = {
            "events": inputs.events if inputs.days is None else [],
            "items": [inputs.items] if inputs.items else [],
            "ads": [inputs.ads] if inputs.ads else [],
        }
        found = {table: reader.sources(spark, table, given, config.input) for table, given in paths.items()}
        doubtful = [doubt for table in found for doubt in mixed_ids(table, found[table], config.input)]
        checked = None if inputs.days else checked_tables.checked_events(spark, found["events"], config, date)
        items = checked_tables.checked_items(spark, found["items"], config) if inputs.items else None

    with clock.stage("sessions", 0.1):
        if checked is None:
            source = event_source.from_store(spark, inputs.days or "", config, date)
        else:
            source = event_source.put_together(checked, join(out, f"{STAGING}/sessions"), config)
        rows = source.rows
        counts = sessions.counts(rows)
        n_events = sum(counts.by_type.values())
        make_room(spark, n_events)
        held = sessions.from_day(holdout_day) if holdout_day else sessions.hold_out(rows, holdout_share)
        as_of = sessions.last_days(rows, held)

    with clock.stage("nodes", 0.3):
        catalogue = categories = None
        if items is not None:
            _write(items.table, out, "tables/items")
            catalogue = items.table.select("item_id")
            if "category" in items.table.columns:
                categories = items.table.select("item_id", "category")
        counted = sessions.items(rows, held, as_of, config.popularity_half_life_days)
        names = _kept(counted, out, f"{STAGING}/items")
        for graph in combine.GRAPHS:
            table = nodes.nodes(names, catalogue, graph, tail_max_events=config.tail.max_events)
            _write(table, out, f"{graph}/nodes")
        n_nodes, n_tail = _count_nodes(spark, out, names)
        doubtful += doubts(rows, spark.read.parquet(join(out, "full", "nodes")), has_catalogue=items is not None)
        for doubt in doubtful:
            log.warning(doubt)

    with clock.stage("ads", 0.35):
        known = spark.read.parquet(join(out, "full", "nodes")).select("item_id") if items else None
        ads = checked_tables.checked_ads(spark, found["ads"], config, known) if inputs.ads else None
        if ads is not None:
            _write(ads.table, out, "tables/ads")
        refused = [part.quarantine for part in (items, ads) if part is not None and part.refused]
        if source.quarantine is not None:
            refused.append(source.quarantine)
        none = spark.createDataFrame([], checked_tables.QUARANTINE)
        _write(reduce(lambda one, other: one.union(other), refused, none), out, "quarantine")

    with clock.stage("transitions, sessions", 0.4):
        pairs = sessions.transitions(rows, config.strong_click, config.co_purchase)
        is_held = sessions.is_held(held).alias("held")
        pairs = pairs.select("session", "time", "src", "dst", "steps", "kind", is_held)
        _write(pairs, out, "transitions")
        lists = sessions.lists(rows, config.co_purchase)
        start = F.timestamp_micros("start").alias("start")
        _write(
            lists.select("session", start, "kind", "items", "times", "searches", "country", is_held), out, "sessions"
        )

    with clock.stage("swing", 0.5):
        parts, buckets = swing.plan(n_events, spark.sparkContext.defaultParallelism)
        packed = swing.packed(swing.entries(rows, held, config.swing), config.swing, parts, buckets)
        packed = packed.persist(StorageLevel.DISK_ONLY)
        similar = _kept(swing.score(packed, config.swing, buckets), out, f"{STAGING}/swing")
        counts.capped |= swing.cut_counts(packed, config.swing)
        most_cut = caps.in_window(swing.most_cut(packed, caps.SHOWN), names)

    with clock.stage("strong clicks", 0.6):
        clicks = _kept(
            strong_click.weigh(source.clicks(held, config), as_of, config.strong_click), out, f"{STAGING}/strong_click"
        )
        clicks = _kept(combine.within_quota(clicks, config.strong_click.quota), out, f"{STAGING}/strong_click_kept")

    with clock.stage("co-search", 0.75):
        searched, together = source.searches(held, config)
        together = co_search.weigh(together, as_of, config.co_search)
        together = _kept(together, out, f"{STAGING}/co_search")
        together = _kept(combine.within_quota(together, config.co_search.quota), out, f"{STAGING}/co_search_kept")
        counts.capped["co_search_items"] = source.cut_searches(searched, config)
        most_cut += source.most_cut(searched, config, counts.capped)

    with clock.stage("edges", 0.8):
        raw = combine.assemble(clicks, similar, together)
        totals = combine.totals(raw)
        named = _kept(combine.named(raw, names.select("item", "item_id")), out, f"{STAGING}/edges")
        for graph in combine.GRAPHS:
            _write(combine.weighted(named, graph, combine.scales(totals[graph], ONE)), out, f"{graph}/edges")
        n_edges = {kind: totals["full"].get(kind, (0, 0))[1] for kind in combine.EDGE_TYPES}

    if config.counters:
        with clock.stage("counters", 0.85):
            entities = counters.of_items(
                items.table if items else None,
                ads.table if ads else None,
                spark.read.parquet(join(out, "full", "nodes")),
            )
            pairs = spark.read.parquet(join(out, "transitions"))
            _write(counters.counters(pairs, rows, held, entities), out, "counters")
            if checked is not None and source.impressions:
                _write(counters.impressions(checked.rows), out, "impressions")

    with clock.stage("report", 0.9):
        kinds = spark.read.parquet(join(out, "transitions")).groupBy("kind").count().collect()
        listed = spark.read.parquet(join(out, "sessions")).groupBy("held").count().collect()
        n_lists = {row[0]: row[1] for row in listed}
        statuses = ads.table.groupBy(F.coalesce("status", F.lit("active"))).count().collect() if ads else []
        valid = counts.by_type
        if source.impressions:
            valid["impression"] = source.impressions
        measured = measure_graph(raw, n_nodes, n_edges, names.select("item", "item_id"), categories, config.report)
        summary = GraphSummary(
            as_of=source.as_of,
            events={
                "read": sum(valid.values()) + counts.duplicates if source.read is None else source.read,
                "valid": sum(valid.values()),
                "duplicates": counts.duplicates,
                "opened_views": counts.opened_views,
                "left_out": source.left_out,
                "by_type": dict(sorted(valid.items())),
            },
            quarantined={
                "events": source.refused,
                "items": items.refused if items else {},
                "ads": ads.refused if ads else {},
            },
            nodes=n_nodes,
            tail=n_tail,
            edges=n_edges,
            transitions={row[0]: row[1] for row in kinds},
            sessions=sum(n_lists.values()),
            holdout_sessions=n_lists.get(True, 0),
            capped=counts.capped,
            most_cut=caps.by_rule(most_cut),
            doubts=doubtful,
            ads={
                "total": sum(row[1] for row in statuses),
                "by_status": {row[0]: row[1] for row in statuses},
            },
            seconds=clock.seconds,
            isolated=measured.isolated,
            mean_degree=measured.mean_degree,
            degrees=measured.degrees,
        )
    write_text(join(out, "report.html"), render_report(summary, measured))
    write_text(join(out, "summary.json"), summary.to_json())
    if clock.progress is not None:
        clock.progress("graph built", 1.0)
    return summary


def _count_nodes(spark: "SparkSession", out: str, names: "DataFrame") -> tuple[int, int]:
    """The items of the graph, and those of them that are tail."""
    twice = names.groupBy("item").agg(F.collect_list("item_id").alias("ids")).where("size(ids) > 1").first()
    if twice is not None:
        raise GraphInputError(f"the item ids {twice['ids']} have the same 64-bit hash; rename one of them")
    table = spark.read.parquet(join(out, "full", "nodes"))
    n, tail = table.agg(F.count(F.lit(1)), F.sum(F.col("is_tail").cast("int"))).collect()[0]
    return n, tail or 0


def _kept(frame: "DataFrame", out: str, folder: str) -> "DataFrame":
    """The same rows, computed once and read from where they were written."""
    _write(frame, out, folder)
    return frame.sparkSession.read.schema(frame.schema).parquet(join(out, folder))


def _write(frame: "DataFrame", out: str, folder: str) -> None:
    frame.write.mode("overwrite").parquet(join(out, folder))
