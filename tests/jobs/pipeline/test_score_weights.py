"""The rules by which the weights of the score's terms are chosen."""

from collections.abc import Callable

import pytest

from jobs.config import Config
from jobs.pipeline.score_weights import DIRECT, PRIOR, REVISIT, choose_weights
from retrieval.config import ScoreWeights
from retrieval.evaluation.protocols import Choice

Score = Callable[[ScoreWeights], float]


def chosen(
    hits: Score, with_first_places: Score | None = None, after_prefixes: Score | None = None, **fixed: float
) -> ScoreWeights:
    """Return the weights that are chosen for these scores of the hold-out and these fixed weights."""

    def rate(weights: ScoreWeights) -> Choice:
        return Choice(hits(weights), (with_first_places or hits)(weights))

    return choose_weights(Config.model_validate({"retrieval": fixed}), rate, after_prefixes)


@pytest.mark.parametrize("prior", PRIOR)
@pytest.mark.parametrize("direct", DIRECT)
def test_the_best_prior_and_direct_weights_are_chosen_at_any_grid_point(prior: float, direct: float) -> None:
    weights = chosen(lambda w: 1 - abs(w.prior - prior) - 2 * abs(w.direct - direct) - w.popularity)
    assert (weights.prior, weights.direct, weights.popularity) == (prior, direct, 0.0)


def test_first_places_count_only_for_the_direct_weight() -> None:
    weights = chosen(lambda w: 1 - w.prior - w.direct - w.popularity, lambda w: w.direct)
    assert weights == ScoreWeights(prior=0.0, direct=DIRECT[-1], popularity=0.0)


def test_weights_that_the_configuration_fixes_are_not_chosen() -> None:
    fixed = {"prior_weight": 0.03, "direct_weight": 0.0, "popularity_weight": -0.01}
    weights = chosen(lambda w: w.prior + w.direct + w.popularity, **fixed)
    assert weights == ScoreWeights(prior=0.03, direct=0.0, popularity=-0.01)


@pytest.mark.parametrize(
    ("best", "loss", "expected"), [(0.0, 0.0, 0.15), (0.0, 0.05, 0.03), (0.03, 0.05, 0.05), (0, 1, 0)]
)
def test_the_popularity_weight_is_the_largest_that_keeps_nearly_the_best_score(
    best: float, loss: float, expected: float
) -> None:
    """The score is 1 at its best and falls by `loss` per unit of weight on either side; a fall of 0.002 is accepted."""
    weights = chosen(lambda w: 1 - loss * abs(w.popularity - best), prior_weight=0.0, direct_weight=0.0)
    assert weights.popularity == expected


@pytest.mark.parametrize("best", REVISIT[:-1])
def test_the_weight_of_a_revisit_is_the_best_after_prefixes(best: float) -> None:
    def after_prefixes(weights: ScoreWeights) -> float:
        return 1 - abs(weights.revisit - best)

    assert chosen(lambda _: 0.5, None, after_prefixes).revisit == best
    assert chosen(lambda _: 0.5, None, after_prefixes, revisit_weight=0.25).revisit == 0.25
    assert chosen(lambda _: 0.5).revisit == ScoreWeights().revisit
