"""Test sessions as (query, target) pairs of a protocol, made once for all models that are compared."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from retrieval.arrays import Mask, Rows, offsets_from_lengths, positions_in_lists, spans
from retrieval.catalogue.ads import Ads
from retrieval.catalogue.items import lookup
from retrieval.errors import EvaluationError
from retrieval.evaluation.sessions import Sessions
from retrieval.queries import Queries

_MAX_BASKET_QUERIES = 20
# Older items of a prefix hardly matter, and the uncut prefixes of a bot's long session would not fit into memory.
_MAX_PREFIX = 100


@dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs of a query and a target; a ranker is measured by where it ranks the target.

    Shapes: queries: n lists of viewed rows. query (P,) int64, the query of each pair. target (P,) int64,
    the row of each target. query_known, target_known (P,) bool: if False, the number in query or target means nothing
    and the pair is a miss. group (P,) int64, the session or basket of each pair. question (P,) int64, the question that
    each pair belongs to; in baskets a question has many targets. stretch (P,) int64, the stretch of time of the
    question; a stretch ends when an ad starts or ends. events (P,) int64, training events of the target, 0
    if it is unknown. last_unknown (n,) bool: whether a query's last viewed item is missing from the catalogue; None =
    this holds for no query.
    """

    queries: Queries
    query: Rows
    target: Rows
    query_known: Mask
    target_known: Mask
    group: Rows
    question: Rows
    stretch: Rows
    events: Rows
    n_items: int
    include_current: bool = False
    last_unknown: Mask | None = None

    def __len__(self) -> int:
        return len(self.target)

    @property
    def findable(self) -> Mask:
        """Pairs whose query and target are known: (P,) bool."""
        return self.query_known & self.target_known


def pairs_of(
    protocol: str,
    sessions: Sessions,
    item_ids: NDArray[np.object_],
    events: Rows,
    *,
    ads: Ads | None = None,
    include_current: bool = False,
) -> Pairs:
    """Return the pairs of a protocol by its name.

    Args:
        protocol: "item", "session" or "basket".
        sessions: the test sessions; for the protocol "basket", the test baskets.
        item_ids: (N,) the catalogue's ids, sorted.
        events: (N,) int64, each item's training events.
        ads: the ads, whose starts and ends divide time into stretches; None = all times are one stretch.
        include_current: whether the last viewed item is a candidate; has no effect on baskets.

    Raises:
        EvaluationError: there is no such protocol.
    """
    if protocol == "item":
        return item_pairs(sessions, item_ids, events, ads=ads, include_current=include_current)
    if protocol == "session":
        return session_pairs(sessions, item_ids, events, ads=ads, include_current=include_current)
    if protocol == "basket":
        return basket_pairs(sessions, item_ids, events, ads=ads)
    raise EvaluationError(f"protocol must be item, session or basket, got {protocol!r}")


def item_pairs(
    sessions: Sessions,
    item_ids: NDArray[np.object_],
    events: Rows,
    *,
    ads: Ads | None = None,
    include_current: bool = False,
) -> Pairs:
    """Return the pairs of the item protocol: each consecutive pair (a, b), a ≠ b, of a session.

    Args:
        sessions: the test sessions.
        item_ids: (N,) the catalogue's ids, sorted.
        events: (N,) int64, each item's training events.
        ads: the ads, whose starts and ends divide time into stretches.
        include_current: whether a is a candidate; if so, b may equal a.
    """
    rows, known = lookup(item_ids, sessions.item_ids)
    first = _followed(sessions, distinct=not include_current)
    stretch = _stretch(sessions.times[first + 1], ads)
    queries, query = _single(rows[first], known[first], stretch, len(item_ids))
    return Pairs(
        queries=queries,
        query=query,
        target=rows[first + 1],
        query_known=known[first],
        target_known=known[first + 1],
        group=sessions.session[first],
        question=np.arange(len(first)),
        stretch=stretch,
        events=_events(events, rows[first + 1], known[first + 1]),
        n_items=len(item_ids),
        include_current=include_current,
    )


def session_pairs(
    sessions: Sessions,
    item_ids: NDArray[np.object_],
    events: Rows,
    *,
    ads: Ads | None = None,
    include_current: bool = False,
) -> Pairs:
    """Return the pairs of the session protocol: each prefix of a session, and the item that follows it.

    Unknown items of a prefix are skipped. If the last item of a prefix is unknown, no item is excluded, as in serving.
    A prefix without a known item is a miss. Only the last 100 known items of a prefix count.

    Args:
        sessions: the test sessions.
        item_ids: (N,) the catalogue's ids, sorted.
        events: (N,) int64, each item's training events.
        ads: the ads, whose starts and ends divide time into stretches.
        include_current: whether a prefix's last item is a candidate. If not, a prefix is left out if the same item
            follows it again.
    """
    rows, known = lookup(item_ids, sessions.item_ids)
    last = _followed(sessions, distinct=not include_current)
    session = sessions.session[last]
    known_before = offsets_from_lengths(known)
    starts, ends = known_before[sessions.offsets[session]], known_before[last + 1]
    query_known = ends > starts
    starts, ends = starts[query_known], ends[query_known]
    starts = np.maximum(starts, ends - _MAX_PREFIX)
    lengths = ends - starts
    query = np.zeros(len(last), np.int64)
    query[query_known] = np.arange(len(lengths))
    return Pairs(
        queries=Queries(rows[known][spans(starts, lengths)], offsets_from_lengths(lengths)),
        query=query,
        target=rows[last + 1],
        query_known=query_known,
        target_known=known[last + 1],
        group=session,
        question=np.arange(len(last)),
        stretch=_stretch(sessions.times[last + 1], ads),
        events=_events(events, rows[last + 1], known[last + 1]),
        n_items=len(item_ids),
        include_current=include_current,
        last_unknown=~known[last][query_known],
    )


def basket_pairs(
    baskets: Sessions,
    item_ids: NDArray[np.object_],
    events: Rows,
    *,
    ads: Ads | None = None,
    seed: int = 0,
) -> Pairs:
    """Return the pairs of the basket protocol: each item is a query, and all other items of its basket are its targets.

    At most 20 items of a basket become queries; a seeded hash of (session, item) chooses them.

    Args:
        baskets: the test baskets.
        item_ids: (N,) the catalogue's ids, sorted.
        events: (N,) int64, each item's training events.
        ads: the ads, whose starts and ends divide time into stretches.
        seed: seed of the choice.
    """
    rows, known = lookup(item_ids, baskets.item_ids)
    basket = baskets.session
    chosen = _sampled(baskets, seed)
    # Pair every chosen event with every event of its basket except itself.
    lengths = np.diff(baskets.offsets)[basket[chosen]]
    source, other = np.repeat(chosen, lengths), spans(baskets.offsets[basket[chosen]], lengths)
    question = np.repeat(np.arange(len(chosen)), lengths)
    different = source != other
    source, other, question = source[different], other[different], question[different]
    # The time of a basket is that of its first event.
    stretch = _stretch(baskets.times[baskets.offsets[basket[source]]], ads)
    queries, query = _single(rows[source], known[source], stretch, len(item_ids))
    return Pairs(
        queries=queries,
        query=query,
        target=rows[other],
        query_known=known[source],
        target_known=known[other],
        group=basket[source],
        question=question,
        stretch=stretch,
        events=_events(events, rows[other], known[other]),
        n_items=len(item_ids),
    )


def _followed(sessions: Sessions, *, distinct: bool) -> Rows:
    """Return the events that have a next event in their session; with `distinct`, only if that has another item."""
    session = sessions.session
    follows = session[1:] == session[:-1]
    if distinct:
        item = sessions.item_ids.dictionary_encode().indices.to_numpy(zero_copy_only=False)
        follows &= item[1:] != item[:-1]
    return np.flatnonzero(follows)


def _events(events: Rows, rows: Rows, known: Mask) -> Rows:
    return np.where(known, events[rows], 0).astype(np.int64)


def _stretch(times: Rows, ads: Ads | None) -> Rows:
    return np.zeros(len(times), np.int64) if ads is None else ads.intervals(times)


def _single(rows: Rows, known: Mask, stretch: Rows, n_items: int) -> tuple[Queries, Rows]:
    """Return (a query for each distinct pair of row and stretch of time, the query of each line)."""
    query = np.zeros(len(rows), np.int64)
    distinct, query[known] = np.unique(stretch[known] * n_items + rows[known], return_inverse=True)
    return Queries.single(distinct % max(1, n_items)), query


def _sampled(baskets: Sessions, seed: int) -> Rows:
    """Return the events, ascending, whose hash of (session, item) is among the 20 smallest of their basket."""
    salt = seed.to_bytes(8, "little")
    owners = [session.encode() for session in baskets.session_ids.to_pylist()]
    hashed = [
        blake2b(owners[basket] + b"\0" + item.encode(), digest_size=8, salt=salt).digest()
        for basket, item in zip(baskets.session.tolist(), baskets.item_ids.to_pylist(), strict=True)
    ]
    order = np.lexsort((np.frombuffer(b"".join(hashed), np.uint64), baskets.session))
    return np.sort(order[positions_in_lists(baskets.offsets) < _MAX_BASKET_QUERIES])
