"""Finds the best rows of a scope for a query: with the index where that is cheaper, else by an exact scan."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from retrieval import topk
from retrieval.arrays import Floats, Mask, Rows
from retrieval.errors import RetrievalError, SlowRequestError
from retrieval.queries import Queries
from retrieval.ranking.embedding_ranker import EmbeddingRanker, PreparedQuery
from retrieval.search.limits import ResultLimits, ResultList
from retrieval.search.scope import Scope
from retrieval.topk import TopK

if TYPE_CHECKING:
    from retrieval.ann.faiss_index import Ann, Selection

# A coarse code may rank the best row behind a few others, so at least this many rows are ranked exactly.
_MIN_SHORTLIST = 32
# A search that cannot fill the list is run again for the number of rows multiplied by this.
_WIDENING = 8
# Vectors that do not lie side by side are fetched and scored in parts of this many rows.
_FETCHED_ROWS = 16_384
# A quick search reads at most this many floats that lie side by side, and fetches at most this many others. If its
# first rows do not fill the list, it ranks further ones only in scopes of at most `_QUICK_SORTED` rows. A search
# at one of these three limits takes about 2 ms.
_QUICK_SCANNED, _QUICK_FETCHED = 8_000_000, 1_000_000
_QUICK_SORTED = 10_000
# A quick search asks for at most this many rows, because keeping a long list costs more than the search of the index.
_QUICK_RANKED = 400
QUICK_ROWS = 100_000
"""A quick request filters at most this many items or ads: about 2 ms."""

Lines = list[tuple[int, float]]


class Order(Protocol):
    """A second stage that reorders the best rows of a ranked list; those behind them keep their order."""

    depth: int

    def begin(self) -> None:
        """Begin another list."""

    def reorder(self, rows: Rows, scores: Floats) -> tuple[Rows, Floats]:
        """Return the next batch of the list in its new order, with its new scores; the first holds `depth` rows."""
        ...


class SearchPlanner:
    """Plans and runs searches over a catalogue and its index, if there is one."""

    def __init__(self, ranker: EmbeddingRanker, ann: Ann | None) -> None:
        self.ranker, self.catalogue, self.config, self.ann = ranker, ranker.catalogue, ranker.config, ann

    def search(
        self,
        query: PreparedQuery,
        limits: ResultLimits,
        *,
        order: Order | None = None,
        outdated: bool = False,
        quick: bool = False,
    ) -> tuple[Lines, str]:
        """Return the best rows within the limits.

        The index is searched if the scope is large, the index is not outdated for the request, and an exact scan would
        cost more. If the index is not searched, or cannot fill the list, the scope is scanned exactly. So a list that
        `min_score` makes shorter than k holds all rows that reach the score.

        Args:
            query: the prepared query.
            limits: the scope, the length of the list and what is left out of it.
            order: a second stage; caps and `min_score` apply to its order and scores.
            outdated: whether the request's time is before the index's as-of time; the index may then lack eligible
                rows.
            quick: raise an error instead of searching for longer than a few milliseconds.

        Returns:
            The rows with their scores, and the plan: "index", "index, widened" or "exact".

        Raises:
            SlowRequestError: the search is not quick.
        """
        scope = limits.scope
        least = limits.k if order is None else max(limits.k, order.depth)
        n = least + len(limits.left_out)
        if quick and limits.k + len(limits.left_out) > _QUICK_RANKED:
            raise SlowRequestError(f"{n} rows are to be ranked")
        small = len(scope.rows) <= max(self.config.exact_below, n)
        if self.ann is not None and not small and not outdated:
            if quick and not scope.has("exact_is_cheaper"):
                raise SlowRequestError("the index is not prepared for these conditions")
            if not self._exact_is_cheaper(scope):
                for breadth, plan in ((n, "index"), (_WIDENING * n, "index, widened")):
                    if quick and breadth > max(n, _QUICK_RANKED):
                        raise SlowRequestError(f"{breadth} rows are to be found in the index")
                    lines = self._filled(limits, order, least, *self._shortlist(query, breadth, scope))
                    if len(lines) == limits.k:
                        return lines, plan
        return self._exactly(query, limits, order, n, quick=quick), "exact"

    def _filled(self, limits: ResultLimits, order: Order | None, least: int, rows: Rows, scores: Floats) -> Lines:
        """Return the results among a shortlist; none if the second stage needs a longer one."""
        if order is None and limits.bounds_rank:
            return _first(limits, rows, scores)
        results = ResultList(limits)
        if order is not None:
            rows, scores = _without(limits.left_out, rows, scores)
            if len(rows) < least:
                return []
            order.begin()
            rows, scores = order.reorder(rows, scores)
        results.extend(rows, scores)
        return results.lines

    def _exactly(
        self, query: PreparedQuery, limits: ResultLimits, order: Order | None, n: int, *, quick: bool
    ) -> Lines:
        """Return the results of an exact scan; the n best rows come first, then more, until the list is full."""
        scope = limits.scope
        scores = self.scores(query, scope, quick=quick)
        if order is None and limits.bounds_rank:
            best = topk.top_k(scores[None], n, scope.rows)
            return _first(limits, best.rows, best.scores)
        results = ResultList(limits)
        if order is not None:
            order.begin()
        while True:
            best = topk.top_k(scores[None], n, scope.rows)
            rows, ranked = best.rows, best.scores
            if order is not None:
                rows, ranked = order.reorder(*_without(limits.left_out, rows, ranked))
            results.extend(rows, ranked)
            if results.full or results.below_min_score or len(best.rows) < n:
                return results.lines
            if quick and len(scope.rows) > _QUICK_SORTED:
                raise SlowRequestError("the limits ask for many rows")
            # Rows that have been ranked, and rows for which a cap has no room, are not ranked again.
            scores[np.searchsorted(scope.rows, best.rows)] = -np.inf
            scores[results.closed(scope.rows)] = -np.inf
            n *= _WIDENING

    def scores(self, query: PreparedQuery, scope: Scope, *, quick: bool = False) -> Floats:
        """Return the scores of all rows of a scope: (E,) float32, a new array.

        Args:
            query: the prepared query.
            scope: the rows.
            quick: raise an error instead of scoring for longer than a few milliseconds.

        Raises:
            SlowRequestError: the scan is not quick.
        """
        item, bias, rows = self.catalogue.item, self.catalogue.bias, scope.rows
        if len(rows) == self.catalogue.n_rows:
            if quick:
                self._check_quick(len(rows), _QUICK_SCANNED)
            return query.over(item, bias, rows)
        if self._keeps_vectors(scope):
            if quick:
                self._check_quick(len(rows), _QUICK_SCANNED if scope.has("vectors") else _QUICK_FETCHED)
            return query.over(*self._vectors(scope), rows)
        if quick:
            self._check_quick(len(rows), _QUICK_FETCHED)
        parts = [rows[start : start + _FETCHED_ROWS] for start in range(0, len(rows), _FETCHED_ROWS)]
        return np.concatenate([query.over(item[part], bias[part], part) for part in parts] or [bias[:0]])

    def prepare_like(self, earlier: Scope, scope: Scope) -> None:
        """Compute for a new scope whatever an earlier one has computed, so that no request waits for it.

        Args:
            earlier: the scope of the same conditions before the ads changed.
            scope: the new scope.
        """
        if earlier.has("vectors") and self._keeps_vectors(scope):
            self._vectors(scope)
        if earlier.has("exact_is_cheaper"):
            self._exact_is_cheaper(scope)
        if earlier.has("selection"):
            self._selection(scope)

    def _vectors(self, scope: Scope) -> tuple[Floats, Floats]:
        """Return the vectors (E, D) and biases (E,) of a scope, side by side."""
        item, bias, rows = self.catalogue.item, self.catalogue.bias, scope.rows
        return scope.derived("vectors", lambda: (item[rows], bias[rows]), lambda two: two[0].nbytes + two[1].nbytes)

    def _check_quick(self, rows: int, floats: int) -> None:
        if rows * self.catalogue.dim > floats:
            raise SlowRequestError(f"{rows} rows are to be scored")

    def _keeps_vectors(self, scope: Scope) -> bool:
        """Whether the vectors of a scope are worth keeping side by side, and take at most half of the cache."""
        per_row = 4 * (self.catalogue.dim + 1)
        return scope.shared and 2 * len(scope.rows) * per_row <= self.config.scope_cache_bytes

    def search_many(self, queries: Queries, k: int, scope: Scope, *, include_current: bool = False) -> TopK:
        """Return the k best of the rows that the index finds for each query; a list is shorter where there are fewer.

        Rows of the scope with an edge from a viewed item, and rows that the index does not hold, are ranked too.

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
            # The rows in `query.rows` are listed once, with their own scores.
            position = np.searchsorted(query.rows, rows)
            position[position == len(query.rows)] = 0
            rows = rows[query.rows[position] != rows]
        score = self.catalogue.item[rows] @ query.vector
        score += self.catalogue.bias[rows]
        rows, score = np.concatenate([rows, query.rows[direct]]), np.concatenate([score, query.scores[direct]])
        best = np.lexsort((rows, -score))[:n]
        return rows[best], score[best]

    def _selection(self, scope: Scope) -> tuple[Selection | None, Rows]:
        """Return which rows the index may return (None = all), and the rows of the scope that it does not hold."""
        return scope.derived(
            "selection",
            lambda: self._new_selection(scope),
            lambda made: (0 if made[0] is None else made[0].nbytes) + made[1].nbytes,
        )

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
        return scope.derived("exact_is_cheaper", lambda: self._compare_costs(scope), lambda _: 0)

    def _compare_costs(self, scope: Scope) -> bool:
        assert self.ann is not None
        outside = len(self._not_indexed(scope))
        whole = len(scope.rows) == self.catalogue.n_rows
        return self.config.exact_below > 0 and self.ann.exact_is_cheaper(
            len(scope.rows) - outside, gathered=whole or self._keeps_vectors(scope), outside=outside
        )


def _without(left_out: set[int], rows: Rows, scores: Floats) -> tuple[Rows, Floats]:
    if not left_out:
        return rows, scores
    passing = ~np.isin(rows, np.fromiter(left_out, np.int64, len(left_out)))
    return rows[passing], scores[passing]


def _first(limits: ResultLimits, rows: Rows, scores: Floats) -> Lines:
    """Return the first k of ranked rows that are not left out."""
    # Lists are faster here than numpy, as most requests ask for few results.
    lines = zip(rows.tolist(), scores.tolist(), strict=True)
    left_out = limits.left_out
    return [line for line in lines if line[0] not in left_out][: limits.k]
