"""The session encoder's part of a version: trained on what sessions opened next, served as far as it beats the mean.

The item side was trained on the same sessions: their next items stand nearer to the last ones than those of new
sessions do, which may teach an encoder to trust the last item too much. So what it learned is followed by a share that
the hold-out chooses.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.config import Config
from jobs.pipeline.evaluate import catalogue_of
from jobs.pipeline.holdout import held_sessions
from jobs.progress import ProgressCallback

if TYPE_CHECKING:
    from model.embeddings import Embeddings
    from model.sessions.training import TrainedSessions
    from retrieval.config import ScoreWeights
    from retrieval.evaluation.sessions import Sessions
    from retrieval.ranking.session_encoder import SessionEncoder

log = logging.getLogger(__name__)

SHARES = (0.25, 0.5, 1.0)
"""How much of what was learned is followed, the rest being the mean."""


def better_than_the_mean(
    graph: Path,
    embeddings: "Embeddings",
    weights: "ScoreWeights",
    config: Config,
    report: ProgressCallback,
    half: int | None = None,
) -> "tuple[SessionEncoder, float] | None":
    """A session encoder and its share, if with one it finds more on the hold-out than the weighted mean of the items.

    `embeddings` are those of `fit/`, which saw nothing of the hold-out; neither does the encoder that is tried.

    Args:
        half: 0 or 1: compared on that half of the hold-out's sessions alone.
    """
    from retrieval.catalogue.edges import Edges
    from retrieval.evaluation.pairs import session_pairs
    from retrieval.evaluation.protocols import choice_score
    from retrieval.evaluation.sessions import sessions_from_graph
    from retrieval.ranking.embedding_ranker import EmbeddingRanker

    catalogue = catalogue_of(embeddings, graph / "fit", weights)
    held = sessions_from_graph(held_sessions(graph, config, half), "browse")
    pairs = session_pairs(held, catalogue.item_ids, catalogue.events) if len(held) else None
    if pairs is None or not len(pairs):
        log.warning("no hold-out session has two items: no session encoder is trained")
        return None
    edges = Edges.from_table(pq.read_table(graph / "fit" / "edges"), catalogue.item_ids, weights)
    trained = train_encoder(graph, embeddings, config, report, held=False)

    def score(encoder: "SessionEncoder | None") -> float:
        ranker = EmbeddingRanker(catalogue, edges, config.retrieval, encoder)
        return choice_score(ranker, pairs, "session").with_first_places

    encoders = {share: served(trained, share) for share in (0.0, *SHARES)}
    scores = {share: score(encoder) for share, encoder in encoders.items()}
    share = max(scores, key=lambda one: scores[one])
    said = ", ".join(f"{one:g}: {value:.4f}" for one, value in scores.items())
    log.info("session encoder: on the hold-out, by the share of it that is followed, %s", said)
    log.info("session encoder: %s", f"{share:g} of it is served" if share else "the weighted mean is served")
    encoder = encoders[share]
    return None if encoder is None else (encoder, share)


def train_encoder(
    graph: Path, embeddings: "Embeddings", config: Config, report: ProgressCallback, *, held: bool = True
) -> "TrainedSessions":
    """An encoder in front of these embeddings, from the graph's sessions.

    `held`: whether those of the hold-out are among them.
    """
    from model.sessions.training import SessionRows, train_sessions
    from retrieval.catalogue.items import lookup

    sessions = _sessions(graph, held=held)
    rows, known = lookup(np.array(embeddings.item_ids.to_pylist(), dtype=object), sessions.item_ids)
    assert known.all(), "a graph's sessions hold its own items"
    weight = config.retrieval.recency_weight
    return train_sessions(
        SessionRows(rows, sessions.offsets), embeddings, config.session, report, recency_weight=weight
    )


def served(trained: "TrainedSessions", share: float) -> "SessionEncoder | None":
    """An encoder as it is served: None for a share of 0, by which nothing is left of it."""
    from model.sessions.export import to_onnx
    from retrieval.ranking.session_encoder import SessionEncoder

    if not share:
        return None
    encoder = trained.blend(share).encoder
    return SessionEncoder(to_onnx(encoder), trained.session_input, encoder.length)


def _sessions(graph: Path, *, held: bool) -> "Sessions":
    """What was browsed: in all sessions, or only outside the hold-out."""
    from retrieval.evaluation.sessions import sessions_from_graph

    chosen = None if held else ~pc.field("held")
    columns = ["session", "kind", "items", "times"]
    return sessions_from_graph(pq.read_table(graph / "sessions", columns=columns, filters=chosen), "browse")
