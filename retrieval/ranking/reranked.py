"""Many queries at once, retrieved and then put in order by the pre-ranker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retrieval.ranking.embedding_ranker import EmbeddingRanker, Queries
from retrieval.ranking.reranker import Context, PreRanker
from retrieval.topk import Mask, TopK

Said = tuple[str | None, str | None]


class PreRanked:
    """A `ranking.Ranker`: what an embedding ranker finds, in the pre-ranker's order."""

    def __init__(self, ranker: EmbeddingRanker, prerank: PreRanker) -> None:
        self._ranker, self._prerank = ranker, prerank

    def rank(self, queries: Queries, k: int, *, eligible: Mask | None = None, include_current: bool = False) -> TopK:
        """See `ranking.Ranker`."""
        found = self._ranker.rank(
            queries, max(k, self._prerank.depth), eligible=eligible, include_current=include_current
        )
        return ordered(self._prerank, self._ranker, queries, found, k)


def ordered(
    prerank: PreRanker,
    ranker: EmbeddingRanker,
    queries: Queries,
    found: TopK,
    k: int,
    said: Sequence[Said] | None = None,
) -> TopK:
    """The k first of what `ranker` found, at least `depth` of each query where there are as many.

    Args:
        said: (query text, country) of each query, None = unknown.
    """
    queries = queries.recent(ranker.recent_items)
    rows, scores = [], []
    for line in range(len(queries)):
        views = queries.rows[queries.offsets[line] : queries.offsets[line + 1]]
        text, country = (None, None) if said is None else said[line]
        span = slice(found.offsets[line], found.offsets[line + 1])
        context = Context.of(views, ranker.config.recency_weight, query=text, country=country)
        one, score = prerank.ordered(context, found.rows[span], found.scores[span])
        rows.append(one[:k])
        scores.append(score[:k])
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in rows])]).astype(np.int64)
    if not rows:
        return found
    return TopK(offsets, np.concatenate(rows), np.concatenate(scores))
