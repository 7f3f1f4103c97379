"""Semantic IDs: what a bottleneck of codes keeps of the model, beside codes made afterwards, and what codes are for.

    python benchmarks/semantic_ids.py --graph NAME=GRAPH [--graph …] [--seeds 3] [--shapes 4x64 8x256]
        [--parts gap groups features] [--output TABLE.md]

GRAPH is a folder that `benchmarks/quality` or `lightsage run` built. Models are trained on `fit/` and judged on the
hold-out; nothing here reads a test. *Gap kept*: (L_low − L) / (L_low − L_up), L the loss of the hold-out's pairs under
a softmax over the whole catalogue, with hard codes; low: without content features, up: not quantised; no id table.
Hits of all models of a table are counted with the weights of the score that the hold-out chooses for its first row.
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
from _judge import TITLES, Judge, judge, shown
from numpy.typing import NDArray

from jobs.cli.select_features import without, without_ids
from jobs.cli.semantic_ids import learned_codes, prefix_columns
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
PART = 512
WAYS: dict[str, dict[str, Any]] = {
    "straight-through": {"mode": "ste", "simvq": False},
    "straight-through, SimVQ": {"mode": "ste", "simvq": True},
    "Gumbel, temperature 1": {"mode": "gumbel", "simvq": False, "initial_temperature": 1.0},
    "Gumbel, SimVQ, temperature 1": {"mode": "gumbel", "simvq": True, "initial_temperature": 1.0},
    "Gumbel, SimVQ, temperature rising": {"mode": "gumbel", "simvq": True},
}


@dataclass(frozen=True)
class Shop:
    """A graph's `fit/` and its hold-out."""

    name: str
    graph: ItemGraph
    holdout: HoldoutEvaluation

    @classmethod
    def of(cls, named: str) -> "Shop":
        """From NAME=GRAPH."""
        name, _, root = named.partition("=")
        holdout = HoldoutEvaluation.load(Path(root), Config())
        assert holdout is not None
        items = Path(root) / "tables" / "items"
        return cls(name, load_graph(Path(root), "fit", items if items.exists() else None), holdout)

    def loss(self, query: NDArray[np.float32], item: NDArray[np.float32], config: ModelConfig) -> float:
        """Mean negative log-likelihood of hold-out pairs, a softmax over the catalogue for each member."""
        pairs = self.holdout.pairs
        some = np.random.default_rng(0).permutation(np.flatnonzero(pairs.findable))[:PAIRS]
        rows = torch.from_numpy(pairs.queries.last[pairs.query[some]])
        target = torch.from_numpy(pairs.target[some])
        parts = [torch.from_numpy(np.asarray(v)).chunk(config.members, dim=1) for v in (query, item)]
        total = 0.0
        for asked, candidates in zip(*parts, strict=True):
            for a in range(0, len(some), PART):
                mine = rows[a : a + PART]
                logits = asked[mine] @ candidates.T * (config.members / config.loss.temperature)
                logits[torch.arange(len(mine)), mine] = -torch.inf
                total += float(F.cross_entropy(logits, target[a : a + PART], reduction="sum"))
        return total / len(some) / config.members


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--graph", action="append", required=True, metavar="NAME=GRAPH")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--shapes", nargs="+", default=["4x64", "8x256"], metavar="LEVELSxSIZE")
    options.add_argument("--parts", nargs="+", choices=sorted(PARTS), default=list(PARTS))
    options.add_argument("--threads", type=int, default=0, help="of torch (default: as many as cores)")
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    pages = ["# Semantic IDs", "", "`python benchmarks/semantic_ids.py --graph NAME=GRAPH …`", ""]
    for named in chosen.graph:
        shop = Shop.of(named)
        for part in chosen.parts:
            pages += PARTS[part](shop, chosen)
            if chosen.output:
                chosen.output.write_text("\n".join(pages), encoding="utf-8")
    print("\n".join(pages))
    return 0


def seeded(seed: int, threads: int, **sections: Any) -> ModelConfig:
    """The defaults, but for these."""
    return ModelConfig.model_validate(sections | {"train": {"seed": seed, "threads": threads}})


def gap(shop: Shop, chosen: argparse.Namespace) -> list[str]:
    """What is kept, by way and shape."""
    low, up, plain = [], [], []
    for seed in range(chosen.seeds):
        config = without_ids(seeded(seed, chosen.threads))
        nothing = train(shop.graph, without(config, CONTENT)).embeddings
        low.append(shop.loss(nothing.query, nothing.item, config))
        plain.append(train(shop.graph, config).embeddings)
        up.append(shop.loss(plain[-1].query, plain[-1].item, config))
    wide = np.mean(low) - np.mean(up)
    cells = judge(shop.holdout, plain[0])
    lines = [
        f"## {shop.name}: what is kept",
        "",
        f"Loss without content {np.mean(low):.3f}, not quantised {np.mean(up):.3f}; {chosen.seeds} seeds, of which the "
        f"gap is {wide / max(np.std(low) + np.std(up), 1e-9):.0f} standard deviations.",
        "",
        f"| codes | loss | gap kept | {TITLES} | used | perplexity | collisions |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        f"| not quantised | {np.mean(up):.3f} | 1 | {shown([cells(p) for p in plain])} | | | |",
    ]

    def add(name: str, found: list[tuple[float, list[float], dict[str, Any]]]) -> None:
        losses = np.array([loss for loss, _, _ in found])
        kept = (np.mean(low) - losses) / wide
        use = [[np.min(f["usage"]), np.min(f["perplexity"]), f["collisions"]] for _, _, f in found]
        hits = shown([hits for _, hits, _ in found])
        lines.append(
            f"| {name} | {losses.mean():.3f} | {kept.mean():.3f} ± {kept.std():.3f} | {hits} | "
            f"{' | '.join(f'{value:.2f}' for value in np.mean(use, axis=0))} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)

    for shape in chosen.shapes:
        levels, size = map(int, shape.split("x"))
        add(f"{shape}, k-means afterwards", [afterwards(shop, cells, p, levels, size, s) for s, p in enumerate(plain)])
        for way, settings in WAYS.items():
            found = []
            for seed in range(chosen.seeds):
                quantised = {"levels": levels, "size": size} | settings
                config = without_ids(seeded(seed, chosen.threads, semantic_ids=quantised))
                trained = train(shop.graph, config)
                mine = trained.embeddings
                loss = shop.loss(mine.query, mine.item, config)
                found.append((loss, cells(mine), code_usage(semantic_ids(trained.network, trained.encoder), size)))
            add(f"{shape}, {way}", found)
    return [*lines, ""]


def afterwards(
    shop: Shop, cells: Judge, plain: Embeddings, levels: int, size: int, seed: int
) -> tuple[float, list[float], dict[str, Any]]:
    """Residual k-means of a finished model's item vectors: the free baseline."""
    config, item = ModelConfig(), torch.from_numpy(np.asarray(plain.item))
    left, codes = item.clone(), []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        some = torch.randperm(len(item))[: 256 * size]
        for _ in range(levels):
            centres = k_means(left[some], size)
            codes.append(squared_distances(left, centres).argmin(dim=1))
            left = left - centres[codes[-1]]
    parts = F.normalize((item - left).view(len(item), config.members, -1), dim=2)
    quantised = (parts.reshape(item.shape) / config.members**0.5).numpy()
    own = quantised[plain.tail_rows]
    again = Embeddings(plain.item_ids, plain.query, quantised, plain.tail_rows, own, plain.prior)
    found = code_usage(torch.stack(codes, dim=1).numpy(), size)
    return shop.loss(plain.query, quantised, config), cells(again), found


def groups(shop: Shop, chosen: argparse.Namespace) -> list[str]:
    """Tail items that share a mean in training, grouped in several ways."""
    levels, size = map(int, chosen.shapes[0].split("x"))
    lines = [
        f"## {shop.name}: groups of the tail",
        "",
        f"| tail items are averaged by | groups | {TITLES} |",
        "|---|---:|---:|---:|---:|---:|",
    ]

    plain = [train(shop.graph, seeded(seed, chosen.threads)).embeddings for seed in range(chosen.seeds)]
    cells = judge(shop.holdout, plain[0])

    def add(name: str, group: Callable[[int], Callable[..., TailGroups]] | None, **tail: Any) -> None:
        found, counts = [], [0]
        for seed in range(chosen.seeds):
            config = seeded(seed, chosen.threads, tail=tail)
            if group is None:
                found.append(cells(train(shop.graph, config).embeddings if tail else plain[seed]))
                continue
            made = group(seed)
            with patch("model.trainer.group_tail", made):
                found.append(cells(train(shop.graph, config).embeddings))
            counts.append(made().count)
        count = f"{max(counts):,}" if max(counts) else ""
        lines.append(f"| {name} | {count} | {shown(found)} |")
        print(lines[-1], file=sys.stderr, flush=True)

    add("similarity, at most 2 (the default)", None)
    add("nothing", None, enabled=False)
    learned = {
        seed: learned_codes(shop.graph, seeded(seed, chosen.threads), levels, size).astype(np.int64)
        for seed in range(chosen.seeds)
    }
    for evidence in (4, 10, 30):

        def by_prefix(seed: int, evidence: int = evidence) -> Callable[..., TailGroups]:
            rows = np.flatnonzero(shop.graph.is_tail)
            return fixed(rows, prefix_groups(learned[seed], shop.graph.events, rows, evidence))

        add(f"prefixes of {chosen.shapes[0]} codes with {evidence} events", by_prefix)
    add(
        "k-means of the default's vectors, as many groups as with 10 events",
        lambda seed: by_k_means(shop, plain[seed], learned[seed], seed),
    )
    if "category" in shop.graph.items.column_names:
        add("category", lambda _seed: by_category(shop))
    return [*lines, ""]


def fixed(rows: NDArray[np.int64], group: NDArray[np.int64]) -> Callable[..., TailGroups]:
    """What stands for `group_tail`."""
    made = TailGroups(rows, group, int(group.max()) + 1)
    return lambda *_: made


def by_k_means(shop: Shop, plain: Embeddings, codes: Codes, seed: int) -> Callable[..., TailGroups]:
    """Clusters of a plain model's item vectors."""
    rows = np.flatnonzero(shop.graph.is_tail)
    count = int(prefix_groups(codes, shop.graph.events, rows, 10).max()) + 1
    vectors = torch.from_numpy(plain.item[rows])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        nearest = squared_distances(vectors, k_means(vectors, count)).argmin(dim=1).numpy()
    return fixed(rows, np.unique(nearest, return_inverse=True)[1])


def by_category(shop: Shop) -> Callable[..., TailGroups]:
    """The items table's own clusters."""
    rows = np.flatnonzero(shop.graph.is_tail)
    table = shop.graph.items.take(pc.index_in(shop.graph.item_ids, shop.graph.items["item_id"]))
    names = np.array(table["category"].cast(pa.string()).to_pylist(), object)[rows]
    return fixed(rows, np.unique([name or "" for name in names], return_inverse=True)[1])


def features(shop: Shop, chosen: argparse.Namespace) -> list[str]:
    """Prefixes of codes as features of their own."""
    levels, size = map(int, chosen.shapes[0].split("x"))
    lines = [
        f"## {shop.name}: prefixes as features",
        "",
        f"| features | {TITLES} |",
        "|---|---:|---:|---:|---:|",
    ]
    cells: Judge | None = None
    for name, prefixes in (("as they are", 0), ("and three prefixes", 3)):
        found = []
        for seed in range(chosen.seeds):
            graph, config = shop.graph, seeded(seed, chosen.threads)
            if prefixes:
                added = prefix_columns(learned_codes(graph, config, levels, size))
                graph = with_columns(graph, added)
                config = seeded(seed, chosen.threads, features={"columns": tuple(added)})
            embeddings = train(graph, config).embeddings
            cells = cells or judge(shop.holdout, embeddings)
            found.append(cells(embeddings))
        lines.append(f"| {name} | {shown(found)} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return [*lines, ""]


def with_columns(graph: ItemGraph, columns: dict[str, pa.Array]) -> ItemGraph:
    """A graph whose items have more columns, given in the order of its rows."""
    items = pa.table({"item_id": graph.item_ids} | columns)
    return replace(graph, items=graph.items.join(items, "item_id"))


PARTS = {"gap": gap, "groups": groups, "features": features}

if __name__ == "__main__":
    sys.exit(main())
