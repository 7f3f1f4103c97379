"""The best rows of a scope for one query vector: by the index where that is cheaper, else exactly."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from retrieval import topk
from retrieval.arrays import Floats, Mask, Rows
from retrieval.errors import RetrievalError
from retrieval.queries import Queries
from retrieval.ranking.embedding_ranker import EmbeddingRanker, PreparedQuery
from retrieval.search.limits import Picker
from retrieval.search.scope import SCOPES, Scope, ScopeVectors
from retrieval.topk import TopK

if TYPE_CHECKING:
    from retrieval.ann.faiss_index import Ann, Selection

# A coarse code may rank the best row behind a few others: so many at least are looked at exactly.
LEAST_SHORTLIST = 32


class Search:
    """Plans and runs searches over a catalogue and, if there is one, its index."""

    def __init__(self, ranker: EmbeddingRanker, ann: Ann | None) -> None:
        self.ranker, self.catalogue, self.config, self.ann = ranker, ranker.catalogue, ranker.config, ann
        self._selection_of = lru_cache(maxsize=SCOPES)(self._new_selection)
        self._exactly_of = lru_cache(maxsize=SCOPES)(self._new_exactly)
        self._vectors = ScopeVectors(self.catalogue.item, self.catalogue.bias, self.config.scope_cache_bytes)

    def clear(self) -> None:
        """Forget what is kept of scopes."""
        self._selection_of.cache_clear()
        self._exactly_of.cache_clear()
        self._vectors.clear()

    def best(
        self, asked: PreparedQuery, picker: Picker, *, before: bool = False
    ) -> tuple[list[tuple[int, float]], str]:
        """What the picker takes of the best rows of its scope, by the index while it can fill the list, else exactly.

        Args:
            before: the scope is of a time that the index does not cover.

        Returns:
            Rows and scores, and the plan: "index", "index, widened" or "exact".
        """
        scope, wanted = picker.scope, picker.k + len(picker.left_out)
        few = len(scope.rows) <= max(self.config.exact_below, wanted)
        if self.ann is not None and not few and not before and not self._better_exactly(scope):
            for breadth, plan in ((wanted, "index"), (8 * wanted, "index, widened")):
                picked, complete = picker.pick(*self._shortlist(asked, breadth, scope))
                if complete:
                    return picked, plan
        scores = asked.over(*self._vectors.of(scope), scope.rows)
        while True:
            found = topk.top_k(scores[None], wanted, scope.rows)
            picked, complete = picker.pick(found.rows, found.scores)
            if complete or wanted >= len(scope.rows):
                return picked, "exact"
            wanted *= 8

    def outside(self, scope: Scope) -> Rows:
        """The rows of a scope that the index does not hold, ascending int64."""
        assert self.ann is not None
        if len(self.ann.rows) == self.catalogue.n_rows:
            return scope.rows[:0]
        return scope.rows[~self._held[scope.rows]]

    @cached_property
    def _held(self) -> Mask:
        """(N,) bool: what the index holds."""
        assert self.ann is not None
        held = np.zeros(self.catalogue.n_rows, bool)
        held[self.ann.rows] = True
        return held

    def _new_selection(self, scope: Scope) -> tuple[Selection | None, Rows]:
        """(what the index may return, None for all of it; the eligible rows that it does not hold)."""
        assert self.ann is not None
        selection = self.ann.selection(scope.mask)
        return None if selection.n_rows == len(self.ann.rows) else selection, self.outside(scope)

    def _better_exactly(self, scope: Scope) -> bool:
        return self._exactly_of(scope) if scope.lasting else self._new_exactly(scope)

    def _new_exactly(self, scope: Scope) -> bool:
        assert self.ann is not None
        outside = len(self.outside(scope))
        return self.config.exact_below > 0 and self.ann.exact_is_cheaper(
            len(scope.rows) - outside, gathered=self._vectors.keeps(scope), outside=outside
        )

    def _shortlist(self, asked: PreparedQuery, n: int, scope: Scope) -> tuple[Rows, Floats]:
        """About the n best of the scope by the index, ranked exactly, with the direct tail by its own vectors."""
        assert self.ann is not None
        selection, outside = self._selection_of(scope) if scope.lasting else self._new_selection(scope)
        # Each direct row may stand in the shortlist with a score that it does not keep.
        breadth = max(n * self.ann.shortlist, LEAST_SHORTLIST) + len(asked.rows)
        rows = self.ann.search_one(asked.vector, breadth, selection)
        rows = self.ann.narrowed(rows, asked.vector, self.catalogue.item, self.catalogue.bias, 2 * n + len(asked.rows))
        if len(outside):
            rows = np.concatenate([rows, outside])
        direct = scope.mask[asked.rows]
        if len(asked.rows):
            # Direct rows count once, and with their own scores.
            place = np.searchsorted(asked.rows, rows)
            place[place == len(asked.rows)] = 0
            rows = rows[asked.rows[place] != rows]
        score = self.catalogue.item[rows] @ asked.vector
        score += self.catalogue.bias[rows]
        rows, score = np.concatenate([rows, asked.rows[direct]]), np.concatenate([score, asked.scores[direct]])
        best = np.lexsort((rows, -score))[:n]
        return rows[best], score[best]

    def shortlisted(self, queries: Queries, k: int, scope: Scope, *, include_current: bool = False) -> TopK:
        """The k best of each query by the index; a list is shorter where the index finds no more.

        Raises:
            RetrievalError: there is no index.
        """
        if self.ann is None:
            raise RetrievalError("there is no index to search; rank exactly")
        selection, outside = self._selection_of(scope) if scope.lasting else self._new_selection(scope)
        recent = queries.recent(self.ranker.recent_items)
        query, direct, _ = self.ranker.direct(recent)
        allowed = scope.mask[direct]
        wanted = k if include_current else k + 1
        most_direct = int(np.bincount(query).max()) if len(query) else 0
        breadth = max(wanted * self.ann.shortlist, LEAST_SHORTLIST) + most_direct
        found = self.ann.search(self.ranker.vectors(recent), breadth, selection)
        n_rows = self.catalogue.n_rows
        pairs = np.unique(
            np.concatenate(
                [
                    np.repeat(np.arange(len(found)), [len(rows) for rows in found]) * n_rows + np.concatenate(found),
                    query[allowed] * n_rows + direct[allowed],
                    np.repeat(np.arange(len(queries)), len(outside)) * n_rows + np.tile(outside, len(queries)),
                ]
            )
        )
        of, rows = np.divmod(pairs, n_rows)
        if not include_current:
            kept = rows != queries.last[of]
            of, rows = of[kept], rows[kept]
        return self.ranker.shortlists(queries, of, rows, k)
