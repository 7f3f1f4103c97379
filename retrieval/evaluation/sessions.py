"""Sessions as flat arrays of the items that a shopper opened or bought, in order. The protocols use these arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval.arrays import Rows, offsets_from_lengths
from retrieval.errors import EvaluationError


@dataclass(frozen=True, eq=False)
class Sessions:
    """S sessions with E item events in all.

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
        """Return the session of each event: (E,) int64."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))


def sessions_from_graph(sessions: pa.Table, kind: str = "browse") -> Sessions:
    """Return the sessions of one kind from a table like the graph's `sessions`.

    Args:
        sessions: one row per session: session (string or integer), kind, items (list of strings), times (list of
            timestamps).
        kind: `browse` or `basket`.

    Raises:
        EvaluationError: the times are not timestamps.
    """
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
