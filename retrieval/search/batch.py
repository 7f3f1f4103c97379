"""A table of queries answered at once: what `lightsage retrieve` writes, by the same rules as a single request."""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import numpy as np
import pyarrow as pa

from retrieval.arrays import Rows, offsets_from_lengths, positions_in_lists
from retrieval.errors import RequestError
from retrieval.queries import Queries
from retrieval.ranking.reranked import QueryContext, rerank
from retrieval.search.query_table import conform_queries
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import EMBEDDING, FALLBACK, Retriever
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
# Vectors of shortlists gathered at once.
_GATHERED_ROWS = 60_000


@dataclass(frozen=True)
class _Query:
    items: list[str]
    views: list[int]
    at: int
    country: str | None
    query: str | None

    @property
    def context(self) -> QueryContext:
        """What the re-ranker knows of the query besides its items."""
        return QueryContext(self.query, self.country)


@dataclass(frozen=True, eq=False)
class _Answers:
    """Lines of the output, not yet in order; the arrays are aligned, an ad_id or reason a string."""

    query: Rows
    place: Rows
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
    """Tables in `SCHEMA`, queries in their order and each best first; some thousand queries a table.

    Tables of queries are read as they are needed, and a few of them are answered at once, each by a thread.

    Args:
        queries: one table as `conform_queries` takes them, or tables that it returned.
        at: the time for queries without one of their own; None = the as-of time.
        threads: None = one a core.

    Raises:
        RequestError: k below 1.
        QueriesError: the table does not fit its contract.
    """
    if k < 1:
        raise RequestError("k", f"got {k}, expected at least 1")
    tables = [conform_queries(queries)] if isinstance(queries, pa.Table) else queries
    default = microseconds(at or retriever.as_of)
    threads = threads or os.cpu_count() or 1

    def answered(part: pa.Table) -> pa.Table:
        asked = [
            _Query(
                items or [], retriever.catalogue.rows(items or [])[0], default if time is None else time, country, query
            )
            for items, time, country, query in zip(
                part["item_ids"].to_pylist(),
                part["at"].cast(pa.int64()).to_pylist(),
                part["country"].to_pylist(),
                part["query"].to_pylist(),
                strict=True,
            )
        ]
        answers = _answer(retriever, asked, k, all_items=all_items, include_current=include_current)
        return _table(retriever, answers, part["query_id"].combine_chunks())

    return _in_order(answered, _parts(tables), threads)


def _parts(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    for table in tables:
        for start in range(0, max(1, len(table)), _CHUNK_QUERIES):
            yield table.slice(start, _CHUNK_QUERIES)


def _in_order(answered: Callable[[pa.Table], pa.Table], parts: Iterator[pa.Table], threads: int) -> Iterator[pa.Table]:
    """What `answered` makes of the parts, with so many threads and never more than twice as many parts in memory."""
    from retrieval.ann.faiss_index import workers

    with workers(threads) as pool:
        ahead: deque[Future[pa.Table]] = deque()
        for part in parts:
            ahead.append(pool.submit(answered, part))
            if len(ahead) >= 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _answer(
    retriever: Retriever, asked: list[_Query], k: int, *, all_items: bool, include_current: bool
) -> list[_Answers]:
    """Queries that may return the same ads are ranked together."""
    together: dict[tuple[int, str | None, bool], list[int]] = defaultdict(list)
    fixed = retriever.ads is None or all_items
    answers = []
    for number, query in enumerate(asked):
        interval = 0 if fixed or retriever.ads is None else retriever.ads.interval(query.at)
        # Only the query's very last item is left out; if that is unknown, nothing is.
        keep = include_current or not query.views or query.items[-1] not in retriever.catalogue.row_of
        together[interval, None if fixed else query.country, keep].append(number)
    for (_, country, keep), numbers in together.items():
        scope = retriever.scope(asked[numbers[0]].at, country, all_items=all_items)
        known = [number for number in numbers if asked[number].views]
        unknown = [number for number in numbers if not asked[number].views]
        if unknown:
            answers.append(_popular(retriever, unknown, k, scope))
        if known and _by_product(retriever, scope):
            answers.append(_ranked(retriever, asked, known, k, scope, include_current=keep))
        elif known:
            alone = known
            if retriever.ann is not None and asked[numbers[0]].at >= microseconds(retriever.as_of):
                found, alone = _by_index(retriever, asked, known, k, scope, include_current=keep)
                answers.append(found)
            one = partial(_single, retriever, k=k, all_items=all_items, keep=keep)
            answers += [one(number, asked[number]) for number in alone]
    return answers


def _by_product(retriever: Retriever, scope: Scope) -> bool:
    """Whether one matrix product answers best: of few rows, or of a catalogue that the index holds only in part."""
    if len(scope.rows) <= retriever.config.batch_exact_below:
        return True
    whole = len(scope.rows) == retriever.catalogue.n_rows
    return whole and (retriever.ann is None or len(retriever.ann.rows) < retriever.catalogue.n_rows)


def _by_index(
    retriever: Retriever, asked: list[_Query], numbers: list[int], k: int, scope: Scope, *, include_current: bool
) -> tuple[_Answers, list[int]]:
    """(the answers of the queries whose lists the index fills, the numbers of the others)."""
    depth = _depth(retriever, k)
    wanted = depth if include_current else depth + 1
    step = max(1, _GATHERED_ROWS // (wanted * 3))
    answers, short = [], []
    for start in range(0, len(numbers), step):
        part = numbers[start : start + step]
        queries = _queries([asked[number] for number in part])
        found = retriever.search.shortlisted(queries, depth, scope, include_current=include_current)
        full = np.diff(found.offsets) >= min(depth, len(scope.rows))
        short += [number for number, there in zip(part, full.tolist(), strict=True) if not there]
        kept = np.repeat(full, np.diff(found.offsets))
        offsets = offsets_from_lengths(np.diff(found.offsets)[full])
        which = np.flatnonzero(full)
        lists = TopK(offsets, found.rows[kept], found.scores[kept])
        there = [part[at] for at in which.tolist()]
        answers.append(_listed(retriever, asked, there, lists, k, scope))
    return _joined(answers), short


def _joined(parts: list[_Answers]) -> _Answers:
    return _Answers(
        np.concatenate([part.query for part in parts]),
        np.concatenate([part.place for part in parts]),
        np.concatenate([part.rows for part in parts]),
        [ad for part in parts for ad in part.ads],
        np.concatenate([part.scores for part in parts]),
        [reason for part in parts for reason in part.reasons],
    )


def _queries(asked: list[_Query]) -> Queries:
    offsets = offsets_from_lengths([len(query.views) for query in asked])
    return Queries(np.array([row for query in asked for row in query.views], np.int64), offsets)


def _depth(retriever: Retriever, k: int) -> int:
    """How many rows retrieval must find."""
    return k if retriever.prerank is None else max(k, retriever.prerank.depth)


def _ranked(
    retriever: Retriever, asked: list[_Query], numbers: list[int], k: int, scope: Scope, *, include_current: bool
) -> _Answers:
    queries = _queries([asked[number] for number in numbers])
    rows = None if len(scope.rows) == retriever.catalogue.n_rows else scope.rows
    found = retriever.ranker.rank_rows(queries, _depth(retriever, k), rows, include_current=include_current)
    return _listed(retriever, asked, numbers, found, k, scope)


def _listed(
    retriever: Retriever, asked: list[_Query], numbers: list[int], found: TopK, k: int, scope: Scope
) -> _Answers:
    """The k best of what was found for some of the queries, in the pre-ranker's order if there is one."""
    chosen = [asked[number] for number in numbers]
    queries = _queries(chosen)
    if retriever.prerank is not None:
        contexts = [query.context for query in chosen]
        found = rerank(retriever.prerank, retriever.ranker, queries, found, k, contexts)
    listed = np.diff(found.offsets)
    local = np.repeat(np.arange(len(numbers)), listed)
    recent = queries.recent(retriever.ranker.recent_items)
    edges = retriever.ranker.edges
    kinds, which = np.unique(edges.types_between(recent.rows, recent.query, found.rows, local), return_inverse=True)
    names = np.array([edges.names(kind) or EMBEDDING for kind in kinds.tolist()], dtype=object)
    return _Answers(
        np.array(numbers, np.int64)[local],
        positions_in_lists(listed) + 1,
        found.rows,
        _ad_ids(retriever, scope, found.rows),
        found.scores,
        names[which].tolist() if len(kinds) else [],
    )


def _popular(retriever: Retriever, numbers: list[int], k: int, scope: Scope) -> _Answers:
    popular = retriever.popular(scope, k)
    n = len(popular) * len(numbers)
    return _Answers(
        np.repeat(np.array(numbers, np.int64), len(popular)),
        np.tile(np.arange(1, len(popular) + 1), len(numbers)),
        np.tile(popular, len(numbers)),
        _ad_ids(retriever, scope, popular) * len(numbers),
        np.zeros(n, np.float32),
        [FALLBACK] * n,
    )


def _single(retriever: Retriever, number: int, query: _Query, *, k: int, all_items: bool, keep: bool) -> _Answers:
    results = retriever.retrieve(
        RetrievalRequest(
            query.items,
            k,
            at=query.at,
            country=query.country,
            query=query.query,
            all_items=all_items,
            include_current=keep,
        )
    ).results
    return _Answers(
        np.full(len(results), number, np.int64),
        np.arange(1, len(results) + 1),
        np.array([retriever.catalogue.row_of[result.item_id] for result in results], np.int64),
        [result.ad_id for result in results],
        np.array([result.score for result in results], np.float32),
        [result.reason or EMBEDDING for result in results],
    )


def _ad_ids(retriever: Retriever, scope: Scope, rows: Rows) -> list[str | None]:
    if retriever.ads is None or scope.ads is None:
        return [None] * len(rows)
    ad_ids = retriever.ads.ad_ids
    return [ad_ids[ad] for ad in scope.ads_of(rows).tolist()]


def _table(retriever: Retriever, answers: list[_Answers], query_ids: pa.Array) -> pa.Table:
    if not answers:
        return SCHEMA.empty_table()
    query = np.concatenate([part.query for part in answers])
    place = np.concatenate([part.place for part in answers])
    items = retriever.catalogue.attributes["item_id"].combine_chunks()
    columns = {
        "query_id": query_ids.take(pa.array(query)),
        "rank": pa.array(place.astype(np.int32)),
        "item_id": items.take(pa.array(np.concatenate([part.rows for part in answers]))),
        "ad_id": pa.array([ad for part in answers for ad in part.ads], pa.string()),
        "score": pa.array(np.concatenate([part.scores for part in answers])),
        "reason": pa.array([reason for part in answers for reason in part.reasons], pa.string()),
    }
    return pa.table(columns, schema=SCHEMA).take(pa.array(np.lexsort((place, query))))
