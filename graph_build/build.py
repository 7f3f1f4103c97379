"""Builds the item graph from event logs, items and ads.

Events are checked and assembled into sessions once. From these sessions two graphs are built side by side: `full`
uses all sessions; `fit` leaves out the held-out sessions, on which models are selected.
"""

import datetime as dt
import logging
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

from pyspark import StorageLevel
from pyspark.sql import functions as F

from graph_build.config import GraphConfig
from graph_build.counters import count_interactions, impression_lists, item_entities
from graph_build.days.event_source import SessionLog, assemble_log, stored_log
from graph_build.decay import ONE
from graph_build.edges import combine, swing
from graph_build.edges.caps import SHOWN_GROUPS, CutGroup, group_by_rule, most_cut_in_window
from graph_build.edges.co_search import weigh_searches
from graph_build.edges.nodes import node_table
from graph_build.edges.strong_click import weigh_clicks
from graph_build.errors import GraphInputError
from graph_build.graphs import GRAPHS, AsOf
from graph_build.ingest import checked_tables, spark_reader
from graph_build.ingest.contract import Table
from graph_build.ingest.files import Source, mixed_ids
from graph_build.ingest.item_tables import count_ads
from graph_build.ingest.warnings import ad_doubts, doubts, unknown_types, without_sessions
from graph_build.report.html import render_report
from graph_build.report.measure import measure_graph, titles_of
from graph_build.report.statistics import GraphStatistics
from graph_build.sessions.holdout import HoldoutCutoff, cutoff_at_day, cutoff_for_share, is_held_out, last_days
from graph_build.sessions.rows import EventCounts, count_events, item_counts, session_lists, transitions
from graph_build.spark.session import QUERY_SETTINGS, STAGING, make_room, reader
from graph_build.spark.storage import join, remove_folder, write_text
from graph_build.stage_clock import ProgressCallback, StageClock
from graph_build.summary import GraphSummary

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GraphInputs:
    """Paths of the three tables: files, folders or patterns, local or as URIs, or `table:NAME`.

    Args:
        events: the event log; several paths are read as one log.
        items: the catalogue; None if there is none.
        ads: the ads; None if there are none.
        days: a store of days (`graph_build.days.store`) to use instead of `events`.
    """

    events: list[str] = field(default_factory=list)
    items: str | None = None
    ads: str | None = None
    days: str | None = None


def build_graphs(
    spark: "SparkSession",
    inputs: GraphInputs,
    out: str,
    config: GraphConfig,
    *,
    date: dt.date | None = None,
    holdout_share: float = 0.1,
    holdout_day: dt.date | None = None,
    progress: ProgressCallback | None = None,
) -> GraphSummary:
    """Write the item graph of the inputs into a folder (layout: docs/artefacts.md).

    Args:
        spark: the Spark session; the build changes its query settings.
        inputs: the paths of the tables.
        out: the folder to write, a local path or a URI that Spark can write to; it is created.
        config: every setting of the build.
        date: the last day whose events are used; None = all events.
        holdout_share: share of item events to hold out of `fit`, in [0, 1); whole sessions are taken from the end of
            the log.
        holdout_day: hold out the sessions of this day and of later days, instead of a share.
        progress: called when each stage starts, and at the end.

    Raises:
        GraphInputError: the input cannot be used. `out` may then hold part of the graph.
    """
    if not 0 <= holdout_share < 1:
        raise GraphInputError(f"holdout_share is {holdout_share}, expected a share in [0, 1)")
    if not inputs.events and inputs.days is None:
        raise GraphInputError("no events were given; expected at least one path")
    for name, value in QUERY_SETTINGS.items():
        spark.conf.set(name, value)
    build = GraphBuild(spark, inputs, out, config, date, holdout_day or holdout_share, StageClock(progress))
    try:
        return build.run()
    finally:
        spark.catalog.clearCache()  # nobody needs the shared intermediate results after the build
        remove_folder(join(out, STAGING))


@dataclass(frozen=True)
class _CheckedInputs:
    """The checked tables. `events` is None if stored days are used; `items` is None if there is no catalogue."""

    sources: dict[Table, list[Source]]
    events: checked_tables.Events | None
    items: checked_tables.Checked | None


@dataclass(frozen=True)
class _Sessions:
    """The sessions of a build: `log` has their rows. Sessions from `cutoff` on are held out of `fit`."""

    log: SessionLog
    counts: EventCounts
    n_events: int
    cutoff: HoldoutCutoff | None
    as_of: AsOf


@dataclass(frozen=True)
class _Nodes:
    """The items of the graph. `names` has the columns item (hash) and item_id."""

    names: "DataFrame"
    total: int
    tail: int


@dataclass(frozen=True)
class _Edges:
    """The edges before `combine` weighs them, and the number of directed edges of each type."""

    pairs: "DataFrame"
    by_type: dict[str, int]


@dataclass
class GraphBuild:
    """One build of both graphs; `run` lists its stages.

    Args:
        spark: the Spark session.
        inputs: the paths of the tables.
        out: the folder to write.
        config: every setting of the build.
        date: the last day that is used; None = all days.
        holdout: the share of item events to hold out, or the first day of the hold-out.
        clock: times the stages.
        doubts: sentences about what looks wrong with the log; the stages add to them.
        most_cut: the groups that the caps cut most; the stages add to them.
    """

    spark: "SparkSession"
    inputs: GraphInputs
    out: str
    config: GraphConfig
    date: dt.date | None
    holdout: float | dt.date
    clock: StageClock
    doubts: list[str] = field(default_factory=list)
    most_cut: list[CutGroup] = field(default_factory=list)

    def run(self) -> GraphSummary:
        """Build both graphs, stage by stage."""
        stage = self.clock.stage
        with stage("check", 0.0):
            tables = self.check_inputs()
        with stage("sessions", 0.1):
            sessions = self.assemble_sessions(tables)
        with stage("nodes", 0.3):
            nodes = self.write_nodes(sessions, tables.items)
        with stage("ads", 0.35):
            ads = self.write_ads(tables, sessions.log.as_of)
            self.write_quarantine(tables.items, ads, sessions.log)
        with stage("transitions, sessions", 0.4):
            self.write_training_pairs(sessions)
        with stage("swing", 0.5):
            swing_pairs = self.score_swing(sessions, nodes)
        with stage("strong clicks", 0.6):
            click_pairs = self.weigh_strong_clicks(sessions)
        with stage("co-search", 0.75):
            search_pairs = self.weigh_co_search(sessions)
        with stage("edges", 0.8):
            edges = self.write_edges(combine.union_types(click_pairs, swing_pairs, search_pairs), nodes)
        if self.config.counters:
            with stage("counters", 0.85):
                self.write_counters(sessions, tables, ads)
        with stage("report", 0.9):
            statistics = self.measure(edges, nodes, tables.items)
            summary = self.summarise(sessions, nodes, edges, tables.items, ads, statistics)
        write_text(join(self.out, "report.html"), render_report(summary, statistics))
        write_text(join(self.out, "summary.json"), summary.to_json())
        if self.clock.progress is not None:
            self.clock.progress("graph built", 1.0)
        return summary

    def check_inputs(self) -> _CheckedInputs:
        """Find the files of each table, and check events and items.

        Ads are checked later, because that needs the nodes.
        """
        inputs, config = self.inputs, self.config
        paths: dict[Table, list[str]] = {
            "events": inputs.events if inputs.days is None else [],
            "items": [inputs.items] if inputs.items else [],
            "ads": [inputs.ads] if inputs.ads else [],
        }
        sources = {table: spark_reader.sources(table, files, config.input) for table, files in paths.items()}
        for table, of_table in sources.items():
            self.doubts += mixed_ids(table, of_table, config.input)
        events = items = None
        if inputs.days is None:
            events = checked_tables.checked_events(self.spark, sources["events"], config, self.date)
            self.doubts += unknown_types(events.unknown_types)
            gap = config.input.events.session_gap
            self.doubts += without_sessions(events.without_session, events.n_events, gap)
        if inputs.items:
            items = checked_tables.checked_items(self.spark, sources["items"], config)
        return _CheckedInputs(sources, events, items)

    def assemble_sessions(self, tables: _CheckedInputs) -> _Sessions:
        """Assemble the sessions, or read the stored ones; count their events and decide on the hold-out."""
        if tables.events is None:
            session_log = stored_log(self.spark, self.inputs.days or "", self.config, self.date)
        else:
            session_log = assemble_log(tables.events, join(self.out, f"{STAGING}/sessions"), self.config)
        counts = count_events(session_log.rows)
        n_events = sum(counts.by_type.values())
        make_room(self.spark, n_events)
        if isinstance(self.holdout, dt.date):
            cutoff: HoldoutCutoff | None = cutoff_at_day(self.holdout, self.config.input.day_zone)
        else:
            cutoff = cutoff_for_share(session_log.rows, self.holdout)
        return _Sessions(session_log, counts, n_events, cutoff, last_days(session_log.rows, cutoff))

    def write_nodes(self, sessions: _Sessions, items: checked_tables.Checked | None) -> _Nodes:
        """Write the items and the nodes of both graphs, and look for signs that the log is faulty."""
        catalogue = None
        if items is not None:
            self._write(items.table, "tables/items")
            catalogue = items.table.select("item_id")
        rows = sessions.log.rows
        counts = item_counts(rows, sessions.cutoff, sessions.as_of, self.config.popularity_half_life_days)
        counts = self._stage(counts, "items")
        for graph in GRAPHS:
            table = node_table(counts, catalogue, graph, tail_max_events=self.config.tail.max_events)
            self._write(table, f"{graph}/nodes")
        self._check_hashes(counts)
        nodes = self._read("full", "nodes")
        total, tail = nodes.agg(F.count(F.lit(1)), F.sum(F.col("is_tail").cast("int"))).collect()[0]
        usable, config = sessions.log.usable, self.config.input
        self.doubts += doubts(rows, nodes, usable, config, has_catalogue=items is not None)
        for doubt in self.doubts:
            log.warning(doubt)
        return _Nodes(counts, total, tail or 0)

    def write_ads(self, tables: _CheckedInputs, as_of: dt.datetime) -> checked_tables.Checked | None:
        """Check the ads against the catalogue, if there is one, and write them."""
        if not self.inputs.ads:
            return None
        known = self._read("full", "nodes").select("item_id") if tables.items else None
        ads = checked_tables.checked_ads(self.spark, tables.sources["ads"], self.config, known)
        self._write(ads.table, "tables/ads")
        warnings = ad_doubts(self._read("tables/ads"), as_of, self._read("full", "nodes"))
        self.doubts += warnings
        for doubt in warnings:
            log.warning(doubt)
        return ads

    def write_quarantine(
        self, items: checked_tables.Checked | None, ads: checked_tables.Checked | None, session_log: SessionLog
    ) -> None:
        """Write the refused rows of all tables."""
        refused = [table.quarantine for table in (items, ads) if table is not None and table.refused]
        if session_log.quarantine is not None:
            refused.append(session_log.quarantine)
        none = self.spark.createDataFrame([], checked_tables.QUARANTINE)
        self._write(reduce(lambda table, more: table.union(more), refused, none), "quarantine")

    def write_training_pairs(self, sessions: _Sessions) -> None:
        """Write transitions and sessions; `held` tells which are held out."""
        rows, config = sessions.log.rows, self.config
        held = is_held_out(sessions.cutoff).alias("held")
        pairs = transitions(rows, config.strong_click, config.co_purchase)
        self._write(pairs.select("session", "time", "src", "dst", "steps", "kind", held), "transitions")
        lists = session_lists(rows, config.co_purchase)
        start = F.timestamp_micros("start").alias("start")
        columns = ("session", start, "kind", "items", "times", "searches", "country", held)
        self._write(lists.select(*columns), "sessions")

    def score_swing(self, sessions: _Sessions, nodes: _Nodes) -> "DataFrame":
        """Return the Swing pairs, and count what the caps of users and items removed."""
        config = self.config.swing
        parts, buckets = swing.plan_partitions(sessions.n_events, self.spark.sparkContext.defaultParallelism)
        entries = swing.user_item_entries(sessions.log.rows, sessions.cutoff, config)
        packed = swing.pack_user_lists(entries, config, parts, buckets).persist(StorageLevel.DISK_ONLY)
        pairs = self._stage(swing.score_pairs(packed, config, buckets), "swing")
        sessions.counts.capped |= swing.count_cut_entries(packed, config)
        self.most_cut += most_cut_in_window(swing.most_cut(packed, SHOWN_GROUPS), nodes.names)
        return pairs

    def weigh_strong_clicks(self, sessions: _Sessions) -> "DataFrame":
        """Return the strong-click pairs within their quota."""
        config = self.config.strong_click
        counts = sessions.log.clicks(sessions.cutoff, self.config)
        pairs = self._stage(weigh_clicks(counts, sessions.as_of, config), "strong_click")
        return self._stage(combine.within_quota(pairs, config.quota), "strong_click_within_quota")

    def weigh_co_search(self, sessions: _Sessions) -> "DataFrame":
        """Return the co-search pairs within their quota, and count what the cap of searches removed."""
        config, capped = self.config.co_search, sessions.counts.capped
        searched, counts = sessions.log.searches(sessions.cutoff, self.config)
        pairs = self._stage(weigh_searches(counts, sessions.as_of, config), "co_search")
        pairs = self._stage(combine.within_quota(pairs, config.quota), "co_search_within_quota")
        capped["co_search_items"] = sessions.log.count_cut_searches(searched, self.config)
        self.most_cut += sessions.log.most_cut(searched, self.config, capped)
        return pairs

    def write_edges(self, pairs: "DataFrame", nodes: _Nodes) -> _Edges:
        """Write the edges of both graphs, with weights on one scale."""
        totals = combine.raw_totals(pairs)
        named = self._stage(combine.with_item_ids(pairs, nodes.names.select("item", "item_id")), "edges")
        for graph in GRAPHS:
            factors = combine.scale_factors(totals[graph], ONE)
            self._write(combine.edge_table(named, graph, factors), f"{graph}/edges")
        return _Edges(pairs, {kind: totals["full"].get(kind, (0, 0))[1] for kind in combine.EDGE_TYPES})

    def write_counters(self, sessions: _Sessions, tables: _CheckedInputs, ads: checked_tables.Checked | None) -> None:
        """Write the counters of the pre-ranker and, unless stored days are used, the impressions of the log."""
        items = tables.items.table if tables.items else None
        entities = item_entities(items, ads.table if ads else None, self._read("full", "nodes"))
        pairs = self._read("transitions")
        self._write(count_interactions(pairs, sessions.log.rows, sessions.cutoff, entities), "counters")
        if tables.events is not None and sessions.log.impressions:
            rows = sessions.log.rows if tables.events.without_session else None
            self._write(impression_lists(tables.events.rows, rows), "impressions")

    def measure(self, edges: _Edges, nodes: _Nodes, items: checked_tables.Checked | None) -> GraphStatistics:
        """Measure the whole graph for the report."""
        categories = None
        if items is not None and "category" in items.table.columns:
            categories = items.table.select("item_id", "category")
        names = nodes.names.select("item", "item_id")
        statistics = measure_graph(edges.pairs, nodes.total, edges.by_type, names, categories, self.config.report)
        if items is None:
            return statistics
        named = [item for hubs in statistics.hubs.values() for item, _ in hubs]
        cut = group_by_rule(self.most_cut).get("swing_item_users", {})
        return replace(statistics, titles=titles_of(items.table, [*named, *cut]))

    def summarise(
        self,
        sessions: _Sessions,
        nodes: _Nodes,
        edges: _Edges,
        items: checked_tables.Checked | None,
        ads: checked_tables.Checked | None,
        statistics: GraphStatistics,
    ) -> GraphSummary:
        """Gather the counts of the build."""
        session_log, counts = sessions.log, sessions.counts
        kinds = self._read("transitions").groupBy("kind").count().collect()
        by_held = {row[0]: row[1] for row in self._read("sessions").groupBy("held").count().collect()}
        valid = counts.by_type
        if session_log.impressions:
            valid["impression"] = session_log.impressions
        n_valid = sum(valid.values())
        n_stored = n_valid + counts.duplicates + sum(session_log.refused.values())
        return GraphSummary(
            as_of=session_log.as_of,
            events={
                "read": n_stored if session_log.read is None else session_log.read,
                "valid": n_valid,
                "duplicates": counts.duplicates,
                "opened_views": counts.opened_views,
                "left_out": session_log.left_out,
                "other_days": session_log.other_days,
                "ignored": session_log.ignored,
                "by_type": dict(sorted(valid.items())),
            },
            quarantined={
                "events": session_log.refused,
                "items": items.refused if items else {},
                "ads": ads.refused if ads else {},
            },
            nodes=nodes.total,
            tail=nodes.tail,
            edges=edges.by_type,
            transitions={row[0]: row[1] for row in kinds},
            sessions=sum(by_held.values()),
            holdout_sessions=by_held.get(True, 0),
            capped=counts.capped,
            most_cut=group_by_rule(self.most_cut),
            doubts=self.doubts,
            ads=self._count_ads(ads, session_log.as_of),
            seconds=self.clock.seconds,
            isolated=statistics.isolated,
            mean_degree=statistics.mean_degree,
            degrees=statistics.degrees,
        )

    def _count_ads(self, ads: checked_tables.Checked | None, as_of: dt.datetime) -> dict[str, Any]:
        """Count the ads; `without_item` and `rows` include those that were refused because their item is unknown."""
        if ads is None:
            return {"total": 0, "by_status": {}, "in_flight": 0, "without_item": 0, "rows": 0}
        counts = count_ads(ads.table, self._read("full", "nodes"), as_of)
        refused = ads.refused.get("item_unknown", 0)
        return counts | {"without_item": counts["without_item"] + refused, "rows": counts["total"] + refused}

    def _check_hashes(self, names: "DataFrame") -> None:
        """Refuse two item ids with the same hash, because their edges could not be told apart."""
        twice = names.groupBy("item").agg(F.collect_list("item_id").alias("ids")).where("size(ids) > 1").first()
        if twice is not None:
            raise GraphInputError(f"the item ids {twice['ids']} have the same 64-bit hash; rename one of them")

    def _stage(self, frame: "DataFrame", name: str) -> "DataFrame":
        """Write an intermediate result to a file, so that it is computed once, and return the table read from there."""
        self._write(frame, f"{STAGING}/{name}")
        return reader(self.spark).schema(frame.schema).parquet(join(self.out, STAGING, name))

    def _read(self, *folder: str) -> "DataFrame":
        return reader(self.spark).parquet(join(self.out, *folder))

    def _write(self, frame: "DataFrame", folder: str) -> None:
        frame.write.mode("overwrite").parquet(join(self.out, folder))
