"""The judgement of a night: the fit through the day before, on the day, beside what is published and counting peers.

Half of the day's sessions chose when training stops and how the score's terms weigh; the other half judges here.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.config import Config
from jobs.pipeline.evaluate import counting_peers
from jobs.pipeline.holdout import HoldOut
from jobs.pipeline.training import Chosen
from jobs.progress import ProgressCallback

if TYPE_CHECKING:
    from retrieval.catalogue.items import Catalogue

log = logging.getLogger(__name__)

CHOOSING, JUDGING = 0, 1
# The counting peers that are worth their time every night.
PEERS = ("transitions", "rules", "item-kNN", "popularity")
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Judgement:
    """What was found on the day.

    rows: as in REPORT.json, for the fit, the published version and the counting peers. ratios: of the fit's HR@100 to
    each other's, name → slice → (ratio, low, high, questions).
    """

    rows: Rows
    ratios: dict[str, dict[str, tuple[float, ...]]]


def judge(
    graph: Path, chosen: Chosen, published: Path | None, config: Config, report: ProgressCallback
) -> Judgement | None:
    """Rank the judging half of the hold-out by everything that is compared.

    Args:
        graph: with `fit/`, whose hold-out is the day; published: the served version's folder, None without one.

    Returns:
        None where the day has no session to judge by.
    """
    from retrieval.evaluation.protocols import evaluate, ranked, ratios

    holdout = HoldOut.of(graph, config, JUDGING)
    if holdout is None:
        return None
    ranker = holdout.rankers(chosen.embeddings)(chosen.weights)
    ours = ranked(ranker, holdout.pairs)
    others: dict[str, Any] = {}
    if published is not None:
        others["published"] = _published(published, ranker.catalogue, config)
    peers = counting_peers(graph, ranker.catalogue, ranker.edges, held=False)
    others |= {name: peers[name] for name in PEERS}
    rows = evaluate("fit", ours, holdout.pairs, protocol=holdout.protocol)
    compared = {}
    for done, (name, ranker) in enumerate(others.items(), start=1):
        report(name, done / (len(others) + 1))
        theirs = ranked(ranker, holdout.pairs)
        rows += evaluate(name, theirs, holdout.pairs, protocol=holdout.protocol)
        compared[name] = ratios(ours, theirs, holdout.pairs, holdout.protocol)
    return Judgement(rows, compared)


def _published(version: Path, catalogue: "Catalogue", config: Config) -> Any:
    """The served version as a ranker over the fit's rows."""
    from retrieval.catalogue.items import lookup
    from retrieval.evaluation.protocols import Translated
    from retrieval.index_folder import read_index
    from retrieval.ranking.embedding_ranker import EmbeddingRanker

    index = read_index(version / "index")
    ranker = EmbeddingRanker(index.catalogue, index.edges, config.retrieval)
    rows, known = lookup(index.catalogue.item_ids, catalogue.item_ids)
    return Translated(ranker, np.where(known, rows, -1), index.catalogue.n_rows)
