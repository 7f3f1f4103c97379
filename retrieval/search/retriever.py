"""The retriever: finds the ads to show next to a few viewed items, with a reason for each."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from copy import copy
from datetime import datetime
from functools import cached_property
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.arrays import Floats, Rows
from retrieval.byte_cache import ByteCache
from retrieval.catalogue.ads import Ads
from retrieval.catalogue.edges import Edges
from retrieval.catalogue.items import Catalogue
from retrieval.config import RetrievalConfig
from retrieval.errors import SlowRequestError
from retrieval.ranking.embedding_ranker import EmbeddingRanker
from retrieval.ranking.reranker import Context
from retrieval.search.filters import ItemFilter, category_key
from retrieval.search.limits import Exclusions, ResultLimits, ResultList
from retrieval.search.planner import QUICK_ROWS, Lines, SearchPlanner
from retrieval.search.request import RetrievalRequest, Stages
from retrieval.search.response import EMBEDDING, FALLBACK, Response
from retrieval.search.scope import Scope
from retrieval.times import microseconds

if TYPE_CHECKING:
    from retrieval.ann.faiss_index import Ann
    from retrieval.index_folder import Index
    from retrieval.ranking.reranker import Reranker
    from retrieval.ranking.session_encoder import SessionEncoder

# The number of scopes, those used last, that are prepared for ads that replace the present ones or for a later time.
_PREPARED = 16
# At most this many stretches of time, between which ads start or end, are prepared at once.
_STRETCHES_AHEAD = 4
_ALL_ITEMS = ("all items",)
# While a list is too short, the number of candidates is multiplied by this.
_WIDENING = 8


class Reranking:
    """The pre-ranker as the second stage of one request (see `planner.Order`); it keeps the scores of retrieval."""

    def __init__(self, reranker: Reranker, context: Context) -> None:
        self.context, self.depth, self._reranker = context, reranker.depth, reranker
        self.begin()

    def begin(self) -> None:
        """See `planner.Order`."""
        self.rows: Rows = np.zeros(0, np.int64)
        self.retrieval_scores: Floats = np.zeros(0, np.float32)

    def reorder(self, rows: Rows, scores: Floats) -> tuple[Rows, Floats]:
        """See `planner.Order`."""
        start = len(self.rows)
        self.rows = np.concatenate([self.rows, rows])
        self.retrieval_scores = np.concatenate([self.retrieval_scores, scores])
        if not len(self.rows):
            return rows, scores
        rows, scores = self._reranker.ordered(self.context, self.rows, self.retrieval_scores)
        return rows[start:], scores[start:]


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
        self._cache = ByteCache(self.config.scope_cache_bytes)
        # Each table of ads has a number of its own, so that the cached data of two tables is kept apart.
        self._generations = count()
        self._generation = next(self._generations)
        self._prepared: tuple[Ads, int, list[tuple[Hashable, Scope]]] | None = None
        self.item_filter = ItemFilter(catalogue.attributes, self._cache)
        all_rows = np.arange(catalogue.n_rows, dtype=np.int64)
        self._all_items = Scope(all_rows, None, catalogue.n_rows, shared=True)
        self._no_items = Scope(all_rows[:0], None if ads is None else all_rows[:0], catalogue.n_rows)
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

    @property
    def cache_bytes(self) -> int:
        """The bytes of memory that the cache takes, at most `scope_cache_bytes`."""
        return self._cache.nbytes

    def prepare_ads(self, ads: Ads) -> None:
        """Find the eligible ads under the conditions of the latest requests, before `replace_ads` is called.

        So no later request has to wait for this. A thread other than that of the requests may call it.

        Args:
            ads: the ads that will replace the present ones.
        """
        later = copy(self)
        later.ads, later._generation = ads, next(self._generations)
        scopes: list[tuple[Hashable, Scope]] = []
        for key, earlier in self._cache.latest(_PREPARED):
            if key[0] == self._generation:
                scopes.append(later._prepare_like(ads, key, earlier, earlier.used_at))
        self._prepared = ads, later._generation, scopes

    def prepare_time(self, now: int, until: int) -> None:
        """Find the eligible ads after the next starts and ends of ads, under the conditions of the latest requests.

        So no request has to wait for this. Another thread may call it, on a `pinned` retriever.

        Args:
            now: µs since 1970, UTC.
            until: the last time to prepare for, µs since 1970, UTC.
        """
        if self.ads is None:
            return
        current = self.ads.interval(now)
        upcoming = range(current + 1, min(self.ads.interval(until), current + _STRETCHES_AHEAD) + 1)
        if not upcoming:
            return
        for key, earlier in self._cache.latest(_PREPARED):
            if key[:2] == (self._generation, current):
                for interval in upcoming:
                    self._prepare_like(self.ads, key, earlier, int(self.ads.bounds[interval - 1]))

    def _prepare_like(self, ads: Ads, key: tuple[Any, ...], earlier: Scope, time: int) -> tuple[tuple[Any, ...], Scope]:
        """Return a key and a scope with the country and category of an earlier scope, for other ads or another time.

        What was derived from the earlier scope is derived from the new one, too.
        """
        country, category = key[2], key[3] if len(key) > 3 else None
        scope = self._scope_of(time, RetrievalRequest([], 1, country=country), category, ads, quick=False)
        if earlier.has("ad_of"):
            scope.ads_of(scope.rows[:0])
        self.planner.prepare_like(earlier, scope)
        return self._key(time, country, ads, category), scope

    def replace_ads(self, ads: Ads) -> None:
        """Replace the ads for later requests. Other threads must answer with a `pinned` retriever."""
        self.ads, prepared, self._prepared = ads, self._prepared, None
        self._cache.clear()
        if prepared is None or prepared[0] is not ads:
            self._generation = next(self._generations)
            return
        self._generation = prepared[1]
        for key, scope in prepared[2]:
            scope.keep_in(self._cache, key)

    def pinned(self) -> Retriever:
        """Return a retriever that keeps the present ads, so that another thread can answer a request with it."""
        return copy(self)

    def retrieve(self, request: RetrievalRequest, *, quick: bool = False) -> Response:
        """Return the k best eligible ads for a request, best first, one per item.

        Fewer than k come back only if no more are eligible under the request's own conditions. Each item is shown with
        the winning one of its eligible ads, and caps count only that ad. If none of the request's items is known, the
        most popular eligible ads come back, with score 0 and reason "fallback".

        Args:
            request: the request.
            quick: raise an error instead of working for longer than a few milliseconds.

        Raises:
            RequestError: a filter needs a column that this catalogue does not have, or its price range is empty.
            SlowRequestError: the request is not quick.
        """
        start = perf_counter()
        time = self.time(request)
        scope = self._scope_at(time, request, quick=quick)
        scoped = perf_counter()
        known, unknown = self.catalogue.rows(request.items)
        limits = ResultLimits.of(request, scope, self.ads, Exclusions.of(request, self.catalogue).rows())
        if not known:
            lines = self._most_popular(limits, quick=quick)
            seconds = (scoped - start, perf_counter() - scoped, 0.0)
            return Response(*self._columns(lines, scope), [FALLBACK] * len(lines), unknown, True, "popular", seconds)
        ranker = self.ranker_for(request.stages)
        views = np.array(known[-ranker.recent_items :], np.int64)
        reranking = None
        if self.reranker is not None and request.stages.prerank:
            context = Context.of(views, self.config.recency_weight, query=request.query, country=request.country)
            reranking = Reranking(self.reranker, context)
        outdated = time < self._as_of
        lines, plan = self.planner.search(
            ranker.prepare(views), limits, order=reranking, outdated=outdated, quick=quick
        )
        searched = perf_counter()
        reasons = self._reasons(views, [row for row, _ in lines]) if request.reasons else [None] * len(lines)
        columns = self._columns(lines, scope)
        seconds = (scoped - start, searched - scoped, perf_counter() - searched)
        stages = self._stage_scores(lines, reranking) if request.stage_scores else None
        return Response(*columns, reasons, unknown, False, plan, seconds, stages)

    def unknown_category(self, request: RetrievalRequest) -> str | None:
        """Return the category that a request filters by, if no item of the catalogue is in it or below it."""
        category = request.filters.category
        if category is None or self.item_filter.knows(category_key(category)):
            return None
        return category

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

    def _scope_at(self, time: int, request: RetrievalRequest, *, quick: bool = False) -> Scope:
        filters, ads = request.filters, None if request.all_items else self.ads
        category = None if filters.category is None else self.item_filter.category(filters.category)
        if quick and (filters.price_min is not None or filters.price_max is not None):
            _check_quick(self.catalogue.n_rows)
        priced = self.item_filter.priced(filters)
        if category is not None and not self.item_filter.knows(category):
            return self._no_items
        excluding = ads is not None and bool(filters.exclude_advertisers or filters.exclude_campaigns)
        if ads is not None and excluding:
            scope = self._scope_of(time, request, None, ads, quick=quick)
            scope = self._excluding(ads, time, request, scope, quick=quick)
            if category is not None:
                scope = scope.within(self.item_filter.in_category(category))
        else:
            scope = self._scope_of(time, request, category, ads, quick=quick)
        return scope if priced is None else scope.within(priced)

    def _key(self, time: int, country: str | None, ads: Ads | None, category: str | None) -> tuple[Any, ...]:
        """Return what requests must have in common to share a scope."""
        key = _ALL_ITEMS if ads is None else (self._generation, ads.interval(time), ads.known_country(country))
        return key if category is None else (*key, category)

    def _scope_of(
        self, time: int, request: RetrievalRequest, category: str | None, ads: Ads | None, *, quick: bool
    ) -> Scope:
        """Return the shared scope of a time, a country and a category, which comes from `category_key`."""
        if ads is None and category is None:
            return self._all_items
        key = self._key(time, request.country, ads, category)
        scope: Scope | None = self._cache.get(key)
        if scope is None:
            if category is not None:
                scope = self._scope_of(time, request, None, ads, quick=quick)
                if quick:
                    _check_quick(self.catalogue.n_rows)
                scope = scope.within(self.item_filter.in_category(category), shared=True)
            else:
                assert ads is not None
                if quick:
                    _check_quick(len(ads))
                eligible = ads.eligible(time, request.country)
                scope = Scope(eligible.rows, eligible.ads, self.catalogue.n_rows, shared=True)
            scope = scope.keep_in(self._cache, key)
        scope.used_at = time
        return scope

    def _excluding(self, ads: Ads, time: int, request: RetrievalRequest, scope: Scope, *, quick: bool) -> Scope:
        """Return the items of a scope with an eligible ad whose advertiser and campaign are not excluded."""
        if quick:
            _check_quick(len(ads))
        passing = scope.derived("passing", lambda: ads.passing(time, request.country), lambda mask: mask.nbytes)
        excluded = request.filters.exclude_advertisers, request.filters.exclude_campaigns
        eligible = ads.eligible_without(passing, *excluded)
        return Scope(eligible.rows, eligible.ads, self.catalogue.n_rows)

    def popular(self, scope: Scope, n: int | None = None) -> Rows:
        """Return the scope's n most popular rows (all if n is None), most popular first.

        The fallback uses this order.
        """
        if 16 * len(scope.rows) < self.catalogue.n_rows:
            return scope.rows[np.argsort(-self.catalogue.popularity[scope.rows], kind="stable")][:n]
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

    def _most_popular(self, limits: ResultLimits, *, quick: bool) -> Lines:
        n = limits.k + len(limits.left_out)
        while True:
            rows, results = self.popular(limits.scope, n), ResultList(limits)
            results.extend(rows, np.zeros(len(rows), np.float32))
            if results.full or results.below_min_score or len(rows) < n:
                return results.lines
            if quick:
                _check_quick(len(limits.scope.rows))
            n *= _WIDENING

    def _stage_scores(self, lines: Lines, reranking: Reranking | None) -> list[dict[str, Any]]:
        """Return the score of each stage, and what each counter adds to the pre-ranker's score."""
        if reranking is None:
            return [{"retrieval": score} for _, score in lines]
        assert self.reranker is not None
        rows = np.array([row for row, _ in lines], np.int64)
        parts = self.reranker.features(reranking.context, rows) * self.reranker.weight[1:]
        names = [counter.name for counter in self.reranker.counters]
        retrieval_scores = dict(zip(reranking.rows.tolist(), reranking.retrieval_scores.tolist(), strict=True))
        return [
            {"retrieval": retrieval_scores[row], "prerank": score, "counters": dict(zip(names, counters, strict=True))}
            for (row, score), counters in zip(lines, parts.tolist(), strict=True)
        ]

    def _columns(self, lines: Lines, scope: Scope) -> tuple[list[str], Sequence[str | None], list[float]]:
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


def _check_quick(rows: int) -> None:
    if rows > QUICK_ROWS:
        raise SlowRequestError(f"{rows} rows are to be filtered")
