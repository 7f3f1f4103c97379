"""Extracts training pairs, lists of items and counts of items from rows of sessions.

Runs in Spark's Python workers, one batch at a time. The loops are in `kernel`.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from graph_build.arrays import INT64_MIN, Flags, Ints, offsets_from_lengths, starts_of_runs
from graph_build.config import CoPurchaseConfig, StrongClickConfig
from graph_build.graphs import GRAPHS
from graph_build.sessions import kernel

# Kinds of training pairs; a pair holds the position of its kind.
KINDS = ("strong_click", "co_purchase")


class SessionBatch(NamedTuple):
    """A batch of rows of sessions, with the positions of their events in the flattened lists.

    There are S sessions with E events in all; session s has the events offsets[s] to offsets[s + 1] - 1.
    """

    batch: pa.RecordBatch
    offsets: Ints  # (S + 1,)
    owner: Ints  # (E,), the session of each event

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> "SessionBatch":
        """Wrap a batch that has at least the column `type`."""
        lengths = batch["type"].value_lengths().to_numpy(zero_copy_only=False)
        return cls(batch, offsets_from_lengths(lengths), np.repeat(np.arange(len(lengths)), lengths))

    def events(self, name: str) -> pa.Array:
        """Return the elements of a list column, one per event."""
        return self.batch[name].flatten()

    def numbers(self, name: str) -> Any:
        """Return the elements of a list column as numpy, with 0 for null."""
        values = self.events(name)
        return (values.fill_null(0) if values.null_count else values).to_numpy(zero_copy_only=False)

    def has(self, name: str) -> Flags:
        """Return for each event whether its element of a list column is not null."""
        return self.events(name).is_valid().to_numpy(zero_copy_only=False)

    def flags(self) -> NDArray[np.uint8]:
        """Return the flags of each event (`kernel`)."""
        return self.numbers("flags").view(np.uint8)

    def column(self, name: str) -> Any:
        """Return a column that has one value per session as numpy."""
        return self.batch[name].to_numpy(zero_copy_only=False)


class TrainingPairs(NamedTuple):
    """The P training pairs of a batch; each field has one entry for each pair."""

    owner: Ints  # session of the pair
    dst_event: Ints  # position of the event that opened dst
    src: pa.Array
    dst: pa.Array
    steps: NDArray[np.int32]
    kind: NDArray[np.int8]  # position in KINDS


def training_pairs(
    sessions: SessionBatch, clicks: StrongClickConfig, baskets: CoPurchaseConfig, name: str
) -> TrainingPairs:
    """Return the strong clicks and the co-purchases of a batch.

    Args:
        sessions: rows with browsed, logged, time, type, item, source, segment, flags and session, and with item_id and
            source_id if `name` asks for ids.
        clicks: rules of strong clicks.
        baskets: rules of co-purchases.
        name: "item" for the hashes of src and dst, "item_id" for their ids.
    """
    item, flags = sessions.numbers("item"), sessions.flags()
    logged, browsed = sessions.column("logged"), sessions.column("browsed")
    gap = int(clicks.max_gap_minutes * 60_000_000)
    clicked = kernel.strong_click_pairs(
        sessions.offsets, sessions.numbers("type"), item, sessions.numbers("source"), sessions.has("source"),
        sessions.numbers("time"), sessions.numbers("segment"), flags, logged, clicks.max_steps, gap,
    )  # fmt: skip
    positions, offsets, _ = kernel.basket_items(
        sessions.offsets, item, sessions.has("item"), browsed, baskets.max_basket_items
    )
    session = sessions.column("session")
    bought = kernel.co_purchase_pairs(offsets, positions, item, session, baskets.partners, baskets.seed)
    owner, src, dst = (np.concatenate([clicked[row], bought[row]]) for row in range(3))
    ids, sources = sessions.events(name), sessions.events("source" if name == "item" else "source_id")
    is_linked = logged[owner]
    src_ids = ids.take(pa.array(src))
    if is_linked.any():
        src_ids = pc.if_else(pa.array(is_linked), sources.take(pa.array(src)), src_ids)
    return TrainingPairs(
        owner,
        dst,
        src_ids,
        ids.take(pa.array(dst)),
        np.concatenate([clicked[3], np.ones(bought.shape[1], np.int32)]),
        np.repeat(np.arange(2, dtype=np.int8), [clicked.shape[1], bought.shape[1]]),
    )


class ItemLists(NamedTuple):
    """The items of each session in order, their times, and the hash of each item's search (null if it has none)."""

    items: pa.Array
    times: pa.Array
    searches: pa.Array


def item_lists(sessions: SessionBatch, max_basket: int) -> ItemLists:
    """List the items that each session opened, or the distinct items of a basket.

    Args:
        sessions: rows with browsed, type, item, item_id, time, search and flags.
        max_basket: cap on the distinct items of a basket.
    """
    browsed, item = sessions.column("browsed"), sessions.numbers("item")
    bought, _, _ = kernel.basket_items(sessions.offsets, item, sessions.has("item"), browsed, max_basket)
    opened = np.flatnonzero(sessions.flags() & kernel.LISTED)
    listed = np.sort(np.concatenate([opened, bought]))
    lengths = np.bincount(sessions.owner[listed], minlength=len(browsed))
    offsets = pa.array(offsets_from_lengths(lengths).astype(np.int32))
    events = pa.array(listed)
    times = sessions.events("time").take(events).cast(pa.timestamp("us", "UTC"))
    elements = (sessions.events("item_id").take(events), times, sessions.events("search").take(events))
    return ItemLists(*(pa.ListArray.from_arrays(offsets, values) for values in elements))


def count_items(sessions: SessionBatch, weight: Ints, is_held_out: Flags) -> pa.Table:
    """Count for each graph the events of each item, and the events that name the item's page as their source.

    Args:
        sessions: rows with type, item, item_id, source, source_id, time and flags.
        weight: (2, S), what an event of each session adds to the popularity in each graph, in fixed point.
        is_held_out: (S,), sessions that the fit graph leaves out.

    Returns:
        item, item_id, and for each graph linked_, events_, popularity_, first_ and last_ (times in microseconds).
    """
    is_counted = (sessions.flags() & kernel.COUNTED) > 0
    with_item, with_source = np.flatnonzero(sessions.has("item")), np.flatnonzero(sessions.has("source"))
    key = np.concatenate([sessions.numbers("item")[with_item], sessions.numbers("source")[with_source]])
    event = np.concatenate([with_item, with_source])
    counted = np.concatenate([is_counted[with_item], np.zeros(len(with_source), np.bool_)])
    is_link = np.repeat([False, True], [len(with_item), len(with_source)])
    order = np.argsort(key, kind="stable")
    key, event, counted, is_link = key[order], event[order], counted[order], is_link[order]
    if len(key) == 0:
        return pa.table({})
    starts = starts_of_runs(key)
    owner, time = sessions.owner[event], sessions.numbers("time")[event]
    item_ids = sessions.events("item_id").take(pa.array(with_item))
    source_ids = sessions.events("source_id").take(pa.array(with_source))
    ids = pa.concat_arrays([item_ids, source_ids]).take(pa.array(order[starts]))
    columns: dict[str, Any] = {"item": key[starts], "item_id": ids}
    for number, graph in enumerate(GRAPHS):
        inside = ~is_held_out[owner] if graph == "fit" else np.ones(len(key), np.bool_)
        counts = counted & inside
        no_event = ~np.logical_or.reduceat(counts, starts)
        columns[f"linked_{graph}"] = np.add.reduceat((is_link & inside).astype(np.int64), starts)
        columns[f"events_{graph}"] = np.add.reduceat(counts.astype(np.int64), starts)
        columns[f"popularity_{graph}"] = np.add.reduceat(np.where(counts, weight[number][owner], 0), starts)
        first = np.minimum.reduceat(np.where(counts, time, np.iinfo(np.int64).max), starts)
        last = np.maximum.reduceat(np.where(counts, time, INT64_MIN), starts)
        columns[f"first_{graph}"] = pa.array(first, mask=no_event)
        columns[f"last_{graph}"] = pa.array(last, mask=no_event)
    return pa.table(columns)
