"""What is chosen on the hold-out, and by which rule."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.config import Config
from jobs.validation import DIRECT, PRIOR, HoldOut
from model.embeddings import Embeddings
from retrieval.config import ScoreWeights
from retrieval.evaluate import Choice
from tests.jobs.conftest import Shop

Score = Callable[[ScoreWeights], float]


def chosen(monkeypatch: pytest.MonkeyPatch, score: Score, first: Score | None = None, **given: float) -> ScoreWeights:
    """What is chosen where the hold-out's hits are what `score` says, and those with first places `first`."""
    monkeypatch.setattr(HoldOut, "choice", lambda self, _, weights: Choice(score(weights), (first or score)(weights)))
    config = Config.model_validate({"retrieval": given})
    return HoldOut(Path(), config, cast(Any, None), "item").weights(cast(Embeddings, None))


@pytest.mark.parametrize("prior", PRIOR)
@pytest.mark.parametrize("direct", DIRECT)
def test_the_best_prior_and_direct_weights_are_found_wherever_they_are(
    monkeypatch: pytest.MonkeyPatch, prior: float, direct: float
) -> None:
    found = chosen(monkeypatch, lambda w: 1 - abs(w.prior - prior) - 2 * abs(w.direct - direct) - w.popularity)
    assert (found.prior, found.direct, found.popularity) == (prior, direct, 0.0)


def test_first_places_count_for_direct_edges_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found = chosen(monkeypatch, lambda w: 1 - w.prior - w.direct - w.popularity, lambda w: w.direct)
    assert found == ScoreWeights(prior=0.0, direct=DIRECT[-1], popularity=0.0)


def test_what_is_given_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"prior_weight": 0.03, "direct_weight": 0.0, "popularity_weight": -0.01}
    found = chosen(monkeypatch, lambda w: w.prior + w.direct + w.popularity, **given)
    assert found == ScoreWeights(prior=0.03, direct=0.0, popularity=-0.01)


@pytest.mark.parametrize(
    ("best", "loss", "wanted"), [(0.0, 0.0, 0.15), (0.0, 0.05, 0.03), (0.03, 0.05, 0.05), (0, 1, 0)]
)
def test_the_dial_is_turned_while_all_but_a_little_of_the_best_score_is_kept(
    monkeypatch: pytest.MonkeyPatch, best: float, loss: float, wanted: float
) -> None:
    """A score of 1 at its best that falls by `loss` for each unit of weight to either side may fall by 0.002."""
    found = chosen(monkeypatch, lambda w: 1 - loss * abs(w.popularity - best), prior_weight=0.0, direct_weight=0.0)
    assert found.popularity == wanted


def test_the_hold_out_is_answered_as_it_is_served(shop: Shop) -> None:
    holdout = HoldOut.of(shop.version / "graph", Config())
    assert holdout is not None
    ids = pq.read_table(holdout.graph / "fit" / "nodes")["item_id"].combine_chunks().sort()
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((len(ids), 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tail = np.zeros(0, np.int64)
    embeddings = Embeddings(ids, vectors, vectors, tail, vectors[:0], np.zeros(len(ids), np.float32))
    by_chance = 60 / len(ids)
    direct = holdout.choice(embeddings, ScoreWeights(direct=1.0)).hits
    assert holdout.choice(embeddings, ScoreWeights(direct=0.0)).hits < 3 * by_chance < direct
    assert holdout.rate(embeddings) == holdout.choice(embeddings, ScoreWeights()).hits
    assert holdout.weights(embeddings).direct == DIRECT[-1], "random vectors know nothing, the edges much"
