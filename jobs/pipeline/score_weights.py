"""The search for the weights of the score's terms, one weight after the other.

The search needs only a function that returns the score of some weights.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from jobs.config import Config

if TYPE_CHECKING:
    from retrieval.config import ScoreWeights
    from retrieval.evaluation.protocols import Choice

    Score = Callable[[ScoreWeights], float]

# From 0 to twice the theoretical weight, which is 0.05. The double weight is right if demand shifts once more by as
# much as it has just shifted.
PRIOR = (0.0, 0.025, 0.05, 0.075, 0.1)
# With the largest weights, a strong edge counts more than any embedding. This suits shops in which a rare pair of items
# occurs in only one session.
DIRECT = (0.0, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4)
REVISIT = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8)
POPULARITY = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15)
# With the chosen popularity weight, the score must be at least this share of the best score. The tail gains much more
# than the rest loses.
TOLERANCE = 0.998


def choose_weights(
    config: Config, rate: "Callable[[ScoreWeights], Choice]", rate_prefixes: "Score | None" = None
) -> "ScoreWeights":
    """Choose the weights that the configuration leaves open, by their scores on the hold-out.

    The weights of the prior (shift of demand) and of direct edges move step by step for as long as the score rises.
    Direct edges decide the first ranks. Hits barely show these ranks, so the score for direct edges includes MRR. The
    weight of popularity rises for as long as the score is at least 99.8% of the best one; this favours the tail. The
    revisit weight, for items viewed before, moves like the first two weights, but its score is measured on prefixes of
    sessions. No other weight depends on it.

    Args:
        config: the configuration; `[retrieval]` fixes some of the weights, and has the initial values of the others.
        rate: returns the scores of some weights on the hold-out.
        rate_prefixes: returns the score of some weights on prefixes of sessions; None without browsing sessions.
    """
    fixed, weights = config.retrieval, config.retrieval.weights()

    def hits(weights: "ScoreWeights") -> float:
        return rate(weights).hits

    def with_first_places(weights: "ScoreWeights") -> float:
        return rate(weights).with_first_places

    if fixed.prior_weight is None:
        weights = coordinate_search(hits, weights, "prior", PRIOR)
    if fixed.direct_weight is None:
        weights = coordinate_search(with_first_places, weights, "direct", DIRECT)
    if fixed.popularity_weight is None:
        weights = largest_within_tolerance(hits, weights, "popularity", POPULARITY)
    if fixed.revisit_weight is None and rate_prefixes is not None:
        weights = coordinate_search(rate_prefixes, weights, "revisit", REVISIT)
    return weights


def coordinate_search(score: "Score", start: "ScoreWeights", term: str, values: tuple[float, ...]) -> "ScoreWeights":
    """Raise one weight for as long as the score rises; if the score does not rise at all, lower the weight instead.

    Args:
        score: returns the score of some weights.
        start: the weights before the search; all but one of them stay as they are.
        term: the weight to move.
        values: the values that this weight may get, ascending.
    """
    current = getattr(start, term)
    upwards, downwards = [v for v in values if v > current], [v for v in reversed(values) if v < current]
    for direction in (upwards, downwards):
        best = start
        for value in direction:
            candidate = start.model_copy(update={term: value})
            if score(candidate) <= score(best):
                break
            best = candidate
        if best != start:
            return best
    return start


def largest_within_tolerance(
    score: "Score", start: "ScoreWeights", term: str, values: tuple[float, ...]
) -> "ScoreWeights":
    """Raise one weight for as long as the score is at least `TOLERANCE` times the best score so far.

    Args:
        score: returns the score of some weights.
        start: the weights before the search; all but one of them stay as they are.
        term: the weight to raise.
        values: the values that this weight may get, ascending.
    """
    chosen, best = start, score(start)
    for value in values:
        candidate = start.model_copy(update={term: value})
        if score(candidate) < TOLERANCE * best:
            break
        chosen, best = candidate, max(best, score(candidate))
    return chosen
