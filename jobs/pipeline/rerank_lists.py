"""Ranked lists of held-out sessions, and the items opened from these lists, to train and judge a pre-ranker on."""

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


class RankedLists(NamedTuple):
    """L ranked lists of held-out sessions, and the item that was opened from each list.

    Args:
        contexts: for each list, the further facts that the pre-ranker knows: viewed items, search and country.
        ranked: the lists, each with the best item first.
        target: (L,) int64, the position of the opened item in its list, −1 if the item is not in the list.
        session: (L,) int64, the session of each list.
    """

    contexts: "list[Context]"
    ranked: "TopK"
    target: "Rows"
    session: "Rows"

    @property
    def fold(self) -> "Rows":
        """The half of the sessions that each list belongs to, 0 or 1: (L,) int64."""
        return self.session >> 1 & 1

    def score(self, lists: "Rows", reranker: "Reranker | None") -> float:
        """Return the mean of HR@20 and MRR@20 over some lists, as `reranker` orders them; without one, as retrieved."""
        total = 0.0
        for number in lists[self.target[lists] >= 0].tolist():
            position = int(self.target[number])
            if reranker is not None:
                rows, scores = self.candidates(number)
                target_row, (ordered, _) = rows[position], reranker.ordered(self.contexts[number], rows, scores)
                position = int(np.flatnonzero(ordered == target_row)[0])
            total += (position < 20) * (0.5 + 0.5 / (position + 1))
        return total / max(1, len(lists))

    def candidates(self, number: int) -> "tuple[Rows, Any]":
        """Return the rows and the scores of one list."""
        span = slice(self.ranked.offsets[number], self.ranked.offsets[number + 1])
        return self.ranked.rows[span], self.ranked.scores[span]


def retrieved_lists(
    graph: Path, ranker: "EmbeddingRanker", config: Config, half: int | None = None
) -> RankedLists | None:
    """Retrieve a list after each prefix of the held-out sessions; the target of the list is the next item.

    The ranker does not know items that first appear in the hold-out; these items are left out of the sessions. If there
    are more than `[prerank] max_lists` prefixes, a seeded sample of them is used.

    Args:
        graph: folder of the item graph.
        ranker: the ranker that retrieves the lists, over the embeddings of `fit/`.
        config: the full configuration.
        half: which half of the hold-out's sessions to use, 0 or 1; None = all.

    Returns:
        None if no session of the hold-out has two items.
    """
    from retrieval.arrays import offsets_from_lengths, spans
    from retrieval.catalogue.items import lookup
    from retrieval.queries import Queries
    from retrieval.ranking.reranker import Context

    table = _sessions_of_one_kind(held_sessions(graph, config, half, ("searches", "country")))
    if table is None:
        return None
    session = np.repeat(np.arange(len(table)), pc.list_value_length(table["items"]).to_numpy())
    rows, known = lookup(ranker.catalogue.item_ids, pc.list_flatten(table["items"]).combine_chunks())
    searches = pc.list_flatten(table["searches"]).filter(pa.array(known))
    rows, session = rows[known], session[known]
    starts = offsets_from_lengths(np.bincount(session, minlength=len(table)))
    last = _prefix_ends(rows, starts, config.prerank.max_lists)
    owner = session[last]
    first = np.maximum(starts[owner], last + 1 - ranker.recent_items)
    lengths = last + 1 - first
    queries = Queries(rows[spans(first, lengths)], offsets_from_lengths(lengths))
    ranked = ranker.rank(queries, config.prerank.depth)
    target = _positions(ranked, rows[last + 1])
    contexts = [
        Context.of(rows[start : end + 1], ranker.config.recency_weight, hashed=search, country=country)
        for start, end, search, country in zip(
            first.tolist(),
            last.tolist(),
            searches.take(pa.array(last)).to_pylist(),
            table["country"].take(pa.array(owner)).to_pylist(),
            strict=True,
        )
    ]
    return RankedLists(contexts, ranked, target, table["session"].to_numpy()[owner])


def _sessions_of_one_kind(table: pa.Table) -> pa.Table | None:
    """The browsing sessions, or the baskets if there are no browsing sessions."""
    for kind in ("browse", "basket"):
        sessions = table.filter(pc.equal(table["kind"], kind))
        if len(sessions):
            return sessions
    return None


def _prefix_ends(rows: "Rows", starts: "Rows", limit: int) -> "Rows":
    """Return the position of the last item of each prefix that another item follows, or a sample of `limit` of them."""
    last = np.setdiff1d(np.arange(len(rows)), starts[1:] - 1)
    last = last[rows[last] != rows[last + 1]]
    if len(last) > limit:
        last = np.sort(np.random.default_rng(0).choice(last, limit, replace=False))
    return last


def _positions(ranked: "TopK", target_rows: "Rows") -> "Rows":
    """Return the position of the target row in each list, −1 if the row is not in the list."""
    list_of = np.repeat(np.arange(len(target_rows)), np.diff(ranked.offsets))
    hits = np.flatnonzero(ranked.rows == target_rows[list_of])
    positions = np.full(len(target_rows), -1, np.int64)
    positions[list_of[hits]] = hits - ranked.offsets[:-1][list_of[hits]]
    return positions


def shown_lists(graph: Path, ranker: "EmbeddingRanker", config: Config, half: int | None = None) -> RankedLists | None:
    """Read the items that shoppers saw in answer to the requests of held-out sessions, and rank them by retrieval.

    If several items of one answer were opened, there is a list for each of them.

    Args:
        graph: folder of the item graph.
        ranker: the ranker that ranks the shown items, over the embeddings of `fit/`.
        config: the full configuration.
        half: which half of the hold-out's sessions to use, 0 or 1; None = all.

    Returns:
        None if the log has no impressions from which such a list can be made.
    """
    from retrieval.arrays import offsets_from_lengths
    from retrieval.catalogue.items import lookup
    from retrieval.queries import Queries
    from retrieval.ranking.reranker import Context

    if not (graph / "impressions").exists():
        return None
    held = held_sessions(graph, config, half, ("searches", "country"), min_items=1).to_pylist()
    sessions = {row["session"]: row for row in held}
    requests = pq.read_table(graph / "impressions", filters=pc.field("session").isin(list(sessions)))
    views, shown, opened, contexts, owner = [], [], [], [], []
    for request in requests.to_pylist():
        session = sessions[request["session"]]
        seen = sum(time < request["time"] for time in session["times"])
        item_ids = pa.array([*session["items"][:seen], *request["items"]], pa.string())
        rows, known = lookup(ranker.catalogue.item_ids, item_ids)
        viewed, shown_known = rows[:seen][known[:seen]], known[seen:]
        if not len(viewed) or shown_known.sum() < 2:
            continue
        for item in request["opened"]:
            position = request["items"].index(item)
            if shown_known[position]:
                views.append(viewed[-ranker.recent_items :])
                shown.append(rows[seen:][shown_known])
                opened.append(rows[seen + position])
                about = {"hashed": session["searches"][seen - 1], "country": session["country"]}
                contexts.append(Context.of(views[-1], ranker.config.recency_weight, **about))
                owner.append(request["session"])
    if not shown:
        return None
    queries = Queries(np.concatenate(views), offsets_from_lengths([len(rows) for rows in views]))
    query = np.repeat(np.arange(len(shown)), [len(rows) for rows in shown])
    ranked = ranker.shortlists(queries, query, np.concatenate(shown), max(len(rows) for rows in shown))
    return RankedLists(contexts, ranked, _positions(ranked, np.array(opened)), np.array(owner, np.int64))
