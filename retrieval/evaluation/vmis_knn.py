"""VMIS-kNN (Kersbergen, Sprangers and Schelter, Serenade, SIGMOD 2022): ranks items by the most similar sessions.

It is the baseline for the session encoder; nothing is learned. A session is more similar if it shares more items with
the query, and if these items come later in the query. Each similar session votes for its items, weighted by their IDF.
"""

from __future__ import annotations

import numpy as np

from retrieval import topk
from retrieval.arrays import Floats, Mask, Rows, offsets_from_lengths, spans
from retrieval.evaluation.baselines import TrainingSessions
from retrieval.queries import Queries
from retrieval.topk import TopK

# Number of latest views of a query that count; a match further back would have no weight.
_MAX_VIEWS = 9


class SessionKNN:
    """A `retrieval.queries.Ranker` that ranks by the votes of similar sessions."""

    def __init__(self, sessions: TrainingSessions, sample: int = 500, neighbours: int = 100) -> None:
        """Index the sessions by their items.

        Args:
            sessions: the sessions in order of time, the most recent last.
            sample: m, how many sessions are compared with a query: the most recent ones that share an item with it.
            neighbours: k, how many of these sessions vote.
        """
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
        lists = []
        for views in np.split(queries.rows, queries.offsets[1:-1]):
            rows, votes = self._votes(views)
            candidate = np.ones(len(rows), bool) if include_current else rows != views[-1]
            if eligible is not None:
                candidate &= eligible[rows]
            rows, votes = rows[candidate], votes[candidate]
            best = np.lexsort((rows, -votes))[:k]
            lists.append((rows[best], votes[best].astype(np.float32)))
        offsets = offsets_from_lengths([len(rows) for rows, _ in lists])
        return topk.TopK(offsets, np.concatenate([rows for rows, _ in lists]), np.concatenate([v for _, v in lists]))

    def _votes(self, views: Rows) -> tuple[Rows, Floats]:
        """Return the items that the most similar sessions vote for, and their votes."""
        recent = views[-_MAX_VIEWS:]
        # If an item was viewed twice, the later view counts.
        items, age = np.unique(recent[::-1], return_index=True)
        lists = [self._sessions[self._of_item[item] : self._of_item[item + 1]][: self.sample] for item in items]
        owner = np.repeat(np.arange(len(items)), [len(sessions) for sessions in lists])
        session, which = np.unique(np.concatenate(lists), return_inverse=True)
        similarity = np.bincount(which, (1 - age / len(recent))[owner], len(session))
        latest = np.full(len(session), _MAX_VIEWS)
        np.minimum.at(latest, which, age[owner])
        nearest = np.arange(len(session))[-self.sample :]
        nearest = nearest[np.lexsort((-session[nearest], -similarity[nearest]))][: self.neighbours]
        weight = similarity[nearest] * (1 - 0.1 * (latest[nearest] + 1))
        starts, lengths = self._starts[session[nearest]], np.diff(self._starts)[session[nearest]]
        rows, which = np.unique(self._items[spans(starts, lengths)], return_inverse=True)
        votes = np.bincount(which, np.repeat(weight, lengths), len(rows)) * self._idf[rows]
        return rows, votes
