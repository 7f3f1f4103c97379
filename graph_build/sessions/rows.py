"""Sessions in Spark: assembles checked events into rows of sessions, and maps these rows to pairs, lists and counts.

The format of a row is in `schema`. The work itself is done batch by batch in `assemble` and `extract`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from graph_build.config import CoPurchaseConfig, GraphConfig, StrongClickConfig
from graph_build.decay import weight_of_day
from graph_build.graphs import GRAPHS, AsOf
from graph_build.ingest.contract import ITEM_TYPES, PLACE, SESSION_TYPES
from graph_build.sessions.holdout import HoldoutCutoff, is_held_out
from graph_build.sessions.schema import SESSION_ROW_IN_SPARK

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Events in one partition while sessions are assembled: a few hundred MB in a Python worker.
PARTITION_EVENTS = 1_000_000

# The columns of `events.checked` from which sessions are assembled.
LOOSE_EVENT = (
    "session", "id", "day", "time", "type", "user", "item_id", "item", "source_id", "source", "query", "sequence",
    "event", "asked", "country", "content", *PLACE,
)  # fmt: skip
TRANSITIONS = "session bigint, start bigint, time timestamp, src string, dst string, steps int, kind string"
CLICKS = "day int, src bigint, dst bigint, steps int, held boolean"
LISTS = "session bigint, start bigint, kind string, items array<string>, times array<timestamp>, \
searches array<bigint>, country string"
# How the counts of an item from several batches are combined.
ITEM_COUNTS = {"linked": F.sum, "events": F.sum, "popularity": F.sum, "first": F.min, "last": F.max}
ITEMS = "item bigint, item_id string, " + ", ".join(
    f"{name}_{graph} bigint" for graph in GRAPHS for name in ITEM_COUNTS
)
# The columns that `extract.training_pairs` reads, without `session`, `item_id` and `source_id`; and `day`, which
# `strong_clicks` needs.
_PAIR_COLUMNS = ("day", "browsed", "logged", "time", "type", "item", "source", "segment", "flags")


def session_rows(usable: "DataFrame", config: GraphConfig, n_events: int) -> "DataFrame":
    """Assemble checked events into rows of sessions.

    Args:
        usable: events that the graph is built from (`events.usable`).
        config: caps on the items of sessions and baskets, and the longest pause within a session without an id.
        n_events: about how many events there are; decides the number of partitions.
    """
    cores = usable.sparkSession.sparkContext.defaultParallelism
    parts = max(cores, -(-n_events // PARTITION_EVENTS))
    max_items, max_basket = config.strong_click.max_session_items, config.co_purchase.max_basket_items
    longest_pause = config.input.events.longest_pause

    def assemble(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        from graph_build.sessions.assemble import assemble_sessions

        of_partition = list(batches)
        if of_partition:
            yield from assemble_sessions(pa.Table.from_batches(of_partition), max_items, max_basket, longest_pause)

    loose = usable.select(*LOOSE_EVENT).repartition(parts, "session")
    return loose.mapInArrow(assemble, SESSION_ROW_IN_SPARK)


def without_users(rows: "DataFrame", users: Sequence[int]) -> "DataFrame":
    """Return the rows of sessions in which none of the users has an event.

    Args:
        rows: rows of sessions, with every column.
        users: hashes of users, as in the column `user`.
    """
    if not users:
        return rows

    def keep(batches: Iterator[Any]) -> Iterator[Any]:
        import numpy as np
        import pyarrow as pa

        from graph_build.sessions.extract import SessionBatch

        for batch in batches:
            if batch.num_rows:
                sessions = SessionBatch.of(batch)
                of_users = np.isin(sessions.numbers("user"), users)
                hits = np.bincount(sessions.owner[of_users], minlength=batch.num_rows)
                yield batch.filter(pa.array(hits == 0))

    return rows.mapInArrow(keep, SESSION_ROW_IN_SPARK)


def transitions(rows: "DataFrame", clicks: StrongClickConfig, baskets: CoPurchaseConfig) -> "DataFrame":
    """Return the training pairs by item_id: strong clicks and co-purchases.

    Args:
        rows: rows of sessions.
        clicks: rules of strong clicks.
        baskets: rules of co-purchases.
    """

    def to_table(sessions: Any) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        from graph_build.sessions.extract import KINDS, training_pairs

        pairs = training_pairs(sessions, clicks, baskets, "item_id")
        owner = pa.array(pairs.owner)
        time = sessions.events("time").take(pa.array(pairs.dst_event)).cast(pa.timestamp("us", "UTC"))
        return pa.table(
            {
                "session": sessions.batch["session"].take(owner),
                "start": sessions.batch["start"].take(owner),
                "time": time,
                "src": pairs.src,
                "dst": pairs.dst,
                "steps": pairs.steps,
                "kind": pc.take(pa.array(KINDS), pa.array(pairs.kind)),
            }
        )

    needed = rows.select("session", "start", *_PAIR_COLUMNS, "item_id", "source_id")
    return needed.mapInArrow(by_batch(to_table), TRANSITIONS)


def strong_clicks(rows: "DataFrame", cutoff: HoldoutCutoff | None, config: GraphConfig) -> "DataFrame":
    """Return the strong clicks by the hashes of their items: day, src, dst, steps, held.

    Args:
        rows: rows of sessions.
        cutoff: the first held-out session.
        config: rules of strong clicks.
    """

    def to_table(sessions: Any) -> Any:
        import pyarrow as pa

        from graph_build.sessions.extract import training_pairs

        pairs = training_pairs(sessions, config.strong_click, config.co_purchase, "item")
        owner = pa.array(pairs.owner)
        columns = {
            "day": sessions.batch["day"].take(owner),
            "src": pairs.src,
            "dst": pairs.dst,
            "steps": pa.array(pairs.steps),
            "held": sessions.batch["held"].take(owner),
        }
        return pa.table(columns).filter(pa.array(pairs.kind == 0))

    needed = rows.select("session", *_PAIR_COLUMNS, is_held_out(cutoff).alias("held"))
    return needed.mapInArrow(by_batch(to_table), CLICKS)


def session_lists(rows: "DataFrame", baskets: CoPurchaseConfig) -> "DataFrame":
    """Return each session's items with times and searches: the opened items in order, or the items of a basket.

    Args:
        rows: rows of sessions.
        baskets: the cap on the items of a basket.
    """
    max_basket = baskets.max_basket_items

    def to_table(sessions: Any) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        from graph_build.sessions.extract import item_lists

        lists = item_lists(sessions, max_basket)
        kind = pc.if_else(sessions.batch["browsed"], "browse", "basket")
        columns = {"session": sessions.batch["session"], "start": sessions.batch["start"], "kind": kind}
        table = pa.table({**columns, **lists._asdict(), "country": sessions.batch["country"]})
        return table.filter(pc.greater(pc.list_value_length(lists.items), 0))

    needed = ("session", "start", "browsed", "type", "item", "item_id", "time", "search", "flags", "country")
    return rows.select(*needed).mapInArrow(by_batch(to_table), LISTS)


def item_counts(rows: "DataFrame", cutoff: HoldoutCutoff | None, as_of: AsOf, half_life_days: float) -> "DataFrame":
    """Count for each graph the events of each item, and the events that name the item's page as their source.

    Args:
        rows: rows of sessions.
        cutoff: the first held-out session.
        as_of: the last day of each graph.
        half_life_days: half-life of the popularity: the sum of the item's events, decayed by day, in fixed point.

    Returns:
        item, item_id, and for each graph linked_, events_, popularity_, first_ and last_ (times in microseconds).
    """

    def to_table(sessions: Any) -> Any:
        import numpy as np

        from graph_build.sessions.extract import count_items

        days, day_of_session = np.unique(sessions.column("day"), return_inverse=True)
        weights = [[weight_of_day(int(day), last, half_life_days) for day in days] for last in as_of]
        weight = np.array(weights, np.int64)[:, day_of_session]
        return count_items(sessions, weight, sessions.column("held").astype(np.bool_))

    needed = rows.select(
        "day", "item", "item_id", "source", "source_id", "time", "type", "flags", is_held_out(cutoff).alias("held")
    )
    totals = [
        combine(f"{name}_{graph}").alias(f"{name}_{graph}") for graph in GRAPHS for name, combine in ITEM_COUNTS.items()
    ]
    return needed.mapInArrow(by_batch(to_table), ITEMS).groupBy("item", "item_id").agg(*totals)


@dataclass
class EventCounts:
    """Counts over all sessions.

    Args:
        by_type: type → valid events.
        duplicates: events that were dropped as duplicates or merged.
        opened_views: views that count with the click that opened them.
        capped: rule → items that the cap of sessions or of baskets removed. The build adds the rules of the edges.
    """

    by_type: dict[str, int]
    duplicates: int
    opened_views: int
    capped: dict[str, int]


def count_events(rows: "DataFrame") -> EventCounts:
    """Count events, duplicates and what the caps removed, in one pass that reads no list of events."""
    of_type = [F.sum(F.col("of_type")[number]) for number in range(len(SESSION_TYPES))]
    cut = [F.sum(F.when(F.col("browsed") == browsed, F.col("cut"))) for browsed in (True, False)]
    sums = rows.agg(*of_type, F.sum("duplicates"), F.sum("counted"), *cut).collect()[0]
    *numbers, duplicates, counted, session_items, basket_items = (int(n or 0) for n in sums)
    by_type = {kind: n for kind, n in zip(SESSION_TYPES, numbers, strict=True) if n}
    item_events = sum(by_type.get(kind, 0) for kind in ITEM_TYPES)
    capped = {"session_items": session_items, "basket_items": basket_items}
    return EventCounts(by_type, duplicates, item_events - counted, capped)


def by_batch(to_table: Callable[[Any], Any]) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """Turn a function from `extract.SessionBatch` to a table into one that Spark can map over batches of rows."""

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        from graph_build.sessions.extract import SessionBatch

        for batch in batches:
            if batch.num_rows:
                yield from to_table(SessionBatch.of(batch)).to_batches(100_000)

    return run
