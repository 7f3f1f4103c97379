"""The protocols of quality: how well a `Ranker`, be it a model or a baseline, answers the pairs of a protocol.

Rows of the report: {model, slice, metric, k, value, low, high, n}.
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

__all__ = ["Choice", "Pairs", "Translated", "choice_score", "evaluate", "pairs_of", "ranked", "ratios"]

TAIL_EVENTS = 5
_CUTS = {"HR": (20, 100), "MRR": (20,), "recall": (20, 100)}

Floats = NDArray[np.float64]


class Choice(NamedTuple):
    """What choices are made by, from one ranking.

    hits: the mean of HR@20 and HR@100, of baskets that of recall@20 and recall@100. with_first_places: MRR@20 is a
    third part of the mean; baskets have no order to find, so that it is the same there.
    """

    hits: float
    with_first_places: float


class Ranked(NamedTuple):
    """What a ranker answered to some pairs: its lists, and the place of each pair's target, 0 where it has none."""

    found: TopK
    place: Rows


def ranked(ranker: Ranker, pairs: Pairs) -> Ranked:
    """Rank once, for whoever measures the same answers in several ways."""
    deepest = max(k for cuts in _CUTS.values() for k in cuts)
    found = _rank(ranker, pairs, np.arange(len(pairs.queries)), deepest)
    return Ranked(found, _places(found, pairs))


def choice_score(ranker: Ranker, pairs: Pairs, protocol: str = "item") -> Choice:
    """How well a ranker does where something is to be chosen."""
    name = "recall" if protocol == "basket" else "HR"
    place, every = ranked(ranker, pairs).place, np.ones(len(pairs), bool)
    cells = [(name, k) for k in _CUTS[name]] + ([] if name == "recall" else [("MRR", 20)])
    parts = [_grouped(metric, place, pairs, every, k) for metric, k in cells]
    means = [float(sums.sum() / counts.sum()) for sums, counts in parts]
    return Choice(float(np.mean(means[:2])), float(np.mean(means)))


def evaluate(
    model: str,
    ranker: Ranker | Ranked,
    pairs: Pairs,
    *,
    protocol: str = "item",
    ads: Ads | None = None,
    samples: int = 1000,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> list[dict[str, Any]]:
    """Report rows of one model: by slice (all, tail, cold; or ads alone with `ads`), metric and cut.

    With `ads`, candidates and targets are the items with an eligible ad at the time asked (without a country);
    pairs whose target is not are left out, and a row `skipped` counts the questions that are left without any; `pairs`
    must have been made with the same ads. The intervals are bootstrapped over sessions or baskets; coverage has none,
    and its n is the number of distinct queries.

    Raises:
        EvaluationError: there is no pair to measure on.
    """
    if protocol not in ("item", "session", "basket"):
        raise EvaluationError(f"protocol must be item, session or basket, got {protocol!r}")
    if not len(pairs):
        raise EvaluationError("the sessions hold no pair of different items to measure on")
    names = ("recall",) if protocol == "basket" else ("HR", "MRR")
    deepest = max(k for name in names for k in _CUTS[name])
    if ads is None:
        found, place = ranker if isinstance(ranker, Ranked) else ranked(ranker, pairs)
        known_tail = (pairs.events >= 1) & (pairs.events <= TAIL_EVENTS)
        slices = {"all": np.ones(len(pairs), bool), "tail": known_tail, "cold": pairs.events == 0}
    elif isinstance(ranker, Ranked):
        raise EvaluationError("with ads each stretch of time has candidates of its own: give the ranker itself")
    else:
        found, place, within = _rank_ads(ranker, pairs, ads, deepest, progress)
        slices = {"ads": within}
    columns = [
        (slice_name, name, k, *_grouped(name, place, pairs, chosen, k))
        for slice_name, chosen in slices.items()
        for name in names
        for k in _CUTS[name]
    ]
    low, high = metrics.bootstrap(
        np.stack([column[3] for column in columns], axis=1),
        np.stack([column[4] for column in columns], axis=1),
        seed=seed,
        samples=samples,
    )
    report = []
    for column, (slice_name, metric, k, sums, counts) in enumerate(columns):
        n = int(counts.sum()) if metric != "recall" else int(np.count_nonzero(counts))
        value = float(sums.sum() / counts.sum()) if n else None
        interval = (float(low[column]), float(high[column])) if n else (None, None)
        report.append(_row(model, slice_name, metric, k, value, interval, n))
    if ads is not None:
        asked, answerable = len(np.unique(pairs.asked)), len(np.unique(pairs.asked[within]))
        report.append(_row(model, "ads", "skipped", 0, asked - answerable, (None, None), asked))
    share = metrics.coverage(found, 20, pairs.n_items)
    report.append(_row(model, "all" if ads is None else "ads", "coverage", 20, share, (None, None), len(found)))
    return report


def ratios(first: Ranked, second: Ranked, pairs: Pairs, protocol: str = "item") -> dict[str, tuple[float, ...]]:
    """How the first ranker's HR@100 (of baskets, recall@100) compares with the second's, on all pairs and on the tail.

    Returns:
        slice → (ratio, low, high, questions): the interval is bootstrapped over whole sessions, the same for both. A
        slice in which the second finds nothing has no ratio and is left out.
    """
    name = "recall" if protocol == "basket" else "HR"
    k = max(_CUTS[name])
    tail = (pairs.events >= 1) & (pairs.events <= TAIL_EVENTS)
    found: dict[str, tuple[float, ...]] = {}
    for part, chosen in (("all", np.ones(len(pairs), bool)), ("tail", tail)):
        (mine, asked), (theirs, _) = (_grouped(name, place, pairs, chosen, k) for place in (first.place, second.place))
        if theirs.sum():
            low, high = metrics.bootstrap(mine[:, None], theirs[:, None])
            found[part] = (float(mine.sum() / theirs.sum()), float(low[0]), float(high[0]), int(asked.sum()))
    return found


class Translated:
    """A ranker over another version's rows, that answers in these rows.

    Items that only the other version knows take their place in a list, and are never what is looked for.

    Args:
        other_row: (N,) int64 the other version's row of each item, -1 where it has none; n_other: its items.
    """

    def __init__(self, ranker: Ranker, other_row: Rows, n_other: int) -> None:
        self._ranker, self._other_row = ranker, other_row
        self._row = np.full(n_other, len(other_row), np.int64)
        known = np.flatnonzero(other_row >= 0)
        self._row[other_row[known]] = known

    def rank(self, queries: Queries, k: int, *, eligible: Mask | None = None, include_current: bool = False) -> TopK:
        """See `retrieval.queries.Ranker`; a query without an item that the other version knows has an empty list."""
        if eligible is not None:
            raise EvaluationError("eligible rows cannot be translated")
        rows = self._other_row[queries.rows]
        known = rows >= 0
        counts = np.bincount(queries.query[known], minlength=len(queries))
        asking = np.flatnonzero(counts)
        offsets = offsets_from_lengths(counts[asking])
        found = self._ranker.rank(Queries(rows[known], offsets), k, include_current=include_current)
        lengths = np.zeros(len(queries), np.int64)
        lengths[asking] = np.diff(found.offsets)
        return TopK(offsets_from_lengths(lengths), self._row[found.rows], found.scores)


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


def _grouped(metric: str, place: Rows, pairs: Pairs, chosen: Mask, k: int) -> tuple[Floats, Floats]:
    """(sum, count) of a metric for each session or basket that has any pair at all: (G,) float64 each."""
    groups = int(pairs.group.max()) + 1
    asking = np.bincount(pairs.group, minlength=groups) > 0
    if metric == "recall":
        asked = int(pairs.asked.max()) + 1
        value = metrics.recalls(place[chosen], pairs.asked[chosen], asked, k)
        owner = np.zeros(asked, np.int64)
        owner[pairs.asked] = pairs.group
        there = ~np.isnan(value)
        count = np.bincount(owner[there], minlength=groups)
        mean = np.bincount(owner[there], weights=value[there], minlength=groups) / np.maximum(count, 1)
        # A basket counts once, by the mean over its queries.
        return mean[asking].astype(np.float64), (count > 0).astype(np.float64)[asking]
    value = metrics.hits(place, k) if metric == "HR" else metrics.reciprocal_ranks(place, k)
    sums = np.bincount(pairs.group[chosen], weights=value[chosen], minlength=groups)
    return sums[asking].astype(np.float64), np.bincount(pairs.group[chosen], minlength=groups).astype(np.float64)[
        asking
    ]


def _rank(ranker: Ranker, pairs: Pairs, which: Rows, k: int, eligible: Mask | None = None) -> TopK:
    """Some of the queries; of one whose last item is unknown nothing is left out, as when it is served."""
    queries = pairs.queries.take(which)
    found = ranker.rank(queries, k, eligible=eligible, include_current=pairs.include_current)
    free = np.flatnonzero(pairs.last_unknown[which]) if pairs.last_unknown is not None else which[:0]
    if pairs.include_current or not len(free):
        return found
    others = ranker.rank(queries.take(free), k, eligible=eligible, include_current=True)
    place = np.arange(len(which))
    place[free] = len(which) + np.arange(len(free))
    return topk.concatenate([found, others]).take(place)


def _places(found: TopK, pairs: Pairs) -> Rows:
    place = np.zeros(len(pairs), np.int64)
    place[pairs.findable] = metrics.places(found, pairs.query[pairs.findable], pairs.target[pairs.findable])
    return place


def _rank_ads(
    ranker: Ranker, pairs: Pairs, ads: Ads, k: int, progress: Callable[[str, float], None] | None
) -> tuple[TopK, Rows, Mask]:
    """(lists, places, pairs whose target is eligible), ranking each stretch of time with its own candidates."""
    place = np.zeros(len(pairs), np.int64)
    within = np.zeros(len(pairs), bool)
    parts: list[TopK] = []
    stretches = np.unique(pairs.stretch)
    for done, stretch in enumerate(stretches.tolist()):
        eligible = np.zeros(pairs.n_items, bool)
        eligible[ads.eligible_within(stretch).rows] = True
        here = pairs.stretch == stretch
        within |= here & pairs.target_known & eligible[pairs.target]
        asking = np.flatnonzero(within & here & pairs.query_known)
        asked, query = np.unique(pairs.query[asking], return_inverse=True)
        found = _rank(ranker, pairs, asked, k, eligible)
        place[asking] = metrics.places(found, query, pairs.target[asking])
        parts.append(found)
        if progress:
            progress("ads in flight", (done + 1) / len(stretches))
    return topk.concatenate(parts), place, within
