"""Measures a model on the hold-out.

The model is trained on `fit/` and ranks as in serving. Its targets are the next item for each item of a held-out
session, and all the other items for each item of a basket. The result decides when training stops, and which weights
the terms of the score get.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.config import Config
from jobs.pipeline.evaluate import SESSION_KIND, catalogue_of
from jobs.pipeline.score_weights import choose_weights

if TYPE_CHECKING:
    from model.embeddings import Embeddings
    from retrieval.catalogue.edges import Edges
    from retrieval.config import ScoreWeights
    from retrieval.evaluation.pairs import Pairs
    from retrieval.evaluation.protocols import Choice
    from retrieval.ranking.embedding_ranker import EmbeddingRanker

    RankerOf = Callable[[ScoreWeights], EmbeddingRanker]

log = logging.getLogger(__name__)

# The revisit weight is chosen on the prefixes of at most this many sessions. So few suffice, because shoppers often go
# back to items.
PREFIX_SESSIONS = 1000


@dataclass(frozen=True)
class HoldoutEvaluation:
    """The queries and targets of the hold-out's sessions.

    Args:
        graph: folder of the item graph.
        config: the full configuration.
        pairs: queries and their targets.
        protocol: the protocol of the pairs, `item` or `basket`.
        prefixes: prefixes of some of the sessions, each with the item that comes next; None for baskets.
    """

    graph: Path
    config: Config
    pairs: "Pairs"
    protocol: str
    prefixes: "Pairs | None" = None

    @classmethod
    def load(cls, graph: Path, config: Config, half: int | None = None) -> "HoldoutEvaluation | None":
        """Read the hold-out of a graph folder, or a sample of it if it is large.

        The pairs come from the browsing sessions of the hold-out or, if these have no pair, from its baskets.

        Args:
            graph: folder of the item graph.
            config: the full configuration.
            half: which half of the hold-out's sessions to use, 0 or 1; None = all.

        Returns:
            None if no held-out session has two items.
        """
        from retrieval.evaluation.pairs import pairs_of
        from retrieval.evaluation.sessions import sessions_from_graph

        nodes = pq.read_table(graph / "fit" / "nodes", columns=["item_id", "events"]).sort_by("item_id")
        item_ids = np.array(nodes["item_id"].to_pylist(), dtype=object)
        events = nodes["events"].to_numpy().astype(np.int64)
        table = held_sessions(graph, config, half)
        for protocol in ("item", "basket"):
            kind = SESSION_KIND[protocol]
            sessions = sessions_from_graph(table, kind)
            if len(sessions) and len(pairs := pairs_of(protocol, sessions, item_ids, events)):
                some = sessions_from_graph(table.slice(0, PREFIX_SESSIONS), kind)
                prefixes = pairs_of("session", some, item_ids, events) if protocol == "item" and len(some) else None
                return cls(graph, config, pairs, protocol, prefixes)
        log.warning(
            "no hold-out session has two items: the settings that are chosen on the hold-out keep their defaults"
        )
        return None

    def hits(self, embeddings: "Embeddings") -> float:
        """Return the hits of embeddings of `fit/`, with the weights that are configured, else their defaults."""
        return self.choice(embeddings, self.config.retrieval.weights()).hits

    def ranker_of(self, embeddings: "Embeddings") -> "RankerOf":
        """Return a function that takes weights of the score, and returns a ranker over these embeddings of `fit/`."""
        from retrieval.catalogue.score_terms import item_bias
        from retrieval.config import ScoreWeights
        from retrieval.ranking.embedding_ranker import EmbeddingRanker

        catalogue = catalogue_of(embeddings, self.graph / "fit", ScoreWeights())

        def ranker(weights: ScoreWeights) -> EmbeddingRanker:
            weighted = replace(catalogue, bias=item_bias(embeddings.prior, catalogue.events, weights))
            return EmbeddingRanker(weighted, self.edges(weights), self.config.retrieval)

        return ranker

    def choice(self, embeddings: "Embeddings", weights: "ScoreWeights") -> "Choice":
        """Return the scores of embeddings of `fit/` with some weights; settings are chosen by these scores."""
        from retrieval.evaluation.protocols import choice_score

        return choice_score(self.ranker_of(embeddings)(weights), self.pairs, self.protocol)

    def rows(self, model: str, embeddings: "Embeddings", weights: "ScoreWeights") -> "list[dict[str, Any]]":
        """Measure embeddings of `fit/`, and return a row for each slice and metric, under the name `model`."""
        from retrieval.evaluation.protocols import evaluate

        ranker = self.ranker_of(embeddings)(weights)
        return evaluate(model, ranker, self.pairs, protocol=self.protocol, samples=1)

    def choose_weights(self, embeddings: "Embeddings") -> "ScoreWeights":
        """Choose the weights of the score's terms for embeddings of `fit/`; see `score_weights`."""
        from retrieval.evaluation.protocols import choice_score

        ranker = self.ranker_of(embeddings)

        @cache
        def rate(weights: "ScoreWeights") -> "Choice":
            return choice_score(ranker(weights), self.pairs, self.protocol)

        prefixes = self.prefixes

        def rate_prefixes(weights: "ScoreWeights") -> float:
            assert prefixes is not None
            return choice_score(ranker(weights), prefixes, "session").with_first_places

        return choose_weights(self.config, rate, rate_prefixes if prefixes is not None and len(prefixes) else None)

    def edges(self, weights: "ScoreWeights") -> "Edges":
        """Return the edges of `fit/`; `weights` says how much direct edges add to a score."""
        return self._edges.weighing(weights)

    @cached_property
    def _edges(self) -> "Edges":
        from retrieval.catalogue.edges import Edges

        nodes = pq.read_table(self.graph / "fit" / "nodes", columns=["item_id"]).sort_by("item_id")
        item_ids = np.array(nodes["item_id"].to_pylist(), dtype=object)
        return Edges.from_table(pq.read_table(self.graph / "fit" / "edges"), item_ids)


def held_sessions(
    graph: Path, config: Config, half: int | None = None, more: tuple[str, ...] = (), *, min_items: int = 2
) -> pa.Table:
    """Read the hold-out's sessions (session, kind, items, times), or a seeded sample of them if there are many.

    Args:
        graph: folder of the item graph.
        config: the full configuration, with the size and the seed of the sample.
        half: which half of the hold-out's sessions to use, 0 or 1; None = all.
        more: names of further columns.
        min_items: the smallest number of items of a session.
    """
    columns = ["session", "kind", "items", "times", *more]
    table = pq.read_table(graph / "sessions", columns=columns, filters=pc.field("held"))
    if half is not None:
        table = table.filter(pc.equal(pc.bit_wise_and(table["session"], 1), half))
    return _sample(table.filter(pc.greater_equal(pc.list_value_length(table["items"]), min_items)), config)


def _sample(table: pa.Table, config: Config) -> pa.Table:
    table = table.sort_by("session")
    size = config.validation.max_sessions
    if len(table) <= size:
        return table
    chosen = np.random.default_rng(config.model.train.seed).choice(len(table), size, replace=False)
    return table.take(pa.array(np.sort(chosen)))
