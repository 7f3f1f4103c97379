"""On the hold-out of a small shop, results are scored as they are served."""

import json

import numpy as np
import pyarrow.parquet as pq

from jobs.config import Config
from jobs.pipeline.holdout import HoldoutEvaluation
from jobs.pipeline.score_weights import DIRECT
from model.embeddings import Embeddings
from retrieval.config import ScoreWeights
from retrieval.index_folder import read_index
from tests.jobs.conftest import Shop


def test_the_hold_out_is_scored_as_it_is_served(shop: Shop) -> None:
    holdout = HoldoutEvaluation.load(shop.version / "graph", Config())
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
    assert holdout.hits(embeddings) == holdout.choice(embeddings, ScoreWeights()).hits
    assert holdout.choose_weights(embeddings).direct == DIRECT[-1], "random vectors know nothing, the edges much"


def test_a_revisit_weight_is_chosen_where_shoppers_go_back(shop: Shop) -> None:
    holdout = HoldoutEvaluation.load(shop.version / "graph", Config())
    assert holdout is not None
    assert holdout.prefixes is not None
    chosen = json.loads((shop.version / "manifest.json").read_text())["metrics"]["score_weights"]["revisit"]
    queries = holdout.prefixes.queries
    seen = [
        target in queries.rows[queries.offsets[query] : queries.offsets[query + 1]]
        for query, target in zip(holdout.prefixes.query.tolist(), holdout.prefixes.target.tolist(), strict=True)
    ]
    assert (chosen > 0) == (np.mean(seen) > 0.02), "the weight follows what the shop's sessions do"
    meta = json.loads((shop.version / "index" / "meta.json").read_text())
    assert meta["revisit_weight"] == chosen
    assert read_index(shop.version / "index").edges.revisit_weight == chosen
