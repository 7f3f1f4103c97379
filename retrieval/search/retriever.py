"""The retriever: finds the ads to show next to a few viewed items, with a reason for each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property, lru_cache
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from retrieval.arrays import Rows
from retrieval.catalogue.ads import Ads, Eligible
from retrieval.catalogue.edges import Edges
from retrieval.catalogue.items import Catalogue
from retrieval.config import RetrievalConfig
from retrieval.ranking.embedding_ranker import EmbeddingRanker
from retrieval.ranking.reranker import Context
from retrieval.search.filters import Filters, ItemFilter, category_key
from retrieval.search.limits import Exclusions, ResultLimits
from retrieval.search.planner import SearchPlanner
from retrieval.search.request import RetrievalRequest, Stages
from retrieval.search.response import EMBEDDING, FALLBACK, Response
from retrieval.search.scope import CACHED_SCOPES, Scope
from retrieval.times import microseconds

if TYPE_CHECKING:
    from retrieval.ann.faiss_index import Ann
    from retrieval.index_folder import Index
    from retrieval.ranking.reranker import Reranker
    from retrieval.ranking.session_encoder import SessionEncoder

# While a list is too short, the number of candidates is multiplied by this.
_WIDENING = 8


class Reranking(NamedTuple):
    """What the pre-ranker read for one request: its context, and the retrieval score of each candidate row."""

    context: Context
    retrieval_scores: dict[int, float]


class Retriever:
    """Answers requests over one version.

    The results are the best rows by the score of `retrieval.ranking.embedding_ranker`, except for those that the index
    misses. They are exact without an index, for few eligible rows, and for times before `as_of`. A pre-ranker, if there
    is one, then reorders the best of them.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        edges: Edges,
        ads: Ads | None,
        ann: Ann | None,
        *,
        as_of: datetime,
        config: RetrievalConfig | None = None,
        session_encoder: SessionEncoder | None = None,
        reranker: Reranker | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.ads = ads
        self.ann = ann
        self.as_of = as_of
        self.config = config or RetrievalConfig()
        self.ranker = EmbeddingRanker(catalogue, edges, self.config, session_encoder)
        self.reranker = reranker
        self._mean_ranker = EmbeddingRanker(catalogue, edges, self.config) if session_encoder else self.ranker
        self._as_of = microseconds(as_of)
        self.item_filter = ItemFilter(catalogue.attributes)
        all_rows = np.arange(catalogue.n_rows, dtype=np.int64)
        self._all_items = Scope(all_rows, None, catalogue.n_rows, shared=True)
        self._cached_scope = lru_cache(maxsize=CACHED_SCOPES)(self._new_scope)
        self._cached_category_scope = lru_cache(maxsize=CACHED_SCOPES)(self._new_category_scope)
        self.planner = SearchPlanner(self.ranker, ann)

    @classmethod
    def of(cls, index: Index, config: RetrievalConfig | None = None) -> Retriever:
        """Return a retriever over an index that was read from its folder."""
        return cls(
            index.catalogue,
            index.edges,
            index.ads,
            index.ann,
            as_of=index.as_of,
            config=config,
            session_encoder=index.session_encoder,
            reranker=index.reranker,
        )

    @property
    def stages(self) -> Stages:
        """The optional stages that this version has."""
        return Stages(self.ranker.session_encoder is not None, self.reranker is not None)

    def ranker_for(self, stages: Stages) -> EmbeddingRanker:
        """Return the ranker of a request that uses these stages."""
        return self.ranker if stages.session else self._mean_ranker

    def replace_ads(self, ads: Ads) -> None:
        """Replace the ads for later requests. The caller must make sure that no request is being answered."""
        self.ads = ads
        self._cached_scope.cache_clear()
        self._cached_category_scope.cache_clear()
        self.planner.clear()

    def retrieve(self, request: RetrievalRequest) -> Response:
        """Return the k best eligible ads for a request, best first, one per item.

        Fewer than k come back only if no more are eligible under the request's own conditions. Each item is shown with
        the winning one of its eligible ads, and caps count only that ad. If none of the request's items is known, the
        most popular eligible ads come back, with score 0 and reason "fallback".

        Raises:
            RequestError: a filter needs a column that this catalogue does not have, or its price range is empty.
        """
        start = perf_counter()
        time = self.time(request)
        scope = self._scope_at(time, request)
        scoped = perf_counter()
        known, unknown = self.catalogue.rows(request.items)
        limits = ResultLimits.of(request, scope, self.ads, Exclusions.of(request, self.catalogue).rows())
        if not known:
            lines = self._most_popular(limits)
            seconds = (scoped - start, perf_counter() - scoped, 0.0)
            return Response(*self._columns(lines, scope), [FALLBACK] * len(lines), unknown, True, "popular", seconds)
        ranker = self.ranker_for(request.stages)
        views = np.array(known[-ranker.recent_items :], np.int64)
        lines, plan, reranking = self._search(request, ranker, views, limits, outdated=time < self._as_of)
        searched = perf_counter()
        reasons = self._reasons(views, [row for row, _ in lines]) if request.reasons else [None] * len(lines)
        columns = self._columns(lines, scope)
        seconds = (scoped - start, searched - scoped, perf_counter() - searched)
        stages = self._stage_scores(lines, reranking) if request.stage_scores else None
        return Response(*columns, reasons, unknown, False, plan, seconds, stages)

    def unknown_category(self, request: RetrievalRequest) -> str | None:
        """Return the category that a request filters by, if no item of the catalogue is in it or below it."""
        category = request.filters.category
        return None if category is None or self.item_filter.knows(category) else category

    def time(self, request: RetrievalRequest) -> int:
        """Return the time at which a request's ads must be active, in µs since 1970, UTC."""
        at = request.at
        return self._as_of if at is None else at if isinstance(at, int) else microseconds(at)

    def scope(self, request: RetrievalRequest) -> Scope:
        """Return the rows that a request may return by its time, country and filters.

        Requests with the same conditions share one cached object until an ad starts, ends or changes, unless they limit
        the price or exclude advertisers or campaigns.
        """
        return self._scope_at(self.time(request), request)

    def _scope_at(self, time: int, request: RetrievalRequest) -> Scope:
        filters = request.filters
        if self.ads is None or request.all_items:
            scope = self._all_items
        elif filters.exclude_advertisers or filters.exclude_campaigns:
            excluded = (filters.exclude_advertisers, filters.exclude_campaigns)
            eligible = self.ads.eligible_without(time, request.country, *excluded)
            scope = Scope(eligible.rows, eligible.ads, self.catalogue.n_rows)
        else:
            scope = self._cached_scope(self.ads.eligible(time, request.country))
        if filters.category is not None and scope.shared:
            scope = self._cached_category_scope(scope, category_key(filters.category))
            filters = filters.model_copy(update={"category": None})
        passing = self.item_filter.mask(filters)
        return scope if passing is None else scope.within(passing)

    def _new_scope(self, eligible: Eligible) -> Scope:
        return Scope(eligible.rows, eligible.ads, self.catalogue.n_rows, shared=True)

    def _new_category_scope(self, scope: Scope, category: str) -> Scope:
        passing = self.item_filter.mask(Filters(category=category))
        assert passing is not None
        return scope.within(passing, shared=True)

    def popular(self, scope: Scope, n: int | None = None) -> Rows:
        """Return the scope's n most popular rows (all if n is None), most popular first.

        The fallback uses this order.
        """
        parts, start = list[Rows](), 0
        size = len(self._by_popularity) if n is None else max(1024, 4 * n)
        while start < len(self._by_popularity) and (n is None or sum(map(len, parts)) < n):
            part = self._by_popularity[start : start + size]
            parts.append(part[scope.mask[part]])
            start, size = start + size, 4 * size
        return np.concatenate(parts)[:n] if parts else scope.rows[:0]

    @cached_property
    def _by_popularity(self) -> Rows:
        """(N,) all rows, the most popular first."""
        return np.argsort(-self.catalogue.popularity, kind="stable")

    def _most_popular(self, limits: ResultLimits) -> list[tuple[int, float]]:
        n = limits.k + len(limits.left_out)
        while True:
            rows = self.popular(limits.scope, n)
            lines, complete = limits.apply(rows, np.zeros(len(rows), np.float32))
            if complete or len(rows) < n:
                return lines
            n *= _WIDENING

    def _search(
        self,
        request: RetrievalRequest,
        ranker: EmbeddingRanker,
        views: Rows,
        limits: ResultLimits,
        *,
        outdated: bool,
    ) -> tuple[list[tuple[int, float]], str, Reranking | None]:
        """Return the results' rows and scores, the search plan, and what the pre-ranker read, if it was used."""
        query = ranker.prepare(views)
        if self.reranker is None or not request.stages.prerank:
            return (*self.planner.search(query, limits, outdated=outdated), None)
        context = Context.of(views, self.config.recency_weight, query=request.query, country=request.country)
        n = max(self.reranker.depth, limits.k)
        while True:
            # Caps and min_score apply to the new order only.
            candidates, plan = self.planner.search(query, limits.without_thresholds(n), outdated=outdated)
            rows = np.array([row for row, _ in candidates], np.int64)
            scores = np.array([score for _, score in candidates], np.float32)
            lines, complete = limits.apply(*self.reranker.ordered(context, rows, scores))
            # If the caps need more candidates, the new ones rank behind the present ones, whose order does not change.
            if complete or len(candidates) < n:
                return lines, plan, Reranking(context, dict(candidates))
            n *= _WIDENING

    def _stage_scores(self, lines: list[tuple[int, float]], reranking: Reranking | None) -> list[dict[str, Any]]:
        """Return the score of each stage, and what each counter adds to the pre-ranker's score."""
        if reranking is None:
            return [{"retrieval": score} for _, score in lines]
        assert self.reranker is not None
        rows = np.array([row for row, _ in lines], np.int64)
        parts = self.reranker.features(reranking.context, rows) * self.reranker.weight[1:]
        names = [counter.name for counter in self.reranker.counters]
        return [
            {
                "retrieval": reranking.retrieval_scores[row],
                "prerank": score,
                "counters": dict(zip(names, counters, strict=True)),
            }
            for (row, score), counters in zip(lines, parts.tolist(), strict=True)
        ]

    def _columns(
        self, lines: list[tuple[int, float]], scope: Scope
    ) -> tuple[list[str], Sequence[str | None], list[float]]:
        """Return the ids of the items, those of their ads, and the scores."""
        rows = np.array([row for row, _ in lines], np.int64)
        ads: Sequence[str | None] = [None] * len(lines)
        if self.ads is not None and scope.ads is not None:
            ads = self.ads.ad_ids[scope.ads_of(rows)].tolist()
        return self.catalogue.item_ids[rows].tolist(), ads, [score for _, score in lines]

    def _reasons(self, views: Rows, rows: list[int]) -> list[str | None]:
        """Return the types of the edges from any viewed item to each row, or "embedding" where there is none."""
        results = np.array(rows, np.int64)
        edges = self.ranker.edges
        types = edges.types_between(views, np.zeros(len(views), np.int64), results, np.zeros(len(results), np.int64))
        return [edges.names(kind) or EMBEDDING for kind in types.tolist()]
