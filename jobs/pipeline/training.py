"""Training by way of the hold-out: what is chosen there on `fit/` is then fitted on everything."""

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
class Chosen:
    """What the hold-out decided, and the embeddings of `fit/` that it was decided with."""

    record: "TrainingRecord"
    weights: "ScoreWeights"
    embeddings: "Embeddings"
    session: float = 0.0
    """The share of a session encoder that is to be followed; 0 = sessions are asked for by the mean."""
    prerank: "RerankerWeights | None" = None
    """The pre-ranker's weights, if there is to be one."""

    def save(self, folder: Path) -> None:
        """Write `embeddings/` and `choice.json`."""
        self.embeddings.save(folder / "embeddings")
        record = dataclasses.asdict(self.record)
        choice = {"record": record, "weights": self.weights.model_dump(), "session": self.session}
        choice["prerank"] = None if self.prerank is None else dataclasses.asdict(self.prerank)
        (folder / "choice.json").write_text(json.dumps(choice, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Chosen":
        """Read back what `save` wrote."""
        from jobs.pipeline.rerank_stage import RerankerWeights
        from model.embeddings import Embeddings
        from model.trained import TrainingRecord
        from retrieval.config import ScoreWeights

        choice = json.loads((folder / "choice.json").read_text(encoding="utf-8"))
        record = choice["record"] | {"curve": tuple(tuple(row) for row in choice["record"]["curve"])}
        weights = ScoreWeights(**choice["weights"])
        prerank = RerankerWeights(**choice["prerank"]) if choice["prerank"] else None
        parts = (TrainingRecord(**record), weights, Embeddings.load(folder / "embeddings"))
        return cls(*parts, choice["session"], prerank)


def choose(
    graph: Path, config: Config, report: ProgressCallback, *, start: "WarmStart | None" = None, half: int | None = None
) -> Chosen:
    """Fit `fit/`, and choose on the hold-out when to stop and how the terms of the score weigh.

    Args:
        start: an earlier model whose weights training begins with.
        half: 0 or 1: that half of the hold-out's sessions alone, so that the other can judge.
    """
    from jobs.pipeline.holdout import HoldOut
    from jobs.pipeline.rerank_stage import better_than_retrieval
    from jobs.pipeline.session_stage import better_than_the_mean
    from model.graph import load_graph
    from model.trainer import train
    from retrieval.ranking.embedding_ranker import EmbeddingRanker

    holdout = HoldOut.of(graph, config, half)
    fitted = train(
        load_graph(graph, "fit", graph / "tables" / "items"),
        config.model,
        validate=holdout.rate if holdout else None,
        start=start,
        progress=report,
    )
    weights = config.retrieval.weights()
    if holdout is not None:
        report("weights of the score", 1.0)
        weights = holdout.weights(fitted.embeddings)
        log.info(
            "weights of the score: prior %g, direct edges %g, popularity %g, viewed before %g",
            *(weights.prior, weights.direct, weights.popularity, weights.revisit),
        )
    better, prerank = None, None
    if config.session.enabled:
        better = better_than_the_mean(graph, fitted.embeddings, weights, config, report, half)
    encoder, followed = better or (None, 0.0)
    if config.prerank.enabled and holdout is not None:
        ranker = holdout.rankers(fitted.embeddings)(weights)
        ranker = EmbeddingRanker(ranker.catalogue, ranker.edges, config.retrieval, encoder)
        prerank = better_than_retrieval(graph, ranker, config, report, half)
    return Chosen(fitted.record, weights, fitted.embeddings, followed, prerank)


def fit_everything(
    graph: Path, config: Config, share: float, report: ProgressCallback, *, start: "WarmStart | None" = None
) -> "Trained":
    """Fit `full/` for the share of the schedule that was chosen."""
    from model.graph import load_graph
    from model.trainer import train

    full = load_graph(graph, "full", graph / "tables" / "items")
    return train(full, config.model, share=share, start=start, progress=report)
