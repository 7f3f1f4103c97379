"""The frontier of a version: its hits on all targets and on those of the tail, at several weights of popularity.

The weight of popularity is the dial that trades hits on common items for hits on rare ones. If the whole line of a
version lies further up and to the right, the version is better at any balance of the two.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.candidates.contenders import CompareOptions, Contender
from jobs.config import Config
from jobs.pipeline.evaluate import served_ranker
from jobs.pipeline.score_weights import POPULARITY

if TYPE_CHECKING:
    from retrieval.evaluation.sessions import Sessions


def popularity_dial(
    contender: Contender, sessions: "Sessions", options: CompareOptions, config: Config
) -> list[dict[str, Any]]:
    """Measure a version at each weight of popularity that a build may choose, and at the weight that it serves.

    Args:
        contender: the version.
        sessions: the test sessions; if there are many, a seeded sample of them is measured.
        options: the options of the comparison.
        config: `[validation] max_sessions` bounds the sample.

    Returns:
        One mapping for each weight, in ascending order. `popularity` is the weight. `all` and `tail` are the HR@100
        (for baskets, the recall@100) of all targets and of those of the tail; `tail` is None if there are no tail
        targets. `served` says whether the version serves this weight. The list is empty if the manifest does not name
        the version's weight.
    """
    served = contender.version.manifest.metrics.get("score_weights", {}).get("popularity")
    if served is None:
        return []
    some = sampled(sessions, config.validation.max_sessions, config.model.train.seed)
    pairs = contender.pairs(some, options)
    points = []
    for weight in sorted({0.0, *POPULARITY, served}):
        index = replace(contender.index, catalogue=_with_popularity(contender.index.catalogue, weight - served))
        ranker = served_ranker(index, contender.settings)
        values = _hits(ranker, pairs, options.protocol)
        points.append({"popularity": weight, **values, "served": weight == served})
    return points


def sampled(sessions: "Sessions", most: int, seed: int) -> "Sessions":
    """Return the sessions. If there are more than `most`, return a seeded sample of them in the same order.

    Args:
        sessions: the sessions.
        most: the largest number of sessions.
        seed: the seed of the sample.
    """
    from retrieval.arrays import offsets_from_lengths, spans

    if len(sessions) <= most:
        return sessions
    chosen = np.sort(np.random.default_rng(seed).choice(len(sessions), most, replace=False))
    lengths = np.diff(sessions.offsets)[chosen]
    events = spans(sessions.offsets[chosen], lengths)
    return replace(
        sessions,
        session_ids=sessions.session_ids.take(chosen),
        item_ids=sessions.item_ids.take(events),
        offsets=offsets_from_lengths(lengths),
        times=sessions.times[events],
    )


def _with_popularity(catalogue: Any, change: float) -> Any:
    """Return the catalogue with other biases, in which the weight of popularity is greater by `change`."""
    from retrieval.catalogue.score_terms import item_bias
    from retrieval.config import ScoreWeights

    none = np.zeros(catalogue.n_rows, np.float32)
    return replace(catalogue, bias=catalogue.bias + item_bias(none, catalogue.events, ScoreWeights(popularity=change)))


def _hits(ranker: Any, pairs: Any, protocol: str) -> dict[str, float | None]:
    from retrieval.evaluation.protocols import CUTS, grouped, metrics_of, rank_pairs, slices_of

    metric = metrics_of(protocol)[0]
    rank, slices = rank_pairs(ranker, pairs).rank, slices_of(pairs)
    values: dict[str, float | None] = {}
    for part in ("all", "tail"):
        sums, counts = grouped(metric, rank, pairs, slices[part], max(CUTS[metric]))
        values[part] = float(sums.sum() / counts.sum()) if counts.sum() else None
    return values
