"""The comparison of a night: measures the fit, the published version and the counting peers on the night's day.

The settings of the fit are chosen on one half of the day's sessions; this module measures on the other half.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from jobs.config import Config
from jobs.pipeline.evaluate import counting_peers
from jobs.pipeline.holdout import HoldoutEvaluation
from jobs.pipeline.training import HoldoutChoice
from jobs.progress import ProgressCallback

if TYPE_CHECKING:
    from retrieval.catalogue.items import Catalogue

log = logging.getLogger(__name__)

# The halves of the day's sessions.
CHOOSING, JUDGING = 0, 1
# The counting peers that are measured every night.
PEERS = ("transitions", "rules", "item-kNN", "popularity")
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Comparison:
    """The measurements on the day.

    Args:
        rows: rows as in REPORT.json, for the fit, the published version and the counting peers.
        ratios: other model → slice → (ratio of the fit's HR@100 to the model's, low, high, questions, sessions).
        baskets: whether the day's baskets were measured, because no session of the day has two items.
    """

    rows: Rows
    ratios: dict[str, dict[str, tuple[float, ...]]]
    baskets: bool = False


def compare(
    graph: Path, choice: HoldoutChoice, published: Path | None, config: Config, report: ProgressCallback
) -> Comparison | None:
    """Measure the fit, the published version and the counting peers on the judging half of the day's sessions.

    Args:
        graph: folder of the item graph, whose hold-out is the day.
        choice: the fit, and the settings that were chosen with it.
        published: folder of the published version; None if nothing is published.
        config: the full configuration.
        report: called with the progress.

    Returns:
        None if no session or basket of that half has two items.
    """
    from retrieval.evaluation.protocols import evaluate, rank_pairs, ratios

    holdout = HoldoutEvaluation.load(graph, config, JUDGING)
    if holdout is None:
        return None
    fit = holdout.ranker_of(choice.embeddings)(choice.weights)
    fit_lists = rank_pairs(fit, holdout.pairs)
    others: dict[str, Any] = {}
    if published is not None:
        others["published"] = _published_ranker(published, fit.catalogue, config)
    peers = counting_peers(graph, fit.catalogue, fit.edges, ~pc.field("held"))
    others |= {name: peers[name] for name in PEERS}
    rows = evaluate("fit", fit_lists, holdout.pairs, protocol=holdout.protocol)
    compared = {}
    for done, (name, ranker) in enumerate(others.items(), start=1):
        report(name, done / (len(others) + 1))
        lists = rank_pairs(ranker, holdout.pairs)
        rows += evaluate(name, lists, holdout.pairs, protocol=holdout.protocol)
        compared[name] = ratios(fit_lists, lists, holdout.pairs, holdout.protocol)
    return Comparison(rows, compared, baskets=holdout.protocol == "basket")


def _published_ranker(version: Path, catalogue: "Catalogue", config: Config) -> Any:
    """Return a ranker that answers as the published version does, with the fit's row numbers."""
    from retrieval.catalogue.items import lookup
    from retrieval.evaluation.protocols import Translated
    from retrieval.index_folder import read_index
    from retrieval.ranking.embedding_ranker import EmbeddingRanker

    index = read_index(version / "index")
    ranker = EmbeddingRanker(index.catalogue, index.edges, config.retrieval)
    rows, known = lookup(index.catalogue.item_ids, catalogue.item_ids)
    return Translated(ranker, np.where(known, rows, -1), index.catalogue.n_rows)
