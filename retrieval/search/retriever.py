"""The retriever: from a few viewed items to the ads to show next, with a reason for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
from retrieval.ranking.embedding_ranker import EmbeddingRanker, PreparedQuery
from retrieval.ranking.reranker import Context
from retrieval.search.filters import NO_FILTERS, Filters, ItemFilter
from retrieval.search.limits import Picker
from retrieval.search.planner import Search
from retrieval.search.request import RetrievalRequest, Stages
from retrieval.search.scope import SCOPES, Scope
from retrieval.times import microseconds

if TYPE_CHECKING:
    from retrieval.ann.faiss_index import Ann
    from retrieval.index_folder import Index
    from retrieval.ranking.reranker import Reranker
    from retrieval.ranking.session_encoder import SessionEncoder

FALLBACK = "fallback"
EMBEDDING = "embedding"


class Result(NamedTuple):
    """One item to show; scores compare only within one response."""

    item_id: str
    ad_id: str | None
    score: float
    reason: str | None


@dataclass(frozen=True)
class Response:
    """Results, best first; `fallback` says that nothing in the request was known, so that they are merely popular.

    items, ads, scores, reasons: a result at each place; an ad is None without an ads table, a reason if not asked for.
    plan: how they were found: "index", "index, widened" (it had to be asked for more), "exact" or "popular"; seconds:
    what was spent on eligibility, search and reasons. stages: if asked for, of each result the score that each stage
    gave it, and what made the last.
    """

    items: list[str]
    ads: Sequence[str | None]
    scores: list[float]
    reasons: Sequence[str | None]
    unknown_items: list[str] = field(default_factory=list)
    fallback: bool = False
    plan: str = "exact"
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)
    stages: list[dict[str, Any]] | None = None

    @cached_property
    def results(self) -> list[Result]:
        """The same, result by result."""
        return list(map(Result, self.items, self.ads, self.scores, self.reasons))


class Given(NamedTuple):
    """What the pre-ranker was given: the request's context, and the scores of rows by retrieval."""

    context: Context
    scores: dict[int, float]


class Retriever:
    """Answers requests over one version.

    Retrieval equals brute force by the score of `retrieval.ranking.embedding_ranker`, up to the recall of the
    index; it is exact without an index, for few eligible rows and for times before `as_of`. A pre-ranker then puts the
    best in order.
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
        sessions: SessionEncoder | None = None,
        prerank: Reranker | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.ads = ads
        self.ann = ann
        self.as_of = as_of
        self.config = config or RetrievalConfig()
        self.ranker = EmbeddingRanker(catalogue, edges, self.config, sessions)
        self.prerank = prerank
        self._by_mean = EmbeddingRanker(catalogue, edges, self.config) if sessions else self.ranker
        self._as_of = microseconds(as_of)
        self._item_filter = ItemFilter(catalogue.attributes)
        everything = np.arange(catalogue.n_rows, dtype=np.int64)
        self._everything = Scope(everything, None, catalogue.n_rows, lasting=True)
        self._scope_of = lru_cache(maxsize=SCOPES)(self._new_scope)
        self._scope_in = lru_cache(maxsize=SCOPES)(self._new_scope_in)
        self.search = Search(self.ranker, ann)

    @classmethod
    def of(cls, index: Index, config: RetrievalConfig | None = None) -> Retriever:
        """The retriever of an index folder that was read."""
        parts = (index.catalogue, index.edges, index.ads, index.ann)
        return cls(*parts, as_of=index.as_of, config=config, sessions=index.session_encoder, prerank=index.reranker)

    def replace_ads(self, ads: Ads) -> None:
        """Answer later requests with other ads; must not be called while a request is answered."""
        self.ads = ads
        self._scope_of.cache_clear()
        self._scope_in.cache_clear()
        self.search.clear()

    def retrieve(self, request: RetrievalRequest) -> Response:
        """Return the k best eligible ads for a request, best first, one row per item.

        Fewer than k come back only if no more are eligible under the request's own conditions. An item's ad is the one
        that wins among its eligible ads, and the caps count that ad. If none of the request's items is known, the most
        popular eligible ads come back, with score 0 and reason "fallback".

        Raises:
            RequestError: a filter needs a column that this catalogue does not have, or its price range is empty.
        """
        began = perf_counter()
        items, filters = request.items, request.filters
        time = self.time(request)
        scope = self.scope(time, request.country, filters, all_items=request.all_items)
        eligible = perf_counter()
        known, unknown = self.catalogue.rows(items)
        left_out = set(self.catalogue.rows(request.exclude)[0])
        if not request.include_current and items:
            left_out.update(self.catalogue.rows(items[-1:])[0])
        picker = Picker(request.k, scope, self.ads, filters, left_out, request.min_score)
        if not known:
            picked = self._popular(picker)
            named = self._named(picked, scope)
            seconds = (eligible - began, perf_counter() - eligible, 0.0)
            return Response(*named, [FALLBACK] * len(picked), unknown, True, "popular", seconds)
        ranker = self.ranker_of(request.stages)
        views = np.array(known[-ranker.recent_items :], np.int64)
        asked = ranker.prepare(views)
        given, before = None, time < self._as_of
        if self.prerank is None or not request.stages.prerank:
            picked, plan = self.search.best(asked, picker, before=before)
        else:
            context = Context.of(views, self.config.recency_weight, query=request.query, country=request.country)
            picked, plan, given = self._pre_ranked(asked, context, picker, before=before)
        found = perf_counter()
        why = self._reasons(views, [row for row, _ in picked]) if request.reasons else [None] * len(picked)
        named = self._named(picked, scope)
        seconds = (eligible - began, found - eligible, perf_counter() - found)
        told = self._stages(picked, given) if request.stage_scores else None
        return Response(*named, why, unknown, False, plan, seconds, told)

    def time(self, request: RetrievalRequest) -> int:
        """Return the time at which a request's ads must be active, in µs since 1970, UTC."""
        at = request.at
        return self._as_of if at is None else at if isinstance(at, int) else microseconds(at)

    @property
    def stages(self) -> Stages:
        """The stages that there are."""
        return Stages(self.ranker.session_encoder is not None, self.prerank is not None)

    def ranker_of(self, stages: Stages) -> EmbeddingRanker:
        """What ranks a request that uses these stages."""
        return self.ranker if stages.session else self._by_mean

    def scope(self, at: int, country: str | None, filters: Filters = NO_FILTERS, *, all_items: bool = False) -> Scope:
        """What may be returned at `at` (µs since 1970, UTC); the same object again while nothing changes."""
        if self.ads is None or all_items:
            scope = self._everything
        elif filters.exclude_advertisers or filters.exclude_campaigns:
            without = (filters.exclude_advertisers, filters.exclude_campaigns)
            eligible = self.ads.eligible_without(at, country, *without)
            scope = Scope(eligible.rows, eligible.ads, self.catalogue.n_rows)
        else:
            scope = self._scope_of(self.ads.eligible(at, country))
        if filters.category is not None and scope.lasting:
            scope = self._scope_in(scope, filters.category.casefold())
            filters = filters.model_copy(update={"category": None})
        passing = self._item_filter.mask(filters)
        return scope if passing is None else scope.within(passing)

    def popular(self, scope: Scope, n: int | None = None) -> Rows:
        """The n first of the scope's rows, or all, by recent popularity, highest first: what a fallback shows."""
        found, start, size = list[Rows](), 0, len(self._by_popularity) if n is None else max(1024, 4 * n)
        while start < len(self._by_popularity) and (n is None or sum(map(len, found)) < n):
            part = self._by_popularity[start : start + size]
            found.append(part[scope.mask[part]])
            start, size = start + size, 4 * size
        return np.concatenate(found)[:n] if found else scope.rows[:0]

    @cached_property
    def _by_popularity(self) -> Rows:
        """(N,) all rows, the most popular first."""
        return np.argsort(-self.catalogue.popularity, kind="stable")

    def _popular(self, picker: Picker) -> list[tuple[int, float]]:
        wanted = picker.k + len(picker.left_out)
        while True:
            rows = self.popular(picker.scope, wanted)
            picked, complete = picker.pick(rows, np.zeros(len(rows), np.float32))
            if complete or len(rows) < wanted:
                return picked
            wanted *= 8

    def _new_scope(self, eligible: Eligible) -> Scope:
        return Scope(eligible.rows, eligible.ads, self.catalogue.n_rows, lasting=True)

    def _new_scope_in(self, scope: Scope, category: str) -> Scope:
        passing = self._item_filter.mask(Filters(category=category))
        assert passing is not None
        return scope.within(passing, lasting=True)

    def _pre_ranked(
        self, asked: PreparedQuery, context: Context, picker: Picker, *, before: bool
    ) -> tuple[list[tuple[int, float]], str, Given]:
        """`Search.best` of what the pre-ranker puts in order; and what it was given."""
        assert self.prerank is not None
        wanted = max(self.prerank.depth, picker.k)
        while True:
            # Caps and the least score are of the new order.
            free = Picker(wanted, picker.scope, self.ads, NO_FILTERS, picker.left_out)
            pool, plan = self.search.best(asked, free, before=before)
            rows = np.array([row for row, _ in pool], np.int64)
            scores = np.array([score for _, score in pool], np.float32)
            picked, complete = picker.pick(*self.prerank.ordered(context, rows, scores))
            # The caps may ask for more than the pool has; then it grows, and its best keep their order.
            if complete or len(pool) < wanted:
                return picked, plan, Given(context, dict(pool))
            wanted *= 8

    def _stages(self, picked: list[tuple[int, float]], given: Given | None) -> list[dict[str, Any]]:
        """The scores of each stage; the counters' parts, and retrieval's, add up to the pre-ranker's score."""
        if given is None:
            return [{"retrieval": score} for _, score in picked]
        assert self.prerank is not None
        rows = np.array([row for row, _ in picked], np.int64)
        parts = self.prerank.features(given.context, rows) * self.prerank.weight[1:]
        names = [counter.name for counter in self.prerank.counters]
        return [
            {"retrieval": given.scores[row], "prerank": score, "counters": dict(zip(names, line, strict=True))}
            for (row, score), line in zip(picked, parts.tolist(), strict=True)
        ]

    def _named(
        self, picked: list[tuple[int, float]], scope: Scope
    ) -> tuple[list[str], Sequence[str | None], list[float]]:
        """Ids of items and ads, and scores."""
        rows = np.array([row for row, _ in picked], np.int64)
        ads: Sequence[str | None] = [None] * len(picked)
        if self.ads is not None and scope.ads is not None:
            ads = self.ads.ad_ids[scope.ads_of(rows)].tolist()
        return self.catalogue.item_ids[rows].tolist(), ads, [score for _, score in picked]

    def _reasons(self, views: Rows, rows: list[int]) -> list[str | None]:
        results = np.array(rows, np.int64)
        edges = self.ranker.edges
        types = edges.types_between(views, np.zeros(len(views), np.int64), results, np.zeros(len(results), np.int64))
        return [edges.names(kind) or EMBEDDING for kind in types.tolist()]
