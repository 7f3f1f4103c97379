"""Answers a table of queries at once, by the same rules as single requests; `lightsage retrieve` writes its output."""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from retrieval.arrays import Rows, offsets_from_lengths, positions_in_lists
from retrieval.errors import RequestError
from retrieval.queries import Queries
from retrieval.ranking.reranked import QueryContext, rerank
from retrieval.search.query_table import conform_queries
from retrieval.search.request import RetrievalRequest
from retrieval.search.response import EMBEDDING, FALLBACK
from retrieval.search.retriever import Retriever
from retrieval.search.scope import Scope
from retrieval.times import microseconds
from retrieval.topk import TopK

SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("rank", pa.int32()),
        ("item_id", pa.string()),
        ("ad_id", pa.string()),
        ("score", pa.float32()),
        ("reason", pa.string()),
    ]
)
_CHUNK_QUERIES = 2048
# At most about this many vectors of shortlists are gathered at once.
_GATHERED_ROWS = 60_000


class _Query(NamedTuple):
    """A query of a chunk: its number in the chunk, its request, and the rows of its known items, most recent last."""

    number: int
    request: RetrievalRequest
    views: list[int]

    @property
    def context(self) -> QueryContext:
        return QueryContext(self.request.query, self.request.country)


@dataclass(frozen=True, eq=False)
class _Group:
    """Queries that are ranked together: they have the same scope, k and include_current."""

    retriever: Retriever
    scope: Scope
    queries: list[_Query]

    def select(self, queries: list[_Query]) -> _Group:
        return replace(self, queries=queries)

    @property
    def k(self) -> int:
        return self.queries[0].request.k

    @property
    def include_current(self) -> bool:
        return self.queries[0].request.include_current

    @property
    def numbers(self) -> Rows:
        """(n,) int64, the number of each query in its chunk."""
        return np.array([query.number for query in self.queries], np.int64)

    @property
    def views(self) -> Queries:
        lists = [query.views for query in self.queries]
        rows = np.array([row for rows in lists for row in rows], np.int64)
        return Queries(rows, offsets_from_lengths([len(rows) for rows in lists]))

    @property
    def depth(self) -> int:
        """How many rows must be retrieved per query, so that the pre-ranker has enough to choose from."""
        reranker = self.retriever.reranker
        return self.k if reranker is None else max(self.k, reranker.depth)


@dataclass(frozen=True, eq=False)
class _Lines:
    """Lines of the output in any order, as aligned columns: `query` numbers the chunk's queries, `rows` the items."""

    query: Rows
    rank: Rows
    rows: Rows
    ads: list[str | None]
    scores: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    reasons: list[str]


def retrieve_tables(
    retriever: Retriever,
    queries: pa.Table | Iterable[pa.Table],
    k: int,
    *,
    at: datetime | None = None,
    all_items: bool = False,
    include_current: bool = False,
    threads: int | None = None,
) -> Iterator[pa.Table]:
    """Yield the results as tables in `SCHEMA`: queries in their order, and the lines of each query best first.

    Tables of queries are read as they are needed and split into chunks. Several chunks are answered at the same time,
    one per thread.

    Args:
        retriever: answers the queries.
        queries: one table as `conform_queries` accepts it, or tables that `conform_queries` returned.
        k: number of lines per query, at least 1.
        at: the time for queries without one of their own; None = the as-of time.
        all_items: rank the whole catalogue, advertised or not.
        include_current: whether the last item of a query may be returned.
        threads: the number of threads; None = one per core.

    Raises:
        RequestError: k is below 1.
        QueriesError: the table does not fit its contract.
    """
    if k < 1:
        raise RequestError("k", f"got {k}, expected at least 1")
    tables = [conform_queries(queries)] if isinstance(queries, pa.Table) else queries
    conditions = RetrievalRequest(
        (), k, at=microseconds(at or retriever.as_of), all_items=all_items, include_current=include_current
    )

    def answer(chunk: pa.Table) -> pa.Table:
        lines = _answer(retriever, _queries(retriever, chunk, conditions))
        return _table(retriever, lines, chunk["query_id"].combine_chunks())

    return _map_in_order(answer, _chunks(tables), threads or os.cpu_count() or 1)


def _chunks(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    for table in tables:
        for start in range(0, max(1, len(table)), _CHUNK_QUERIES):
            yield table.slice(start, _CHUNK_QUERIES)


def _map_in_order(
    answer: Callable[[pa.Table], pa.Table], chunks: Iterator[pa.Table], threads: int
) -> Iterator[pa.Table]:
    """Yield the answers to the chunks in order, with at most twice as many chunks in memory as threads."""
    from retrieval.ann.faiss_index import workers

    with workers(threads) as pool:
        running: deque[Future[pa.Table]] = deque()
        for chunk in chunks:
            running.append(pool.submit(answer, chunk))
            if len(running) >= 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def _queries(retriever: Retriever, chunk: pa.Table, conditions: RetrievalRequest) -> list[_Query]:
    """Return the queries of a chunk; the conditions of the whole batch fill in what a query leaves out."""
    catalogue = retriever.catalogue
    columns = zip(
        chunk["item_ids"].to_pylist(),
        chunk["at"].cast(pa.int64()).to_pylist(),
        chunk["country"].to_pylist(),
        chunk["query"].to_pylist(),
        strict=True,
    )
    queries = []
    for number, (item_ids, at, country, text) in enumerate(columns):
        items = item_ids or []
        request = RetrievalRequest(
            items,
            conditions.k,
            at=conditions.at if at is None else at,
            country=country,
            query=text,
            all_items=conditions.all_items,
            # Only the very last item of a query is left out; if that item is unknown, no item is left out.
            include_current=conditions.include_current or not items or items[-1] not in catalogue.row_of,
        )
        queries.append(_Query(number, request, catalogue.rows(items)[0]))
    return queries


def _groups(retriever: Retriever, queries: list[_Query]) -> Iterator[_Group]:
    """Group the queries that may return the same ads."""
    groups: dict[tuple[int, str | None, bool], list[_Query]] = defaultdict(list)
    for query in queries:
        request, ads = query.request, retriever.ads
        interval, country = 0, None
        if ads is not None and not request.all_items:
            interval, country = ads.interval(retriever.time(request)), request.country
        groups[interval, country, request.include_current].append(query)
    for members in groups.values():
        yield _Group(retriever, retriever.scope(members[0].request), members)


def _answer(retriever: Retriever, queries: list[_Query]) -> list[_Lines]:
    lines = []
    for group in _groups(retriever, queries):
        unknown = [query for query in group.queries if not query.views]
        known = [query for query in group.queries if query.views]
        if unknown:
            lines.append(_popular(group.select(unknown)))
        if not known:
            continue
        if _product_is_best(retriever, group.scope):
            lines.append(_by_product(group.select(known)))
            continue
        remaining = known
        if retriever.ann is not None and retriever.time(group.queries[0].request) >= microseconds(retriever.as_of):
            indexed, remaining = _by_index(group.select(known))
            lines += indexed
        lines += [_by_single_request(retriever, query) for query in remaining]
    return lines


def _product_is_best(retriever: Retriever, scope: Scope) -> bool:
    """Whether one matrix product is fastest: for few rows, or for all rows if no index holds the whole catalogue."""
    if len(scope.rows) <= retriever.config.batch_exact_below:
        return True
    whole = len(scope.rows) == retriever.catalogue.n_rows
    return whole and (retriever.ann is None or len(retriever.ann.rows) < retriever.catalogue.n_rows)


def _by_product(group: _Group) -> _Lines:
    retriever = group.retriever
    rows = None if len(group.scope.rows) == retriever.catalogue.n_rows else group.scope.rows
    lists = retriever.ranker.rank_rows(group.views, group.depth, rows, include_current=group.include_current)
    return _lines_of(group, lists)


def _by_index(group: _Group) -> tuple[list[_Lines], list[_Query]]:
    """Return the lines of the queries whose lists the index fills, and the other queries."""
    depth = group.depth
    n = depth if group.include_current else depth + 1
    step = max(1, _GATHERED_ROWS // (n * 3))
    lines, short = [], []
    for start in range(0, len(group.queries), step):
        part = group.select(group.queries[start : start + step])
        lists = group.retriever.planner.search_many(
            part.views, depth, group.scope, include_current=group.include_current
        )
        full = np.diff(lists.offsets) >= min(depth, len(group.scope.rows))
        short += [query for query, filled in zip(part.queries, full.tolist(), strict=True) if not filled]
        which = np.flatnonzero(full)
        if len(which):
            lines.append(_lines_of(part.select([part.queries[i] for i in which.tolist()]), lists.take(which)))
    return lines, short


def _by_single_request(retriever: Retriever, query: _Query) -> _Lines:
    response = retriever.retrieve(query.request)
    n = len(response.items)
    return _Lines(
        np.full(n, query.number, np.int64),
        np.arange(1, n + 1),
        np.array([retriever.catalogue.row_of[item] for item in response.items], np.int64),
        list(response.ads),
        np.array(response.scores, np.float32),
        [reason or EMBEDDING for reason in response.reasons],
    )


def _popular(group: _Group) -> _Lines:
    popular = group.retriever.popular(group.scope, group.k)
    n, n_queries = len(popular), len(group.queries)
    return _Lines(
        np.repeat(group.numbers, n),
        np.tile(np.arange(1, n + 1), n_queries),
        np.tile(popular, n_queries),
        _ad_ids(group, popular) * n_queries,
        np.zeros(n * n_queries, np.float32),
        [FALLBACK] * (n * n_queries),
    )


def _lines_of(group: _Group, lists: TopK) -> _Lines:
    """Return the lines of retrieved lists; a pre-ranker, if there is one, reorders them and keeps the k best."""
    retriever, queries = group.retriever, group.views
    if retriever.reranker is not None:
        contexts = [query.context for query in group.queries]
        lists = rerank(retriever.reranker, retriever.ranker, queries, lists, group.k, contexts)
    lengths = np.diff(lists.offsets)
    query = np.repeat(np.arange(len(group.queries)), lengths)
    recent = queries.recent(retriever.ranker.recent_items)
    edges = retriever.ranker.edges
    types, which = np.unique(edges.types_between(recent.rows, recent.query, lists.rows, query), return_inverse=True)
    names = np.array([edges.names(kind) or EMBEDDING for kind in types.tolist()], dtype=object)
    return _Lines(
        group.numbers[query],
        positions_in_lists(lists.offsets) + 1,
        lists.rows,
        _ad_ids(group, lists.rows),
        lists.scores,
        names[which].tolist() if len(types) else [],
    )


def _ad_ids(group: _Group, rows: Rows) -> list[str | None]:
    ads = group.retriever.ads
    if ads is None or group.scope.ads is None:
        return [None] * len(rows)
    ad_ids: list[str | None] = ads.ad_ids[group.scope.ads_of(rows)].tolist()
    return ad_ids


def _table(retriever: Retriever, lines: list[_Lines], query_ids: pa.Array) -> pa.Table:
    if not lines:
        return SCHEMA.empty_table()
    query = np.concatenate([part.query for part in lines])
    rank = np.concatenate([part.rank for part in lines])
    items = retriever.catalogue.attributes["item_id"].combine_chunks()
    columns = {
        "query_id": query_ids.take(pa.array(query)),
        "rank": pa.array(rank.astype(np.int32)),
        "item_id": items.take(pa.array(np.concatenate([part.rows for part in lines]))),
        "ad_id": pa.array([ad for part in lines for ad in part.ads], pa.string()),
        "score": pa.array(np.concatenate([part.scores for part in lines])),
        "reason": pa.array([reason for part in lines for reason in part.reasons], pa.string()),
    }
    return pa.table(columns, schema=SCHEMA).take(pa.array(np.lexsort((rank, query))))
