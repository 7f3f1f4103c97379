"""The session encoder of a version. It learns to predict the next item of a session from the items before it.

The item embeddings were trained on the same sessions. So in these sessions, the vector of the next item is closer to
that of the last item than in new sessions, and an encoder may learn to trust the last item too much. Therefore, only a
share of the trained encoder is served, which is chosen on the hold-out; the rest is the mean of the items.
"""

import logging
from collections.abc import Callable
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

    EncoderScore = Callable[[SessionEncoder | None], float]

log = logging.getLogger(__name__)

SHARES = (0.25, 0.5, 1.0)
"""Shares of the trained encoder that are tried, besides 0."""


def choose_encoder(
    graph: Path,
    embeddings: "Embeddings",
    weights: "ScoreWeights",
    config: Config,
    report: ProgressCallback,
    half: int | None = None,
) -> "tuple[SessionEncoder | None, float]":
    """Train a session encoder without the hold-out, and choose on the hold-out which share of it to serve.

    Args:
        graph: folder of the item graph.
        embeddings: the embeddings of `fit/`, which were trained without the hold-out.
        weights: the weights of the score's terms.
        config: the full configuration.
        report: called with the progress.
        half: which half of the hold-out's sessions to compare on, 0 or 1; None = all.

    Returns:
        (the encoder, its share), or (None, 0) if the weighted mean of the items scores as high, or if no held-out
        session has two items.
    """
    score = encoder_score(graph, embeddings, weights, config, half)
    if score is None:
        log.warning("no hold-out session has two items: no session encoder is trained")
        return None, 0.0
    trained = train_encoder(browsing_sessions(graph, ~pc.field("held")), embeddings, config, report)
    encoders = {share: blended_encoder(trained, share) for share in (0.0, *SHARES)}
    share = best_share(encoders, score)
    return encoders[share], share


def encoder_score(
    graph: Path, embeddings: "Embeddings", weights: "ScoreWeights", config: Config, half: int | None = None
) -> "EncoderScore | None":
    """Return a function that scores an encoder on the hold-out, or None if no held-out session has two items.

    If the function gets None instead of an encoder, it scores the weighted mean of the items.

    Args:
        graph: folder of the item graph.
        embeddings: the embeddings of `fit/`.
        weights: the weights of the score's terms.
        config: the full configuration.
        half: which half of the hold-out's sessions to use, 0 or 1; None = all.
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
        return None
    edges = Edges.from_table(pq.read_table(graph / "fit" / "edges"), catalogue.item_ids, weights)

    def score(encoder: "SessionEncoder | None") -> float:
        ranker = EmbeddingRanker(catalogue, edges, config.retrieval, encoder)
        return choice_score(ranker, pairs, "session").with_first_places

    return score


def best_share(encoders: "dict[float, SessionEncoder | None]", score: "EncoderScore") -> float:
    """Return the share whose encoder scores highest; if several score the same, the first of them.

    Args:
        encoders: share → encoder; the first share is 0, with None for the mean of the items.
        score: returns the score of an encoder on the hold-out.
    """
    scores = {share: score(encoder) for share, encoder in encoders.items()}
    best = max(scores, key=lambda share: scores[share])
    shown = ", ".join(f"{share:g}: {value:.4f}" for share, value in scores.items())
    log.info("session encoder: score on the hold-out by served share: %s", shown)
    log.info("session encoder: %s", f"a share of {best:g} is served" if best else "the weighted mean is served")
    return best


def train_encoder(
    sessions: "Sessions", embeddings: "Embeddings", config: Config, report: ProgressCallback
) -> "TrainedSessions":
    """Train an encoder on sessions. The item embeddings stay fixed.

    Args:
        sessions: the sessions of the graph whose items were embedded.
        embeddings: the embeddings of the items.
        config: the full configuration.
        report: called with the progress.
    """
    from model.sessions.training import SessionRows, train_sessions
    from retrieval.catalogue.items import lookup

    rows, known = lookup(np.array(embeddings.item_ids.to_pylist(), dtype=object), sessions.item_ids)
    assert known.all(), "the sessions of a graph hold its own items"
    weight = config.retrieval.recency_weight
    return train_sessions(
        SessionRows(rows, sessions.offsets), embeddings, config.session, report, recency_weight=weight
    )


def blended_encoder(trained: "TrainedSessions", share: float) -> "SessionEncoder | None":
    """Export a blend of a trained encoder and the mean of the items for serving; None for a share of 0.

    Args:
        trained: the encoder.
        share: the share of the encoder, 0 to 1; the rest is the mean.
    """
    from model.sessions.export import to_onnx
    from retrieval.ranking.session_encoder import SessionEncoder

    if not share:
        return None
    encoder = trained.blend(share).encoder
    return SessionEncoder(to_onnx(encoder), trained.session_input, encoder.length)


def browsing_sessions(graph: Path, where: "pc.Expression | None" = None) -> "Sessions":
    """Read the browsing sessions of a graph folder.

    Args:
        graph: folder of the item graph.
        where: the sessions to read; None = all.
    """
    from retrieval.evaluation.sessions import sessions_from_graph

    columns = ["session", "kind", "items", "times"]
    return sessions_from_graph(pq.read_table(graph / "sessions", columns=columns, filters=where), "browse")
