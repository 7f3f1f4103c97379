"""The item graph as arrays: reads the tables of the graph build (docs/artefacts.md) into row numbers and codes.

Row i is the i-th item in the order of item_id. Arrays of N entries follow this order; edges and pairs hold row numbers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.errors import ModelInputError

EDGE_TYPES = ("strong_click", "swing", "co_search")
_DAY_US = 86_400e6


@dataclass(frozen=True)
class ItemGraph:
    """An item graph in memory.

    Shapes:
        item_ids: (N,) strings, sorted
        events: (N,) int64 training events
        is_tail: (N,) bool
        src, dst: (E,) int32 item rows of the edges
        edge_type: (E,) uint8 index into EDGE_TYPES
        weight: (E,) float32
        pairs: (P, 2) int32 item rows (query, target)
        pair_steps: (P,) int32: the target comes this many items after the query in the session
        pair_age: (P,) float32 days before the latest pair
        items: the items table, in any order, with at least the column item_id
    """

    item_ids: pa.Array
    events: NDArray[np.int64]
    is_tail: NDArray[np.bool_]
    src: NDArray[np.int32]
    dst: NDArray[np.int32]
    edge_type: NDArray[np.uint8]
    weight: NDArray[np.float32]
    pairs: NDArray[np.int32]
    pair_steps: NDArray[np.int32]
    pair_age: NDArray[np.float32]
    items: pa.Table

    @property
    def num_items(self) -> int:
        """N, the number of items."""
        return len(self.item_ids)

    @property
    def is_cold(self) -> NDArray[np.bool_]:
        """(N,) bool: items of the catalogue without any event."""
        return self.events == 0


def rows_of(values: pa.Array | pa.ChunkedArray, item_ids: pa.Array, what: str) -> NDArray[np.int32]:
    """Return the row numbers of ids.

    Args:
        values: ids to look up
        item_ids: (N,) ids of the rows
        what: the name of the table that holds the ids, for the error message
    Raises:
        ModelInputError: an id is not among the rows; the message names it.
    """
    rows = pc.index_in(values, item_ids)
    if rows.null_count:
        stray = values.filter(pc.is_null(rows))[0].as_py()
        raise ModelInputError(
            f"{what} names the item {stray!r}, which is not among the graph's nodes; rebuild the graph"
        )
    if isinstance(rows, pa.ChunkedArray):
        rows = rows.combine_chunks()
    return np.asarray(rows.to_numpy(zero_copy_only=False), dtype=np.int32)


def _read(directory: Path, columns: list[str]) -> pa.Table:
    if not directory.exists():
        raise ModelInputError(f"{directory} is missing; build the graph again")
    strings = [c for c in columns if c in {"src", "dst", "edge_type", "kind"}]
    return pq.read_table(directory, columns=columns, read_dictionary=strings)


def _codes(column: pa.ChunkedArray, item_ids: pa.Array, what: str) -> NDArray[np.int32]:
    """Return the row numbers of a dictionary-encoded column; only its distinct values are looked up."""
    if column.num_chunks == 0 or len(column) == 0:
        return np.empty(0, np.int32)
    encoded = column.combine_chunks()
    # A filter may leave values in the dictionary that no row has any more.
    used, position = np.unique(encoded.indices.to_numpy(), return_inverse=True)
    return rows_of(encoded.dictionary.take(pa.array(used)), item_ids, what)[position]


def _age(times: pa.ChunkedArray) -> NDArray[np.float32]:
    """Return (P,) float32 days before the latest time."""
    us = times.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    return ((us.max() - us) / _DAY_US).astype(np.float32) if len(us) else np.empty(0, np.float32)


def load_graph(root: Path, part: Literal["full", "fit"], items: Path | None) -> ItemGraph:
    """Read an item graph and its items table.

    Args:
        root: the folder that the graph build wrote
        part: "full", or "fit" = the graph without the hold-out
        items: the items table; without one, the items are the graph's nodes
    Raises:
        ModelInputError: a table is missing, there are no nodes, or a table names an unknown edge type or item.
    """
    graph = root / part
    nodes = _read(graph / "nodes", ["item_id", "events", "is_tail"]).sort_by("item_id")
    item_ids = nodes["item_id"].combine_chunks()
    if len(item_ids) == 0:
        raise ModelInputError(f"{graph / 'nodes'} has no items; there is nothing to embed")
    edges = _read(graph / "edges", ["src", "dst", "edge_type", "weight"])
    names = edges["edge_type"].cast(pa.string())
    types = pc.index_in(names, pa.array(EDGE_TYPES))
    if types.null_count:
        stray = names.filter(pc.is_null(types))[0].as_py()
        raise ModelInputError(
            f"{graph / 'edges'} has the edge_type {stray!r}, not one of {', '.join(EDGE_TYPES)}; rebuild the graph"
        )
    transitions = _read(root / "transitions", ["time", "src", "dst", "steps", "held"])
    if part == "fit":
        transitions = transitions.filter(pc.invert(transitions["held"]))
    pairs = np.stack([_codes(transitions[side], item_ids, "transitions") for side in ("src", "dst")], axis=1)
    catalogue = pq.read_table(items) if items is not None and items.exists() else pa.table({"item_id": item_ids})
    return ItemGraph(
        item_ids=item_ids,
        events=nodes["events"].to_numpy().astype(np.int64),
        is_tail=nodes["is_tail"].to_numpy().astype(np.bool_),
        src=_codes(edges["src"], item_ids, "edges"),
        dst=_codes(edges["dst"], item_ids, "edges"),
        edge_type=types.to_numpy().astype(np.uint8),
        weight=edges["weight"].to_numpy().astype(np.float32),
        pairs=pairs,
        pair_steps=transitions["steps"].to_numpy().astype(np.int32),
        pair_age=_age(transitions["time"]),
        items=catalogue,
    )
