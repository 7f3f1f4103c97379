"""The table: every model on the test, means over seeds, and how far LightSAGE is ahead with a paired interval."""

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers import PEERS, VectorRanker
from shop import Shop, Split

from jobs.config import Config
from jobs.pipeline.evaluate import catalogue_of
from jobs.pipeline.holdout import HoldoutEvaluation
from model.config import ModelConfig
from model.embeddings import Embeddings
from model.trainer import train
from retrieval.config import ScoreWeights
from retrieval.evaluation import metrics
from retrieval.evaluation.pairs import Pairs
from retrieval.evaluation.protocols import TAIL_EVENTS
from retrieval.queries import Ranker
from retrieval.ranking.embedding_ranker import EmbeddingRanker
from retrieval.topk import TopK

OURS = "LightSAGE"
# The same embeddings, ranked as the other networks' are.
ALONE = "LightSAGE, cosine alone"
CUTS = (20, 100)
# Popularity weights of the frontier: from the head to the tail.
DIAL = (-0.02, 0.0, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3)


@dataclass(frozen=True)
class Measured:
    """One model on the test.

    Args:
        places: (seeds, P) int64, the place of every pair's target, 0 where it is not among the first 100.
        coverage: share of the catalogue in the first 20, by seed. cpu: training seconds, by seed.
        dial: of our model, (P,) places of the first seed by popularity weight.
    """

    model: str
    places: NDArray[np.int64]
    coverage: list[float]
    cpu: list[float]
    dial: dict[float, NDArray[np.int64]] = field(default_factory=dict)


def fits(
    shop: Shop, tuned: dict[str, Any], name: str, seeds: Iterable[int]
) -> Iterator[tuple[int, Ranker, float, tuple[Embeddings, ScoreWeights] | None]]:
    """(seed, ranker, training CPU seconds, what ours consists of), fitted on everything."""
    peer = {peer.name: peer for peer in PEERS}.get(name)
    for seed in seeds if peer is None or peer.random else (0,):
        began = time.process_time()
        if peer is None:
            ours = lightsage(shop, ModelConfig(), seed)
            yield seed, ranker_of(ours[0], shop.full, ours[1]), time.process_time() - began, ours
        else:
            ranker = peer.fit(shop.full, tuned.get(name, {}).get("params", peer.first), seed)
            yield seed, ranker, time.process_time() - began, None


def measured(shop: Shop, tuned: dict[str, Any], models: list[str], seeds: Iterable[int]) -> list[Measured]:
    """Fit every model on everything and read the test once for each seed."""
    found = []
    for name in models:
        places, coverage, cpu = [], [], []
        dial: dict[float, NDArray[np.int64]] = {}
        alone: list[NDArray[np.int64]] = []
        shown: list[float] = []
        for seed, ranker, spent, ours in fits(shop, tuned, name, seeds):
            cpu.append(spent)
            place, lists = placed(ranker, shop.test)
            places.append(place)
            coverage.append(metrics.coverage(lists, 20, shop.test.n_items))
            print(f"{shop.name} {name} seed {seed}: {metrics.hits(place, 20).mean():.4f}", file=sys.stderr, flush=True)
            if ours is None:
                continue
            embeddings, weights = ours
            place, lists = placed(VectorRanker(embeddings.query, embeddings.item), shop.test)
            alone.append(place)
            shown.append(metrics.coverage(lists, 20, shop.test.n_items))
            for popularity in () if dial else DIAL:
                turned = weights.model_copy(update={"popularity": popularity})
                dial[popularity] = placed(ranker_of(embeddings, shop.full, turned), shop.test)[0]
        if alone:
            found.append(Measured(ALONE, np.array(alone), shown, cpu))
        found.append(Measured(name, np.array(places), coverage, cpu, dial))
    return found


def placed(ranker: Ranker, pairs: Pairs) -> tuple[NDArray[np.int64], TopK]:
    """(P,) the place of every pair's target, 0 where it is not found, and the lists."""
    lists = ranker.rank(pairs.queries, max(CUTS), include_current=pairs.include_current)
    place = np.zeros(len(pairs), np.int64)
    place[pairs.findable] = metrics.ranks(lists, pairs.query[pairs.findable], pairs.target[pairs.findable])
    return place, lists


def lightsage(shop: Shop, config: ModelConfig, seed: int) -> tuple[Embeddings, ScoreWeights]:
    """The released way: steps and the score's weights chosen on the hold-out, then everything is fitted with them."""
    config = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
    holdout = HoldoutEvaluation.load(shop.root, Config())
    assert holdout is not None
    fitted = train(shop.fit.graph, config, validate=holdout.hits)
    chosen, weights = fitted.record, holdout.choose_weights(fitted.embeddings)
    print(f"{shop.name} {chosen.steps} of {chosen.schedule_steps} steps, {weights!r}", file=sys.stderr, flush=True)
    trained = train(shop.full.graph, config, share=chosen.share)
    return trained.embeddings, weights


def ranker_of(embeddings: Embeddings, split: Split, weights: ScoreWeights) -> EmbeddingRanker:
    """Embeddings of a split, ranked as they are served."""
    catalogue = catalogue_of(embeddings, split.root / split.name, weights)
    return EmbeddingRanker(
        catalogue,
        split.edges.weighing(weights),
        Config().retrieval,
    )


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
        columns = [spread([float(value(place, metric, k)[slices[part]].mean()) for place in one.places])
                   if slices[part].any() else "–" for part, metric, k in cells]  # fmt: skip
        columns += [spread(one.coverage), f"{np.mean(one.cpu):.0f}"]
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


def spread(values: list[float]) -> str:
    """Mean ± standard deviation."""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")
