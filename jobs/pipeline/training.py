"""Training in two steps: first on `fit/`, to choose settings on the hold-out; then on all events, with the settings."""

import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.config import Config
from jobs.progress import ProgressCallback

if TYPE_CHECKING:
    from jobs.pipeline.rerank_stage import RerankerWeights
    from model.embeddings import Embeddings
    from model.trained import Trained, TrainingRecord
    from model.warm_start import WarmStart
    from retrieval.config import ScoreWeights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HoldoutChoice:
    """The settings that were chosen on the hold-out.

    Args:
        record: the record of the training on `fit/`, with the share of the schedule after which to stop.
        weights: the weights of the score's terms.
        embeddings: the embeddings of `fit/`, with which everything was chosen.
        encoder_share: the share of the session encoder that is served; 0 = the query of a session is the weighted mean
            of its items.
        reranker: the weights of the pre-ranker; None = no pre-ranker is served.
    """

    record: "TrainingRecord"
    weights: "ScoreWeights"
    embeddings: "Embeddings"
    encoder_share: float = 0.0
    reranker: "RerankerWeights | None" = None

    def save(self, folder: Path) -> None:
        """Write `embeddings/` and `choice.json`."""
        self.embeddings.save(folder / "embeddings")
        content = {
            "record": dataclasses.asdict(self.record),
            "weights": self.weights.model_dump(),
            "session": self.encoder_share,
            "prerank": None if self.reranker is None else dataclasses.asdict(self.reranker),
        }
        (folder / "choice.json").write_text(json.dumps(content, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "HoldoutChoice":
        """Read the files that `save` wrote."""
        from jobs.pipeline.rerank_stage import RerankerWeights
        from model.embeddings import Embeddings
        from model.trained import TrainingRecord
        from retrieval.config import ScoreWeights

        content = json.loads((folder / "choice.json").read_text(encoding="utf-8"))
        record = content["record"] | {"curve": tuple(tuple(row) for row in content["record"]["curve"])}
        return cls(
            TrainingRecord(**record),
            ScoreWeights(**content["weights"]),
            Embeddings.load(folder / "embeddings"),
            content["session"],
            RerankerWeights(**content["prerank"]) if content["prerank"] else None,
        )


def choose(
    graph: Path, config: Config, report: ProgressCallback, *, start: "WarmStart | None" = None, half: int | None = None
) -> HoldoutChoice:
    """Train on `fit/`, and choose on the hold-out the number of steps, the weights of the score and the parts to serve.

    Args:
        graph: folder of the item graph.
        config: the full configuration.
        report: called with the progress.
        start: an earlier model, from whose weights training starts; None = from scratch.
        half: the half of the hold-out's sessions on which to choose, 0 or 1; None = all. The other half is then free to
            judge the choices.
    """
    from jobs.pipeline.holdout import HoldoutEvaluation
    from jobs.pipeline.rerank_stage import choose_reranker, read_counters
    from jobs.pipeline.session_stage import choose_encoder
    from model.graph import load_graph
    from model.trainer import train
    from retrieval.ranking.embedding_ranker import EmbeddingRanker

    holdout = HoldoutEvaluation.load(graph, config, half)
    fitted = train(
        load_graph(graph, "fit", graph / "tables" / "items"),
        config.model,
        validate=holdout.hits if holdout else None,
        start=start,
        progress=report,
    )
    weights = config.retrieval.weights()
    if holdout is not None:
        report("weights of the score", 1.0)
        weights = holdout.choose_weights(fitted.embeddings)
        log.info(
            "weights of the score: prior %g, direct edges %g, popularity %g, viewed before %g",
            *(weights.prior, weights.direct, weights.popularity, weights.revisit),
        )
    encoder, encoder_share, reranker = None, 0.0, None
    if config.session.enabled:
        encoder, encoder_share = choose_encoder(graph, fitted.embeddings, weights, config, report, half)
    if config.prerank.enabled and holdout is not None:
        ranker = holdout.ranker_of(fitted.embeddings)(weights)
        ranker = EmbeddingRanker(ranker.catalogue, ranker.edges, config.retrieval, encoder)
        report("counters", 0.0)
        counters = read_counters(graph, ranker.catalogue.item_ids, "fit")
        reranker = choose_reranker(graph, ranker, counters, config, report, half)
    return HoldoutChoice(fitted.record, weights, fitted.embeddings, encoder_share, reranker)


def fit_everything(
    graph: Path, config: Config, share: float, report: ProgressCallback, *, start: "WarmStart | None" = None
) -> "Trained":
    """Train on `full/` for the chosen share of the schedule.

    Args:
        graph: folder of the item graph.
        config: the full configuration.
        share: the share of the training schedule after which to stop.
        report: called with the progress.
        start: an earlier model, from whose weights training starts; None = from scratch.
    """
    from model.graph import load_graph
    from model.trainer import train

    full = load_graph(graph, "full", graph / "tables" / "items")
    return train(full, config.model, share=share, start=start, progress=report)
