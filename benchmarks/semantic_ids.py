"""Semantic IDs: how much of a model's quality a bottleneck of codes keeps, and what else the codes are good for.

    python benchmarks/semantic_ids.py --graph NAME=GRAPH [--graph …] [--seeds 3] [--shapes 4x64 8x256]
        [--parts gap groups features] [--output TABLE.md]

GRAPH is a folder built by `benchmarks/quality` or `lightsage run`. Models are trained on `fit/` and measured on the
hold-out. No test is read. *Gap kept* is (L_low − L) / (L_low − L_up). The losses are those of the hold-out's pairs
under a softmax over the whole catalogue: L of a model with hard codes, L_low of a model without content features, and
L_up of a model that is not quantised. None of these models has id embeddings. All models of a table are ranked with the
weights of the score that the hold-out chooses for the first row.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.nn.functional as F
from _holdout import TITLES, Measure, mean_cells, measure_on
from _page import add_graphs, argument_parser, print_progress, publish, write_page
from numpy.typing import NDArray

from jobs.cli.select_features import without_groups, without_ids
from jobs.cli.semantic_ids import learn_codes, prefix_columns
from jobs.config import Config
from jobs.pipeline.holdout import HoldoutEvaluation
from model.config import ModelConfig
from model.embed import semantic_ids
from model.embeddings import Embeddings
from model.graph import ItemGraph, load_graph
from model.kmeans import k_means, squared_distances
from model.semantic_ids import code_usage, prefix_groups
from model.tail import TailGroups
from model.trainer import train

Codes = NDArray[np.int64]
CONTENT = ("category", "brand", "price", "title", "embedding")
PAIRS = 4096
BLOCK = 512
METHODS: dict[str, dict[str, Any]] = {
    "straight-through": {"mode": "ste", "simvq": False},
    "straight-through, SimVQ": {"mode": "ste", "simvq": True},
    "Gumbel, temperature 1": {"mode": "gumbel", "simvq": False, "initial_temperature": 1.0},
    "Gumbel, SimVQ, temperature 1": {"mode": "gumbel", "simvq": True, "initial_temperature": 1.0},
    "Gumbel, SimVQ, temperature rising": {"mode": "gumbel", "simvq": True},
}


@dataclass(frozen=True)
class Shop:
    """The `fit/` graph of a shop and its hold-out."""

    name: str
    graph: ItemGraph
    holdout: HoldoutEvaluation

    @classmethod
    def of(cls, name_and_root: str) -> "Shop":
        """Load a shop from NAME=GRAPH."""
        name, _, root = name_and_root.partition("=")
        holdout = HoldoutEvaluation.load(Path(root), Config())
        assert holdout is not None
        items = Path(root) / "tables" / "items"
        return cls(name, load_graph(Path(root), "fit", items if items.exists() else None), holdout)

    def loss(self, query: NDArray[np.float32], item: NDArray[np.float32], config: ModelConfig) -> float:
        """Negative log-likelihood of hold-out pairs under a softmax over the catalogue: mean over pairs and members."""
        pairs = self.holdout.pairs
        sample = np.random.default_rng(0).permutation(np.flatnonzero(pairs.findable))[:PAIRS]
        rows = torch.from_numpy(pairs.queries.last[pairs.query[sample]])
        target = torch.from_numpy(pairs.target[sample])
        parts = [torch.from_numpy(np.asarray(v)).chunk(config.members, dim=1) for v in (query, item)]
        total = 0.0
        for queries, candidates in zip(*parts, strict=True):
            for a in range(0, len(sample), BLOCK):
                viewed = rows[a : a + BLOCK]
                logits = queries[viewed] @ candidates.T * (config.members / config.loss.temperature)
                logits[torch.arange(len(viewed)), viewed] = -torch.inf
                total += float(F.cross_entropy(logits, target[a : a + BLOCK], reduction="sum"))
        return total / len(sample) / config.members


def main() -> int:
    """Run the parts for every graph and print the page."""
    parser = argument_parser(__doc__)
    add_graphs(parser, seeds=3)
    parser.add_argument("--shapes", nargs="+", default=["4x64", "8x256"], metavar="LEVELSxSIZE")
    parser.add_argument("--parts", nargs="+", choices=sorted(PARTS), default=list(PARTS))
    options = parser.parse_args()
    pages = ["# Semantic IDs", "", "`python benchmarks/semantic_ids.py --graph NAME=GRAPH …`", ""]
    for name_and_root in options.graph:
        shop = Shop.of(name_and_root)
        for part in options.parts:
            pages += PARTS[part](shop, options)
            write_page("\n".join(pages), options.output)
    return publish("\n".join(pages), options.output)


def seeded(seed: int, threads: int, **sections: Any) -> ModelConfig:
    """The default settings, changed by these sections."""
    return ModelConfig.model_validate(sections | {"train": {"seed": seed, "threads": threads}})


def gap(shop: Shop, options: argparse.Namespace) -> list[str]:
    """The table of the gap kept, by method and shape."""
    low, up, plain = [], [], []
    for seed in range(options.seeds):
        config = without_ids(seeded(seed, options.threads))
        without_content = train(shop.graph, without_groups(config, CONTENT)).embeddings
        low.append(shop.loss(without_content.query, without_content.item, config))
        plain.append(train(shop.graph, config).embeddings)
        up.append(shop.loss(plain[-1].query, plain[-1].item, config))
    gap_size = np.mean(low) - np.mean(up)
    measure = measure_on(shop.holdout, plain[0])
    lines = [
        f"## {shop.name}: gap kept",
        "",
        f"Loss without content {np.mean(low):.3f}, not quantised {np.mean(up):.3f}; {options.seeds} seeds; the gap "
        f"is {gap_size / max(np.std(low) + np.std(up), 1e-9):.0f} standard deviations.",
        "",
        f"| codes | loss | gap kept | {TITLES} | used | perplexity | collisions |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        f"| not quantised | {np.mean(up):.3f} | 1 | {mean_cells([measure(p) for p in plain])} | | | |",
    ]

    def add(name: str, runs: list[tuple[float, list[float], dict[str, Any]]]) -> None:
        losses = np.array([loss for loss, _, _ in runs])
        share = (np.mean(low) - losses) / gap_size
        use = [[np.min(f["usage"]), np.min(f["perplexity"]), f["collisions"]] for _, _, f in runs]
        hits = mean_cells([hits for _, hits, _ in runs])
        lines.append(
            f"| {name} | {losses.mean():.3f} | {share.mean():.3f} ± {share.std():.3f} | {hits} | "
            f"{' | '.join(f'{value:.2f}' for value in np.mean(use, axis=0))} |"
        )
        print_progress(lines[-1])

    for shape in options.shapes:
        levels, size = map(int, shape.split("x"))
        add(
            f"{shape}, k-means afterwards",
            [k_means_codes(shop, measure, p, levels, size, s) for s, p in enumerate(plain)],
        )
        for method, settings in METHODS.items():
            runs = []
            for seed in range(options.seeds):
                quantised = {"levels": levels, "size": size} | settings
                config = without_ids(seeded(seed, options.threads, semantic_ids=quantised))
                trained = train(shop.graph, config)
                embeddings = trained.embeddings
                loss = shop.loss(embeddings.query, embeddings.item, config)
                runs.append(
                    (loss, measure(embeddings), code_usage(semantic_ids(trained.network, trained.encoder), size))
                )
            add(f"{shape}, {method}", runs)
    return [*lines, ""]


def k_means_codes(
    shop: Shop, measure: Measure, plain: Embeddings, levels: int, size: int, seed: int
) -> tuple[float, list[float], dict[str, Any]]:
    """Residual k-means of a finished model's item vectors: a baseline without training."""
    config, item = ModelConfig(), torch.from_numpy(np.asarray(plain.item))
    residual, codes = item.clone(), []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sample = torch.randperm(len(item))[: 256 * size]
        for _ in range(levels):
            centres = k_means(residual[sample], size)
            codes.append(squared_distances(residual, centres).argmin(dim=1))
            residual = residual - centres[codes[-1]]
    parts = F.normalize((item - residual).view(len(item), config.members, -1), dim=2)
    quantised = (parts.reshape(item.shape) / config.members**0.5).numpy()
    unaveraged = quantised[plain.tail_rows]
    embeddings = Embeddings(plain.item_ids, plain.query, quantised, plain.tail_rows, unaveraged, plain.prior)
    usage = code_usage(torch.stack(codes, dim=1).numpy(), size)
    return shop.loss(plain.query, quantised, config), measure(embeddings), usage


def groups(shop: Shop, options: argparse.Namespace) -> list[str]:
    """The table of ways to group the tail items that share a mean in training."""
    levels, size = map(int, options.shapes[0].split("x"))
    lines = [
        f"## {shop.name}: groups of the tail",
        "",
        f"| tail items are averaged by | groups | {TITLES} |",
        "|---|---:|---:|---:|---:|---:|",
    ]

    plain = [train(shop.graph, seeded(seed, options.threads)).embeddings for seed in range(options.seeds)]
    measure = measure_on(shop.holdout, plain[0])

    def add(name: str, group: Callable[[int], Callable[..., TailGroups]] | None, **tail: Any) -> None:
        runs, counts = [], [0]
        for seed in range(options.seeds):
            config = seeded(seed, options.threads, tail=tail)
            if group is None:
                runs.append(measure(train(shop.graph, config).embeddings if tail else plain[seed]))
                continue
            grouping = group(seed)
            with patch("model.trainer.group_tail", grouping):
                runs.append(measure(train(shop.graph, config).embeddings))
            counts.append(grouping().count)
        count = f"{max(counts):,}" if max(counts) else ""
        lines.append(f"| {name} | {count} | {mean_cells(runs)} |")
        print_progress(lines[-1])

    add("similarity, at most 2 (the default)", None)
    add("nothing", None, enabled=False)
    learned = {
        seed: learn_codes(shop.graph, seeded(seed, options.threads), levels, size).astype(np.int64)
        for seed in range(options.seeds)
    }
    for evidence in (4, 10, 30):

        def by_prefix(seed: int, evidence: int = evidence) -> Callable[..., TailGroups]:
            rows = np.flatnonzero(shop.graph.is_tail)
            return constant_groups(rows, prefix_groups(learned[seed], shop.graph.events, rows, evidence))

        add(f"prefixes of {options.shapes[0]} codes with {evidence} events", by_prefix)
    add(
        "k-means of the default's vectors, as many groups as with 10 events",
        lambda seed: by_k_means(shop, plain[seed], learned[seed], seed),
    )
    if "category" in shop.graph.items.column_names:
        add("category", lambda _seed: by_category(shop))
    return [*lines, ""]


def constant_groups(rows: NDArray[np.int64], group: NDArray[np.int64]) -> Callable[..., TailGroups]:
    """A replacement of `group_tail` that always returns these groups."""
    groups = TailGroups(rows, group, int(group.max()) + 1)
    return lambda *_: groups


def by_k_means(shop: Shop, plain: Embeddings, codes: Codes, seed: int) -> Callable[..., TailGroups]:
    """Groups by k-means of a plain model's item vectors."""
    rows = np.flatnonzero(shop.graph.is_tail)
    count = int(prefix_groups(codes, shop.graph.events, rows, 10).max()) + 1
    vectors = torch.from_numpy(plain.item[rows])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        nearest = squared_distances(vectors, k_means(vectors, count)).argmin(dim=1).numpy()
    return constant_groups(rows, np.unique(nearest, return_inverse=True)[1])


def by_category(shop: Shop) -> Callable[..., TailGroups]:
    """Groups by category."""
    rows = np.flatnonzero(shop.graph.is_tail)
    table = shop.graph.items.take(pc.index_in(shop.graph.item_ids, shop.graph.items["item_id"]))
    names = np.array(table["category"].cast(pa.string()).to_pylist(), object)[rows]
    return constant_groups(rows, np.unique([name or "" for name in names], return_inverse=True)[1])


def features(shop: Shop, options: argparse.Namespace) -> list[str]:
    """The table of models with and without code prefixes as features."""
    levels, size = map(int, options.shapes[0].split("x"))
    lines = [
        f"## {shop.name}: prefixes as features",
        "",
        f"| features | {TITLES} |",
        "|---|---:|---:|---:|---:|",
    ]
    measure: Measure | None = None
    for name, prefixes in (("without prefixes", 0), ("with three prefixes", 3)):
        runs = []
        for seed in range(options.seeds):
            graph, config = shop.graph, seeded(seed, options.threads)
            if prefixes:
                added = prefix_columns(learn_codes(graph, config, levels, size))
                graph = with_columns(graph, added)
                config = seeded(seed, options.threads, features={"columns": tuple(added)})
            embeddings = train(graph, config).embeddings
            measure = measure or measure_on(shop.holdout, embeddings)
            runs.append(measure(embeddings))
        lines.append(f"| {name} | {mean_cells(runs)} |")
        print_progress(lines[-1])
    return [*lines, ""]


def with_columns(graph: ItemGraph, columns: dict[str, pa.Array]) -> ItemGraph:
    """A graph whose items have additional columns, given in the order of its rows."""
    items = pa.table({"item_id": graph.item_ids} | columns)
    return replace(graph, items=graph.items.join(items, "item_id"))


PARTS = {"gap": gap, "groups": groups, "features": features}

if __name__ == "__main__":
    sys.exit(main())
