"""Sessions as Arrow tables: from loose events to one row a session, and from such rows to what the graph is made of.

Runs in Spark's Python workers, a partition or a batch at a time; the arithmetic is in `session_kernel`.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from graph_build import session_kernel as kernel
from graph_build.config import CoPurchaseConfig, StrongClickConfig
from graph_build.query import normalise_query

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

LEAST = np.iinfo(np.int64).min
BATCH_SESSIONS = 20_000
KINDS = ("strong_click", "co_purchase")

# A column of one row a session; those of lists have an element an event.
ROWS = pa.schema(
    [
        ("session", pa.int64()),  # hash of session id and UTC day
        ("day", pa.int32()),  # since 1970-01-01
        ("start", pa.int64()),  # all times in microseconds since 1970
        ("browsed", pa.bool_()),  # has a view or click
        ("logged", pa.bool_()),  # logs source items: only those links count
        ("counted", pa.int32()),  # item events that count
        ("cut", pa.int32()),  # items beyond the cap
        ("duplicates", pa.int32()),
        ("of_type", pa.list_(pa.int32())),  # events by `kernel.TYPES`
        ("time", pa.list_(pa.int64())),
        ("type", pa.list_(pa.int8())),
        ("user", pa.list_(pa.int64())),
        ("item", pa.list_(pa.int64())),  # hash of item_id; null of a search
        ("item_id", pa.list_(pa.string())),
        ("source", pa.list_(pa.int64())),
        ("source_id", pa.list_(pa.string())),
        ("search", pa.list_(pa.int64())),  # hash of the query that the event belongs to
        ("segment", pa.list_(pa.int32())),
        ("flags", pa.list_(pa.int8())),
    ]
)


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


def assembled(events: pa.Table, max_items: int, max_basket: int) -> Iterator[pa.RecordBatch]:
    """Loose events (`events.checked`; whole sessions, any order) → rows of sessions."""
    if len(events) == 0:
        return
    events = events.combine_chunks()
    order = _order(events)
    events, duplicates = _deduplicated(events.take(pa.array(order)))
    session = _column(events, "session")
    starts = np.flatnonzero(np.concatenate([[True], session[1:] != session[:-1]]))
    offsets = np.append(starts, len(session))
    item, (query, has_query) = _column(events, "item"), _searched(_chunk(events, "query"))
    kind = _column(events, "type").astype(np.int8)
    has_source, has_item = events["source"].is_valid().to_numpy(), events["item"].is_valid().to_numpy()
    flags, segment, search, has_search, browsed, logged, counted = kernel.describe(
        offsets, kind, item, query, has_query, has_source, max_items
    )
    _, basket_offsets, distinct = kernel.bought(offsets, item, has_item, browsed, max_basket)
    opened = np.add.reduceat(((flags & kernel.OPENED) > 0).astype(np.int64), starts)
    cut = np.where(browsed, np.maximum(opened - max_items, 0), distinct - np.diff(basket_offsets))
    by_type = np.stack([np.add.reduceat((kind == t).astype(np.int32), starts) for t in range(len(kernel.TYPES))], 1)
    wide = pa.array(offsets.astype(np.int32))

    def lists(values: Any, present: Flags | None = None) -> pa.Array:
        if not isinstance(values, pa.Array):
            values = pa.array(values, mask=None if present is None else ~present)
        return pa.ListArray.from_arrays(wide, values)

    columns = {
        "session": session[starts],
        "day": _column(events, "day")[starts],
        "start": _column(events, "time")[starts],
        "browsed": browsed,
        "logged": logged,
        "counted": counted,
        "cut": cut,
        "duplicates": np.add.reduceat(duplicates, starts),
        "of_type": pa.ListArray.from_arrays(
            pa.array(np.arange(len(starts) + 1, dtype=np.int32) * by_type.shape[1]), pa.array(by_type.ravel())
        ),
        "time": lists(_column(events, "time")),
        "type": lists(kind),
        "user": lists(_column(events, "user")),
        "item": lists(_chunk(events, "item")),
        "item_id": lists(_chunk(events, "item_id")),
        "source": lists(_chunk(events, "source")),
        "source_id": lists(_chunk(events, "source_id")),
        "search": lists(search, has_search),
        "segment": lists(segment),
        "flags": lists(flags.view(np.int8)),
    }
    table = pa.table([pa.array(columns[f.name]).cast(f.type) for f in ROWS], schema=ROWS)
    yield from table.to_batches(BATCH_SESSIONS)


def _searched(queries: pa.Array) -> tuple[Ints, Flags]:
    """A hash of each normalised query, and whether there is one."""
    texts = queries.dictionary_encode()
    normal = [normalise_query(text) for text in texts.dictionary.to_pylist()]
    # The last place stands for rows without a query.
    hashes = [
        0 if text is None else int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
        for text in [*normal, None]
    ]
    place = texts.indices.fill_null(len(normal)).to_numpy(zero_copy_only=False)
    return np.array(hashes, np.int64)[place], np.array([text is not None for text in [*normal, None]])[place]


def _order(events: pa.Table) -> Ints:
    """By session, time, the log's own sequence, then the place in the input: the order in which things happened."""
    session, time = _column(events, "session"), _column(events, "time")
    order = np.lexsort((time, session))
    session, time = session[order], time[order]
    follows = np.concatenate([[False], (session[1:] == session[:-1]) & (time[1:] == time[:-1])])
    tied = np.flatnonzero(follows | np.append(follows[1:], False))
    if len(tied):
        run = np.cumsum(~follows)[tied]
        rows = order[tied]
        finer = [_column(events, name, LEAST)[rows] for name in ("row", "block", "file", "sequence")]
        order[tied] = rows[np.lexsort((*finer, run))]
    return order


def _deduplicated(events: pa.Table) -> tuple[pa.Table, Ints]:
    """Each event once: by event_id where there is one, else only identical neighbours of a session collapse.

    Clicks equal in session, time and item, one with a request_id and one without, are one click: the one with it
    stays, and takes the other's query and source where it has none.

    Returns:
        The events that stay, and how many were dropped just before or at each (they add up by session).
    """
    total = len(events)
    session = _column(events, "session")
    named = events["event"].is_valid().to_numpy()
    keep = np.ones(total, np.bool_)
    if named.any():
        rows = np.flatnonzero(named)
        key = kernel.mixed(session[rows], _column(events, "event")[rows])
        ordered = rows[np.argsort(key, kind="stable")]
        key = np.sort(key)
        again = np.flatnonzero(key[1:] == key[:-1]) + 1
        if len(again):
            copies = ordered[np.unique(np.concatenate([again - 1, again]))]
            place = [_column(events, name)[copies] for name in ("row", "block", "file")]
            group = kernel.mixed(session[copies], _column(events, "event")[copies])
            copies = copies[np.lexsort((*place, group))]
            group = np.sort(group)
            keep[copies[1:][group[1:] == group[:-1]]] = False
    left = np.flatnonzero(keep)
    content = _column(events, "content")[left]
    repeats = (session[left][1:] == session[left][:-1]) & (content[1:] == content[:-1])
    repeats &= ~named[left][1:] & ~named[left][:-1]
    keep[left[1:][repeats]] = False
    left = np.flatnonzero(keep)
    if events["asked"].null_count < total and pc.any(events["asked"]).as_py():
        events, merged = _merged_clicks(events, left)
        keep[merged] = False
    kept = np.flatnonzero(keep)
    # A dropped event is counted with the next that stays in its session, or with the last.
    owner = np.minimum(np.searchsorted(kept, np.arange(total)), len(kept) - 1)
    owner = np.where(session[kept[owner]] == session, owner, owner - 1)
    dropped = np.bincount(owner[~keep], minlength=len(kept)).astype(np.int64)
    return events.take(pa.array(kept)), dropped


def _merged_clicks(events: pa.Table, left: Ints) -> tuple[pa.Table, Ints]:
    """Clicks that were logged twice, with and without their request: the events with what they take, what goes."""
    clicks = left[_column(events, "type")[left] == kernel.CLICK]
    asked = events["asked"].fill_null(False).to_numpy(zero_copy_only=False)
    keys = [_column(events, name)[clicks] for name in ("item", "time", "session")]
    order = np.lexsort((asked[clicks], *keys))
    clicks, keys = clicks[order], [key[order] for key in keys]
    if len(clicks) == 0:
        return events, clicks
    starts = np.flatnonzero(np.concatenate([[True], np.any([k[1:] != k[:-1] for k in keys], axis=0)]))
    sizes = np.diff(np.append(starts, len(clicks)))
    run = np.repeat(np.arange(len(starts)), sizes)
    spoken = asked[clicks]
    n_spoken = np.add.reduceat(spoken.astype(np.int64), starts)
    twice = ((n_spoken > 0) & (n_spoken < sizes))[run]
    for name in ("query", "source"):
        has = events[name].is_valid().to_numpy().copy()
        donors = np.where(~spoken & has[clicks], clicks, len(events))
        donor = np.minimum.reduceat(donors, starts)[run]
        short = spoken & twice & ~has[clicks] & (donor < len(events))
        places = np.arange(len(events))
        places[clicks[short]] = donor[short]
        for column in (name, "source_id") if name == "source" else (name,):
            field = events.schema.get_field_index(column)
            events = events.set_column(field, column, events[column].take(pa.array(places)))
    return events, clicks[~spoken & twice]


# What the graph is made of, from rows of sessions


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


def listed(rows: Rows, max_basket: int) -> tuple[pa.Array, pa.Array]:
    """The items of each session in order and their times: those opened, or the distinct ones of a basket."""
    flags, browsed = rows.numbers("flags").view(np.uint8), rows.column("browsed")
    item, has_item = rows.numbers("item"), rows.flat("item").is_valid().to_numpy(zero_copy_only=False)
    bought, _, _ = kernel.bought(rows.offsets, item, has_item, browsed, max_basket)
    opened = np.flatnonzero(flags & kernel.LISTED)
    places = np.sort(np.concatenate([opened, bought]))
    lengths = np.bincount(rows.owner[places], minlength=len(browsed))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    at = pa.array(places)
    times = rows.flat("time").take(at).cast(pa.timestamp("us", "UTC"))
    return pa.ListArray.from_arrays(offsets, rows.flat("item_id").take(at)), pa.ListArray.from_arrays(offsets, times)


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


def _column(events: pa.Table, name: str, missing: int = 0) -> Any:
    column = events[name]
    if column.null_count:
        column = column.fill_null(missing)
    return column.to_numpy()


def _chunk(events: pa.Table, name: str) -> pa.Array:
    column = events[name].combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column


def gathered(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """All batches of a partition as one table."""
    return pa.Table.from_batches(list(batches))
