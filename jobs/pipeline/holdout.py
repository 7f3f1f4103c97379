"""Choices on the hold-out: how well the served rule finds what the held-out sessions opened next.

Training stops by it, and the weights of the score's terms are chosen by it.
"""

import logging
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.config import Config
from jobs.pipeline.evaluate import KIND, catalogue_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.embeddings import Embeddings
    from retrieval.catalogue.edges import Edges
    from retrieval.config import ScoreWeights
    from retrieval.evaluation.pairs import Pairs
    from retrieval.evaluation.protocols import Choice
    from retrieval.ranking.embedding_ranker import EmbeddingRanker

    Score = Callable[[ScoreWeights], float]
    Rankers = Callable[[ScoreWeights], EmbeddingRanker]

log = logging.getLogger(__name__)

# What is tried: from nothing, past what theory asks for (0.05), to demand that moves once more as it has lately moved.
PRIOR = (0.0, 0.025, 0.05, 0.075, 0.1)
# To where an edge of some weight outdoes any embedding, in shops whose rare pairs are told by being seen once.
DIRECT = (0.0, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4)
REVISIT = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8)
POPULARITY = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15)
# Sessions whose prefixes are asked: what was viewed before is so often wanted again that a few show it.
PREFIXES = 1000
# The share of the best score that must be left as the dial is turned towards the tail.
KEPT = 0.998


@dataclass(frozen=True)
class HoldOut:
    """The pairs that the hold-out sessions ask of a model of the graph's `fit/`."""

    graph: Path
    config: Config
    pairs: "Pairs"
    protocol: str
    prefixes: "Pairs | None" = None
    """The next items of prefixes of some of the sessions, if they browse."""

    @classmethod
    def of(cls, graph: Path, config: Config, half: int | None = None) -> "HoldOut | None":
        """The hold-out of a graph folder, a sample where it is large: browsing, or baskets where no session browses.

        Args:
            half: 0 or 1: only the sessions of that half, by their hash.

        Returns:
            None where no held-out session has two items.
        """
        from retrieval.evaluation.pairs import pairs_of
        from retrieval.evaluation.sessions import sessions_from_graph

        nodes = pq.read_table(graph / "fit" / "nodes", columns=["item_id", "events"]).sort_by("item_id")
        item_ids = np.array(nodes["item_id"].to_pylist(), dtype=object)
        events = nodes["events"].to_numpy().astype(np.int64)
        table = held_sessions(graph, config, half)
        for protocol in ("item", "basket"):
            sessions = sessions_from_graph(table, KIND[protocol])
            if len(sessions) and len(pairs := pairs_of(protocol, sessions, item_ids, events)):
                some = sessions_from_graph(table.slice(0, PREFIXES), KIND[protocol])
                prefixes = pairs_of("session", some, item_ids, events) if protocol == "item" and len(some) else None
                return cls(graph, config, pairs, protocol, prefixes)
        log.warning("no hold-out session has two items: what is chosen on it elsewhere takes its default here")
        return None

    def rate(self, embeddings: "Embeddings") -> float:
        """The hits of embeddings of `fit/` ranked as they are served, with the configured weights or their defaults."""
        return self.choice(embeddings, self.config.retrieval.weights()).hits

    def rankers(self, embeddings: "Embeddings") -> "Rankers":
        """Embeddings of `fit/` as they would be served with the weights that one gives."""
        from retrieval.catalogue.score_terms import item_bias
        from retrieval.config import ScoreWeights
        from retrieval.ranking.embedding_ranker import EmbeddingRanker

        catalogue = catalogue_of(embeddings, self.graph / "fit", ScoreWeights())

        def ranker(weights: ScoreWeights) -> EmbeddingRanker:
            weighed = replace(catalogue, bias=item_bias(embeddings.prior, catalogue.events, weights))
            return EmbeddingRanker(weighed, self.edges(weights), self.config.retrieval)

        return ranker

    def choice(self, embeddings: "Embeddings", weights: "ScoreWeights") -> "Choice":
        """What embeddings of `fit/` and weights are chosen by."""
        return self._choice(self.rankers(embeddings), weights)

    def _choice(self, ranker: "Rankers", weights: "ScoreWeights") -> "Choice":
        from retrieval.evaluation.protocols import choice_score

        return choice_score(ranker(weights), self.pairs, self.protocol)

    def _after_prefixes(self, ranker: "Rankers", weights: "ScoreWeights") -> float:
        from retrieval.evaluation.protocols import choice_score

        assert self.prefixes is not None
        return choice_score(ranker(weights), self.prefixes, "session").with_first_places

    def rows(self, model: str, embeddings: "Embeddings", weights: "ScoreWeights") -> "list[dict[str, Any]]":
        """Embeddings of `fit/` by every slice and metric of `retrieval.evaluation.protocols`."""
        from retrieval.evaluation.protocols import evaluate

        ranker = self.rankers(embeddings)(weights)
        return evaluate(model, ranker, self.pairs, protocol=self.protocol, samples=1)

    def weights(self, embeddings: "Embeddings") -> "ScoreWeights":
        """The weights of the score's terms for embeddings of `fit/`, one term after the other.

        The shift of demand and the direct edges: those that do best. Direct edges decide the first places, which hits
        hardly show, so that MRR counts there too. Popularity: the largest that keeps all but 0.2% of the best score, so
        that the tail is given what the rest will not miss. Having been viewed before: what does best after prefixes of
        sessions; nothing else depends on it.
        """
        given, best = self.config.retrieval, self.config.retrieval.weights()
        ranker = self.rankers(embeddings)

        @cache
        def choice(weights: "ScoreWeights") -> "Choice":
            return self._choice(ranker, weights)

        def hits(weights: "ScoreWeights") -> float:
            return choice(weights).hits

        if given.prior_weight is None:
            best = _climb(hits, best, "prior", PRIOR)
        if given.direct_weight is None:
            best = _climb(lambda weights: choice(weights).with_first_places, best, "direct", DIRECT)
        if given.popularity_weight is None:
            best = _turn(hits, best)
        if given.revisit_weight is None and self.prefixes is not None and len(self.prefixes):
            best = _climb(partial(self._after_prefixes, ranker), best, "revisit", REVISIT)
        return best

    def edges(self, weights: "ScoreWeights") -> "Edges":
        """The edges of `fit/`, with the weight of the direct ones."""
        return self._edges.weighing(weights)

    @cached_property
    def _edges(self) -> "Edges":
        from retrieval.catalogue.edges import Edges

        nodes = pq.read_table(self.graph / "fit" / "nodes", columns=["item_id"]).sort_by("item_id")
        item_ids = np.array(nodes["item_id"].to_pylist(), dtype=object)
        return Edges.from_table(pq.read_table(self.graph / "fit" / "edges"), item_ids)


def held_sessions(
    graph: Path, config: Config, half: int | None = None, more: tuple[str, ...] = (), *, least: int = 2
) -> pa.Table:
    """The hold-out's sessions (session, kind, items, times), a sample where they are many.

    Args:
        half: 0 or 1: only the sessions of that half, by their hash.
        more: further columns.
        least: items that a session has at least.
    """
    columns = ["session", "kind", "items", "times", *more]
    table = pq.read_table(graph / "sessions", columns=columns, filters=pc.field("held"))
    if half is not None:
        table = table.filter(pc.equal(pc.bit_wise_and(table["session"], 1), half))
    return _sample(table.filter(pc.greater_equal(pc.list_value_length(table["items"]), least)), config)


def _climb(score: "Score", start: "ScoreWeights", name: str, values: tuple[float, ...]) -> "ScoreWeights":
    """From where the term stands upwards, or else downwards, for as long as the score rises."""
    at = getattr(start, name)
    for way in ([v for v in values if v > at], [v for v in reversed(values) if v < at]):
        best = start
        for value in way:
            tried = start.model_copy(update={name: value})
            if score(tried) <= score(best):
                break
            best = tried
        if best != start:
            return best
    return start


def _turn(score: "Score", start: "ScoreWeights") -> "ScoreWeights":
    """Up the dial for as long as the score keeps its share of the best."""
    chosen, best = start, score(start)
    for value in POPULARITY:
        tried = start.model_copy(update={"popularity": value})
        if score(tried) < KEPT * best:
            break
        chosen, best = tried, max(best, score(tried))
    return chosen


def _sample(table: pa.Table, config: Config) -> pa.Table:
    table = table.sort_by("session")
    most = config.validation.max_sessions
    if len(table) <= most:
        return table
    chosen = np.random.default_rng(config.model.train.seed).choice(len(table), most, replace=False)
    return table.take(pa.array(np.sort(chosen)))
