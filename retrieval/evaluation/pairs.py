"""What the protocols ask: test sessions turned into (query, target) pairs, once, for every model that is compared."""

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
# More of a prefix nobody reads, and those of a bot's session would not fit into memory.
_MAX_PREFIX = 100


@dataclass(frozen=True, eq=False)
class Pairs:
    """For each pair: is the target among the best of the query?

    Shapes: queries: n distinct lists of viewed rows; query (P,) int64, the query of each pair; target (P,) int64, a
    row; query_known, target_known (P,) bool: where one is not, its number means nothing and the pair is a miss;
    group (P,) int64, the session or basket of each pair; asked (P,) int64, the question that it belongs to (a basket's
    have many targets); stretch (P,) int64, the stretch of time between ads' starts and ends in which it was asked;
    events (P,) int64, training events of the target, 0 if it is unknown; last_unknown (n,) bool: queries whose last
    viewed item is not in the catalogue, None: of none.
    """

    queries: Queries
    query: Rows
    target: Rows
    query_known: Mask
    target_known: Mask
    group: Rows
    asked: Rows
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
    """The pairs of a protocol by its name: item, session or basket; `ads` keeps apart the times at which they differ.

    `include_current` says nothing of baskets, whose targets are other items.

    Args:
        item_ids, events: (N,) the catalogue's ids, sorted, and each item's training events.

    Raises:
        EvaluationError: no such protocol.
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
    """Item-to-item: each consecutive pair (a, b), a ≠ b, of a session; candidates are the whole catalogue without a.

    With `include_current` a is a candidate, and may be the target.
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
        asked=np.arange(len(first)),
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
    """Session-to-item: for each prefix of a session the next item.

    With `include_current` a prefix's last item is a candidate, and may be the target; without it the prefixes that it
    follows again are left out. Unknown items of a prefix say nothing; behind an unknown last one nothing is left out of
    the candidates, as when it is served, and a prefix without a known item finds nothing. Of a long prefix the last 100
    known items are asked with.
    """
    rows, known = lookup(item_ids, sessions.item_ids)
    last = _followed(sessions, distinct=not include_current)
    session = sessions.session[last]
    seen = offsets_from_lengths(known)
    starts, ends = seen[sessions.offsets[session]], seen[last + 1]
    query_known = ends > starts
    starts, ends = starts[query_known], ends[query_known]
    starts = np.maximum(starts, ends - _MAX_PREFIX)
    counts = ends - starts
    flat = spans(starts, counts)
    query = np.zeros(len(last), np.int64)
    query[query_known] = np.arange(len(counts))
    return Pairs(
        queries=Queries(rows[known][flat], offsets_from_lengths(counts)),
        query=query,
        target=rows[last + 1],
        query_known=query_known,
        target_known=known[last + 1],
        group=session,
        asked=np.arange(len(last)),
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
    """Basket: each distinct item, at most 20 a basket by a seeded hash of (session, item), asks for all the others."""
    rows, known = lookup(item_ids, baskets.item_ids)
    basket = baskets.session
    chosen = _sampled(baskets, seed)
    # Every chosen event against every event of its basket, but itself.
    counts = np.diff(baskets.offsets)[basket[chosen]]
    source = np.repeat(chosen, counts)
    other = spans(baskets.offsets[basket[chosen]], counts)
    asked = np.repeat(np.arange(len(chosen)), counts)
    kept = source != other
    source, other, asked = source[kept], other[kept], asked[kept]
    # A basket has one time, that of its first row.
    stretch = _stretch(baskets.times[baskets.offsets[basket[source]]], ads)
    queries, query = _single(rows[source], known[source], stretch, len(item_ids))
    return Pairs(
        queries=queries,
        query=query,
        target=rows[other],
        query_known=known[source],
        target_known=known[other],
        group=basket[source],
        asked=asked,
        stretch=stretch,
        events=_events(events, rows[other], known[other]),
        n_items=len(item_ids),
    )


def _followed(sessions: Sessions, *, distinct: bool) -> Rows:
    """Events with a next one in their session, if `distinct` of another item."""
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
    """(the distinct queries of one row each in a stretch of time, which of them each pair asks)."""
    query = np.zeros(len(rows), np.int64)
    distinct, query[known] = np.unique(stretch[known] * n_items + rows[known], return_inverse=True)
    return Queries.single(distinct % max(1, n_items)), query


def _sampled(baskets: Sessions, seed: int) -> Rows:
    """Events (ascending) whose hash of (session, item) is among the 20 smallest of their basket."""
    salt = seed.to_bytes(8, "little")
    owners = [session.encode() for session in baskets.session_ids.to_pylist()]
    hashed = [
        blake2b(owners[basket] + b"\0" + item.encode(), digest_size=8, salt=salt).digest()
        for basket, item in zip(baskets.session.tolist(), baskets.item_ids.to_pylist(), strict=True)
    ]
    order = np.lexsort((np.frombuffer(b"".join(hashed), np.uint64), baskets.session))
    return np.sort(order[positions_in_lists(np.diff(baskets.offsets)) < _MAX_BASKET_QUERIES])
