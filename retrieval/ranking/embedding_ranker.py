"""Ranks exactly by embeddings and the edges from viewed items, for one query or for many queries at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval import topk
from retrieval.arrays import Floats, Mask, Rows, offsets_from_lengths, positions_in_lists
from retrieval.catalogue.edges import Edges
from retrieval.catalogue.items import Catalogue
from retrieval.config import RetrievalConfig
from retrieval.queries import Queries
from retrieval.ranking.session_encoder import SessionEncoder
from retrieval.topk import TopK


@dataclass(frozen=True, eq=False)
class ScoreTerms:
    """The terms of the scores of some rows for one query, each (R,) float32.

    similarity: query vector · item vector; `EmbeddingRanker` says which of a tail item's vectors counts. bias: the
    terms of recent demand and popularity. bonus: added to a row for direct edges from viewed items, and if it was
    viewed itself. revisit: the part of the bonus for having been viewed.
    """

    similarity: Floats
    bias: Floats
    bonus: Floats
    revisit: Floats

    @property
    def direct(self) -> Floats:
        """The part of the bonus for direct edges: (R,) float32."""
        return self.bonus - self.revisit

    @property
    def scores(self) -> Floats:
        """The scores, which are the sum of similarity, bias and bonus: (R,) float32."""
        return self.similarity + self.bias + self.bonus


@dataclass(frozen=True, eq=False)
class PreparedQuery:
    """One query, ready to score any row: the score is item · vector + bias, except for `rows`, whose scores are stored.

    Shapes: vector (D,). rows (d,), ascending, distinct: the rows with an edge from a viewed item and, if revisits
    count, the viewed rows. similarity, bonus, scores (d,) float32 belong to these rows. The bonus is the sum for edges
    and revisits, and a score is similarity + bias + bonus.
    """

    vector: Floats
    rows: NDArray[np.int32] | Rows
    similarity: Floats
    bonus: Floats
    scores: Floats

    def over(self, candidates: Floats, bias: Floats, rows: Rows) -> Floats:
        """Return the scores (E,) float32 of rows (E,), ascending, from their vectors (E, D) and biases (E,)."""
        score = candidates @ self.vector
        score += bias
        position, column = columns(np.arange(len(self.rows)), self.rows.astype(np.int64), rows)
        score[column] = self.scores[position]
        return score


class EmbeddingRanker:
    """Ranks exactly by the score of `retrieval.catalogue.score_terms`, with the long-tail rule at inference.

    A candidate's vector is its row of the matrix `Catalogue.item`. But a tail item is scored by its own vector
    (`item_unaveraged`) if it has an edge of any type from a viewed item or, where revisits count, was viewed. The
    session encoder turns several viewed items into one query vector; without an encoder, the query vector is their
    mean, weighted by recency. Direct edges from several viewed items are also weighted by recency.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        edges: Edges,
        config: RetrievalConfig | None = None,
        session_encoder: SessionEncoder | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.edges = edges
        self.config = config or RetrievalConfig()
        self.session_encoder = session_encoder
        self.recent_items = session_encoder.length if session_encoder else self.config.recent_items

    def vectors(self, queries: Queries) -> Floats:
        """Return the query vectors (n, D) float32, L2-normalised.

        A query of a single item has the item's own query vector, even if other queries have several items. In a mean,
        the weights of the items fall geometrically with their age.
        """
        if len(queries.rows) == len(queries):
            return self.catalogue.query[queries.rows]
        if self.session_encoder is not None:
            single = np.diff(queries.offsets) == 1
            encoded = self.session_encoder.vectors(queries)
            return np.where(single[:, None], self.catalogue.query[queries.last], encoded)
        viewed = self.catalogue.query[queries.rows] * self._recency(queries)[:, None]
        mean = np.add.reduceat(viewed, queries.offsets[:-1], axis=0)
        norm = np.linalg.norm(mean, axis=1, keepdims=True)
        # If the vectors cancel each other out, their mean has no direction, so only the latest view counts.
        latest = self.catalogue.query[queries.last]
        return np.where(norm > 1e-6, mean / np.maximum(norm, 1e-6), latest).astype(np.float32)

    def _recency(self, queries: Queries) -> Floats:
        """Return the weight of each viewed row, 1 for the most recent row of a query: (V,) float32."""
        ends = np.repeat(queries.offsets[1:], np.diff(queries.offsets))
        age = ends - 1 - np.arange(len(queries.rows))
        return np.power(self.config.recency_weight, age).astype(np.float32)

    def prepare(self, views: Rows) -> PreparedQuery:
        """Prepare one query for scoring with the lowest latency; the scores are those that `scores` returns.

        Args:
            views: (V,) int64, the viewed rows, most recent last, not empty.
        """
        # This uses few numpy operations, because on arrays of this size the overhead of each exceeds its computation.
        catalogue, views = self.catalogue, views[-self.recent_items :]
        if len(views) == 1:
            view = int(views[0])
            vector = catalogue.query[view]
            indptr, joined, bonuses = self.edges.joined
            span = slice(indptr[view], indptr[view + 1])
            rows, bonus = joined[span], bonuses[span]
        else:
            queries = Queries(views, np.array([0, len(views)], np.int64))
            vector = self.vectors(queries)[0]
            _, direct, every = self.direct(queries)
            rows, which = np.unique(direct, return_inverse=True)
            bonus = np.bincount(which, every, len(rows)).astype(np.float32)
        similarity = catalogue.item[rows] @ vector
        if self.config.long_tail and len(catalogue.tail_rows):
            slot = catalogue.slot_of[rows]
            tail = slot >= 0
            similarity[tail] = catalogue.item_unaveraged[slot[tail]] @ vector
        return PreparedQuery(vector, rows, similarity, bonus, similarity + catalogue.bias[rows] + bonus)

    def score_terms(self, views: Rows, rows: Rows) -> ScoreTerms:
        """Return the terms of the scores of some rows for one query.

        Args:
            views: (V,) int64, the viewed rows, most recent last, not empty.
            rows: (R,) int64, in any order.
        """
        prepared = self.prepare(views)
        similarity, bonus = self.catalogue.item[rows] @ prepared.vector, np.zeros(len(rows), np.float32)
        position, column = columns(np.arange(len(rows)), rows, prepared.rows.astype(np.int64))
        similarity[position], bonus[position] = prepared.similarity[column], prepared.bonus[column]
        viewed = np.isin(rows, views[-self.recent_items :])
        revisit = np.where(viewed, np.float32(self.edges.revisit_weight), np.float32(0))
        return ScoreTerms(similarity, self.catalogue.bias[rows], bonus, revisit)

    def direct(self, queries: Queries) -> tuple[Rows, Rows, Floats]:
        """Return the row at the end of each edge from a viewed item and, if revisits count, the viewed rows.

        Returns:
            (query (n,) int64, row (n,) int64, bonus (n,) float32, which is added to the score of the row).
        """
        source, edge = self.edges.positions(queries.rows)
        weight = self._recency(queries)
        weight /= np.add.reduceat(weight, queries.offsets[:-1])[queries.query]
        query, rows = queries.query[source], self.edges.dst[edge].astype(np.int64)
        bonus = self.edges.bonus(edge) * weight[source]
        if self.edges.revisit_weight:
            viewing, viewed = np.divmod(np.unique(queries.query * self.edges.n_rows + queries.rows), self.edges.n_rows)
            revisit = np.full(len(viewing), self.edges.revisit_weight, np.float32)
            query, rows = np.concatenate([query, viewing]), np.concatenate([rows, viewed])
            bonus = np.concatenate([bonus, revisit])
        return query, rows, bonus

    def rank(self, queries: Queries, k: int, *, eligible: Mask | None = None, include_current: bool = False) -> TopK:
        """See `retrieval.queries.Ranker`."""
        rows = None if eligible is None else np.flatnonzero(eligible).astype(np.int64)
        return self.rank_rows(queries, k, rows, include_current=include_current)

    def rank_rows(self, queries: Queries, k: int, rows: Rows | None, *, include_current: bool = False) -> TopK:
        """Do the same as `rank`, among some rows (ascending int64; None = the whole catalogue)."""
        candidates = self.catalogue.item if rows is None else self.catalogue.item[rows]
        buffer = topk.buffer(len(queries), len(candidates))
        parts = []
        for which in topk.chunks(len(queries), len(candidates)):
            part = queries.part(which)
            score = self.scores(part, candidates, rows, out=buffer[: len(part)])
            if not include_current:
                line, column = columns(np.arange(len(part)), part.last, rows)
                score[line, column] = -np.inf
            parts.append(topk.top_k(score, k, rows))
        return topk.concatenate(parts)

    def shortlists(self, queries: Queries, query: Rows, rows: Rows, k: int) -> TopK:
        """Rank each query's own shortlist by the same scores; a query may have no shortlist.

        Args:
            queries: the viewed rows of n queries.
            query: (S,) int64, the query of each shortlisted row.
            rows: (S,) int64, the shortlisted rows; no pair of query and row may occur twice.
            k: length of the lists.
        """
        recent = queries.recent(self.recent_items)
        vectors = self.vectors(recent)
        n_rows = self.catalogue.n_rows
        score = np.einsum("sd,sd->s", vectors[query], self.catalogue.item[rows])
        direct_query, direct, bonus = self.direct(recent)
        pairs, which = np.unique(direct_query * n_rows + direct, return_inverse=True)
        bonus_of_pair = np.bincount(which, bonus, len(pairs)).astype(np.float32)
        position, pair = columns(np.arange(len(query)), query * n_rows + rows, pairs)
        if self.config.long_tail:
            tail, similarity = self._tail_similarity(vectors, query[position], rows[position])
            score[position[tail]] = similarity
        score += self.catalogue.bias[rows]
        score[position] += bonus_of_pair[pair]
        order = np.lexsort((rows, -score, query))
        lengths = np.bincount(query, minlength=len(queries))
        order = order[positions_in_lists(offsets_from_lengths(lengths)) < k]
        return TopK(offsets_from_lengths(np.minimum(lengths, k)), rows[order], score[order])

    def scores(self, queries: Queries, candidates: Floats, rows: Rows | None, *, out: Floats | None = None) -> Floats:
        """Return the scores of all candidates for each query: (n, m) float32.

        Args:
            queries: the viewed rows of n queries.
            candidates: (m, D) float32, these rows of `Catalogue.item`.
            rows: (m,) int64, ascending; None = the whole catalogue.
            out: (n, m) float32, an array for the result.
        """
        recent = queries.recent(self.recent_items)
        vectors = self.vectors(recent)
        score = np.matmul(vectors, candidates.T, out=out)
        query, direct, bonus = self.direct(recent)
        if self.config.long_tail:
            tail, similarity = self._tail_similarity(vectors, query, direct)
            position, column = columns(np.arange(len(tail)), direct[tail], rows)
            score[query[tail][position], column] = similarity[position]
        score += self.catalogue.bias if rows is None else self.catalogue.bias[rows]
        strong = np.flatnonzero(bonus)
        position, column = columns(strong, direct[strong], rows)
        np.add.at(score, (query[position], column), bonus[position])
        return score

    def _tail_similarity(self, vectors: Floats, query: Rows, rows: Rows) -> tuple[Rows, Floats]:
        """Return the positions of pairs (query, row) with a tail item, and the similarities to its own vector."""
        tail, slot = self.catalogue.tail_slots(rows)
        return tail, np.einsum("td,td->t", vectors[query[tail]], self.catalogue.item_unaveraged[slot])


def columns(positions: Rows, wanted_rows: Rows, rows: Rows | None) -> tuple[Rows, Rows]:
    """Find rows among the columns of a score matrix.

    Args:
        positions: (n,) int64, a label for each wanted row. The labels of those rows that have a column are returned.
        wanted_rows: (n,) int64, the rows to find.
        rows: (m,) int64, ascending, the row of each column; None = all rows in order.

    Returns:
        (the positions of the rows that have a column, these columns), both int64.
    """
    if rows is None:
        return positions, wanted_rows
    if not len(rows):
        return positions[:0], wanted_rows[:0]
    column = np.minimum(np.searchsorted(rows, wanted_rows), len(rows) - 1)
    match = rows[column] == wanted_rows
    return positions[match], column[match]
