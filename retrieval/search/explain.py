"""Why an ad stands next to an item, and why another one does not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow.compute as pc

from retrieval.arrays import Rows
from retrieval.catalogue.eligibility import AdConditions
from retrieval.ranking.embedding_ranker import EmbeddingRanker
from retrieval.ranking.reranker import Context
from retrieval.search.limits import Picker
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Response, Retriever
from retrieval.search.scope import Scope

_EGO_NEIGHBOURS = 20
_COMPLETIONS = 10


@dataclass(frozen=True)
class Missing:
    """Why an item or ad is not among the results; `rank` where it is only ranked too low."""

    expected: str
    shown: bool
    why: list[str] = field(default_factory=list)
    rank: int | None = None
    score: float | None = None


def described(retriever: Retriever, row: int) -> dict[str, Any]:
    """What is known of an item: its id, attributes, events."""
    attributes = retriever.catalogue.attributes
    known = {name: attributes[name][row].as_py() for name in attributes.column_names}
    return known | {"item_id": retriever.catalogue.item_ids[row], "events": int(retriever.catalogue.events[row])}


def completions(retriever: Retriever, text: str, limit: int = _COMPLETIONS) -> list[dict[str, Any]]:
    """Items whose id begins with the text, then items with all of its words in their titles, the most viewed first."""
    catalogue = retriever.catalogue
    wanted = text.strip()
    low = int(np.searchsorted(catalogue.item_ids, wanted))
    rows = []
    for row in range(low, min(low + limit, catalogue.n_rows)):
        if not catalogue.item_ids[row].startswith(wanted):
            break
        rows.append(row)
    words = wanted.split()
    if len(rows) < limit and words and "title" in catalogue.attributes.column_names:
        passing = None
        for word in words:
            has = pc.match_substring(catalogue.attributes["title"], word, ignore_case=True)
            passing = has if passing is None else pc.and_(passing, has)
        titled = np.flatnonzero(pc.fill_null(passing, False).to_numpy())
        titled = titled[np.argsort(-catalogue.events[titled], kind="stable")]
        rows += [row for row in titled[: limit + len(rows)].tolist() if row not in rows]
    return [described(retriever, row) for row in rows[:limit]]


def results(retriever: Retriever, asked: RetrievalRequest) -> dict[str, Any]:
    """The results of a request with what their scores are made of, and the edges behind them."""
    response = _response(retriever, asked)
    catalogue, names = retriever.catalogue, retriever.ranker.edges.type_names
    ranker = retriever.ranker_of(asked.stages)
    views = catalogue.rows(asked.items)[0][-ranker.recent_items :]
    rows = np.array([catalogue.row_of[item] for item in response.items], np.int64)
    parts = [] if response.fallback else _score_parts(ranker, np.array(views, np.int64), rows)
    of = described(retriever, views[-1]) if views else {}
    edges: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for view in views:
        for dst, kind, weight in _out(retriever, view):
            edges[dst].append({"from": catalogue.item_ids[view], "type": names[kind], "weight": weight})
    lines = []
    given = response.stages or [{}] * len(response.items)
    for rank, (result, stages) in enumerate(zip(response.results, given, strict=True), start=1):
        row = catalogue.row_of[result.item_id]
        item = described(retriever, row)
        line: dict[str, Any] = {"rank": rank, **result._asdict(), "item": item}
        line["shared_category"] = _shared(of.get("category"), item.get("category"))
        line["edges"] = edges.get(row, [])
        if not response.fallback:
            line["parts"] = parts[rank - 1]
            line["stages"] = stages
        if retriever.ads is not None and result.ad_id is not None:
            line["ad"] = _shown_ad(retriever.ads.row(result.ad_id))
        lines.append(line)
    return {"plan": response.plan, "unknown_items": response.unknown_items, "results": lines}


def _score_parts(ranker: EmbeddingRanker, views: Rows, rows: Rows) -> list[dict[str, float]]:
    """What the score of each row is made of, by the names that the page shows."""
    terms = ranker.score_terms(views, rows)
    parts = []
    for similarity, bias, direct, revisit in zip(
        terms.similarity.tolist(), terms.bias.tolist(), terms.direct.tolist(), terms.revisit.tolist(), strict=True
    ):
        parts.append({"embedding": similarity, "demand and popularity": bias, "direct": direct})
        if revisit:
            parts[-1]["viewed before"] = revisit
    return parts


def _response(retriever: Retriever, asked: RetrievalRequest) -> Response:
    return retriever.retrieve(replace(asked, reasons=True, stage_scores=True))


def missing(retriever: Retriever, asked: RetrievalRequest, expected: str) -> Missing:
    """Why an item, or an ad, by id, is not shown: the rules that leave it out, else its rank."""
    catalogue, ads = retriever.catalogue, retriever.ads
    ad = None if ads is None or expected in catalogue.row_of else ads.row(expected)
    item = expected if ad is None else ad["item_id"]
    if item not in catalogue.row_of:
        if ad is not None:
            return Missing(expected, False, [f"its item {item!r} is not in the catalogue of this version"])
        return Missing(expected, False, ["no item and no ad of this version has this id"])
    row, at = catalogue.row_of[item], retriever.time(asked)
    why = list(_left_out(retriever, asked, row))
    if ads is not None:
        conditions = AdConditions(at, asked.country, asked.filters.exclude_advertisers, asked.filters.exclude_campaigns)
        names = [expected] if ad is not None else ads.of_item(row)
        if not names:
            return Missing(expected, False, [*why, "no ad is for this item"])
        faults = {name: list(ads.ineligibility(name, conditions).values()) for name in names}
        if all(faults.values()):
            return Missing(expected, False, why + [f"ad {name}: {said}" for name in names for said in faults[name]])
        winner = next(name for name in ads.of_item(row) if not ads.ineligibility(name, conditions))
        if ad is not None and winner != expected:
            why.append(f"ad {winner} wins on the same item: a higher bid, or the smaller id of equal ones")
    if why:
        return Missing(expected, False, why)
    scope = retriever.scope(retriever.time(asked), asked.country, asked.filters)
    score, ahead = _ahead(retriever, asked, scope, row)
    rank = len(ahead) + 1
    response = _response(retriever, asked)
    if item in response.items:
        return Missing(expected, True, [], response.items.index(item) + 1, score)
    if asked.min_score is not None and score < asked.min_score:
        return Missing(expected, False, [f"its score {score:.4f} is below min_score {asked.min_score}"], rank, score)
    if asked.filters.max_per_advertiser or asked.filters.max_per_campaign:
        picker = Picker(rank, scope, ads, asked.filters, set())
        picked, _ = picker.pick(np.append(ahead, row), np.zeros(rank, np.float32))
        if picked[-1][0] != row:
            said = f"rank {rank} without the caps, but others of its advertiser or campaign fill them"
            return Missing(expected, False, [said], rank, score)
        rank = len(picked)
    said = f"rank {rank} of {len(scope.rows)} eligible items, of which {asked.k} were asked for"
    if rank <= asked.k and response.plan.startswith("index"):
        said = f"rank {rank}, which the approximate index missed"
    return Missing(expected, False, [said], rank, score)


def ego_graph(retriever: Retriever, row: int, most: int = _EGO_NEIGHBOURS) -> dict[str, Any]:
    """An item's strongest neighbours in the graph, and the edges among them: {nodes, edges}."""
    names = retriever.ranker.edges.type_names
    best: dict[int, float] = {}
    for kind in range(len(names)):
        out = [(dst, weight) for dst, of, weight in _out(retriever, row) if of == kind]
        top = max((weight for _, weight in out), default=1.0)
        for dst, weight in out:
            best[dst] = max(best.get(dst, 0.0), weight / top)
    kept = [row, *sorted(best, key=lambda dst: (-best[dst], dst))[:most]]
    members = set(kept)
    edges = [
        {"from": at, "to": kept.index(dst), "type": names[kind], "weight": weight}
        for at, src in enumerate(kept)
        for dst, kind, weight in _out(retriever, src)
        if dst in members
    ]
    return {"nodes": [described(retriever, node) for node in kept], "edges": edges}


def _out(retriever: Retriever, row: int) -> Iterator[tuple[int, int, float]]:
    dst, kind, weight = retriever.ranker.edges.neighbours(np.array([row], np.int64))
    return zip(dst.tolist(), kind.tolist(), weight.tolist(), strict=True)


def _shared(one: str | None, other: str | None) -> str | None:
    """The levels that two categories have in common."""
    if one is None or other is None:
        return None
    levels = []
    for a, b in zip(one.split(" > "), other.split(" > "), strict=False):
        if a.casefold() != b.casefold():
            break
        levels.append(a)
    return " > ".join(levels) or None


def _shown_ad(row: dict[str, Any] | None) -> dict[str, Any]:
    names = ("campaign_id", "advertiser_id", "starts_at", "ends_at", "countries", "bid")
    return {name: (row or {}).get(name) for name in names}


def _left_out(retriever: Retriever, asked: RetrievalRequest, row: int) -> Iterator[str]:
    """The request's own rules on items that leave this one out."""
    item = described(retriever, row)
    if item["item_id"] in asked.exclude:
        yield "the request excludes it"
    if asked.items and item["item_id"] == asked.items[-1] and not asked.include_current:
        yield "it is the item being viewed"
    filters, category, price = asked.filters, item.get("category"), item.get("price")
    if filters.category is not None:
        wanted = filters.category.casefold()
        if category is None or not (category.casefold() == wanted or category.casefold().startswith(f"{wanted} > ")):
            yield f"its category {category!r} is not {filters.category!r} nor below it"
    low, high = filters.price_min, filters.price_max
    if (low is not None or high is not None) and (
        price is None or (low is not None and price < low) or (high is not None and price > high)
    ):
        yield f"its price {price} is not between {'any' if low is None else low} and {'any' if high is None else high}"


def _ahead(retriever: Retriever, asked: RetrievalRequest, scope: Scope, row: int) -> tuple[float, Rows]:
    """(score, the rows ahead in their order) of an eligible row by exact scan, without the request's left-out rows."""
    catalogue = retriever.catalogue
    ranker = retriever.ranker_of(asked.stages)
    views = np.array(catalogue.rows(asked.items)[0][-ranker.recent_items :], np.int64)
    out = catalogue.rows([*asked.exclude, *(() if asked.include_current else asked.items[-1:])])[0]
    if not len(views):
        popular = retriever.popular(scope)
        return 0.0, _without(popular[: int(np.flatnonzero(popular == row)[0])], out)
    prepared = ranker.prepare(views)
    scores = prepared.over(catalogue.item[scope.rows], catalogue.bias[scope.rows], scope.rows)
    own = scores[np.searchsorted(scope.rows, row)]
    before = (scores > own) | ((scores == own) & (scope.rows < row))
    ahead = _without(scope.rows[before][np.lexsort((scope.rows[before], -scores[before]))], out)
    if retriever.prerank is None or not asked.stages.prerank:
        return float(own), ahead
    every = _without(scope.rows, out)
    of = scores[np.searchsorted(scope.rows, every)]
    best = np.lexsort((every, -of))[: max(retriever.prerank.depth, len(ahead) + 1)]
    context = Context.of(views, retriever.config.recency_weight, query=asked.query, country=asked.country)
    ordered, found = retriever.prerank.ordered(context, every[best], of[best])
    place = int(np.flatnonzero(ordered == row)[0])
    return float(found[place]), ordered[:place]


def _without(rows: Rows, out: Sequence[int]) -> Rows:
    return rows[~np.isin(rows, np.array(out, np.int64))]
