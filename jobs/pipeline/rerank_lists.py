"""What a pre-ranker is learned from and judged by: ranked lists of held-out sessions, and what was opened of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.config import Config
from jobs.pipeline.holdout import held_sessions

if TYPE_CHECKING:
    from retrieval.arrays import Rows
    from retrieval.ranking.embedding_ranker import EmbeddingRanker
    from retrieval.ranking.reranker import Context, Reranker
    from retrieval.topk import TopK


class Lists(NamedTuple):
    """Ranked lists of held-out sessions, and what was opened of each."""

    contexts: "list[Context]"
    found: "TopK"
    target: "Rows"
    """(L,) int64: the place of what was opened in its list, −1 if it is not there"""
    session: "Rows"

    @property
    def fold(self) -> "Rows":
        """Which half of the sessions each list is of, 0 or 1: (L,) int64."""
        return self.session >> 1 & 1

    def of(self, which: "Rows", ranker: "Reranker | None") -> float:
        """The mean of HR@20 and MRR@20 of some lists, as retrieval ordered them or as a pre-ranker does."""
        total = 0.0
        for place in which[self.target[which] >= 0].tolist():
            at = int(self.target[place])
            if ranker is not None:
                rows, scores = self.line(place)
                wanted, (ordered, _) = rows[at], ranker.ordered(self.contexts[place], rows, scores)
                at = int(np.flatnonzero(ordered == wanted)[0])
            total += (at < 20) * (0.5 + 0.5 / (at + 1))
        return total / max(1, len(which))

    def line(self, place: int) -> "tuple[Rows, Any]":
        """The rows and scores of a list."""
        span = slice(self.found.offsets[place], self.found.offsets[place + 1])
        return self.found.rows[span], self.found.scores[span]


def lists_of(graph: Path, ranker: "EmbeddingRanker", config: Config, half: int | None = None) -> Lists | None:
    """What retrieval finds after prefixes of held-out sessions, a sample where they are many; None without any.

    Items that the ranker does not know, as they came with the hold-out, are left out of the sessions.
    """
    from retrieval.catalogue.items import lookup
    from retrieval.queries import Queries
    from retrieval.ranking.reranker import Context

    table = held_sessions(graph, config, half, ("searches", "country"))
    for kind in ("browse", "basket"):
        of_kind = table.filter(pc.equal(table["kind"], kind))
        if len(of_kind):
            break
    else:
        return None
    session = np.repeat(np.arange(len(of_kind)), pc.list_value_length(of_kind["items"]).to_numpy())
    rows, known = lookup(ranker.catalogue.item_ids, pc.list_flatten(of_kind["items"]).combine_chunks())
    rows, session, said = rows[known], session[known], pc.list_flatten(of_kind["searches"]).filter(pa.array(known))
    lengths = np.bincount(session, minlength=len(of_kind))
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    last = np.setdiff1d(np.arange(len(rows)), starts + lengths - 1)  # of each prefix
    last = last[rows[last] != rows[last + 1]]
    if len(last) > config.prerank.max_lists:
        last = np.sort(np.random.default_rng(0).choice(last, config.prerank.max_lists, replace=False))
    owner = session[last]
    first = np.maximum(starts[owner], last + 1 - ranker.recent_items)
    offsets = np.concatenate([[0], np.cumsum(last + 1 - first)]).astype(np.int64)
    flat = np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets)) + np.repeat(first, np.diff(offsets))
    found = ranker.rank(Queries(rows[flat], offsets), config.prerank.depth)
    line = np.repeat(np.arange(len(last)), np.diff(found.offsets))
    hit = np.flatnonzero(found.rows == rows[last + 1][line])
    target = np.full(len(last), -1, np.int64)
    target[line[hit]] = hit - found.offsets[:-1][line[hit]]
    searches = said.take(pa.array(last)).to_pylist()
    countries = of_kind["country"].take(pa.array(owner)).to_pylist()
    contexts = [
        Context.of(rows[start : end + 1], ranker.config.recency_weight, hashed=search, country=country)
        for start, end, search, country in zip(first.tolist(), last.tolist(), searches, countries, strict=True)
    ]
    return Lists(contexts, found, target, of_kind["session"].to_numpy()[owner])


def shown_lists(graph: Path, ranker: "EmbeddingRanker", config: Config, half: int | None = None) -> Lists | None:
    """What requests of held-out sessions showed, in retrieval's order, a line for each item that was opened of it.

    None where the log has no impressions, or none after a view.
    """
    from retrieval.catalogue.items import lookup
    from retrieval.queries import Queries
    from retrieval.ranking.reranker import Context

    if not (graph / "impressions").exists():
        return None
    held = held_sessions(graph, config, half, ("searches", "country"), least=1).to_pylist()
    sessions = {row["session"]: row for row in held}
    shown = pq.read_table(graph / "impressions", filters=pc.field("session").isin(list(sessions)))
    views, lists, opened, contexts, owner = [], [], [], [], []
    for row in shown.to_pylist():
        session = sessions[row["session"]]
        seen = sum(time < row["time"] for time in session["times"])
        known = lookup(ranker.catalogue.item_ids, pa.array([*session["items"][:seen], *row["items"]], pa.string()))
        before, rows, there = known[0][:seen][known[1][:seen]], known[0][seen:], known[1][seen:]
        if not len(before) or there.sum() < 2:
            continue
        for item in row["opened"]:
            place = row["items"].index(item)
            if there[place]:
                views.append(before[-ranker.recent_items :])
                lists.append(rows[there])
                opened.append(rows[place])
                said = {"hashed": session["searches"][seen - 1], "country": session["country"]}
                contexts.append(Context.of(views[-1], ranker.config.recency_weight, **said))
                owner.append(row["session"])
    if not lists:
        return None
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in views])]).astype(np.int64)
    query = np.repeat(np.arange(len(lists)), [len(one) for one in lists])
    most = max(len(one) for one in lists)
    found = ranker.shortlists(Queries(np.concatenate(views), offsets), query, np.concatenate(lists), most)
    hit = np.flatnonzero(found.rows == np.array(opened)[query])
    return Lists(contexts, found, hit - found.offsets[:-1], np.array(owner, np.int64))
