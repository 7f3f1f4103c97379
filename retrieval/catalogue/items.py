"""The catalogue that is ranked: every item's vectors, counts and display attributes, aligned by row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.arrays import Floats, Rows, python_values
from retrieval.catalogue.score_terms import item_bias
from retrieval.config import ScoreWeights
from retrieval.errors import CatalogueError
from retrieval.values import clean_text

VECTOR_FILES = {
    "query": "query.npy",
    "item": "item.npy",
    "tail_rows": "tail_rows.npy",
    "item_unaveraged": "item_own.npy",
}
"""Field of a Catalogue → its file, which has the same name in an embeddings folder and in an index folder."""
ATTRIBUTES = ("category", "brand", "price", "title", "image_url")
_NORM_TOLERANCE = 1e-3
_CHECK_ROWS = 65_536


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Row-aligned arrays of N items; a row number means nothing outside one version.

    Shapes: item_ids (N,) str objects, sorted, unique; query, item (N, D) float32, L2-normalised, may be memory-mapped;
    tail_rows (T,) int64, ascending: the tail items; item_unaveraged (T, D) float32: their own vectors; events (N,)
    int64, training events; popularity (N,) float64 ≥ 0, recent events; bias (N,) float32, finite: added to every score
    of the item as a candidate; attributes: a table of N rows with any of ATTRIBUTES.

    Raises:
        CatalogueError: shapes do not fit; ids repeat or are not sorted; or a vector is not finite or its norm differs
            from 1 by more than 1e-3 (the message names its item).
    """

    item_ids: NDArray[np.object_]
    query: Floats
    item: Floats
    tail_rows: Rows
    item_unaveraged: Floats
    events: Rows
    popularity: NDArray[np.float64]
    bias: Floats
    attributes: pa.Table

    def __post_init__(self) -> None:
        n = len(self.item_ids)
        if self.item.ndim != 2:
            raise CatalogueError(f"item must be two-dimensional (rows × dim), got shape {self.item.shape}")
        dim = self.item.shape[1]
        shapes = {
            "query": (self.query.shape, (n, dim)),
            "item": (self.item.shape, (n, dim)),
            "item_unaveraged": (self.item_unaveraged.shape, (len(self.tail_rows), dim)),
            "events": (self.events.shape, (n,)),
            "popularity": (self.popularity.shape, (n,)),
            "bias": (self.bias.shape, (n,)),
            "attributes": ((self.attributes.num_rows,), (n,)),
        }
        for name, (got, expected) in shapes.items():
            if got != expected:
                raise CatalogueError(f"{name} has shape {got}, expected {expected}: {n} item ids, dimension {dim}")
        for name in ("query", "item", "item_unaveraged"):
            if getattr(self, name).dtype != np.float32:
                raise CatalogueError(f"{name} must be float32, got {getattr(self, name).dtype}")
        if len(bad := np.flatnonzero(~np.isfinite(self.bias))):
            raise CatalogueError(f"bias: the value of item {self.item_ids[bad[0]]!r} is not finite; embed again")
        self._check_ids()
        if len(self.tail_rows) and (
            self.tail_rows[0] < 0 or self.tail_rows[-1] >= n or np.any(np.diff(self.tail_rows) <= 0)
        ):
            raise CatalogueError(f"tail_rows must be ascending row numbers below {n}, each once")
        _check_vectors("query", self.query, self.item_ids)
        _check_vectors("item", self.item, self.item_ids)
        _check_vectors("item_unaveraged", self.item_unaveraged, self.item_ids[self.tail_rows])

    def _check_ids(self) -> None:
        ids = self.item_ids
        for before, after in pairwise(ids):
            if before >= after:
                problem = "is there twice" if before == after else f"comes after {before!r}"
                raise CatalogueError(f"item_ids must be sorted and unique, but {after!r} {problem}")

    @property
    def n_rows(self) -> int:
        """Number of items."""
        return len(self.item_ids)

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return int(self.item.shape[1])

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row number of each item_id."""
        return {item: row for row, item in enumerate(self.item_ids.tolist())}

    def rows(self, items: Iterable[str]) -> tuple[list[int], list[str]]:
        """Return the rows of the known items, in order, and the items that the catalogue does not have."""
        known, unknown = [], []
        for item in items:
            row = self.row_of.get(item)
            if row is None:
                row = self.find(item)
            if row is None:
                unknown.append(item)
            else:
                known.append(row)
        return known, unknown

    def find(self, item: str) -> int | None:
        """Return the row of an item, by its id as it is written or without the blanks around it; None if unknown."""
        row = self.row_of.get(item)
        return row if row is not None else self.row_of.get(clean_text(item) or "")

    @cached_property
    def slot_of(self) -> NDArray[np.int32]:
        """(N,) int32, each item's line in item_unaveraged; -1 for items outside the tail."""
        slots = np.full(self.n_rows, -1, np.int32)
        slots[self.tail_rows] = np.arange(len(self.tail_rows), dtype=np.int32)
        return slots

    def tail_slots(self, rows: Rows) -> tuple[Rows, Rows]:
        """Return (positions in `rows` of the tail items, their lines in item_unaveraged), both int64."""
        if not len(self.tail_rows):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        slot = np.minimum(np.searchsorted(self.tail_rows, rows), len(self.tail_rows) - 1)
        position = np.flatnonzero(self.tail_rows[slot] == rows)
        return position, slot[position]


def lookup(item_ids: Sequence[str] | NDArray[np.object_], values: pa.Array) -> tuple[Rows, NDArray[np.bool_]]:
    """Look up ids in the catalogue.

    Args:
        item_ids: (N,) the catalogue's ids, sorted.
        values: (n,) strings.

    Returns:
        (rows (n,) int64, known (n,) bool); the row of an unknown id is 0 and means nothing.
    """
    index = pc.index_in(values, value_set=pa.array(item_ids, pa.string()))
    known = pc.is_valid(index).to_numpy(zero_copy_only=False)
    return pc.fill_null(index, 0).to_numpy(zero_copy_only=False).astype(np.int64), known


def read_catalogue(
    embeddings: Path, nodes: pa.Table, items: pa.Table | None = None, weights: ScoreWeights | None = None
) -> Catalogue:
    """Read the catalogue of a version; its vectors stay memory-mapped.

    Args:
        embeddings: the folder of the embeddings.
        nodes: the graph's nodes, with item_id, events and popularity; an item without a node has no events.
        items: the checked item table, from which display attributes are read; None = no attributes.
        weights: the weights of the score's terms; None = the defaults.

    Raises:
        CatalogueError: a file is missing or unreadable (the message names it), or the parts do not fit together.
    """
    import pyarrow.parquet as pq

    arrays = {name: load_array(embeddings / file) for name, file in VECTOR_FILES.items()}
    prior = load_array(embeddings / "prior.npy")
    path = embeddings / "item_ids.parquet"
    try:
        ids = pq.read_table(path, columns=["item_id"])["item_id"].combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise CatalogueError(f"{path}: not readable as a parquet column item_id ({error}); embed again") from error
    events = _aligned(nodes, ids, "events", 0).astype(np.int64)
    return Catalogue(
        item_ids=np.array(python_values(ids), dtype=object),
        query=arrays["query"],
        item=arrays["item"],
        tail_rows=np.asarray(arrays["tail_rows"]),
        item_unaveraged=arrays["item_unaveraged"],
        events=events,
        popularity=_aligned(nodes, ids, "popularity", 0.0).astype(np.float64),
        bias=item_bias(prior, events, weights or ScoreWeights()),
        attributes=_attributes(items, ids),
    )


def load_array(path: Path) -> NDArray[Any]:
    """Memory-map a .npy file; nothing in it is unpickled.

    Raises:
        CatalogueError: the file is missing or damaged.
    """
    try:
        # A plain array, because operations on a few rows of numpy's memmap class cost more than reading the rows.
        return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    except (OSError, ValueError, EOFError) as error:
        raise CatalogueError(f"{path}: not readable as a numpy array ({error}); build it again") from error


def _aligned(table: pa.Table, ids: pa.Array, column: str, missing: float) -> NDArray[Any]:
    line = pc.index_in(ids, value_set=table["item_id"].combine_chunks())
    return pc.fill_null(table[column].take(line), missing).to_numpy()


def _attributes(items: pa.Table | None, ids: pa.Array) -> pa.Table:
    columns = [] if items is None else [name for name in ATTRIBUTES if name in items.column_names]
    if items is None or not columns:
        # A table without columns has no rows, so the ids are its column.
        return pa.table({"item_id": ids})
    line = pc.index_in(ids, value_set=items["item_id"].combine_chunks())
    return pa.table({"item_id": ids} | {name: items[name].take(line) for name in columns})


def _check_vectors(name: str, vectors: Floats, item_ids: NDArray[np.object_]) -> None:
    for start in range(0, len(vectors), _CHECK_ROWS):
        part = vectors[start : start + _CHECK_ROWS]
        norms = np.sqrt(np.einsum("nd,nd->n", part, part))
        bad = np.flatnonzero(~(np.abs(norms - 1.0) <= _NORM_TOLERANCE))
        if not len(bad):
            continue
        first = bad[0]
        item = item_ids[start + first]
        if not np.isfinite(part[first]).all():
            raise CatalogueError(
                f"{name}: the vector of item {item!r} is not finite (NaN or infinite); embed again, and look at "
                "the features of that item"
            )
        raise CatalogueError(
            f"{name}: the vector of item {item!r} has norm {norms[first]:.4g}, expected 1 ± {_NORM_TOLERANCE}; "
            "L2-normalise the embeddings"
        )
