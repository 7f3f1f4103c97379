"""Ranking of many queries in two stages: an embedding ranker retrieves, then a pre-ranker reorders each list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from retrieval.arrays import Mask, offsets_from_lengths
from retrieval.queries import Queries
from retrieval.ranking.embedding_ranker import EmbeddingRanker
from retrieval.ranking.reranker import Context, Reranker
from retrieval.topk import TopK


class QueryContext(NamedTuple):
    """What is known of a query besides its viewed items; None = unknown."""

    text: str | None = None
    country: str | None = None


class RerankedRanker:
    """A `retrieval.queries.Ranker` that retrieves by embeddings and reorders the lists with a pre-ranker."""

    def __init__(self, ranker: EmbeddingRanker, reranker: Reranker) -> None:
        self._ranker, self._reranker = ranker, reranker

    def rank(self, queries: Queries, k: int, *, eligible: Mask | None = None, include_current: bool = False) -> TopK:
        """See `retrieval.queries.Ranker`."""
        depth = max(k, self._reranker.depth)
        retrieved = self._ranker.rank(queries, depth, eligible=eligible, include_current=include_current)
        return rerank(self._reranker, self._ranker, queries, retrieved, k)


def rerank(
    reranker: Reranker,
    ranker: EmbeddingRanker,
    queries: Queries,
    retrieved: TopK,
    k: int,
    contexts: Sequence[QueryContext] | None = None,
) -> TopK:
    """Reorder retrieved lists and return the first k rows of each.

    Args:
        reranker: gives the new order.
        ranker: the ranker that retrieved the lists.
        queries: the viewed rows of n queries.
        retrieved: a list for each query, with at least `reranker.depth` rows if that many were found.
        k: length of the lists to return.
        contexts: the search text and the country of each query; None = all unknown.
    """
    queries = queries.recent(ranker.recent_items)
    rows, scores = [], []
    for number in range(len(queries)):
        views = queries.rows[queries.offsets[number] : queries.offsets[number + 1]]
        text, country = QueryContext() if contexts is None else contexts[number]
        context = Context.of(views, ranker.config.recency_weight, query=text, country=country)
        reordered, score = reranker.ordered(context, *retrieved.of(number))
        rows.append(reordered[:k])
        scores.append(score[:k])
    if not rows:
        return retrieved
    return TopK(offsets_from_lengths([len(part) for part in rows]), np.concatenate(rows), np.concatenate(scores))
