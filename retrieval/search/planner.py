"""Finds the best rows of a scope for a query: with the index where that is cheaper, else by an exact scan."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from retrieval import topk
from retrieval.arrays import Floats, Mask, Rows
from retrieval.errors import RetrievalError
from retrieval.queries import Queries
from retrieval.ranking.embedding_ranker import EmbeddingRanker, PreparedQuery
from retrieval.search.limits import ResultLimits
from retrieval.search.scope import CACHED_SCOPES, Scope, ScopeVectors
from retrieval.topk import TopK

if TYPE_CHECKING:
    from retrieval.ann.faiss_index import Ann, Selection

# An index may compress its vectors and so find the best row behind a few others: at least this many are ranked exactly.
_MIN_SHORTLIST = 32
# A search that cannot fill the list is repeated for this many times as many rows.
_WIDENING = 8


class SearchPlanner:
    """Plans and runs searches over a catalogue and its index, if there is one."""

    def __init__(self, ranker: EmbeddingRanker, ann: Ann | None) -> None:
        self.ranker, self.catalogue, self.config, self.ann = ranker, ranker.catalogue, ranker.config, ann
        self._cached_selection = lru_cache(maxsize=CACHED_SCOPES)(self._new_selection)
        self._cached_comparison = lru_cache(maxsize=CACHED_SCOPES)(self._compare_costs)
        self._vectors = ScopeVectors(self.catalogue.item, self.catalogue.bias, self.config.scope_cache_bytes)

    def clear(self) -> None:
        """Forget everything that was derived from scopes."""
        self._cached_selection.cache_clear()
        self._cached_comparison.cache_clear()
        self._vectors.clear()

    def search(
        self, query: PreparedQuery, limits: ResultLimits, *, outdated: bool = False
    ) -> tuple[list[tuple[int, float]], str]:
        """Return the best rows within the limits.

        The index is searched if the scope is large, the index is not outdated for the request, and an exact scan would
        cost more. If the index is not searched, or cannot fill the list, the scope is scanned exactly.

        Args:
            query: the prepared query.
            limits: the scope, the length of the list and what is left out of it.
            outdated: whether the request's time is before the index's as-of time; the index may then lack eligible
                rows.

        Returns:
            The rows with their scores, and the plan: "index", "index, widened" or "exact".
        """
        scope, n = limits.scope, limits.k + len(limits.left_out)
        small = len(scope.rows) <= max(self.config.exact_below, n)
        if self.ann is not None and not small and not outdated and not self._exact_is_cheaper(scope):
            for breadth, plan in ((n, "index"), (_WIDENING * n, "index, widened")):
                results, complete = limits.apply(*self._shortlist(query, breadth, scope))
                if complete:
                    return results, plan
        scores = query.over(*self._vectors.of(scope), scope.rows)
        while True:
            best = topk.top_k(scores[None], n, scope.rows)
            results, complete = limits.apply(best.rows, best.scores)
            if complete or n >= len(scope.rows):
                return results, "exact"
            n *= _WIDENING

    def search_many(self, queries: Queries, k: int, scope: Scope, *, include_current: bool = False) -> TopK:
        """Return the k best of the rows that the index finds for each query; a list is shorter where there are fewer.

        Rows of the scope with a direct edge from a viewed item, and those that the index does not hold, are ranked too.

        Args:
            queries: the viewed rows of n queries.
            k: length of the lists.
            scope: the rows that may be returned.
            include_current: whether a query's last item may be returned.

        Raises:
            RetrievalError: there is no index.
        """
        if self.ann is None:
            raise RetrievalError("there is no index to search; rank exactly")
        selection, not_indexed = self._selection(scope)
        recent = queries.recent(self.ranker.recent_items)
        query, direct, _ = self.ranker.direct(recent)
        eligible = scope.mask[direct]
        most_direct = int(np.bincount(query).max()) if len(query) else 0
        n = k if include_current else k + 1
        breadth = max(n * self.ann.shortlist, _MIN_SHORTLIST) + most_direct
        hits = self.ann.search(self.ranker.vectors(recent), breadth, selection)
        n_rows = self.catalogue.n_rows
        # Each pair (query, row) is kept once, encoded as one number.
        pairs = np.unique(
            np.concatenate(
                [
                    np.repeat(np.arange(len(hits)), [len(rows) for rows in hits]) * n_rows + np.concatenate(hits),
                    query[eligible] * n_rows + direct[eligible],
                    np.repeat(np.arange(len(queries)), len(not_indexed)) * n_rows + np.tile(not_indexed, len(queries)),
                ]
            )
        )
        query_of, rows = np.divmod(pairs, n_rows)
        if not include_current:
            other = rows != queries.last[query_of]
            query_of, rows = query_of[other], rows[other]
        return self.ranker.shortlists(queries, query_of, rows, k)

    def _shortlist(self, query: PreparedQuery, n: int, scope: Scope) -> tuple[Rows, Floats]:
        """Return up to n rows of the scope: the index finds approximately the best, and exact scores rank them."""
        assert self.ann is not None
        selection, not_indexed = self._selection(scope)
        # The rows in `query.rows` get their own scores below. The index may return them, too, so the shortlist has one
        # more place for each.
        breadth = max(n * self.ann.shortlist, _MIN_SHORTLIST) + len(query.rows)
        rows = self.ann.search_one(query.vector, breadth, selection)
        rows = self.ann.narrow(rows, query.vector, self.catalogue.item, self.catalogue.bias, 2 * n + len(query.rows))
        if len(not_indexed):
            rows = np.concatenate([rows, not_indexed])
        direct = scope.mask[query.rows]
        if len(query.rows):
            # Direct rows are listed once, with their own scores.
            position = np.searchsorted(query.rows, rows)
            position[position == len(query.rows)] = 0
            rows = rows[query.rows[position] != rows]
        score = self.catalogue.item[rows] @ query.vector
        score += self.catalogue.bias[rows]
        rows, score = np.concatenate([rows, query.rows[direct]]), np.concatenate([score, query.scores[direct]])
        best = np.lexsort((rows, -score))[:n]
        return rows[best], score[best]

    def _selection(self, scope: Scope) -> tuple[Selection | None, Rows]:
        """Return what the index may return (None = all of it), and the rows of the scope that it does not hold."""
        return self._cached_selection(scope) if scope.shared else self._new_selection(scope)

    def _new_selection(self, scope: Scope) -> tuple[Selection | None, Rows]:
        assert self.ann is not None
        selection = self.ann.selection(scope.mask)
        return None if selection.n_rows == len(self.ann.rows) else selection, self._not_indexed(scope)

    def _not_indexed(self, scope: Scope) -> Rows:
        """Return the rows of a scope that the index does not hold, ascending int64."""
        assert self.ann is not None
        if len(self.ann.rows) == self.catalogue.n_rows:
            return scope.rows[:0]
        return scope.rows[~self._indexed[scope.rows]]

    @cached_property
    def _indexed(self) -> Mask:
        """(N,) bool: the rows that the index holds."""
        assert self.ann is not None
        indexed = np.zeros(self.catalogue.n_rows, bool)
        indexed[self.ann.rows] = True
        return indexed

    def _exact_is_cheaper(self, scope: Scope) -> bool:
        return self._cached_comparison(scope) if scope.shared else self._compare_costs(scope)

    def _compare_costs(self, scope: Scope) -> bool:
        assert self.ann is not None
        outside = len(self._not_indexed(scope))
        return self.config.exact_below > 0 and self.ann.exact_is_cheaper(
            len(scope.rows) - outside, gathered=self._vectors.keeps(scope), outside=outside
        )
