"""Builds the last part of a version: the index folder, from the embeddings, the graph's edges and the ads."""

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.config import Config
from jobs.progress import ProgressCallback

if TYPE_CHECKING:
    from jobs.pipeline.training import HoldoutChoice


def index_version(
    graph: Path,
    embeddings: Path,
    folder: Path,
    as_of: dt.datetime,
    config: Config,
    choice: "HoldoutChoice",
    report: ProgressCallback,
) -> dict[str, Any]:
    """Build the index folder, with the session encoder and the pre-ranker if the hold-out chose them.

    Args:
        graph: folder of the item graph.
        embeddings: folder of the embeddings to serve.
        folder: the folder to write the index to.
        as_of: the version's as-of time.
        config: the full configuration.
        choice: the choices made on the hold-out: the weights of the score, the session encoder and the pre-ranker.
        report: called with the progress.

    Returns:
        The content of the index's `meta.json`.
    """
    import pyarrow.parquet as pq

    from jobs.pipeline.rerank_stage import build_reranker
    from jobs.pipeline.session_stage import blended_encoder, browsing_sessions, train_encoder
    from model.embeddings import Embeddings
    from retrieval.catalogue.edges import Edges
    from retrieval.catalogue.items import read_catalogue
    from retrieval.index_folder import IndexContents, build_index

    items, ads = graph / "tables" / "items", graph / "tables" / "ads"
    nodes = pq.read_table(graph / "full" / "nodes")
    attributes = pq.read_table(items) if items.exists() else None
    catalogue = read_catalogue(embeddings, nodes, attributes, choice.weights)
    edges = Edges.from_table(pq.read_table(graph / "full" / "edges"), catalogue.item_ids, choice.weights)
    encoder = None
    if choice.encoder_share:
        trained = train_encoder(browsing_sessions(graph), Embeddings.load(embeddings), config, report)
        encoder = blended_encoder(trained, choice.encoder_share)
    reranker = build_reranker(graph, catalogue.item_ids, choice.reranker, config) if choice.reranker else None
    advertised = pq.read_table(ads) if ads.exists() else None
    contents = IndexContents(catalogue, edges, advertised, as_of, encoder, reranker)
    return build_index(folder, contents, config.retrieval, report)
