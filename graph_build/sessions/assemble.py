"""Assembles loose events into rows of sessions: orders events, drops duplicates, cuts at pauses, and describes events.

Runs in Spark's Python workers. A partition holds whole sessions and, where events have no session ids, whole days of
users.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graph_build.arrays import INT64_MIN, Flags, Ints, hash_text, starts_of_runs
from graph_build.ingest.contract import SESSION_TYPES
from graph_build.ingest.query_text import normalise_query
from graph_build.sessions import kernel
from graph_build.sessions.pauses import cut_at_pauses
from graph_build.sessions.schema import SESSION_ROW

BATCH_SESSIONS = 20_000


def assemble_sessions(
    events: pa.Table, max_items: int, max_basket: int, longest_pause: int, only: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Turn loose events into rows of sessions, in batches.

    Args:
        events: columns of `events.checked`; whole sessions, in any order.
        max_items: cap on the items of a session with a view or a click.
        max_basket: cap on the distinct items of any other session.
        longest_pause: where events have no session id, the longest pause within a session, in microseconds.
        only: the type of the events that the rows hold; None for all. Events of other types still prolong a session.
    """
    if len(events) == 0:
        return
    events, duplicates = _in_sessions(events.combine_chunks(), longest_pause)
    if only is not None:
        is_of_type = _column(events, "type") == only
        events, duplicates = events.filter(pa.array(is_of_type)).combine_chunks(), duplicates[is_of_type]
        if len(events) == 0:
            return
    session = _column(events, "session")
    starts = starts_of_runs(session)
    offsets = np.append(starts, len(session))
    item, (query, has_query) = _column(events, "item"), hash_queries(_chunk(events, "query"))
    kind = _column(events, "type").astype(np.int8)
    has_source, has_item = events["source"].is_valid().to_numpy(), events["item"].is_valid().to_numpy()
    flags, segment, search, has_search, browsed, logged, counted = kernel.describe_events(
        offsets, kind, item, query, has_query, has_source, max_items
    )
    _, basket_offsets, distinct = kernel.basket_items(offsets, item, has_item, browsed, max_basket)
    runs = np.add.reduceat(((flags & kernel.RUN_START) > 0).astype(np.int64), starts)
    by_type = np.stack([np.add.reduceat((kind == t).astype(np.int32), starts) for t in range(len(SESSION_TYPES))], 1)
    list_offsets = pa.array(offsets.astype(np.int32))
    type_offsets = pa.array(np.arange(len(starts) + 1, dtype=np.int32) * by_type.shape[1])

    def lists(values: Any, is_present: Flags | None = None) -> pa.Array:
        if not isinstance(values, pa.Array):
            values = pa.array(values, mask=None if is_present is None else ~is_present)
        return pa.ListArray.from_arrays(list_offsets, values)

    columns = {
        "session": session[starts],
        "id": _chunk(events, "id").take(pa.array(starts)),
        "day": _column(events, "day")[starts],
        "start": _column(events, "time")[starts],
        "browsed": browsed,
        "logged": logged,
        "counted": counted,
        "cut": np.where(browsed, np.maximum(runs - max_items, 0), distinct - np.diff(basket_offsets)),
        "duplicates": np.add.reduceat(duplicates, starts),
        "of_type": pa.ListArray.from_arrays(type_offsets, pa.array(by_type.ravel())),
        "time": lists(_column(events, "time")),
        "type": lists(kind),
        "user": lists(_column(events, "user")),
        **{name: lists(_chunk(events, name)) for name in ("item", "item_id", "source", "source_id")},
        "search": lists(search, has_search),
        "segment": lists(segment),
        "flags": lists(flags.view(np.int8)),
        "country": _first_of_each(_chunk(events, "country"), offsets),
    }
    arrays = [pa.array(columns[column.name]).cast(column.type) for column in SESSION_ROW]
    yield from pa.table(arrays, schema=SESSION_ROW).to_batches(BATCH_SESSIONS)


def hash_queries(queries: pa.Array) -> tuple[Ints, Flags]:
    """Return the hash of each query's normalised text, and whether there is a text at all.

    Retrieval hashes queries the same way (`retrieval.ranking.reranker`); tests compare both with one golden file.
    """
    texts = queries.dictionary_encode()
    # The last element stands for rows without a query.
    normalised = [*(normalise_query(text) for text in texts.dictionary.to_pylist()), None]
    hashes = [0 if text is None else hash_text(text) for text in normalised]
    index = texts.indices.fill_null(len(normalised) - 1).to_numpy(zero_copy_only=False)
    return np.array(hashes, np.int64)[index], np.array([text is not None for text in normalised])[index]


def _in_sessions(events: pa.Table, longest_pause: int) -> tuple[pa.Table, Ints]:
    """Put events in order, drop duplicates, and cut the days of users into sessions.

    Duplicates are dropped first, so that a duplicate with a later time neither begins nor prolongs a session.

    Returns:
        The events, and for each of them the number of dropped events that count with it, all of the same session.
    """
    events, duplicates = _without_duplicates(events.take(pa.array(_order(events))))
    has_id = events["id"].is_valid().to_numpy()
    session, user, day, time = (_column(events, name) for name in ("session", "user", "day", "time"))
    session = cut_at_pauses(session, has_id, user, day, time, longest_pause)
    return events.set_column(events.schema.get_field_index("session"), "session", pa.array(session)), duplicates


def _order(events: pa.Table) -> Ints:
    """Order events as they happened: by session, time, the log's own sequence, then the position in the input."""
    session, time = _column(events, "session"), _column(events, "time")
    order = np.lexsort((time, session))
    session, time = session[order], time[order]
    follows = np.concatenate([[False], (session[1:] == session[:-1]) & (time[1:] == time[:-1])])
    tied = np.flatnonzero(follows | np.append(follows[1:], False))
    if len(tied):
        run = np.cumsum(~follows)[tied]
        rows = order[tied]
        tie_breakers = [_column(events, name, INT64_MIN)[rows] for name in ("row", "block", "file", "sequence")]
        order[tied] = rows[np.lexsort((*tie_breakers, run))]
    return order


def _without_duplicates(events: pa.Table) -> tuple[pa.Table, Ints]:
    """Drop repeated events of a session: those with the same event_id, and identical neighbours without an event_id.

    Two clicks that are equal in session, time and item are one click when one has a request_id and the other has none.
    The one with the request_id stays. If it has no query or no source, it takes over that of the other.

    Returns:
        The events that stay, and for each of them the number of dropped events that count with it, all of the same
        session.
    """
    total = len(events)
    session = _column(events, "session")
    keep = np.ones(total, np.bool_)
    has_id = events["event"].is_valid().to_numpy()
    if has_id.any():
        keep[_repeated_ids(events, np.flatnonzero(has_id))] = False
    rest = np.flatnonzero(keep)
    content = _column(events, "content")[rest]
    repeats = (session[rest][1:] == session[rest][:-1]) & (content[1:] == content[:-1])
    repeats &= ~has_id[rest][1:] & ~has_id[rest][:-1]
    keep[rest[1:][repeats]] = False
    rest = np.flatnonzero(keep)
    if events["asked"].null_count < total and pc.any(events["asked"]).as_py():
        events, merged = _merge_clicks(events, rest)
        keep[merged] = False
    rest = np.flatnonzero(keep)
    # A dropped event is counted with the next event that stays in its session, or with the last one.
    owner = np.minimum(np.searchsorted(rest, np.arange(total)), len(rest) - 1)
    owner = np.where(session[rest[owner]] == session, owner, owner - 1)
    dropped = np.bincount(owner[~keep], minlength=len(rest)).astype(np.int64)
    return events.take(pa.array(rest)), dropped


def _repeated_ids(events: pa.Table, rows: Ints) -> Ints:
    """Return the rows whose event_id an earlier event of the same session has."""
    key = kernel.hash_pair(_column(events, "session")[rows], _column(events, "event")[rows])
    order = np.argsort(key, kind="stable")
    again = np.flatnonzero(key[order][1:] == key[order][:-1]) + 1
    return rows[order[again]]


def _merge_clicks(events: pa.Table, rest: Ints) -> tuple[pa.Table, Ints]:
    """Merge clicks that were logged twice, with and without their request.

    Returns:
        All events, with the queries and sources that were taken over; positions of the clicks to drop.
    """
    clicks = rest[_column(events, "type")[rest] == kernel.CLICK]
    has_request = events["asked"].fill_null(False).to_numpy(zero_copy_only=False)
    keys = [_column(events, name)[clicks] for name in ("item", "time", "session")]
    order = np.lexsort((has_request[clicks], *keys))
    clicks, keys = clicks[order], [key[order] for key in keys]
    if len(clicks) == 0:
        return events, clicks
    starts = starts_of_runs(*keys)
    sizes = np.diff(np.append(starts, len(clicks)))
    run = np.repeat(np.arange(len(starts)), sizes)
    requested = has_request[clicks]
    n_requested = np.add.reduceat(requested.astype(np.int64), starts)
    is_double = ((n_requested > 0) & (n_requested < sizes))[run]
    for name in ("query", "source"):
        has_value = events[name].is_valid().to_numpy().copy()
        donors = np.where(~requested & has_value[clicks], clicks, len(events))
        donor = np.minimum.reduceat(donors, starts)[run]
        takes = requested & is_double & ~has_value[clicks] & (donor < len(events))
        origin = np.arange(len(events))
        origin[clicks[takes]] = donor[takes]
        for column in (name, "source_id") if name == "source" else (name,):
            index = events.schema.get_field_index(column)
            events = events.set_column(index, column, events[column].take(pa.array(origin)))
    return events, clicks[~requested & is_double]


def _first_of_each(values: pa.Array, offsets: Ints) -> pa.Array:
    """Return the first non-null value of each list."""
    valid = np.append(np.flatnonzero(values.is_valid().to_numpy(zero_copy_only=False)), len(values))
    first = valid[np.searchsorted(valid, offsets[:-1])]
    is_inside = first < offsets[1:]
    return values.take(pa.array(np.where(is_inside, first, 0), mask=~is_inside))


def _column(events: pa.Table, name: str, missing: int = 0) -> Any:
    """Return a column as numpy, with `missing` for null."""
    column = events[name]
    if column.null_count:
        column = column.fill_null(missing)
    return column.to_numpy()


def _chunk(events: pa.Table, name: str) -> pa.Array:
    """Return a column as one Arrow array."""
    column = events[name].combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
