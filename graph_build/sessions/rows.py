"""Sessions in Spark: from checked events to one row a session, and from those rows to what the graph is made of.

A row holds the events of a session in parallel lists (`session_assembly.ROWS`), so that everything later is local to a
row: no shuffle by session, and any split of the files will do.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyspark.sql import Window
from pyspark.sql import functions as F

from graph_build.config import CoPurchaseConfig, GraphConfig, StrongClickConfig
from graph_build.decay import AsOf, day_number, weight_of_day
from graph_build.ingest import events
from graph_build.ingest.reader import PLACE

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

# Events in one partition while sessions are put together: some hundred MB in a Python worker.
PARTITION_EVENTS = 1_000_000

# The columns of `session_assembly.ROWS`.
ROWS = """session bigint, day int, start bigint, browsed boolean, logged boolean, counted int, cut int, duplicates int,
of_type array<int>, time array<bigint>, type array<tinyint>, user array<bigint>, item array<bigint>,
item_id array<string>, source array<bigint>, source_id array<string>, search array<bigint>, segment array<int>,
flags array<tinyint>, country string"""
LOOSE = (
    "session", "day", "time", "type", "user", "item_id", "item", "source_id", "source", "query", "sequence", "event",
    "asked", "country", "content", *PLACE,
)  # fmt: skip
PAIRS = "session bigint, start bigint, time timestamp, src string, dst string, steps int, kind string"
CLICKS = "day int, src bigint, dst bigint, steps int, held boolean"
LISTS = "session bigint, start bigint, kind string, items array<string>, times array<timestamp>, \
searches array<bigint>, country string"
ITEMS = "item bigint, item_id string, " + ", ".join(
    f"{name}_{graph} bigint"
    for graph in ("full", "fit")
    for name in ("linked", "events", "popularity", "first", "last")
)


@dataclass(frozen=True)
class HoldOut:
    """The last sessions: those that start after `start` (microseconds), or then, with at least this hash."""

    start: int
    session: int

    @property
    def day(self) -> int:
        """The day number of the first of them."""
        return self.start // 86_400_000_000


def is_held(held: HoldOut | None) -> "Column":
    """Whether a row of sessions is held out."""
    if held is None:
        return F.lit(False)
    return (F.col("start") > held.start) | ((F.col("start") == held.start) & (F.col("session") >= held.session))


def session_rows(usable: "DataFrame", config: GraphConfig, events: int) -> "DataFrame":
    """Checked events → rows of sessions. `events`: about how many; decides the number of partitions."""
    cores = usable.sparkSession.sparkContext.defaultParallelism
    parts = max(cores, -(-events // PARTITION_EVENTS))
    max_items, max_basket = config.strong_click.max_session_items, config.co_purchase.max_basket_items

    def assemble(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        from graph_build.sessions.assemble import assembled

        held = list(batches)
        if held:
            yield from assembled(pa.Table.from_batches(held), max_items, max_basket)

    return usable.select(*LOOSE).repartition(parts, "session").mapInArrow(assemble, ROWS)


def transitions(rows: "DataFrame", clicks: StrongClickConfig, baskets: CoPurchaseConfig) -> "DataFrame":
    """Rows of sessions → the training pairs, named: who left which item page for which, what was bought together."""
    needed = ("session", "start", *_PAIRS_NEED, "item_id", "source_id")

    def pair(rows: Any) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        from graph_build.sessions.extract import KINDS, pairs

        found = pairs(rows, clicks, baskets, "item_id")
        owner = pa.array(found.owner)
        time = rows.flat("time").take(pa.array(found.at)).cast(pa.timestamp("us", "UTC"))
        return pa.table(
            {
                "session": rows.batch["session"].take(owner),
                "start": rows.batch["start"].take(owner),
                "time": time,
                "src": found.src,
                "dst": found.dst,
                "steps": found.steps,
                "kind": pc.take(pa.array(KINDS), pa.array(found.kind)),
            }
        )

    return rows.select(*needed).mapInArrow(by_batch(pair), PAIRS)


def clicks(
    rows: "DataFrame", held: HoldOut | None, config: StrongClickConfig, baskets: CoPurchaseConfig
) -> "DataFrame":
    """Rows of sessions → (day, src, dst, steps, held): the strong clicks, by the hashes of their items."""

    def pair(rows: Any) -> Any:
        import pyarrow as pa

        from graph_build.sessions.extract import pairs

        found = pairs(rows, config, baskets, "item")
        owner = pa.array(found.owner)
        columns = {
            "day": rows.batch["day"].take(owner),
            "src": found.src,
            "dst": found.dst,
            "steps": pa.array(found.steps),
            "held": rows.batch["held"].take(owner),
        }
        return pa.table(columns).filter(pa.array(found.kind == 0))

    return rows.select("session", *_PAIRS_NEED, is_held(held).alias("held")).mapInArrow(by_batch(pair), CLICKS)


def lists(rows: "DataFrame", baskets: CoPurchaseConfig) -> "DataFrame":
    """Rows of sessions → for each the items opened, in order, or the distinct items of a basket; when; after what."""
    most = baskets.max_basket_items

    def gather(rows: Any) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        from graph_build.sessions.extract import listed

        found = listed(rows, most)
        kind = pc.if_else(rows.batch["browsed"], "browse", "basket")
        columns = {"session": rows.batch["session"], "start": rows.batch["start"], "kind": kind}
        table = pa.table({**columns, **found._asdict(), "country": rows.batch["country"]})
        return table.filter(pc.greater(pc.list_value_length(found.items), 0))

    needed = ("session", "start", "browsed", "type", "item", "item_id", "time", "search", "flags", "country")
    return rows.select(*needed).mapInArrow(by_batch(gather), LISTS)


def items(rows: "DataFrame", held: HoldOut | None, as_of: AsOf, half_life_days: float) -> "DataFrame":
    """Rows of sessions → (item, item_id, counts in the whole graph and in the fit graph), pages that only link too.

    Popularity is the events decayed by day, in fixed point; times are in microseconds.
    """

    def count(rows: Any) -> Any:
        import numpy as np

        from graph_build.sessions.extract import items as counted

        day, of_day = np.unique(rows.column("day"), return_inverse=True)
        weights = [[weight_of_day(int(d), last, half_life_days) for d in day] for last in as_of]
        return counted(rows, np.array(weights, np.int64)[:, of_day], rows.column("held").astype(np.bool_))

    needed = rows.select(
        "day", "item", "item_id", "source", "source_id", "time", "type", "flags",
        is_held(held).alias("held"),
    )  # fmt: skip
    totals = [
        part(f"{name}_{graph}").alias(f"{name}_{graph}")
        for graph in ("full", "fit")
        for name, part in (
            ("linked", F.sum),
            ("events", F.sum),
            ("popularity", F.sum),
            ("first", F.min),
            ("last", F.max),
        )
    ]
    return needed.mapInArrow(by_batch(count), ITEMS).groupBy("item", "item_id").agg(*totals)


@dataclass
class Counts:
    """What the sessions hold: valid events by type, what collapsed or counts once, and rows that a cap cut."""

    by_type: dict[str, int]
    duplicates: int
    opened_views: int
    capped: dict[str, int]


def counts(rows: "DataFrame") -> Counts:
    """One pass over the plain columns."""
    of_type = [F.sum(F.col("of_type")[place]) for place in range(len(events.TYPES) - 1)]
    cut = [F.sum(F.when(F.col("browsed") == browsed, F.col("cut"))) for browsed in (True, False)]
    sums = rows.agg(*of_type, F.sum("duplicates"), F.sum("counted"), *cut).collect()[0]
    found = [int(n or 0) for n in sums]
    by_type = {kind: n for kind, n in zip(events.TYPES[1:], found, strict=False) if n}
    *_, duplicates, counted, session_items, basket_items = found
    item_events = sum(by_type.get(kind, 0) for kind in events.ITEM_TYPES)
    capped = {"session_items": session_items, "basket_items": basket_items}
    return Counts(by_type, duplicates, item_events - counted, capped)


def hold_out(rows: "DataFrame", share: float) -> HoldOut | None:
    """The last sessions by start time that hold at least `share` of the item events; never all sessions.

    Sessions are never split; those that start at the same time are ordered by their hash. Only small histograms reach
    the driver: events by day, by second of one day, and the sessions of one second.
    """
    counted = rows.where("counted > 0").select("session", "start", "day", "counted")
    by_day = _sums(counted, "day")
    total = sum(n for _, n in by_day)
    if total == 0 or share == 0:
        return None
    day, later = _reach(by_day, share * total, 0)
    second = F.expr("start div 1000000")
    in_day = counted.where(F.col("day") == day).withColumn("second", second)
    at, later = _reach(_sums(in_day, "second"), share * total, later)
    # Of the sessions that start in this second, the later ones first, until the share is reached.
    order = Window.orderBy(F.desc("start"), F.desc("session"))
    before = F.coalesce(F.sum("counted").over(order.rowsBetween(Window.unboundedPreceding, -1)), F.lit(0))
    reached = (
        in_day.where(F.col("second") == at).withColumn("before", before).where(F.col("before") + later < share * total)
    )
    found = reached.agg(F.min(F.struct("start", "session"))).collect()[0][0]
    first = counted.agg(F.min(F.struct("start", "session"))).collect()[0][0]
    if found == first:
        after = counted.where(
            (F.col("start") > first[0]) | ((F.col("start") == first[0]) & (F.col("session") > first[1]))
        )
        found = after.agg(F.min(F.struct("start", "session"))).collect()[0][0]
    return None if found is None else HoldOut(*found)


def from_day(day: dt.date) -> HoldOut:
    """All sessions that start on a UTC day or later: the days before them are whole, as sessions end at midnight."""
    return HoldOut(day_number(day) * 86_400_000_000, -(2**63))


def last_days(rows: "DataFrame", held: HoldOut | None) -> AsOf:
    """The last day with an event in the whole graph and in the fit graph."""
    last = rows.agg(F.max("day"), F.max(F.when(~is_held(held), F.col("day")))).collect()[0]
    return AsOf(last[0], last[0] if last[1] is None else last[1])


def _sums(counted: "DataFrame", key: str) -> list[tuple[int, int]]:
    """(key, item events), the last key first."""
    return sorted((tuple(row) for row in counted.groupBy(key).agg(F.sum("counted")).collect()), reverse=True)


def _reach(counts: list[tuple[int, int]], wanted: float, start: int) -> tuple[int, int]:
    """The key in which the running sum reaches `wanted`, and the sum before it."""
    total = start
    for key, count in counts:
        if total + count >= wanted:
            return key, total
        total += count
    return counts[-1][0], total - counts[-1][1]


_PAIRS_NEED = ("day", "browsed", "logged", "time", "type", "item", "source", "segment", "flags")


def by_batch(step: Callable[[Any], Any]) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """A function of `session_arrow.Rows` to a table, as Spark maps it over batches of rows."""

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        from graph_build.sessions.extract import Rows

        for batch in batches:
            if batch.num_rows:
                yield from step(Rows.of(batch)).to_batches(100_000)

    return run
