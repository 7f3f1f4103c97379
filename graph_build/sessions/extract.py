"""From rows of sessions to what the graph is made of: training pairs, lists of items, counts of items.

Runs in Spark's Python workers, a batch at a time; the arithmetic is in `session_kernel`.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from graph_build.config import CoPurchaseConfig, StrongClickConfig
from graph_build.sessions import kernel

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

LEAST = np.iinfo(np.int64).min
KINDS = ("strong_click", "co_purchase")


class Rows(NamedTuple):
    """Rows of sessions, and where the events of each are in the flattened lists."""

    batch: pa.RecordBatch
    offsets: Ints
    owner: Ints  # of each event the row of its session

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> "Rows":
        """`batch` has the column `type` at least."""
        lengths = batch["type"].value_lengths().to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return cls(batch, offsets, np.repeat(np.arange(len(lengths)), lengths))

    def flat(self, name: str) -> pa.Array:
        """The elements of a list column, an element an event."""
        return self.batch[name].flatten()

    def numbers(self, name: str) -> Any:
        """The same as numpy, 0 where null."""
        values = self.flat(name)
        return (values.fill_null(0) if values.null_count else values).to_numpy(zero_copy_only=False)

    def column(self, name: str) -> Any:
        """A plain column as numpy."""
        return self.batch[name].to_numpy(zero_copy_only=False)


class Pairs(NamedTuple):
    """Training pairs as places among the events of a batch; `steps` and `kind` (its place in KINDS) beside."""

    owner: Ints
    at: Ints  # of the event that opened dst
    src: pa.Array
    dst: pa.Array
    steps: NDArray[np.int32]
    kind: NDArray[np.int8]


def pairs(rows: Rows, clicks: StrongClickConfig, baskets: CoPurchaseConfig, name: str) -> Pairs:
    """Strong clicks and co-purchases; src and dst are the hashes (`name` "item") or the ids ("item_id") of items."""
    item, source, flags = rows.numbers("item"), rows.numbers("source"), rows.numbers("flags").view(np.uint8)
    has_source = rows.flat("source").is_valid().to_numpy(zero_copy_only=False)
    logged, browsed = rows.column("logged"), rows.column("browsed")
    gap = int(clicks.max_gap_minutes * 60_000_000)
    walked = kernel.walked(
        rows.offsets, rows.numbers("type"), item, source, has_source, rows.numbers("time"), rows.numbers("segment"),
        flags, logged, clicks.max_steps, gap,
    )  # fmt: skip
    has_item = rows.flat("item").is_valid().to_numpy(zero_copy_only=False)
    places, offsets, _ = kernel.bought(rows.offsets, item, has_item, browsed, baskets.max_basket_items)
    session = rows.column("session")
    together = kernel.bought_together(offsets, places, item, session, baskets.partners, baskets.seed)
    owner = np.concatenate([walked[0], together[0]])
    src, dst = np.concatenate([walked[1], together[1]]), np.concatenate([walked[2], together[2]])
    ids, sources = rows.flat(name), rows.flat("source" if name == "item" else "source_id")
    linked = logged[owner]
    start = ids.take(pa.array(src))
    if linked.any():
        start = pc.if_else(pa.array(linked), sources.take(pa.array(src)), start)
    return Pairs(
        owner,
        dst,
        start,
        ids.take(pa.array(dst)),
        np.concatenate([walked[3], np.ones(together.shape[1], np.int32)]),
        np.repeat(np.arange(2, dtype=np.int8), [walked.shape[1], together.shape[1]]),
    )


class Listed(NamedTuple):
    """Of each session the items in order, their times, and the hash of the search that each belongs to, or null."""

    items: pa.Array
    times: pa.Array
    searches: pa.Array


def listed(rows: Rows, max_basket: int) -> Listed:
    """What each session lists: the items opened, or the distinct ones of a basket."""
    flags, browsed = rows.numbers("flags").view(np.uint8), rows.column("browsed")
    item, has_item = rows.numbers("item"), rows.flat("item").is_valid().to_numpy(zero_copy_only=False)
    bought, _, _ = kernel.bought(rows.offsets, item, has_item, browsed, max_basket)
    opened = np.flatnonzero(flags & kernel.LISTED)
    places = np.sort(np.concatenate([opened, bought]))
    lengths = np.bincount(rows.owner[places], minlength=len(browsed))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    at = pa.array(places)
    times = rows.flat("time").take(at).cast(pa.timestamp("us", "UTC"))
    elements = (rows.flat("item_id").take(at), times, rows.flat("search").take(at))
    return Listed(*(pa.ListArray.from_arrays(offsets, values) for values in elements))


def items(rows: Rows, weight: Ints, held: Flags) -> pa.Table:
    """Each item of a batch once, with its counts in the whole graph and among the held-out sessions.

    Args:
        weight: (2, S) what an event of each session weighs in popularity in either graph (fixed point).
        held: sessions that are held out.
    """
    flags = rows.numbers("flags").view(np.uint8)
    counts = (flags & kernel.COUNTED) > 0
    seen = np.flatnonzero(rows.flat("item").is_valid().to_numpy(zero_copy_only=False))
    linked = np.flatnonzero(rows.flat("source").is_valid().to_numpy(zero_copy_only=False))
    key = np.concatenate([rows.numbers("item")[seen], rows.numbers("source")[linked]])
    place = np.concatenate([seen, linked])
    counted = np.concatenate([counts[seen], np.zeros(len(linked), np.bool_)])
    place_is_link = np.repeat([False, True], [len(seen), len(linked)])
    order = np.argsort(key, kind="stable")
    key, place, counted = key[order], place[order], counted[order]
    if len(key) == 0:
        return pa.table({})
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    owner, time = rows.owner[place], rows.numbers("time")[place]
    named = order[starts]
    ids = pa.concat_arrays([rows.flat("item_id").take(pa.array(seen)), rows.flat("source_id").take(pa.array(linked))])
    columns: dict[str, Any] = {"item": key[starts], "item_id": ids.take(pa.array(named))}
    link = place_is_link[order]
    for place_of_graph, graph in enumerate(("full", "fit")):
        inside = ~held[owner] if graph == "fit" else np.ones(len(key), np.bool_)
        mine = counted & inside
        none = ~np.logical_or.reduceat(mine, starts)
        columns[f"linked_{graph}"] = np.add.reduceat((link & inside).astype(np.int64), starts)
        columns[f"events_{graph}"] = np.add.reduceat(mine.astype(np.int64), starts)
        columns[f"popularity_{graph}"] = np.add.reduceat(np.where(mine, weight[place_of_graph][owner], 0), starts)
        first = np.minimum.reduceat(np.where(mine, time, np.iinfo(np.int64).max), starts)
        last = np.maximum.reduceat(np.where(mine, time, LEAST), starts)
        columns[f"first_{graph}"], columns[f"last_{graph}"] = pa.array(first, mask=none), pa.array(last, mask=none)
    return pa.table(columns)
