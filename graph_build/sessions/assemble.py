"""Puts loose events together into sessions: ordered, each once, described, one row a session.

Runs in Spark's Python workers, on a partition that holds whole sessions.
"""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from graph_build.ingest.query_text import normalise_query
from graph_build.sessions import kernel

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

LEAST = np.iinfo(np.int64).min
BATCH_SESSIONS = 20_000

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
        ("country", pa.string()),  # the first that the session says
    ]
)


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
    item, (query, has_query) = _column(events, "item"), searched(_chunk(events, "query"))
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
        "country": _first(_chunk(events, "country"), offsets),
    }
    table = pa.table([pa.array(columns[f.name]).cast(f.type) for f in ROWS], schema=ROWS)
    yield from table.to_batches(BATCH_SESSIONS)


def searched(queries: pa.Array) -> tuple[Ints, Flags]:
    """A hash of each query, normalised, and whether there is one."""
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


def _first(values: pa.Array, offsets: Ints) -> pa.Array:
    """The first value of each stretch that is not null."""
    said = np.append(np.flatnonzero(values.is_valid().to_numpy(zero_copy_only=False)), len(values))
    first = said[np.searchsorted(said, offsets[:-1])]
    there = first < offsets[1:]
    return values.take(pa.array(np.where(there, first, 0), mask=~there))


def _column(events: pa.Table, name: str, missing: int = 0) -> Any:
    column = events[name]
    if column.null_count:
        column = column.fill_null(missing)
    return column.to_numpy()


def _chunk(events: pa.Table, name: str) -> pa.Array:
    column = events[name].combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
