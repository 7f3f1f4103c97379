"""Explains why an ad is shown next to an item, or why not, with the rules and scores that the search applies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from retrieval import topk
from retrieval.arrays import Rows
from retrieval.catalogue.eligibility import AdConditions
from retrieval.ranking.embedding_ranker import EmbeddingRanker
from retrieval.ranking.reranker import Context
from retrieval.search.describe import describe_items, out_edges, shared_category
from retrieval.search.limits import BELOW_MIN_SCORE, Exclusions, ResultLimits, ResultList
from retrieval.search.request import RetrievalRequest
from retrieval.search.response import Response
from retrieval.search.retriever import Retriever
from retrieval.search.scope import Scope
from retrieval.values import clean_text

_SHOWN_AD_COLUMNS = ("campaign_id", "advertiser_id", "starts_at", "ends_at", "countries", "bid")
# If no ad of an item may be shown, at most this many of its ads are explained.
_SHOWN_ADS = 20


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
    viewed_category = describe_items(retriever, [views[-1]])[0].get("category") if views else None
    edges = _edges_to(retriever, views)
    items = describe_items(retriever, rows.tolist())
    ads = {} if retriever.ads is None else {ad: retriever.ads.row(ad) or {} for ad in response.ads if ad is not None}
    lines = []
    for number, (row, result, item) in enumerate(zip(rows.tolist(), response.results, items, strict=True)):
        line: dict[str, Any] = {"rank": number + 1, **result._asdict(), "item": item}
        line["shared_category"] = shared_category(viewed_category, item.get("category"))
        line["edges"] = edges.get(row, [])
        if not response.fallback:
            line["parts"] = parts[number]
            line["stages"] = response.stages[number] if response.stages else {}
        if result.ad_id is not None:
            line["ad"] = {name: ads[result.ad_id].get(name) for name in _SHOWN_AD_COLUMNS}
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
    winner = ads.winner(row, conditions)
    candidates = ads.of_item(row) if ad_id is None else [ad_id]
    if not candidates:
        yield "no ad is for this item"
    elif winner is None or (ad_id is not None and ads.ineligibility(ad_id, conditions)):
        for ad in candidates[:_SHOWN_ADS]:
            yield from (f"ad {ad}: {reason}" for reason in ads.ineligibility(ad, conditions).values())
        if len(candidates) > _SHOWN_ADS:
            yield f"{len(candidates) - _SHOWN_ADS} more ads of the item may not be shown either"
    elif ad_id not in (None, winner):
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
    limits = ResultLimits.of(request, scope, retriever.ads, set())._replace(k=len(ahead) + 1)
    if not limits.bounds_rank:
        results = ResultList(limits)
        # Every row ahead has at least this score, so this score may stand for theirs.
        results.extend(ahead, np.full(len(ahead), score, np.float32))
        rejection = results.rejection(row, score)
        if rejection is BELOW_MIN_SCORE:
            return Missing(expected, False, [f"{BELOW_MIN_SCORE}: {score:.4f} < {request.min_score}"], rank, score)
        if rejection is not None:
            return Missing(expected, False, [f"rank {rank} without the caps, but {rejection}"], rank, score)
        rank = len(results.lines) + 1
    why = f"rank {rank} of {len(scope.rows)} eligible items, while the request asks for {request.k}"
    if rank <= request.k and response.plan.startswith("index"):
        why = f"rank {rank}, but the approximate index missed it"
    return Missing(expected, False, [why], rank, score)


def _respond(retriever: Retriever, request: RetrievalRequest) -> Response:
    return retriever.retrieve(replace(request, reasons=True, stage_scores=True))


def _score_parts(ranker: EmbeddingRanker, views: Rows, rows: Rows) -> list[dict[str, float]]:
    """Return the parts of each row's score, under the names that the page shows."""
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
    if not len(views):
        popular = _without(retriever.popular(scope), Exclusions.of(request, catalogue).rows())
        return 0.0, popular[: int(np.flatnonzero(popular == row)[0])]
    candidates = _without(scope.rows, Exclusions.of(request, catalogue).rows())
    scores = retriever.planner.scores(ranker.prepare(views), Scope(candidates, None, catalogue.n_rows))
    own = int(np.searchsorted(candidates, row))
    n = 1 + int(np.count_nonzero(scores > scores[own]) + np.count_nonzero(scores[:own] == scores[own]))
    reranker = retriever.reranker if request.stages.prerank else None
    best = topk.top_k(scores[None], n if reranker is None else max(n, reranker.depth), candidates)
    ranked, scores = best.rows, best.scores
    if reranker is not None:
        context = Context.of(views, retriever.config.recency_weight, query=request.query, country=request.country)
        ranked, scores = reranker.ordered(context, ranked, scores)
    position = int(np.flatnonzero(ranked == row)[0])
    return float(scores[position]), ranked[:position]


def _without(rows: Rows, left_out: set[int]) -> Rows:
    return rows[~np.isin(rows, np.array([*left_out], np.int64))]
