"""The table: every model on the test, means over seeds, and how far LightSAGE is ahead with a paired interval."""

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers import PEERS
from shop import Shop, Split

from jobs.config import Config
from jobs.evaluate import catalogue_of
from jobs.validation import HoldOut
from model.config import ModelConfig
from model.trainer import train
from retrieval import metrics
from retrieval.config import ScoreWeights
from retrieval.evaluate import TAIL_EVENTS
from retrieval.pairs import Pairs
from retrieval.ranking import EmbeddingRanker, Ranker

OURS = "LightSAGE"
CUTS = (20, 100)


@dataclass(frozen=True)
class Measured:
    """One model on the test.

    Args:
        places: (seeds, P) int64, the place of every pair's target, 0 where it is not among the first 100.
        coverage: share of the catalogue in the first 20, by seed. cpu: training seconds, by seed.
    """

    model: str
    places: NDArray[np.int64]
    coverage: list[float]
    cpu: list[float]


def measured(shop: Shop, tuned: dict[str, Any], models: list[str], seeds: Iterable[int]) -> list[Measured]:
    """Fit every model on everything and read the test once for each seed."""
    found = []
    known = {peer.name: peer for peer in PEERS}
    for name in models:
        places, coverage, cpu = [], [], []
        peer = known.get(name)
        for seed in seeds if peer is None or peer.random else (0,):
            began = time.process_time()
            if peer is None:
                ranker = lightsage(shop, ModelConfig(), seed)
            else:
                ranker = peer.fit(shop.full, tuned.get(name, {}).get("params", peer.first), seed)
            cpu.append(time.process_time() - began)
            lists = ranker.rank(shop.test.queries, max(CUTS), include_current=shop.test.include_current)
            place = np.zeros(len(shop.test), np.int64)
            asked = shop.test.findable
            place[asked] = metrics.places(lists, shop.test.query[asked], shop.test.target[asked])
            places.append(place)
            coverage.append(metrics.coverage(lists, 20, shop.test.n_items))
            print(f"{shop.name} {name} seed {seed}: {metrics.hits(place, 20).mean():.4f}", file=sys.stderr, flush=True)
        found.append(Measured(name, np.array(places), coverage, cpu))
    return found


def lightsage(shop: Shop, config: ModelConfig, seed: int) -> Ranker:
    """The released way: steps chosen on the hold-out, then everything is fitted with them."""
    config = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
    holdout = HoldOut.of(shop.root, Config())
    assert holdout is not None
    fitted = train(shop.fit.graph, config, validate=holdout.rate)
    chosen, weights = fitted.record, holdout.weights(fitted.embeddings)
    print(f"{shop.name} {chosen.steps} of {chosen.schedule_steps} steps, {weights!r}", file=sys.stderr, flush=True)
    trained = train(shop.full.graph, config, share=chosen.share)
    return ranker_of(trained.embeddings, shop.full, weights)


def ranker_of(embeddings: Any, split: Split, weights: ScoreWeights) -> EmbeddingRanker:
    """Embeddings of a split, ranked as they are served."""
    catalogue = catalogue_of(embeddings, split.root / split.name, weights)
    return EmbeddingRanker(catalogue, replace(split.edges, direct_weight=weights.direct), Config().retrieval)


def render(shop: Shop, found: list[Measured]) -> str:
    """The page."""
    pairs = shop.test
    slices = slices_of(pairs)
    cells = [("all", "HR", 20), ("all", "HR", 100), ("all", "MRR", 20), ("tail", "HR", 100), ("cold", "HR", 100)]
    lines = [
        f"# Quality on {shop.name}",
        "",
        f"{len(pairs):,} pairs; tail (1 to {TAIL_EVENTS} training events): {slices['tail'].sum():,}; "
        f"cold: {slices['cold'].sum():,}. Mean over seeds, ± their standard deviation.",
        "",
        "| model | HR@20 | HR@100 | MRR@20 | tail HR@100 | cold HR@100 | coverage@20 | training CPU s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in found:
        columns = [_spread([float(value(place, metric, k)[slices[part]].mean()) for place in one.places])
                   if slices[part].any() else "–" for part, metric, k in cells]  # fmt: skip
        columns += [_spread(one.coverage), f"{np.mean(one.cpu):.0f}"]
        lines.append(f"| {one.model} | {' | '.join(columns)} |")
    ours = next((one for one in found if one.model == OURS), None)
    if ours is not None:
        lines += [
            "",
            f"{OURS} less the peer, with the 95% interval of a bootstrap over whole sessions (paired):",
            "",
            "| peer | HR@20 | HR@100 | MRR@20 | tail HR@100 | cold HR@100 |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for one in found:
            if one is not ours:
                ahead = [difference(ours, one, pairs, slices[part], metric, k) for part, metric, k in cells]
                lines.append(f"| {one.model} | {' | '.join(ahead)} |")
    return "\n".join(lines) + "\n"


def slices_of(pairs: Pairs) -> dict[str, NDArray[np.bool_]]:
    """(P,) bool for all pairs, those with a tail target, those with a cold one."""
    tail = (pairs.events >= 1) & (pairs.events <= TAIL_EVENTS)
    return {"all": np.ones(len(pairs), np.bool_), "tail": tail, "cold": pairs.events == 0}


def value(place: NDArray[np.int64], metric: str, k: int) -> NDArray[np.float64]:
    """(P,) the metric of each pair."""
    return metrics.hits(place, k) if metric == "HR" else metrics.reciprocal_ranks(place, k)


def difference(ours: Measured, peer: Measured, pairs: Pairs, chosen: NDArray[np.bool_], metric: str, k: int) -> str:
    """Mean difference and its interval."""
    if not chosen.any():
        return "–"
    mean = [np.mean([value(place, metric, k) for place in one.places], axis=0) for one in (ours, peer)]
    ahead = (mean[0] - mean[1])[chosen]
    groups = np.unique(pairs.group[chosen], return_inverse=True)[1]
    sums, counts = np.bincount(groups, ahead)[:, None], np.bincount(groups)[:, None].astype(np.float64)
    low, high = metrics.bootstrap(sums, counts)
    return f"{ahead.mean():+.3f} ({low[0]:+.3f} to {high[0]:+.3f})"


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")
