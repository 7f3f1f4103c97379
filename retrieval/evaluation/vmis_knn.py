"""VMIS-kNN (Kersbergen, Sprangers and Schelter, Serenade, SIGMOD 2022): the next item by the nearest sessions.

The peer of a session encoder: nothing is learned. Sessions that share items with the query are neighbours, the more so
the later in the query these come; each votes for its items, which count by how rare they are.
"""

from __future__ import annotations

import numpy as np

from retrieval import topk
from retrieval.arrays import Floats, Mask, Rows, offsets_from_lengths
from retrieval.evaluation.baselines import TrainingSessions
from retrieval.queries import Queries
from retrieval.topk import TopK

_LONGEST = 9  # of a query: a match further back votes with nothing


class SessionKNN:
    """A `retrieval.queries.Ranker`.

    Args:
        sessions: the later a session stands, the more recent it is.
        sample: m, the most recent sessions with an item of the query that are compared with it.
        neighbours: k, those of them that vote.
    """

    def __init__(self, sessions: TrainingSessions, sample: int = 500, neighbours: int = 100) -> None:
        self.sample, self.neighbours = sample, neighbours
        pairs = np.unique(sessions.session * sessions.n_items + sessions.rows)
        owner, item = np.divmod(pairs, sessions.n_items)
        count = len(sessions.offsets) - 1
        self._items, self._starts = item, np.searchsorted(owner, np.arange(count + 1))
        order = np.lexsort((-owner, item))
        self._sessions, self._of_item = owner[order], np.searchsorted(item[order], np.arange(sessions.n_items + 1))
        self._idf = np.log(count / np.maximum(np.diff(self._of_item), 1))

    def rank(self, queries: Queries, k: int, *, eligible: Mask | None = None, include_current: bool = False) -> TopK:
        """See `retrieval.queries.Ranker`."""
        if not len(queries):
            return topk.concatenate([])
        found = []
        for views in np.split(queries.rows, queries.offsets[1:-1]):
            rows, votes = self._votes(views)
            keep = np.ones(len(rows), bool) if include_current else rows != views[-1]
            if eligible is not None:
                keep &= eligible[rows]
            rows, votes = rows[keep], votes[keep]
            best = np.lexsort((rows, -votes))[:k]
            found.append((rows[best], votes[best].astype(np.float32)))
        offsets = offsets_from_lengths([len(rows) for rows, _ in found])
        return topk.TopK(offsets, np.concatenate([rows for rows, _ in found]), np.concatenate([v for _, v in found]))

    def _votes(self, views: Rows) -> tuple[Rows, Floats]:
        """The items that the neighbours vote for, and how much."""
        recent = views[-_LONGEST:]
        # Of an item that was viewed twice the later view counts.
        items, ago = np.unique(recent[::-1], return_index=True)
        lists = [self._sessions[self._of_item[item] : self._of_item[item + 1]][: self.sample] for item in items]
        owner = np.repeat(np.arange(len(items)), [len(one) for one in lists])
        session, which = np.unique(np.concatenate(lists), return_inverse=True)
        near = np.bincount(which, (1 - ago / len(recent))[owner], len(session))
        latest = np.full(len(session), _LONGEST)
        np.minimum.at(latest, which, ago[owner])
        kept = np.arange(len(session))[-self.sample :]
        kept = kept[np.lexsort((-session[kept], -near[kept]))][: self.neighbours]
        weight = near[kept] * (1 - 0.1 * (latest[kept] + 1))
        starts, lengths = self._starts[session[kept]], np.diff(self._starts)[session[kept]]
        ends = np.cumsum(lengths)
        place = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths - starts, lengths)
        rows, of = np.unique(self._items[place], return_inverse=True)
        votes = np.bincount(of, np.repeat(weight, lengths), len(rows)) * self._idf[rows]
        return rows, votes
