"""Test sessions as flat arrays: what a shopper opened, or bought, in order. The protocols of `evaluate` read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval.arrays import Mask, Rows, offsets_from_lengths
from retrieval.errors import EvaluationError

BROWSE = ("view", "click")
PURCHASE = ("purchase",)


@dataclass(frozen=True, eq=False)
class Sessions:
    """S sessions of E item events in all.

    Shapes: session_ids (S,) string; item_ids (E,) string, in order within a session; offsets (S + 1,) int64;
    times (E,) int64, µs since 1970 in UTC.
    """

    session_ids: pa.Array
    item_ids: pa.Array
    offsets: Rows
    times: Rows

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def session(self) -> Rows:
        """The session of each event: (E,) int64."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))


def sessions_from_table(events: pa.Table, kind: str = "browse") -> Sessions:
    """Sessions of an events table (see the input contract), ordered by timestamp, sequence, row.

    kind "browse": the items of views and clicks; a click and the view that it opens count once, and so do identical
    rows in a row. kind "basket": the distinct items bought, of sessions with at least two; times are the first.

    Raises:
        EvaluationError: a column is missing, or no event of the kind is there.
    """
    if kind not in ("browse", "basket"):
        raise EvaluationError(f"kind must be 'browse' or 'basket', got {kind!r}")
    missing = [c for c in ("session_id", "timestamp", "event_type", "item_id") if c not in events.column_names]
    if missing:
        raise EvaluationError(f"events: columns {missing} are missing, got {events.column_names}")
    types = BROWSE if kind == "browse" else PURCHASE
    valid = pc.and_(
        pc.is_in(events["event_type"], value_set=pa.array(types)),
        pc.and_(pc.is_valid(events["item_id"]), pc.is_valid(events["session_id"])),
    )
    events = events.filter(pc.and_(valid, pc.is_valid(events["timestamp"])))
    if not events.num_rows:
        raise EvaluationError(f"events: no valid row of type {' or '.join(types)}; is this the right table?")
    time = _microseconds(events["timestamp"])
    session_ids = pc.unique(events["session_id"])
    session = pc.index_in(events["session_id"].combine_chunks(), value_set=session_ids).to_numpy().astype(np.int64)
    items = events["item_id"].combine_chunks().dictionary_encode()
    item = items.indices.to_numpy().astype(np.int64)
    keys = [time, session]
    if "sequence" in events.column_names:
        keys.insert(0, pc.fill_null(events["sequence"].cast(pa.int64()), 0).to_numpy())
    order = np.lexsort(keys)
    session, item, time = session[order], item[order], time[order]
    if kind == "browse":
        clicks = pc.equal(events["event_type"], "click").to_numpy()[order]
        kept = ~_repeats(session, item, time, clicks)
    else:
        kept = _first_of_basket(session, item)
    session, item, time = session[kept], item[kept], time[kept]
    counts = np.bincount(session, minlength=len(session_ids))
    present = counts > 0
    return Sessions(
        session_ids.filter(pa.array(present)),
        items.dictionary.take(pa.array(item)),
        offsets_from_lengths(counts[present]),
        time,
    )


def sessions_from_graph(sessions: pa.Table, kind: str = "browse") -> Sessions:
    """Sessions of one kind of the graph's `sessions` or `holdout` table (session, kind, items, times)."""
    table = sessions.filter(pc.equal(sessions["kind"], kind)).combine_chunks()
    if not table.num_rows:
        return Sessions(
            pa.array([], pa.string()), pa.array([], pa.string()), np.zeros(1, np.int64), np.zeros(0, np.int64)
        )
    counts = pc.list_value_length(table["items"]).to_numpy()
    return Sessions(
        table["session"].cast(pa.string()).combine_chunks(),
        pc.list_flatten(table["items"]).combine_chunks().cast(pa.string()),
        offsets_from_lengths(counts),
        _microseconds(pc.list_flatten(table["times"])),
    )


def _microseconds(column: pa.ChunkedArray) -> Rows:
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64()).to_numpy()
    raise EvaluationError(f"events.timestamp has type {column.type}, expected a timestamp")


def _repeats(session: Rows, item: Rows, time: Rows, clicks: Mask) -> Mask:
    """Rows that repeat the one before: the view that a click opened, or an identical row."""
    repeat = np.zeros(len(session), bool)
    same = (session[1:] == session[:-1]) & (item[1:] == item[:-1])
    opened = clicks[:-1] & ~clicks[1:]
    identical = (time[1:] == time[:-1]) & (clicks[1:] == clicks[:-1])
    repeat[1:] = same & (opened | identical)
    return repeat


def _first_of_basket(session: Rows, item: Rows) -> Mask:
    """The first row of each distinct item, in sessions with two of them."""
    pair = session * (int(item.max()) + 1) + item
    first = np.zeros(len(pair), bool)
    first[np.unique(pair, return_index=True)[1]] = True
    distinct = np.bincount(session, weights=first)
    return first & (distinct[session] >= 2)
