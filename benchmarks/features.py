"""Feature selection on a shop's features among copies, coarser ones and noise: learned, by permutation, by chance.

    python benchmarks/features.py --graph NAME=GRAPH [--graph …] [--keep 6] [--seeds 3] [--output TABLE.md]

GRAPH is a folder that `benchmarks/quality` or `lightsage run` built. The items table is widened to at least 40 groups:
copies of its columns under other names, coarser versions, crosses, and columns whose values were dealt out anew. All
models are without an id table, trained on `fit/` and judged on the hold-out, with the weights of the score that it
chooses for the model with all groups; nothing here reads a test.
"""

import argparse
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from _judge import TITLES, Judge, judge, shown
from numpy.typing import NDArray

from jobs.cli.select_features import chosen_groups, without, without_ids
from jobs.config import Config
from jobs.pipeline.holdout import HoldoutEvaluation
from model.config import ModelConfig, TrainConfig
from model.embed import embed
from model.embeddings import Embeddings
from model.encoder_input import encoder_input
from model.graph import ItemGraph, load_graph
from model.propagation import in_neighbours
from model.tail import group_tail, no_groups
from model.trained import Trained
from model.trainer import train

GROUPS = 40
COPIES = 2
BUCKETS = 32


@dataclass(frozen=True)
class Widened:
    """A graph whose items have many feature groups; `source`: group → what it was made of, "" for noise."""

    graph: ItemGraph
    config: ModelConfig
    source: dict[str, str]

    def precision(self, chosen: tuple[str, ...]) -> float:
        """The share of chosen groups that say something, each source counted once."""
        return len({self.source[name] for name in chosen} - {""}) / len(chosen)

    def copied(self, chosen: tuple[str, ...]) -> int:
        """How many of the chosen only repeat another one that was chosen, too."""
        return sum(1 for name in chosen if self.source[name]) - len({self.source[name] for name in chosen} - {""})


def widened(graph: ItemGraph, seed: int = 0) -> Widened:
    """At least GROUPS groups from those that a shop's items have."""
    generator = np.random.default_rng(seed)
    items, source = graph.items, dict[str, str]()
    codes = {name: coded(items[name]) for name in ("category", "brand", "price") if name in items.column_names}
    source |= {name: name for name in (*codes, *({"title"} & set(items.column_names)))}
    made = dict[str, NDArray[np.int64]]()
    for name, code in codes.items():
        for copy in range(COPIES):
            made[f"copy {copy + 1} of {name}"] = generator.permutation(int(code.max()) + 1)[code]
            source[f"copy {copy + 1} of {name}"] = name
        levels = max(2, round(float(np.sqrt(code.max() + 1))))
        made[f"coarse {name}"] = generator.integers(0, levels, int(code.max()) + 1)[code]
        source[f"coarse {name}"] = f"coarse {name}"
    for one, other in itertools.combinations(codes, 2):
        name = f"{one} x {other}"
        made[name] = np.unique(codes[one] * (codes[other].max() + 1) + codes[other], return_inverse=True)[1]
        source[name] = name
    for number in itertools.count(1):
        if len(source) >= GROUPS:
            break
        for name, code in codes.items():
            made[f"noise {number} like {name}"] = generator.permutation(code)
            source[f"noise {number} like {name}"] = ""
    for name, values in made.items():
        items = items.append_column(name, pa.array([str(value) for value in values.tolist()]))
    config = ModelConfig()
    config = config.model_copy(update={"features": config.features.model_copy(update={"columns": tuple(made)})})
    return Widened(replace(graph, items=items), without_ids(config), source)


def coded(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """(N,) level numbers; of numbers their quantile's, and one of their own for what is absent."""
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        numbers = column.cast(pa.float64()).to_numpy()
        bounds = np.nanquantile(numbers, np.linspace(0, 1, BUCKETS + 1)[1:-1])
        return np.where(np.isnan(numbers), BUCKETS, np.searchsorted(bounds, numbers, side="right")).astype(np.int64)
    encoded = pc.fill_null(column.cast(pa.string()), "").combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64)


def by_permutation(shop: Widened, whole: Trained, judge: Judge, config: ModelConfig, keep: int) -> tuple[str, ...]:
    """The groups without whose order among the items a model of all loses most, HR@100 of all and tail."""
    generator = np.random.default_rng(config.train.seed)

    def score(items: pa.Table) -> float:
        cells = judge(embedded(whole, replace(shop.graph, items=items), config))
        return float(np.nansum(cells[1:3]))

    loss = {}
    for name in shop.source:
        place, column = shop.graph.items.column_names.index(name), shop.graph.items[name]
        dealt = column.take(pa.array(generator.permutation(len(column))))
        loss[name] = -score(shop.graph.items.set_column(place, name, dealt))
    return tuple(sorted(loss, key=lambda name: -loss[name])[:keep])


def embedded(trained: Trained, graph: ItemGraph, config: ModelConfig) -> Embeddings:
    """A trained model on other items."""
    matrix = trained.features.transform(graph.items, graph.item_ids, np.zeros(graph.num_items, bool))
    neighbours = in_neighbours(graph, config.propagation)
    groups = no_groups()
    if config.tail.at_inference:
        groups = group_tail(graph, matrix, neighbours, config.tail, config.train.seed)
    return embed(graph, trained.network, encoder_input(graph, matrix, neighbours, groups), trained.embeddings.prior)


def main() -> int:
    """Select in each way, train with what was selected, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--graph", action="append", required=True, metavar="NAME=GRAPH")
    options.add_argument("--keep", type=int, default=6)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--threads", type=int, default=0, help="of torch (default: as many as cores)")
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    pages = ["# Feature selection", "", "`python benchmarks/features.py --graph NAME=GRAPH …`", ""]
    for named in chosen.graph:
        pages.append(page(named, chosen.keep, chosen.seeds, chosen.threads))
        if chosen.output:
            chosen.output.write_text("\n".join(pages), encoding="utf-8")
    print("\n".join(pages))
    return 0


def page(named: str, keep: int, seeds: int, threads: int) -> str:
    """One shop's table."""
    name, _, root = named.partition("=")
    shop = widened(load_graph(Path(root), "fit", Path(root) / "tables" / "items"))
    holdout = HoldoutEvaluation.load(Path(root), Config())
    assert holdout is not None

    def config(seed: int) -> ModelConfig:
        return shop.config.model_copy(update={"train": TrainConfig(seed=seed, threads=threads)})

    every = tuple(shop.source)
    whole = [train(shop.graph, config(seed)) for seed in range(seeds)]
    cells = judge(holdout, whole[0].embeddings)

    def by_chance(seed: int) -> tuple[str, ...]:
        return tuple(np.random.default_rng(seed).choice(list(every), keep, replace=False).tolist())

    ways: dict[str, Callable[[int], tuple[str, ...]]] = {
        "all groups": lambda _seed: every,
        "learned": lambda seed: chosen_groups(shop.graph, config(seed), keep)[1],
        "by permutation": lambda seed: by_permutation(shop, whole[seed], cells, config(seed), keep),
        "by chance": by_chance,
    }
    lines = [
        f"## {name}: {keep} of {len(every)} groups",
        "",
        f"| choice | {TITLES} | precision | copies | chosen with the first seed |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for way, choose in ways.items():
        found = [choose(seed) for seed in range(seeds)]
        hits = []
        for seed, kept in enumerate(found):
            some = without(config(seed), tuple(group for group in every if group not in kept))
            hits.append(cells((whole[seed] if kept == every else train(shop.graph, some)).embeddings))
        precision = np.mean([shop.precision(kept) for kept in found])
        copies = np.mean([shop.copied(kept) for kept in found])
        names = "" if way == "all groups" else ", ".join(found[0])
        lines.append(f"| {way} | {shown(hits)} | {precision:.2f} | {copies:.1f} | {names} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
