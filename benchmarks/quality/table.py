"""The table of a shop: every model on the test, as means over seeds, and LightSAGE's lead with a paired interval."""

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
# The same embeddings, ranked like those of the other networks.
COSINE_ONLY = "LightSAGE, cosine alone"
CUTS = (20, 100)
# Popularity weights of the frontier, from favouring popular items to favouring rare ones.
DIAL = (-0.02, 0.0, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3)


@dataclass(frozen=True)
class Measurement:
    """One model on the test.

    Args:
        ranks: (seeds, P) int64, the rank of every pair's target, 0 if it is not among the first 100.
        coverage: share of the catalogue among the first 20 results, by seed.
        cpu: training CPU seconds, by seed.
        dial: for LightSAGE, the (P,) ranks of the first seed by popularity weight.
    """

    model: str
    ranks: NDArray[np.int64]
    coverage: list[float]
    cpu: list[float]
    dial: dict[float, NDArray[np.int64]] = field(default_factory=dict)


def fits(
    shop: Shop, tuned: dict[str, Any], name: str, seeds: Iterable[int]
) -> Iterator[tuple[int, Ranker, float, tuple[Embeddings, ScoreWeights] | None]]:
    """Fit a model on all events; yields (seed, ranker, training CPU seconds, LightSAGE's embeddings and weights)."""
    peer = {peer.name: peer for peer in PEERS}.get(name)
    for seed in seeds if peer is None or peer.random else (0,):
        began = time.process_time()
        if peer is None:
            ours = lightsage(shop, ModelConfig(), seed)
            yield seed, ranker_of(ours[0], shop.full, ours[1]), time.process_time() - began, ours
        else:
            ranker = peer.fit(shop.full, tuned.get(name, {}).get("params", peer.first), seed)
            yield seed, ranker, time.process_time() - began, None


def measure_models(shop: Shop, tuned: dict[str, Any], models: list[str], seeds: Iterable[int]) -> list[Measurement]:
    """Fit every model on all events, and measure it on the test once per seed."""
    measurements = []
    for name in models:
        all_ranks, coverage, cpu = [], [], []
        dial: dict[float, NDArray[np.int64]] = {}
        cosine_ranks: list[NDArray[np.int64]] = []
        cosine_coverage: list[float] = []
        for seed, ranker, spent, ours in fits(shop, tuned, name, seeds):
            cpu.append(spent)
            ranks, lists = target_ranks(ranker, shop.test)
            all_ranks.append(ranks)
            coverage.append(metrics.coverage(lists, 20, shop.test.n_items))
            print(f"{shop.name} {name} seed {seed}: {metrics.hits(ranks, 20).mean():.4f}", file=sys.stderr, flush=True)
            if ours is None:
                continue
            embeddings, weights = ours
            ranks, lists = target_ranks(VectorRanker(embeddings.query, embeddings.item), shop.test)
            cosine_ranks.append(ranks)
            cosine_coverage.append(metrics.coverage(lists, 20, shop.test.n_items))
            for popularity in () if dial else DIAL:
                dial_weights = weights.model_copy(update={"popularity": popularity})
                dial[popularity] = target_ranks(ranker_of(embeddings, shop.full, dial_weights), shop.test)[0]
        if cosine_ranks:
            measurements.append(Measurement(COSINE_ONLY, np.array(cosine_ranks), cosine_coverage, cpu))
        measurements.append(Measurement(name, np.array(all_ranks), coverage, cpu, dial))
    return measurements


def target_ranks(ranker: Ranker, pairs: Pairs) -> tuple[NDArray[np.int64], TopK]:
    """The (P,) rank of every pair's target, 0 if it is not in the list, and the lists."""
    lists = ranker.rank(pairs.queries, max(CUTS), include_current=pairs.include_current)
    ranks = np.zeros(len(pairs), np.int64)
    ranks[pairs.findable] = metrics.ranks(lists, pairs.query[pairs.findable], pairs.target[pairs.findable])
    return ranks, lists


def lightsage(shop: Shop, config: ModelConfig, seed: int) -> tuple[Embeddings, ScoreWeights]:
    """Train as `lightsage run` does: the hold-out chooses steps and weights, the final model learns from all events."""
    config = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
    holdout = HoldoutEvaluation.load(shop.root, Config())
    assert holdout is not None
    fitted = train(shop.fit.graph, config, validate=holdout.hits)
    record, weights = fitted.record, holdout.choose_weights(fitted.embeddings)
    print(f"{shop.name} {record.steps} of {record.schedule_steps} steps, {weights!r}", file=sys.stderr, flush=True)
    trained = train(shop.full.graph, config, share=record.share)
    return trained.embeddings, weights


def ranker_of(embeddings: Embeddings, split: Split, weights: ScoreWeights) -> EmbeddingRanker:
    """A ranker that ranks by the embeddings of a split as a server does."""
    catalogue = catalogue_of(embeddings, split.root / split.name, weights)
    return EmbeddingRanker(
        catalogue,
        split.edges.weighing(weights),
        Config().retrieval,
    )


def render(shop: Shop, measurements: list[Measurement]) -> str:
    """The page, in Markdown."""
    pairs = shop.test
    slices = slices_of(pairs)
    cells = [("all", "HR", 20), ("all", "HR", 100), ("all", "MRR", 20), ("tail", "HR", 100), ("cold", "HR", 100)]
    lines = [
        f"# Quality on {shop.name}",
        "",
        f"The test has {len(pairs):,} pairs of a query and a target; {slices['tail'].sum():,} of the targets are tail "
        f"items (1 to {TAIL_EVENTS} training events), and {slices['cold'].sum():,} are cold. Figures are means over "
        "seeds, ± their standard deviation.",
        "",
        "| model | HR@20 | HR@100 | MRR@20 | tail HR@100 | cold HR@100 | coverage@20 | training CPU s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in measurements:
        columns = [spread([float(value(ranks, metric, k)[slices[part]].mean()) for ranks in one.ranks])
                   if slices[part].any() else "–" for part, metric, k in cells]  # fmt: skip
        columns += [spread(one.coverage), f"{np.mean(one.cpu):.0f}"]
        lines.append(f"| {one.model} | {' | '.join(columns)} |")
    ours = next((one for one in measurements if one.model == OURS), None)
    if ours is not None:
        lines += [
            "",
            f"{OURS}'s figure minus the peer's, with the 95% interval of a paired bootstrap over whole sessions:",
            "",
            "| peer | HR@20 | HR@100 | MRR@20 | tail HR@100 | cold HR@100 |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for one in measurements:
            if one is not ours:
                ahead = [difference(ours, one, pairs, slices[part], metric, k) for part, metric, k in cells]
                lines.append(f"| {one.model} | {' | '.join(ahead)} |")
    return "\n".join(lines) + "\n"


def slices_of(pairs: Pairs) -> dict[str, NDArray[np.bool_]]:
    """The (P,) masks of all pairs, of those with a tail target, and of those with a cold one."""
    tail = (pairs.events >= 1) & (pairs.events <= TAIL_EVENTS)
    return {"all": np.ones(len(pairs), np.bool_), "tail": tail, "cold": pairs.events == 0}


def value(ranks: NDArray[np.int64], metric: str, k: int) -> NDArray[np.float64]:
    """The (P,) metric of each pair."""
    return metrics.hits(ranks, k) if metric == "HR" else metrics.reciprocal_ranks(ranks, k)


def difference(ours: Measurement, peer: Measurement, pairs: Pairs, part: NDArray[np.bool_], metric: str, k: int) -> str:
    """The mean difference and its interval."""
    if not part.any():
        return "–"
    mean = [np.mean([value(ranks, metric, k) for ranks in one.ranks], axis=0) for one in (ours, peer)]
    ahead = (mean[0] - mean[1])[part]
    groups = np.unique(pairs.group[part], return_inverse=True)[1]
    sums, counts = np.bincount(groups, ahead)[:, None], np.bincount(groups)[:, None].astype(np.float64)
    low, high = metrics.bootstrap(sums, counts)
    return f"{ahead.mean():+.3f} ({low[0]:+.3f} to {high[0]:+.3f})"


def spread(values: list[float]) -> str:
    """Mean ± standard deviation."""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")
