"""Counting baselines, which a learned model must beat: each but popularity is a sparse item-to-item matrix.

In a matrix, a query's candidates are the stored entries in the line of its last viewed item, best first; ties go to the
lower row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from retrieval.arrays import Floats, Mask, Rows, offsets_from_lengths, positions_in_lists
from retrieval.catalogue.edges import Edges
from retrieval.queries import Queries
from retrieval.topk import TopK

Matrix = sp.csr_array


@dataclass(frozen=True, eq=False)
class TrainingSessions:
    """Sessions of catalogue rows, in order, over n_items items.

    Shapes: rows (E,) int64; offsets (S + 1,) int64.
    """

    rows: Rows
    offsets: Rows
    n_items: int

    @classmethod
    def of(cls, sessions: Sequence[Sequence[int]], n_items: int) -> TrainingSessions:
        """Return sessions from their lists of rows.

        Args:
            sessions: the rows of each session, in order.
            n_items: number of items in the catalogue.
        """
        rows = np.array([row for session in sessions for row in session], np.int64)
        return cls(rows, offsets_from_lengths([len(session) for session in sessions]), n_items)

    @property
    def session(self) -> Rows:
        """The session of each event: (E,) int64."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


class CountingBaseline:
    """Ranks by the entries of a sparse matrix (N, N), with the viewed item as line and the candidate as column."""

    def __init__(self, weights: Matrix) -> None:
        self.weights = weights

    def rank(self, queries: Queries, k: int, *, eligible: Mask | None = None, include_current: bool = False) -> TopK:
        """See `retrieval.queries.Ranker`; only the most recent item of a query counts."""
        last = queries.last
        lines = self.weights[last]
        query = np.repeat(np.arange(len(last)), np.diff(lines.indptr))
        rows, score = lines.indices.astype(np.int64), lines.data.astype(np.float32)
        candidate = np.ones(len(rows), bool) if include_current else rows != last[query]
        if eligible is not None:
            candidate &= eligible[rows]
        return _best(query[candidate], rows[candidate], score[candidate], len(last), k)


class Transitions(CountingBaseline):
    """Counts how often b came right after a."""

    def __init__(self, sessions: TrainingSessions) -> None:
        super().__init__(_steps(sessions, [(1, 1.0)], backward=0.0))


class Rules(CountingBaseline):
    """Sequential rules: b counts 1/n if it comes n steps after a, `backward`/n if n steps before; n ≤ `max_steps`."""

    def __init__(self, sessions: TrainingSessions, max_steps: int = 10, backward: float = 0.5) -> None:
        super().__init__(_steps(sessions, [(n, 1.0 / n) for n in range(1, max_steps + 1)], backward))


class ItemKNN(CountingBaseline):
    """Item-kNN: the cosine of the sets of sessions that two items occur in, |S_a ∩ S_b| / √(|S_a| |S_b|)."""

    def __init__(self, sessions: TrainingSessions) -> None:
        shape = (len(sessions.offsets) - 1, sessions.n_items)
        ones = np.ones(len(sessions.rows), np.float32)
        visits = sp.csr_array((ones, (sessions.session, sessions.rows)), shape=shape)
        visits.data[:] = 1.0
        norm = 1.0 / np.sqrt(np.maximum(visits.sum(axis=0), 1.0))
        cosine = sp.csr_array(visits.T @ visits)
        cosine.data *= np.repeat(norm, np.diff(cosine.indptr)) * norm[cosine.indices]
        cosine.setdiag(0.0)
        cosine.eliminate_zeros()
        super().__init__(cosine)


class Swing(CountingBaseline):
    """Ranks by the weights of one type of the graph's edges, by default Swing."""

    def __init__(self, edges: Edges, edge_type: str = "swing") -> None:
        kind = edges.type_names.index(edge_type) if edge_type in edges.type_names else len(edges.type_names)
        of_type = edges.type == kind
        source = np.repeat(np.arange(edges.n_rows), np.diff(edges.indptr))[of_type]
        shape = (edges.n_rows, edges.n_rows)
        super().__init__(sp.csr_array((edges.weight[of_type], (source, edges.dst[of_type])), shape=shape))


class Popularity:
    """Returns the same list for all queries: the items by popularity (N,), without those of popularity 0."""

    def __init__(self, popularity: NDArray[np.floating[Any] | np.integer[Any]]) -> None:
        self._score = np.asarray(popularity, np.float32)
        self._order = np.argsort(-self._score, kind="stable")

    def rank(self, queries: Queries, k: int, *, eligible: Mask | None = None, include_current: bool = False) -> TopK:
        """See `retrieval.queries.Ranker`."""
        order = self._order if eligible is None else self._order[eligible[self._order]]
        order = order[self._score[order] > 0][: k + 1]
        last = queries.last
        query = np.repeat(np.arange(len(last)), len(order))
        rows = np.tile(order, len(last))
        candidate = np.ones(len(rows), bool) if include_current else rows != last[query]
        return _best(query[candidate], rows[candidate], self._score[rows[candidate]], len(last), k)


def _steps(sessions: TrainingSessions, weights: list[tuple[int, float]], backward: float) -> Matrix:
    session, rows = sessions.session, sessions.rows
    shape = (sessions.n_items, sessions.n_items)
    total = sp.csr_array(shape, dtype=np.float64)
    for steps, weight in weights:
        pair = (session[steps:] == session[:-steps]) & (rows[steps:] != rows[:-steps])
        before, after = rows[:-steps][pair], rows[steps:][pair]
        forward = sp.csr_array((np.full(len(before), weight), (before, after)), shape=shape)
        total = total + forward + (backward * forward.T if backward else 0.0 * forward)
    total = sp.csr_array(total)
    total.eliminate_zeros()
    return total


def _best(query: Rows, rows: Rows, score: Floats, n: int, k: int) -> TopK:
    """Return the k best of each of n queries among (query, row, score) triples; ties go to the lower row."""
    order = np.lexsort((rows, -score, query))
    candidates = np.bincount(query, minlength=n)
    order = order[positions_in_lists(offsets_from_lengths(candidates)) < k]
    return TopK(offsets_from_lengths(np.minimum(candidates, k)), rows[order], score[order])
