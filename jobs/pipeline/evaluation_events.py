"""Test events and sessions for `lightsage evaluate`, read by the rules of the graph build but without Spark."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graph_build.config import InputConfig
from jobs.errors import TableError
from jobs.pipeline.input_check import all_faults

if TYPE_CHECKING:
    from retrieval.evaluation.sessions import Sessions

log = logging.getLogger(__name__)

# A test session is never cut.
_NO_CAP = 2**62


def read_events(paths: Sequence[str], config: InputConfig) -> pa.Table:
    """Return test events with the column names and types of the contract, and warn of rows that cannot be used.

    Args:
        paths: files or folders, or patterns of them.
        config: the `[input]` section of the graph build.

    Raises:
        TableError: a file does not fit the contract, or more than `max_bad_share` of all rows are bad.
    """
    from graph_build.errors import GraphInputError
    from graph_build.ingest import arrow_reader
    from graph_build.ingest.refusals import listed

    try:
        events = arrow_reader.read_events(list(paths), config)
    except GraphInputError as error:
        raise TableError(all_faults({"events": paths}, config) or str(error)) from None
    if events.refused:
        log.warning(
            "%s of %s test events cannot be used (%s), e.g. %s; they are left out",
            f"{sum(events.refused.values()):,}",
            f"{events.read:,}",
            listed(events.refused),
            events.example,
        )
    return events.rows


def sessions_of(events: pa.Table, kind: str = "browse", config: InputConfig | None = None) -> "Sessions":
    """Return test sessions, with their events in order and without duplicates.

    The functions of the graph build assemble the sessions. If an item is opened several times in a row, the graph's
    `sessions` table lists it once. Test sessions list it every time, because the next item may be the current one.

    Args:
        events: the result of `read_events`.
        kind: `browse` = the items of views and clicks; `basket` = the distinct items bought in a session, for sessions
            with at least two of them.
        config: the `[input]` section of the graph build, which defines where a session ends; None = the defaults.

    Raises:
        EvaluationError: there is no session of the kind.
    """
    from graph_build.ingest.arrow_reader import loose_events, session_ids
    from graph_build.sessions import kernel
    from graph_build.sessions.assemble import assemble_sessions
    from graph_build.sessions.extract import SessionBatch
    from retrieval.errors import EvaluationError
    from retrieval.evaluation.sessions import sessions_from_graph

    config = config or InputConfig()
    at_least, only = (2, kernel.PURCHASE) if kind == "basket" else (1, None)
    parts = []
    loose = loose_events(events, config.day_zone)
    for batch in assemble_sessions(loose, _NO_CAP, _NO_CAP, config.events.longest_pause, only):
        sessions = SessionBatch.of(batch)
        items, times = _basket_items(sessions) if kind == "basket" else _viewed_items(sessions)
        ids = session_ids(events, batch["id"], batch["session"])
        table = pa.table({"session": ids, "kind": pa.repeat(kind, len(ids)), "items": items, "times": times})
        parts.append(table.filter(pc.greater_equal(pc.list_value_length(items), at_least)))
    if not sum(map(len, parts)):
        types = "purchase" if kind == "basket" else "view or click"
        raise EvaluationError(f"events: no session with a valid row of type {types}; is this the right table?")
    return sessions_from_graph(pa.concat_tables(parts), kind)


def _viewed_items(sessions: Any) -> tuple[pa.Array, pa.Array]:
    """Return the items and times of each session's views and clicks, without the view that a click itself causes."""
    from graph_build.arrays import offsets_from_lengths
    from graph_build.sessions import kernel

    counted = (sessions.flags() & kernel.COUNTED) > 0
    viewed = np.flatnonzero(counted & (sessions.numbers("type") <= kernel.CLICK))
    counts = np.bincount(sessions.owner[viewed], minlength=len(sessions.offsets) - 1)
    offsets = pa.array(offsets_from_lengths(counts).astype(np.int32))
    items = sessions.events("item_id").take(pa.array(viewed))
    times = sessions.events("time").take(pa.array(viewed)).cast(pa.timestamp("us", "UTC"))
    return pa.ListArray.from_arrays(offsets, items), pa.ListArray.from_arrays(offsets, times)


def _basket_items(sessions: Any) -> tuple[pa.Array, pa.Array]:
    """Return the distinct items of each basket, and when each was first bought."""
    from graph_build.sessions.extract import item_lists

    lists = item_lists(sessions, _NO_CAP)
    return lists.items, lists.times
