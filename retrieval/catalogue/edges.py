"""Typed edges of the item graph, by source row.

Edges add to scores and give reasons. They also decide which tail items are scored by their own vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.arrays import Rows, offsets_from_lengths, spans
from retrieval.config import ScoreWeights
from retrieval.errors import CatalogueError

# A graph's direct type is the first of these that it has; a shop that logs only purchases has no strong clicks.
_DIRECT = ("strong_click", "swing")
# Number of rows handled in one step, which is limited because numpy's repeat holds the interpreter lock until it ends.
_ROWS_PER_STEP = 16_384


@dataclass(frozen=True, eq=False)
class Edges:
    """Directed typed edges in CSR form, sorted by source row, then destination row, then type.

    Shapes: indptr (N + 1,) int64; dst (E,) int32; type (E,) uint8, an index into type_names; weight (E,) float32.
    direct_weight: a direct edge adds direct_weight · log(1 + weight) to the score of its destination. The direct edges
    are the strong clicks, or the Swing edges if there are no strong clicks. revisit_weight: added to a viewed item's
    score.

    Raises:
        CatalogueError: the arrays do not fit together.
    """

    indptr: NDArray[np.int64]
    dst: NDArray[np.int32]
    type: NDArray[np.uint8]
    weight: NDArray[np.float32]
    type_names: tuple[str, ...]
    direct_weight: float = 0.0
    revisit_weight: float = 0.0

    def __post_init__(self) -> None:
        n_edges = len(self.dst)
        if len(self.indptr) < 1 or self.indptr[0] != 0 or np.any(np.diff(self.indptr) < 0):
            raise CatalogueError("edges.indptr must start at 0 and never fall; build the index again")
        if not n_edges == len(self.type) == len(self.weight) == self.indptr[-1]:
            raise CatalogueError(
                f"edges: {self.indptr[-1]} by indptr, but {n_edges} dst, {len(self.type)} types and "
                f"{len(self.weight)} weights; build the index again"
            )
        if n_edges and not (self.dst.min() >= 0 and self.dst.max() < self.n_rows):
            raise CatalogueError(f"edges.dst must be row numbers below {self.n_rows}; build the index again")
        if n_edges and self.type.max() >= len(self.type_names):
            raise CatalogueError(f"edges.type {self.type.max()} has no name among {list(self.type_names)}")

    @property
    def n_rows(self) -> int:
        """Number of items in the catalogue that the edges connect."""
        return len(self.indptr) - 1

    @classmethod
    def empty(cls, n_rows: int) -> Edges:
        """Return a graph of n_rows rows without edges."""
        return cls(
            np.zeros(n_rows + 1, np.int64),
            np.zeros(0, np.int32),
            np.zeros(0, np.uint8),
            np.zeros(0, np.float32),
            (),
        )

    @classmethod
    def from_table(
        cls,
        table: pa.Table,
        item_ids: Sequence[str] | NDArray[np.object_],
        weights: ScoreWeights | None = None,
    ) -> Edges:
        """Read a table of edges.

        Args:
            table: columns src, dst (item ids), edge_type, weight.
            item_ids: (N,) the catalogue's ids, sorted.
            weights: the weights of direct edges and of revisits in a score; None = they add nothing.

        Raises:
            CatalogueError: a column is missing, or an edge's src or dst is not in the catalogue.
        """
        missing = [name for name in ("src", "dst", "edge_type", "weight") if name not in table.column_names]
        if missing:
            raise CatalogueError(f"edges: columns {missing} are missing, got {table.column_names}")
        values = pa.array(item_ids, pa.string())
        ends = {}
        for name in ("src", "dst"):
            rows = pc.index_in(table[name].combine_chunks(), value_set=values)
            if rows.null_count:
                stranger = table[name].filter(pc.is_null(rows))[0].as_py()
                raise CatalogueError(
                    f"edges.{name}: item {stranger!r} and {rows.null_count - 1} more rows are not in the "
                    f"catalogue of {len(values)} items; graph and embeddings must be of one version"
                )
            ends[name] = rows.to_numpy(zero_copy_only=False)
        names = sorted(pc.unique(table["edge_type"]).to_pylist())
        kind = pc.index_in(table["edge_type"].combine_chunks(), value_set=pa.array(names, pa.string())).to_numpy()
        order = np.lexsort((kind, ends["dst"], ends["src"]))
        return cls(
            offsets_from_lengths(np.bincount(ends["src"], minlength=len(values))),
            ends["dst"][order].astype(np.int32),
            kind[order].astype(np.uint8),
            table["weight"].to_numpy()[order].astype(np.float32),
            tuple(names),
        ).weighing(weights)

    def weighing(self, weights: ScoreWeights | None) -> Edges:
        """Return the same edges with other weights in the score; None = the weights stay."""
        if weights is None:
            return self
        return replace(self, direct_weight=weights.direct, revisit_weight=weights.revisit)

    def positions(self, rows: Rows) -> tuple[Rows, Rows]:
        """Return (position in `rows` of the source, edge number) of every edge out of `rows`, both int64."""
        starts = self.indptr[rows]
        lengths = self.indptr[rows + 1] - starts
        return np.repeat(np.arange(len(rows)), lengths), spans(starts, lengths)

    def bonus(self, edge: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what each edge (n,) adds to the score of its destination: (n,) float32, 0 unless it is direct."""
        kind = next((name for name in _DIRECT if name in self.type_names), None)
        if kind is None:
            return np.zeros(len(edge), np.float32)
        direct = self.type[edge] == self.type_names.index(kind)
        return np.where(direct, np.float32(self.direct_weight) * np.log1p(self.weight[edge]), np.float32(0))

    @cached_property
    def joined(self) -> tuple[Rows, NDArray[np.int32], NDArray[np.float32]]:
        """The edges without types: (indptr (N + 1,), each row's distinct destinations, ascending, their bonuses).

        With a `revisit_weight`, every row is also a destination of itself.
        """
        pair = self.dst.astype(np.int64)
        for start in range(0, self.n_rows, _ROWS_PER_STEP):
            span = self.indptr[start : start + _ROWS_PER_STEP + 1]
            rows = np.arange(start, start + len(span) - 1)
            pair[span[0] : span[-1]] += np.repeat(rows * self.n_rows, np.diff(span))
        bonus = self.bonus(np.arange(len(self.dst)))
        if self.revisit_weight:
            revisits = np.arange(self.n_rows) * (self.n_rows + 1)
            pair = np.concatenate([pair, revisits])
            bonus = np.concatenate([bonus, np.full(self.n_rows, self.revisit_weight, np.float32)])
        if np.any(pair[1:] < pair[:-1]):
            order = np.argsort(pair, kind="stable")
            pair, bonus = pair[order], bonus[order]
        first = np.flatnonzero(np.concatenate([[True], pair[1:] != pair[:-1]])[: len(pair)])
        total = np.add.reduceat(bonus, first) if len(first) else bonus
        indptr = np.searchsorted(pair[first], np.arange(self.n_rows + 1) * self.n_rows)
        return indptr.astype(np.int64), (pair[first] % self.n_rows).astype(np.int32), total.astype(np.float32)

    def neighbours(self, rows: Rows) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.float32]]:
        """Return destination, type and weight of every edge out of `rows`, in the order of `rows`."""
        edge = self.positions(rows)[1]
        return self.dst[edge], self.type[edge], self.weight[edge]

    def types_between(self, views: Rows, view_query: Rows, results: Rows, result_query: Rows) -> NDArray[np.int64]:
        """Return the types of the edges from a query's views to each of its results.

        Args:
            views: (V,) int64, viewed rows.
            view_query: (V,) int64, the query of each viewed row.
            results: (R,) int64, resulting rows.
            result_query: (R,) int64, the query of each resulting row.

        Returns:
            (R,) int64, with bit t set for type_names[t].
        """
        source, edge = self.positions(views)
        edge_pair = view_query[source] * self.n_rows + self.dst[edge]
        result_pair = result_query * self.n_rows + results
        pairs, pair_of_result = np.unique(result_pair, return_inverse=True)
        types = np.zeros(len(pairs) + 1, np.int64)
        position = np.searchsorted(pairs, edge_pair)
        match = position < len(pairs)
        match[match] = pairs[position[match]] == edge_pair[match]
        np.bitwise_or.at(types, position[match], np.int64(1) << self.type[edge[match]].astype(np.int64))
        return types[pair_of_result]

    def names(self, types: int) -> str:
        """Return the names of the types whose bits are set (see `types_between`), joined by "+"; "" for none."""
        return "+".join(name for bit, name in enumerate(self.type_names) if types >> bit & 1)
