"""Feature selection on a shop's features among copies, coarser ones and noise: learned, by permutation, by chance.

    python benchmarks/features.py --graph NAME=GRAPH [--graph …] [--keep 6] [--seeds 3] [--output TABLE.md]

GRAPH is a folder that `benchmarks/quality` or `lightsage run` built. The items table is widened to at least 40 groups:
copies of its columns under other names, coarser versions, crosses, and columns whose values were dealt out anew. All
models are without an id table, trained on `fit/` and judged on the hold-out; nothing here reads a test.
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
from numpy.typing import NDArray

from jobs.config import Config
from jobs.select_features import chosen_groups, measured, without, without_ids
from jobs.validation import HoldOut
from model.config import ModelConfig
from model.embed import embed
from model.encoder_input import encoder_input
from model.graph import ItemGraph, load_graph
from model.propagation import in_neighbours
from model.tail import group_tail, no_groups
from model.trainer import Trained, train

CELLS = (("all", "HR", 20), ("all", "HR", 100), ("tail", "HR", 100), ("cold", "HR", 100))
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


def by_permutation(shop: Widened, holdout: HoldOut, keep: int, seed: int) -> tuple[str, ...]:
    """The groups without whose order among the items one trained model loses most, HR@100 of all and tail."""
    config = shop.config.model_copy(update={"train": shop.config.train.model_copy(update={"seed": seed})})
    trained = train(shop.graph, config)
    weights = holdout.weights(trained.embeddings)
    generator = np.random.default_rng(seed)

    def score(items: pa.Table) -> float:
        rows = holdout.rows("", embedded(trained, replace(shop.graph, items=items), config, seed), weights)
        return sum(row["value"] for row in rows if (row["metric"], row["k"]) == ("HR", 100) and row["value"])

    loss = {}
    for name in shop.source:
        place, column = shop.graph.items.column_names.index(name), shop.graph.items[name]
        dealt = column.take(pa.array(generator.permutation(len(column))))
        loss[name] = -score(shop.graph.items.set_column(place, name, dealt))
    return tuple(sorted(loss, key=lambda name: -loss[name])[:keep])


def embedded(trained: Trained, graph: ItemGraph, config: ModelConfig, seed: int):  # type: ignore[no-untyped-def]
    """A trained model on other items."""
    matrix = trained.features.transform(graph.items, graph.item_ids, np.zeros(graph.num_items, bool))
    neighbours = in_neighbours(graph, config.propagation)
    groups = group_tail(graph, matrix, neighbours, config.tail, seed) if config.tail.at_inference else no_groups()
    return embed(graph, trained.network, encoder_input(graph, matrix, neighbours, groups), trained.embeddings.prior)


def main() -> int:
    """Select in each way, train with what was selected, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--graph", action="append", required=True, metavar="NAME=GRAPH")
    options.add_argument("--keep", type=int, default=6)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    pages = ["# Feature selection", "", "`python benchmarks/features.py --graph NAME=GRAPH …`", ""]
    for named in chosen.graph:
        name, _, root = named.partition("=")
        pages.append(page(name, Path(root), chosen.keep, chosen.seeds))
        if chosen.output:
            chosen.output.write_text("\n".join(pages), encoding="utf-8")
    print("\n".join(pages))
    return 0


def page(name: str, root: Path, keep: int, seeds: int) -> str:
    """One shop's table."""
    shop = widened(load_graph(root, "fit", root / "tables" / "items"))
    holdout = HoldOut.of(root, Config())
    assert holdout is not None

    def learned(seed: int) -> tuple[str, ...]:
        config = shop.config.model_copy(update={"train": shop.config.train.model_copy(update={"seed": seed})})
        return chosen_groups(shop.graph, config, keep)[1]

    def by_chance(seed: int) -> tuple[str, ...]:
        names = np.random.default_rng(seed).choice(list(shop.source), keep, replace=False)
        return tuple(names.tolist())

    ways: dict[str, Callable[[int], tuple[str, ...]]] = {
        "all groups": lambda _seed: tuple(shop.source),
        "learned": learned,
        "by permutation": lambda seed: by_permutation(shop, holdout, keep, seed),
        "by chance": by_chance,
    }
    lines = [
        f"## {name}: {keep} of {len(shop.source)} groups",
        "",
        "| choice | HR@20 | HR@100 | tail HR@100 | cold HR@100 | precision | copies | chosen with the first seed |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for way, choose in ways.items():
        found = [choose(seed) for seed in range(seeds)]
        cells = np.mean([judged(shop, holdout, chosen, seed) for seed, chosen in enumerate(found)], axis=0)
        precision = np.mean([shop.precision(chosen) for chosen in found])
        copies = np.mean([shop.copied(chosen) for chosen in found])
        shown = " | ".join(f"{cell:.3f}" for cell in cells)
        names = "" if way == "all groups" else ", ".join(found[0])
        lines.append(f"| {way} | {shown} | {precision:.2f} | {copies:.1f} | {names} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join([*lines, ""])


def judged(shop: Widened, holdout: HoldOut, chosen: tuple[str, ...], seed: int) -> list[float]:
    """The CELLS of a model with the chosen groups alone."""
    config = without(shop.config, tuple(name for name in shop.source if name not in chosen))
    config = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
    rows = measured("", shop.graph, config, holdout)
    values = {(row["slice"], row["metric"], row["k"]): row["value"] for row in rows}
    cells = [values.get(cell, values.get((cell[0], "recall", cell[2]))) for cell in CELLS]
    return [float("nan") if value is None else value for value in cells]


if __name__ == "__main__":
    sys.exit(main())
