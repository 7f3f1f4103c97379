"""Choices on the hold-out: how well the served rule finds what the held-out sessions opened next.

Training stops by it, and the weights of the score's terms are chosen by it.
"""

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.config import Config
from jobs.evaluate import KIND, catalogue_of

if TYPE_CHECKING:
    from model.embeddings import Embeddings
    from retrieval.config import ScoreWeights
    from retrieval.edges import Edges
    from retrieval.pairs import Pairs
    from retrieval.ranking import Ranker

log = logging.getLogger(__name__)

# Fractions of nothing to twice what theory and the usual catalogue ask for.
PRIOR = (0.0, 0.025, 0.05, 0.075, 0.1)
DIRECT = (0.0, 0.025, 0.05, 0.1)


@dataclass(frozen=True)
class HoldOut:
    """The pairs that the hold-out sessions ask of a model of the graph's `fit/`."""

    graph: Path
    config: Config
    pairs: "Pairs"
    protocol: str

    @classmethod
    def of(cls, graph: Path, config: Config) -> "HoldOut | None":
        """The hold-out of a graph folder, a sample where it is large: browsing, or baskets where no session browses.

        Returns:
            None where no held-out session has two items.
        """
        from retrieval.pairs import pairs_of
        from retrieval.sessions import sessions_from_graph

        nodes = pq.read_table(graph / "fit" / "nodes", columns=["item_id", "events"]).sort_by("item_id")
        item_ids = np.array(nodes["item_id"].to_pylist(), dtype=object)
        events = nodes["events"].to_numpy().astype(np.int64)
        columns = ["session", "kind", "items", "times"]
        table = pq.read_table(graph / "sessions", columns=columns, filters=pc.field("held"))
        table = _sample(table.filter(pc.greater_equal(pc.list_value_length(table["items"]), 2)), config)
        for protocol in ("item", "basket"):
            sessions = sessions_from_graph(table, KIND[protocol])
            if len(sessions) and len(pairs := pairs_of(protocol, sessions, item_ids, events)):
                return cls(graph, config, pairs, protocol)
        log.warning("no hold-out session has two items: what is chosen on it elsewhere takes its default here")
        return None

    def score(self, ranker: "Ranker") -> float:
        """The mean of HR@20 and HR@100, or of basket recall."""
        from retrieval.evaluate import evaluate, hit_rates

        if self.protocol == "basket":
            rows = evaluate("", ranker, self.pairs, protocol="basket", samples=1)
            values = [row["value"] for row in rows if row["metric"] == "recall" and row["slice"] == "all"]
            return float(np.mean(values))
        return float(np.mean(hit_rates(ranker, self.pairs, (20, 100))))

    def rate(self, embeddings: "Embeddings", weights: "ScoreWeights | None" = None) -> float:
        """The score of embeddings of `fit/`, ranked as they are served."""
        from retrieval.ranking import EmbeddingRanker

        weights = weights or self.config.retrieval.weights()
        catalogue = catalogue_of(embeddings, self.graph / "fit", weights)
        return self.score(EmbeddingRanker(catalogue, self.edges(weights), self.config.retrieval))

    def weights(self, embeddings: "Embeddings") -> "ScoreWeights":
        """The weights of the score's terms with which embeddings of `fit/` do best, one term after the other."""
        given, best = self.config.retrieval, self.config.retrieval.weights()
        for name, fixed, values in (("prior", given.prior_weight, PRIOR), ("direct", given.direct_weight, DIRECT)):
            if fixed is None:
                tried = [best.model_copy(update={name: value}) for value in values]
                best = max(tried, key=lambda one: self.rate(embeddings, one))
        return best

    def edges(self, weights: "ScoreWeights") -> "Edges":
        """The edges of `fit/`, with the weight of the direct ones."""
        return replace(self._edges, direct_weight=weights.direct)

    @cached_property
    def _edges(self) -> "Edges":
        from retrieval.edges import Edges

        nodes = pq.read_table(self.graph / "fit" / "nodes", columns=["item_id"]).sort_by("item_id")
        item_ids = np.array(nodes["item_id"].to_pylist(), dtype=object)
        return Edges.from_table(pq.read_table(self.graph / "fit" / "edges"), item_ids)


def _sample(table: pa.Table, config: Config) -> pa.Table:
    table = table.sort_by("session")
    most = config.validation.max_sessions
    if len(table) <= most:
        return table
    chosen = np.random.default_rng(config.model.train.seed).choice(len(table), most, replace=False)
    return table.take(pa.array(np.sort(chosen)))
