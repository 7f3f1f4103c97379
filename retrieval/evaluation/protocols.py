"""Measures how well a `Ranker` (a model or a baseline) ranks the targets of a protocol's query–target pairs.

A row of the report is {model, slice, metric, k, value, low, high, n}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval import topk
from retrieval.arrays import Mask, Rows, offsets_from_lengths
from retrieval.catalogue.ads import Ads
from retrieval.errors import EvaluationError
from retrieval.evaluation import metrics
from retrieval.evaluation.pairs import Pairs, pairs_of
from retrieval.queries import Queries, Ranker
from retrieval.topk import TopK

__all__ = ["Choice", "Pairs", "Ranking", "Translated", "choice_score", "evaluate", "pairs_of", "rank_pairs", "ratios"]

TAIL_EVENTS = 5
PROTOCOLS = ("item", "session", "basket")
CUTS = {"HR": (20, 100), "MRR": (20,), "recall": (20, 100)}
"""Metric → the cuts k at which it is measured."""
_DEEPEST = max(k for cuts in CUTS.values() for k in cuts)

Floats = NDArray[np.float64]
Progress = Callable[[str, float], None]


class Choice(NamedTuple):
    """The scores by which models and settings are chosen, from one ranking.

    hits: the mean of HR@20 and HR@100; for baskets, of recall@20 and recall@100. with_first_places: the mean of HR@20,
    HR@100 and MRR@20; for baskets, where order means nothing, the same as hits.
    """

    hits: float
    with_first_places: float


class Ranking(NamedTuple):
    """The lists of a ranker for some pairs, and the rank of each pair's target, 0 if it is not listed."""

    lists: TopK
    rank: Rows


def rank_pairs(ranker: Ranker, pairs: Pairs) -> Ranking:
    """Rank pairs once, so that the same lists can be measured in several ways.

    Args:
        ranker: a model or a baseline.
        pairs: the queries and targets.
    """
    lists = _rank(ranker, pairs, np.arange(len(pairs.queries)), _DEEPEST)
    rank = np.zeros(len(pairs), np.int64)
    rank[pairs.findable] = metrics.ranks(lists, pairs.query[pairs.findable], pairs.target[pairs.findable])
    return Ranking(lists, rank)


def choice_score(ranker: Ranker, pairs: Pairs, protocol: str = "item") -> Choice:
    """Measure a ranker for a choice among models or settings.

    Args:
        ranker: a model or a baseline.
        pairs: the queries and targets.
        protocol: the protocol of the pairs.
    """
    name = "recall" if protocol == "basket" else "HR"
    rank, every = rank_pairs(ranker, pairs).rank, np.ones(len(pairs), bool)
    cells = [(name, k) for k in CUTS[name]] + ([] if name == "recall" else [("MRR", 20)])
    parts = [grouped(metric, rank, pairs, every, k) for metric, k in cells]
    means = [float(sums.sum() / counts.sum()) for sums, counts in parts]
    return Choice(float(np.mean(means[:2])), float(np.mean(means)))


def evaluate(
    model: str,
    ranker: Ranker | Ranking,
    pairs: Pairs,
    *,
    protocol: str = "item",
    ads: Ads | None = None,
    samples: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Return a model's report rows by slice (all, tail and cold; with `ads`, only ads), metric and cut.

    With `ads`, candidates and targets are the items that have an eligible ad at the time of the question, for a request
    that names no country. Pairs whose target is not such an item are dropped; the row `skipped` counts the questions
    that then have no pair left. The intervals are bootstrapped over sessions or baskets; coverage has no interval,
    and its n is the number of ranked queries (n in `Pairs`).

    Args:
        model: the name of the model in the report.
        ranker: the model or baseline; without `ads`, its finished Ranking may be given instead.
        pairs: the queries and targets; with `ads`, made with the same ads.
        protocol: the protocol of the pairs, "item", "session" or "basket".
        ads: the ads that restrict the candidates; None = the whole catalogue.
        samples: number of bootstrap samples.
        seed: seed of the bootstrap.
        progress: called with a message and the share that is done, 0 to 1.

    Raises:
        EvaluationError: there is no such protocol, no pair to measure on, or a finished Ranking came with `ads`.
    """
    if protocol not in PROTOCOLS:
        raise EvaluationError(f"protocol must be item, session or basket, got {protocol!r}")
    require_pairs(pairs)
    names = metrics_of(protocol)
    if ads is None:
        ranking = ranker if isinstance(ranker, Ranking) else rank_pairs(ranker, pairs)
        report = _measured(model, ranking, pairs, slices_of(pairs), names, samples, seed)
    elif isinstance(ranker, Ranking):
        raise EvaluationError("with `ads` the candidates change over time, so pass a Ranker, not a finished Ranking")
    else:
        deepest = max(k for name in names for k in CUTS[name])
        ranking, answerable = rank_ads(ranker, pairs, ads, deepest, progress)
        report = _measured(model, ranking, pairs, {"ads": answerable}, names, samples, seed)
        questions = len(np.unique(pairs.question))
        skipped = questions - len(np.unique(pairs.question[answerable]))
        report.append(_row(model, "ads", "skipped", 0, skipped, (None, None), questions))
    share = metrics.coverage(ranking.lists, 20, pairs.n_items)
    name = "all" if ads is None else "ads"
    report.append(_row(model, name, "coverage", 20, share, (None, None), len(ranking.lists)))
    return report


def ratios(first: Ranking, second: Ranking, pairs: Pairs, protocol: str = "item") -> dict[str, tuple[float, ...]]:
    """Compare the HR@100 (for baskets, the recall@100) of two rankers, on all pairs and on the tail.

    Args:
        first: the ranking in the numerator.
        second: the ranking in the denominator.
        pairs: the queries and targets of both.
        protocol: the protocol of the pairs.

    Returns:
        slice → (ratio, low, high, n, groups); n is the number of pairs or baskets, groups that of sessions or baskets.
        The interval comes from resampling whole sessions or baskets; each sample is used for both rankers. A slice in
        which the second ranker finds nothing is left out.
    """
    name = "recall" if protocol == "basket" else "HR"
    k = max(CUTS[name])
    ratio_of: dict[str, tuple[float, ...]] = {}
    slices = slices_of(pairs)
    for part in ("all", "tail"):
        (sums, counts), (other_sums, _) = (grouped(name, each.rank, pairs, slices[part], k) for each in (first, second))
        if other_sums.sum():
            low, high = metrics.bootstrap(sums[:, None], other_sums[:, None])
            ratio = float(sums.sum() / other_sums.sum())
            n_groups = int((counts > 0).sum())
            ratio_of[part] = (ratio, float(low[0]), float(high[0]), int(counts.sum()), n_groups)
    return ratio_of


class Translated:
    """A ranker over another version's rows that answers in this version's rows.

    Items that only the other version knows keep their ranks; they get a row number that no target has.
    """

    def __init__(self, ranker: Ranker, other_row: Rows, n_other: int) -> None:
        """Wrap a ranker.

        Args:
            ranker: ranks the other version's rows.
            other_row: (N,) int64, each item's row in the other version, -1 if it has none.
            n_other: number of the other version's items.
        """
        self._ranker, self._other_row = ranker, other_row
        self._row = np.full(n_other, len(other_row), np.int64)
        known = np.flatnonzero(other_row >= 0)
        self._row[other_row[known]] = known

    def rank(self, queries: Queries, k: int, *, eligible: Mask | None = None, include_current: bool = False) -> TopK:
        """See `retrieval.queries.Ranker`; a query with no item of the other version has an empty list."""
        if eligible is not None:
            raise EvaluationError("eligible rows cannot be translated")
        rows = self._other_row[queries.rows]
        known = rows >= 0
        counts = np.bincount(queries.query[known], minlength=len(queries))
        with_items = np.flatnonzero(counts)
        translated = Queries(rows[known], offsets_from_lengths(counts[with_items]))
        lists = self._ranker.rank(translated, k, include_current=include_current)
        lengths = np.zeros(len(queries), np.int64)
        lengths[with_items] = np.diff(lists.offsets)
        return TopK(offsets_from_lengths(lengths), self._row[lists.rows], lists.scores)


def require_pairs(pairs: Pairs) -> None:
    """Check that there is something to measure on.

    Raises:
        EvaluationError: there are no pairs.
    """
    if not len(pairs):
        raise EvaluationError("the sessions hold no pair of different items to measure on")


def metrics_of(protocol: str) -> tuple[str, ...]:
    """Return the names of the metrics of a protocol."""
    return ("recall",) if protocol == "basket" else ("HR", "MRR")


def slices_of(pairs: Pairs) -> dict[str, Mask]:
    """Return the pairs of the slices all, tail and cold, by the training events of their targets: (P,) bool each."""
    tail = (pairs.events >= 1) & (pairs.events <= TAIL_EVENTS)
    return {"all": np.ones(len(pairs), bool), "tail": tail, "cold": pairs.events == 0}


def _measured(
    model: str,
    ranking: Ranking,
    pairs: Pairs,
    slices: dict[str, Mask],
    names: tuple[str, ...],
    samples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Return a report row for each slice, metric and cut."""
    cells = [(part, name, k) for part in slices for name in names for k in CUTS[name]]
    measured = [grouped(name, ranking.rank, pairs, slices[part], k) for part, name, k in cells]
    low, high = metrics.bootstrap(
        np.stack([sums for sums, _ in measured], axis=1),
        np.stack([counts for _, counts in measured], axis=1),
        seed=seed,
        samples=samples,
    )
    report = []
    for cell, ((part, name, k), (sums, counts)) in enumerate(zip(cells, measured, strict=True)):
        n = int(counts.sum()) if name != "recall" else int(np.count_nonzero(counts))
        value = float(sums.sum() / counts.sum()) if n else None
        interval = (float(low[cell]), float(high[cell])) if n else (None, None)
        report.append(_row(model, part, name, k, value, interval, n))
    return report


def _row(
    model: str,
    slice_name: str,
    metric: str,
    k: int,
    value: float | None,
    interval: tuple[float | None, float | None],
    n: int,
) -> dict[str, Any]:
    low, high = interval
    return {
        "model": model,
        "slice": slice_name,
        "metric": metric,
        "k": k,
        "value": value,
        "low": low,
        "high": high,
        "n": n,
    }


def grouped(metric: str, rank: Rows, pairs: Pairs, in_slice: Mask, k: int) -> tuple[Floats, Floats]:
    """Return (sum, count) of a metric for each session or basket that has a pair in any slice: (G,) float64 each.

    Args:
        metric: HR, MRR or recall.
        rank: (P,) int64, the rank of each target from 1, 0 = not listed.
        pairs: the queries and targets.
        in_slice: (P,) bool, the pairs that count.
        k: the cut.
    """
    groups = int(pairs.group.max()) + 1
    has_pair = np.bincount(pairs.group, minlength=groups) > 0
    if metric == "recall":
        questions = int(pairs.question.max()) + 1
        value = metrics.recalls(rank[in_slice], pairs.question[in_slice], questions, k)
        owner = np.zeros(questions, np.int64)
        owner[pairs.question] = pairs.group
        defined = ~np.isnan(value)
        count = np.bincount(owner[defined], minlength=groups)
        mean = np.bincount(owner[defined], weights=value[defined], minlength=groups) / np.maximum(count, 1)
        # A basket counts once, with the mean over its queries.
        return mean[has_pair].astype(np.float64), (count > 0).astype(np.float64)[has_pair]
    value = metrics.hits(rank, k) if metric == "HR" else metrics.reciprocal_ranks(rank, k)
    sums = np.bincount(pairs.group[in_slice], weights=value[in_slice], minlength=groups)
    counts = np.bincount(pairs.group[in_slice], minlength=groups)
    return sums[has_pair].astype(np.float64), counts.astype(np.float64)[has_pair]


def _rank(ranker: Ranker, pairs: Pairs, which: Rows, k: int, eligible: Mask | None = None) -> TopK:
    """Rank some of the queries.

    The last viewed item is normally not a candidate. If it is unknown, no item is excluded, as in serving.
    """
    queries = pairs.queries.take(which)
    lists = ranker.rank(queries, k, eligible=eligible, include_current=pairs.include_current)
    free = np.flatnonzero(pairs.last_unknown[which]) if pairs.last_unknown is not None else which[:0]
    if pairs.include_current or not len(free):
        return lists
    with_current = ranker.rank(queries.take(free), k, eligible=eligible, include_current=True)
    number = np.arange(len(which))
    number[free] = len(which) + np.arange(len(free))
    return topk.concatenate([lists, with_current]).take(number)


def rank_ads(ranker: Ranker, pairs: Pairs, ads: Ads, k: int, progress: Progress | None = None) -> tuple[Ranking, Mask]:
    """Rank each stretch of time with its own candidates. Also return a mask of the pairs whose target is eligible.

    Args:
        ranker: a model or a baseline.
        pairs: the queries and targets, made with the same ads.
        ads: the ads.
        k: length of the lists.
        progress: called with a message and the share that is done, 0 to 1.
    """
    rank = np.zeros(len(pairs), np.int64)
    answerable = np.zeros(len(pairs), bool)
    parts: list[TopK] = []
    stretches = np.unique(pairs.stretch)
    for done, stretch in enumerate(stretches.tolist()):
        eligible = np.zeros(pairs.n_items, bool)
        eligible[ads.eligible_within(stretch).rows] = True
        in_stretch = pairs.stretch == stretch
        answerable |= in_stretch & pairs.target_known & eligible[pairs.target]
        ranked = np.flatnonzero(answerable & in_stretch & pairs.query_known)
        which, query = np.unique(pairs.query[ranked], return_inverse=True)
        lists = _rank(ranker, pairs, which, k, eligible)
        rank[ranked] = metrics.ranks(lists, query, pairs.target[ranked])
        parts.append(lists)
        if progress:
            progress("ads in flight", (done + 1) / len(stretches))
    return Ranking(topk.concatenate(parts), rank), answerable
