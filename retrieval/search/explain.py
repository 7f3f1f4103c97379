"""Explains why an ad is shown next to an item, or why not, with the rules and scores that the search applies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from retrieval.arrays import Rows
from retrieval.catalogue.eligibility import AdConditions
from retrieval.ranking.embedding_ranker import EmbeddingRanker
from retrieval.ranking.reranker import Context
from retrieval.search.describe import describe_item, out_edges, shared_category
from retrieval.search.limits import BELOW_MIN_SCORE, Exclusions, ResultLimits
from retrieval.search.request import RetrievalRequest
from retrieval.search.response import Response
from retrieval.search.retriever import Retriever
from retrieval.search.scope import Scope
from retrieval.values import clean_text

_SHOWN_AD_COLUMNS = ("campaign_id", "advertiser_id", "starts_at", "ends_at", "countries", "bid")


@dataclass(frozen=True)
class Missing:
    """Why an item or ad is not among the results. Its rank and score are given if no rule leaves it out."""

    expected: str
    shown: bool
    why: list[str] = field(default_factory=list)
    rank: int | None = None
    score: float | None = None


def results(retriever: Retriever, request: RetrievalRequest) -> dict[str, Any]:
    """Return the results of a request, each with the parts of its score, the edges that lead to it, and its ad.

    Args:
        retriever: the version.
        request: the request; reasons and stage scores are always returned.
    """
    response = _respond(retriever, request)
    catalogue = retriever.catalogue
    ranker = retriever.ranker_for(request.stages)
    views = catalogue.rows(request.items)[0][-ranker.recent_items :]
    rows = np.array([catalogue.row_of[item] for item in response.items], np.int64)
    parts = [] if response.fallback else _score_parts(ranker, np.array(views, np.int64), rows)
    viewed_category = describe_item(retriever, views[-1]).get("category") if views else None
    edges = _edges_to(retriever, views)
    lines = []
    for number, (row, result) in enumerate(zip(rows.tolist(), response.results, strict=True)):
        item = describe_item(retriever, row)
        line: dict[str, Any] = {"rank": number + 1, **result._asdict(), "item": item}
        line["shared_category"] = shared_category(viewed_category, item.get("category"))
        line["edges"] = edges.get(row, [])
        if not response.fallback:
            line["parts"] = parts[number]
            line["stages"] = response.stages[number] if response.stages else {}
        if retriever.ads is not None and result.ad_id is not None:
            ad = retriever.ads.row(result.ad_id) or {}
            line["ad"] = {name: ad.get(name) for name in _SHOWN_AD_COLUMNS}
        lines.append(line)
    return {"plan": response.plan, "unknown_items": response.unknown_items, "results": lines}


def missing(retriever: Retriever, request: RetrievalRequest, expected: str) -> Missing:
    """Return why an item or an ad is not shown: the rules that leave it out, else its rank.

    Args:
        retriever: the version.
        request: the request.
        expected: the id of an item or of an ad; if both exist, the item is meant.
    """
    catalogue, ads = retriever.catalogue, retriever.ads
    row = catalogue.find(expected)
    ad = None if ads is None or row is not None else ads.row(expected) or ads.row(clean_text(expected) or "")
    item = expected if ad is None else ad["item_id"]
    if ad is not None:
        row = catalogue.find(item)
    if row is None:
        unknown = "no item and no ad of this version has this id"
        why = unknown if ad is None else f"its item {item!r} is not in the catalogue of this version"
        return Missing(expected, False, [why])
    rules = [
        *Exclusions.of(request, catalogue).reasons(row),
        *retriever.item_filter.reasons(request.filters, row),
        *_ad_reasons(retriever, request, row, None if ad is None else ad["ad_id"]),
    ]
    return Missing(expected, False, rules) if rules else _ranked_too_low(retriever, request, row, expected)


def _ad_reasons(retriever: Retriever, request: RetrievalRequest, row: int, ad_id: str | None) -> Iterator[str]:
    """Yield why no ad of an item is shown or, if `ad_id` is given, why that ad is not."""
    ads = retriever.ads
    if ads is None:
        return
    filters = request.filters
    conditions = AdConditions(
        retriever.time(request), request.country, filters.exclude_advertisers, filters.exclude_campaigns
    )
    all_ads = ads.of_item(row)
    candidates = all_ads if ad_id is None else [ad_id]
    if not candidates:
        yield "no ad is for this item"
        return
    reasons = {ad: list(ads.ineligibility(ad, conditions).values()) for ad in candidates}
    if all(reasons.values()):
        yield from (f"ad {ad}: {reason}" for ad in candidates for reason in reasons[ad])
        return
    winner = next(ad for ad in all_ads if not ads.ineligibility(ad, conditions))
    if ad_id not in (None, winner):
        yield f"ad {winner} wins on the same item: it has a higher bid, or the same bid and a smaller id"


def _ranked_too_low(retriever: Retriever, request: RetrievalRequest, row: int, expected: str) -> Missing:
    """Return the rank of an eligible item, and either why it is not shown or that it is shown."""
    scope = retriever.scope(request)
    score, ahead = _rank_exactly(retriever, request, scope, row)
    rank = len(ahead) + 1
    response = _respond(retriever, request)
    item = retriever.catalogue.item_ids[row]
    if item in response.items:
        return Missing(expected, True, [], response.items.index(item) + 1, score)
    limits = ResultLimits.of(request, scope, retriever.ads, set())
    if limits.capped or limits.min_score is not None:
        # Every row ahead has at least this score, so this score may stand for theirs.
        rejections = list(limits.rejections([(other, score) for other in [*ahead.tolist(), row]]))
        if rejections[-1] is BELOW_MIN_SCORE:
            why = f"{BELOW_MIN_SCORE}: {score:.4f} < {request.min_score}"
            return Missing(expected, False, [why], rank, score)
        if rejections[-1] is not None:
            return Missing(expected, False, [f"rank {rank} without the caps, but {rejections[-1]}"], rank, score)
        rank = rejections.count(None)
    why = f"rank {rank} of {len(scope.rows)} eligible items, while the request asks for {request.k}"
    if rank <= request.k and response.plan.startswith("index"):
        why = f"rank {rank}, but the approximate index missed it"
    return Missing(expected, False, [why], rank, score)


def _respond(retriever: Retriever, request: RetrievalRequest) -> Response:
    return retriever.retrieve(replace(request, reasons=True, stage_scores=True))


def _score_parts(ranker: EmbeddingRanker, views: Rows, rows: Rows) -> list[dict[str, float]]:
    """Return what the score of each row consists of, by the names that the page shows."""
    terms = ranker.score_terms(views, rows)
    columns = zip(
        terms.similarity.tolist(), terms.bias.tolist(), terms.direct.tolist(), terms.revisit.tolist(), strict=True
    )
    parts = []
    for similarity, bias, direct, revisit in columns:
        parts.append({"embedding": similarity, "demand and popularity": bias, "direct": direct})
        if revisit:
            parts[-1]["viewed before"] = revisit
    return parts


def _edges_to(retriever: Retriever, views: list[int]) -> dict[int, list[dict[str, Any]]]:
    """Return the edges from viewed items, grouped by the row to which they lead."""
    catalogue, names = retriever.catalogue, retriever.ranker.edges.type_names
    edges: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for view in views:
        for dst, kind, weight in out_edges(retriever, view):
            edges[dst].append({"from": catalogue.item_ids[view], "type": names[kind], "weight": weight})
    return edges


def _rank_exactly(retriever: Retriever, request: RetrievalRequest, scope: Scope, row: int) -> tuple[float, Rows]:
    """Return the score of an eligible row, and the rows ahead of it in order.

    An exact scan ranks the rows of the scope that the request does not exclude.
    """
    catalogue = retriever.catalogue
    ranker = retriever.ranker_for(request.stages)
    views = np.array(catalogue.rows(request.items)[0][-ranker.recent_items :], np.int64)
    candidates = _without(scope.rows, Exclusions.of(request, catalogue).rows())
    if not len(views):
        popular = _without(retriever.popular(scope), Exclusions.of(request, catalogue).rows())
        return 0.0, popular[: int(np.flatnonzero(popular == row)[0])]
    scores = ranker.prepare(views).over(catalogue.item[candidates], catalogue.bias[candidates], candidates)
    order = np.lexsort((candidates, -scores))
    ranked, scores = candidates[order], scores[order]
    if retriever.reranker is not None and request.stages.prerank:
        context = Context.of(views, retriever.config.recency_weight, query=request.query, country=request.country)
        position = int(np.flatnonzero(ranked == row)[0])
        depth = max(retriever.reranker.depth, position + 1)
        ranked, scores = retriever.reranker.ordered(context, ranked[:depth], scores[:depth])
    position = int(np.flatnonzero(ranked == row)[0])
    return float(scores[position]), ranked[:position]


def _without(rows: Rows, left_out: set[int]) -> Rows:
    return rows[~np.isin(rows, np.array([*left_out], np.int64))]
