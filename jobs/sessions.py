"""The session encoder's part of a version: trained on what sessions opened next, served where it beats the mean."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.config import Config
from jobs.evaluate import catalogue_of
from jobs.progress import Report
from jobs.validation import held_sessions

if TYPE_CHECKING:
    from model.embeddings import Embeddings
    from retrieval.config import ScoreWeights
    from retrieval.session_encoder import SessionEncoder
    from retrieval.sessions import Sessions

log = logging.getLogger(__name__)


def better_than_the_mean(
    graph: Path,
    embeddings: "Embeddings",
    weights: "ScoreWeights",
    config: Config,
    report: Report,
    half: int | None = None,
) -> "SessionEncoder | None":
    """A session encoder, if it finds more on the hold-out than the weighted mean of the items' vectors.

    `embeddings` are those of `fit/`, which saw nothing of the hold-out; neither does the encoder that is tried.

    Args:
        half: 0 or 1: compared on that half of the hold-out's sessions alone.
    """
    from retrieval.edges import Edges
    from retrieval.evaluate import choice_score
    from retrieval.pairs import session_pairs
    from retrieval.ranking import EmbeddingRanker
    from retrieval.sessions import sessions_from_graph

    catalogue = catalogue_of(embeddings, graph / "fit", weights)
    held = sessions_from_graph(held_sessions(graph, config, half), "browse")
    pairs = session_pairs(held, catalogue.item_ids, catalogue.events) if len(held) else None
    if pairs is None or not len(pairs):
        log.warning("no hold-out session has two items: no session encoder is trained")
        return None
    edges = Edges.from_table(pq.read_table(graph / "fit" / "edges"), catalogue.item_ids, weights)
    encoder = train_encoder(graph, embeddings, config, report, held=False)
    mean, encoded = (
        choice_score(EmbeddingRanker(catalogue, edges, config.retrieval, served), pairs, "session").with_first_places
        for served in (None, encoder)
    )
    log.info(
        "session encoder: %.4f on the hold-out, the weighted mean %.4f: it is %sserved",
        *(encoded, mean, "" if encoded > mean else "not "),
    )
    return encoder if encoded > mean else None


def train_encoder(
    graph: Path, embeddings: "Embeddings", config: Config, report: Report, *, held: bool = True
) -> "SessionEncoder":
    """An encoder in front of these embeddings, ready to serve, from the graph's sessions.

    `held`: whether those of the hold-out are among them.
    """
    from model.session_export import to_onnx
    from model.session_training import SessionRows, train_sessions
    from retrieval.catalogue import lookup
    from retrieval.session_encoder import SessionEncoder

    sessions = _sessions(graph, held=held)
    rows, known = lookup(np.array(embeddings.item_ids.to_pylist(), dtype=object), sessions.item_ids)
    assert known.all(), "a graph's sessions hold its own items"
    trained = train_sessions(SessionRows(rows, sessions.offsets), embeddings, config.session, report)
    return SessionEncoder(to_onnx(trained.encoder), trained.session_input, config.session.length)


def _sessions(graph: Path, *, held: bool) -> "Sessions":
    """What was browsed: in all sessions, or only outside the hold-out."""
    from retrieval.sessions import sessions_from_graph

    chosen = None if held else ~pc.field("held")
    columns = ["session", "kind", "items", "times"]
    return sessions_from_graph(pq.read_table(graph / "sessions", columns=columns, filters=chosen), "browse")
