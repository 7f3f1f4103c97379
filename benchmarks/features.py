"""Feature selection among a shop's features, copies of them and noise: learned, by permutation, and at random.

    python benchmarks/features.py --graph NAME=GRAPH [--graph …] [--keep 6] [--seeds 3] [--output TABLE.md]

GRAPH is a folder built by `benchmarks/quality` or `lightsage run`. The items table is widened to at least 40 groups:
copies of its columns under other names, coarser versions, crosses, and columns with shuffled values (noise). No model
has id embeddings. All are trained on `fit/` and measured on the hold-out, with the weights of the score that the
hold-out chooses for the model with all groups. No test is read.
"""

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from _holdout import TITLES, Measure, mean_cells, measure_on
from _page import add_graphs, argument_parser, print_progress, publish, write_page
from numpy.typing import NDArray

from jobs.cli.select_features import choose_groups, without_groups, without_ids
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
    """A graph whose items have many feature groups; `source` maps each group to its origin, "" for noise."""

    graph: ItemGraph
    config: ModelConfig
    source: dict[str, str]

    def precision(self, chosen: tuple[str, ...]) -> float:
        """Share of the chosen groups that are informative; groups with the same source count once."""
        return len({self.source[name] for name in chosen} - {""}) / len(chosen)

    def repeated(self, chosen: tuple[str, ...]) -> int:
        """Number of the chosen groups that only repeat the source of another chosen group."""
        return sum(1 for name in chosen if self.source[name]) - len({self.source[name] for name in chosen} - {""})


def widen(graph: ItemGraph, seed: int = 0) -> Widened:
    """Derive at least GROUPS feature groups from those of a shop's items."""
    generator = np.random.default_rng(seed)
    items, source = graph.items, dict[str, str]()
    codes = {name: level_codes(items[name]) for name in ("category", "brand", "price") if name in items.column_names}
    source |= {name: name for name in (*codes, *({"title"} & set(items.column_names)))}
    made = dict[str, NDArray[np.int64]]()
    for name, code in codes.items():
        for copy in range(COPIES):
            made[f"copy {copy + 1} of {name}"] = generator.permutation(int(code.max()) + 1)[code]
            source[f"copy {copy + 1} of {name}"] = name
        levels = max(2, round(float(np.sqrt(code.max() + 1))))
        made[f"coarse {name}"] = generator.integers(0, levels, int(code.max()) + 1)[code]
        source[f"coarse {name}"] = f"coarse {name}"
    for a, b in itertools.combinations(codes, 2):
        name = f"{a} x {b}"
        made[name] = np.unique(codes[a] * (codes[b].max() + 1) + codes[b], return_inverse=True)[1]
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


def level_codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """(N,) codes of a column's levels; numbers are coded by quantile, and missing values have a code of their own."""
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        numbers = column.cast(pa.float64()).to_numpy()
        bounds = np.nanquantile(numbers, np.linspace(0, 1, BUCKETS + 1)[1:-1])
        return np.where(np.isnan(numbers), BUCKETS, np.searchsorted(bounds, numbers, side="right")).astype(np.int64)
    encoded = pc.fill_null(column.cast(pa.string()), "").combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64)


def by_permutation(shop: Widened, full: Trained, measure: Measure, config: ModelConfig, keep: int) -> tuple[str, ...]:
    """The groups that a model of all groups needs most: shuffling them lowers HR@100 plus tail HR@100 the most."""
    generator = np.random.default_rng(config.train.seed)

    def score(items: pa.Table) -> float:
        cells = measure(embed_items(full, replace(shop.graph, items=items), config))
        return float(np.nansum(cells[1:3]))

    loss = {}
    for name in shop.source:
        position, column = shop.graph.items.column_names.index(name), shop.graph.items[name]
        shuffled = column.take(pa.array(generator.permutation(len(column))))
        loss[name] = -score(shop.graph.items.set_column(position, name, shuffled))
    return tuple(sorted(loss, key=lambda name: -loss[name])[:keep])


def embed_items(trained: Trained, graph: ItemGraph, config: ModelConfig) -> Embeddings:
    """Embed the items of another graph with a trained model."""
    matrix = trained.features.transform(graph.items, graph.item_ids, np.zeros(graph.num_items, bool))
    neighbours = in_neighbours(graph, config.propagation)
    groups = no_groups()
    if config.tail.at_inference:
        groups = group_tail(graph, matrix, neighbours, config.tail, config.train.seed)
    return embed(graph, trained.network, encoder_input(graph, matrix, neighbours, groups), trained.embeddings.prior)


def main() -> int:
    """Select groups in every way, train with the selected groups and print the page."""
    parser = argument_parser(__doc__)
    add_graphs(parser, seeds=3)
    parser.add_argument("--keep", type=int, default=6, help="groups to select (default 6)")
    options = parser.parse_args()
    pages = ["# Feature selection", "", "`python benchmarks/features.py --graph NAME=GRAPH …`", ""]
    for name_and_root in options.graph:
        pages.append(page(name_and_root, options.keep, options.seeds, options.threads))
        write_page("\n".join(pages), options.output)
    return publish("\n".join(pages), options.output)


def page(name_and_root: str, keep: int, seeds: int, threads: int) -> str:
    """The table of one shop."""
    name, _, root = name_and_root.partition("=")
    shop = widen(load_graph(Path(root), "fit", Path(root) / "tables" / "items"))
    holdout = HoldoutEvaluation.load(Path(root), Config())
    assert holdout is not None

    def config(seed: int) -> ModelConfig:
        return shop.config.model_copy(update={"train": TrainConfig(seed=seed, threads=threads)})

    every = tuple(shop.source)
    full_models = [train(shop.graph, config(seed)) for seed in range(seeds)]
    measure = measure_on(holdout, full_models[0].embeddings)

    def at_random(seed: int) -> tuple[str, ...]:
        return tuple(np.random.default_rng(seed).choice(list(every), keep, replace=False).tolist())

    methods: dict[str, Callable[[int], tuple[str, ...]]] = {
        "all groups": lambda _seed: every,
        "learned": lambda seed: choose_groups(shop.graph, config(seed), keep)[1],
        "by permutation": lambda seed: by_permutation(shop, full_models[seed], measure, config(seed), keep),
        "by chance": at_random,
    }
    lines = [
        f"## {name}: {keep} of {len(every)} groups",
        "",
        f"| choice | {TITLES} | precision | copies | chosen with the first seed |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for method, choose in methods.items():
        selections = [choose(seed) for seed in range(seeds)]
        hits = []
        for seed, selected in enumerate(selections):
            reduced = without_groups(config(seed), tuple(group for group in every if group not in selected))
            model = full_models[seed] if selected == every else train(shop.graph, reduced)
            hits.append(measure(model.embeddings))
        precision = np.mean([shop.precision(selected) for selected in selections])
        copies = np.mean([shop.repeated(selected) for selected in selections])
        names = "" if method == "all groups" else ", ".join(selections[0])
        lines.append(f"| {method} | {mean_cells(hits)} | {precision:.2f} | {copies:.1f} | {names} |")
        print_progress(lines[-1])
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
