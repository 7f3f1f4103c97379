"""Ranking many queries at once over the catalogue: what evaluation and batches ask of a model or a baseline."""

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
class PreparedQuery:
    """One query, prepared: its vector (D,), and the rows (d,) with an edge from a viewed item, with their scores (d,).

    rows: ascending, distinct. All else scores item · vector + bias.
    """

    vector: Floats
    rows: NDArray[np.int32] | Rows
    scores: Floats

    def over(self, candidates: Floats, bias: Floats, rows: Rows) -> Floats:
        """Scores (E,) float32 of rows (E,), ascending, with their vectors (E, D) and biases (E,)."""
        score = candidates @ self.vector
        score += bias
        kept, column = columns(np.arange(len(self.rows)), self.rows.astype(np.int64), rows)
        score[column] = self.scores[kept]
        return score


class EmbeddingRanker:
    """Ranks exactly by the score of `retrieval.catalogue.score_terms`, with the long-tail rule at inference.

    A candidate's vector is its line of `item`; but a tail item with an edge of any type from a viewed item counts with
    its own vector (`item_unaveraged`). Of several viewed items' direct edges each counts as its item does. What
    several items ask for together is said by the session encoder, or without one by their weighted mean. That an item
    was viewed before adds a weight of its own.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        edges: Edges,
        config: RetrievalConfig | None = None,
        sessions: SessionEncoder | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.edges = edges
        self.config = config or RetrievalConfig()
        self.session_encoder = sessions
        self.recent_items = sessions.length if sessions else self.config.recent_items

    def vectors(self, queries: Queries) -> Floats:
        """Query vectors (n, D) float32, L2-normalised; of one item its own, whatever else is asked with it.

        A mean weighs the recent items' vectors geometrically by recency.
        """
        if len(queries.rows) == len(queries):
            return self.catalogue.query[queries.rows]
        if self.session_encoder is not None:
            alone = np.diff(queries.offsets) == 1
            return np.where(alone[:, None], self.catalogue.query[queries.last], self.session_encoder.vectors(queries))
        seen = self.catalogue.query[queries.rows] * self._weights(queries)[:, None]
        mean = np.add.reduceat(seen, queries.offsets[:-1], axis=0)
        norm = np.linalg.norm(mean, axis=1, keepdims=True)
        # Views that cancel out say nothing together: the latest then speaks alone.
        latest = self.catalogue.query[queries.last]
        return np.where(norm > 1e-6, mean / np.maximum(norm, 1e-6), latest).astype(np.float32)

    def _weights(self, queries: Queries) -> Floats:
        """(V,) float32: what each viewed row counts, 1 for the most recent."""
        ends = np.repeat(queries.offsets[1:], np.diff(queries.offsets))
        age = ends - 1 - np.arange(len(queries.rows))
        return np.power(self.config.recency_weight, age).astype(np.float32)

    def ask(self, views: Rows) -> PreparedQuery:
        """One query: `scores` of the same, for who asks once and wants it soon. `views` (V,) int64, not empty."""
        # Few operations: on arrays of this size each costs more than what it computes.
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
        scores = catalogue.item[rows] @ vector
        if self.config.long_tail and len(catalogue.tail_rows):
            slot = catalogue.slot_of[rows]
            tail = slot >= 0
            scores[tail] = catalogue.item_unaveraged[slot[tail]] @ vector
        scores += catalogue.bias[rows]
        scores += bonus
        return PreparedQuery(vector, rows, scores)

    def bonuses(self, views: list[int]) -> dict[int, float]:
        """What direct edges from viewed rows, none or some, add to the score of each row that they lead to."""
        if not views:
            return {}
        recent = np.array(views[-self.recent_items :], np.int64)
        _, direct, bonus = self.direct(Queries(recent, np.array([0, len(recent)], np.int64)))
        rows, which = np.unique(direct, return_inverse=True)
        return dict(zip(rows.tolist(), np.bincount(which, bonus, len(rows)).tolist(), strict=True))

    def direct(self, queries: Queries) -> tuple[Rows, Rows, Floats]:
        """(query (n,) int64, row (n,) int64, bonus (n,) float32) of every edge from a viewed item, and of these."""
        source, edge = self.edges.positions(queries.rows)
        weight = self._weights(queries)
        weight /= np.add.reduceat(weight, queries.offsets[:-1])[queries.query]
        query, rows = queries.query[source], self.edges.dst[edge].astype(np.int64)
        bonus = self.edges.bonus(edge) * weight[source]
        if self.edges.revisit_weight:
            seen, viewed = np.divmod(np.unique(queries.query * self.edges.n_rows + queries.rows), self.edges.n_rows)
            again = np.full(len(seen), self.edges.revisit_weight, np.float32)
            query, rows = np.concatenate([query, seen]), np.concatenate([rows, viewed])
            bonus = np.concatenate([bonus, again])
        return query, rows, bonus

    def rank(self, queries: Queries, k: int, *, eligible: Mask | None = None, include_current: bool = False) -> TopK:
        """See `Ranker`."""
        rows = None if eligible is None else np.flatnonzero(eligible).astype(np.int64)
        return self.rank_rows(queries, k, rows, include_current=include_current)

    def rank_rows(self, queries: Queries, k: int, rows: Rows | None, *, include_current: bool = False) -> TopK:
        """The same among `rows` (ascending int64), or all."""
        candidates = self.catalogue.item if rows is None else self.catalogue.item[rows]
        room = topk.buffer(len(queries), len(candidates))
        parts = []
        for which in topk.chunks(len(queries), len(candidates)):
            part = queries.part(which)
            score = self.scores(part, candidates, rows, out=room[: len(part)])
            if not include_current:
                line, column = columns(np.arange(len(part)), part.last, rows)
                score[line, column] = -np.inf
            parts.append(topk.top_k(score, k, rows))
        return topk.concatenate(parts)

    def shortlists(self, queries: Queries, query: Rows, rows: Rows, k: int) -> TopK:
        """The k best of each query among its own shortlist, by the same scores; queries need not have any.

        Shapes: query, rows (S,) int64: which query each shortlisted row belongs to; no pair twice.
        """
        recent = queries.recent(self.recent_items)
        vectors = self.vectors(recent)
        n_rows = self.catalogue.n_rows
        score = np.einsum("sd,sd->s", vectors[query], self.catalogue.item[rows])
        of, direct, bonus = self.direct(recent)
        pairs, which = np.unique(of * n_rows + direct, return_inverse=True)
        added = np.bincount(which, bonus, len(pairs)).astype(np.float32)
        here, at = columns(np.arange(len(query)), query * n_rows + rows, pairs)
        if self.config.long_tail:
            tail, slot = self.catalogue.tail_slots(rows[here])
            own = np.einsum("td,td->t", vectors[query[here[tail]]], self.catalogue.item_unaveraged[slot])
            score[here[tail]] = own
        score += self.catalogue.bias[rows]
        score[here] += added[at]
        order = np.lexsort((rows, -score, query))
        counts = np.bincount(query, minlength=len(queries))
        order = order[positions_in_lists(counts) < k]
        return TopK(offsets_from_lengths(np.minimum(counts, k)), rows[order], score[order])

    def scores(self, queries: Queries, candidates: Floats, rows: Rows | None, *, out: Floats | None = None) -> Floats:
        """Scores (n, len(candidates)) float32 of candidates = item[rows] under the long-tail rule."""
        recent = queries.recent(self.recent_items)
        vectors = self.vectors(recent)
        score = np.matmul(vectors, candidates.T, out=out)
        query, direct, bonus = self.direct(recent)
        if self.config.long_tail:
            tail, slot = self.catalogue.tail_slots(direct)
            own = np.einsum("td,td->t", vectors[query[tail]], self.catalogue.item_unaveraged[slot])
            kept, column = columns(np.arange(len(tail)), direct[tail], rows)
            score[query[tail][kept], column] = own[kept]
        score += self.catalogue.bias if rows is None else self.catalogue.bias[rows]
        strong = np.flatnonzero(bonus)
        kept, column = columns(strong, direct[strong], rows)
        np.add.at(score, (query[kept], column), bonus[kept])
        return score


def columns(positions: Rows, wanted: Rows, rows: Rows | None) -> tuple[Rows, Rows]:
    """Where `wanted` stands in the ascending `rows`: (the positions that are there, their columns), both int64."""
    if rows is None:
        return positions, wanted
    if not len(rows):
        return positions[:0], wanted[:0]
    column = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
    there = rows[column] == wanted
    return positions[there], column[there]
