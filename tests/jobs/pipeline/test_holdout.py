"""What is chosen on the hold-out, and by which rule."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.config import Config
from jobs.pipeline.holdout import DIRECT, PRIOR, REVISIT, HoldOut
from model.embeddings import Embeddings
from retrieval.config import ScoreWeights
from retrieval.evaluation.protocols import Choice
from retrieval.index_folder import read_index
from tests.jobs.conftest import Shop

Score = Callable[[ScoreWeights], float]


def chosen(monkeypatch: pytest.MonkeyPatch, score: Score, first: Score | None = None, **given: float) -> ScoreWeights:
    """What is chosen where the hold-out's hits are what `score` says, and those with first places `first`."""
    monkeypatch.setattr(HoldOut, "rankers", lambda *_: None)
    monkeypatch.setattr(HoldOut, "_choice", lambda self, _, weights: Choice(score(weights), (first or score)(weights)))
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


@pytest.mark.parametrize("wanted", REVISIT[:-1])
def test_the_weight_of_a_revisit_is_the_best_after_prefixes(monkeypatch: pytest.MonkeyPatch, wanted: float) -> None:
    monkeypatch.setattr(HoldOut, "rankers", lambda *_: None)
    monkeypatch.setattr(HoldOut, "_choice", lambda *_: Choice(0.5, 0.5))
    monkeypatch.setattr(HoldOut, "_after_prefixes", lambda self, _, weights: 1 - abs(weights.revisit - wanted))
    for given, expected in ((None, wanted), (0.25, 0.25)):
        config = Config.model_validate({"retrieval": {} if given is None else {"revisit_weight": given}})
        holdout = HoldOut(Path(), config, cast(Any, None), "item", cast(Any, [None]))
        assert holdout.weights(cast(Embeddings, None)).revisit == expected


def test_shoppers_who_go_back_are_noticed(shop: Shop) -> None:
    holdout = HoldOut.of(shop.version / "graph", Config())
    assert holdout is not None
    assert holdout.prefixes is not None
    chosen = json.loads((shop.version / "manifest.json").read_text())["metrics"]["score_weights"]["revisit"]
    queries = holdout.prefixes.queries
    seen = [
        target in queries.rows[queries.offsets[query] : queries.offsets[query + 1]]
        for query, target in zip(holdout.prefixes.query.tolist(), holdout.prefixes.target.tolist(), strict=True)
    ]
    assert (chosen > 0) == (np.mean(seen) > 0.02), "it is as the shop's sessions are"
    meta = json.loads((shop.version / "index" / "meta.json").read_text())
    assert meta["revisit_weight"] == chosen
    assert read_index(shop.version / "index").edges.revisit_weight == chosen
