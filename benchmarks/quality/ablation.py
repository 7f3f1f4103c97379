"""What each part of the method is worth: one change at a time, measured on the hold-outs of several shops.

    python benchmarks/quality/ablation.py --graph yoochoose=GRAPH --graph rees46=GRAPH [--seeds 2] [--output TABLE.md]

GRAPH is a folder that `benchmarks/quality` or `lightsage run` built. Nothing here reads a test.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jobs.config import Config
from jobs.evaluate import catalogue_of
from jobs.validation import HoldOut
from model.config import ModelConfig
from model.embeddings import Embeddings
from model.graph import ItemGraph, load_graph
from model.trainer import train
from retrieval.evaluate import evaluate
from retrieval.ranking import EmbeddingRanker

CELLS = (("all", "HR", 20), ("all", "HR", 100), ("tail", "HR", 100), ("cold", "HR", 100))
Settings = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """One change of the released model: of its configuration, of how it is ranked, or of what it is given."""

    name: str
    model: Settings = field(default_factory=dict)
    retrieval: Settings = field(default_factory=dict)
    graph: Callable[[ItemGraph], ItemGraph] | None = None


def without(*columns: str) -> Callable[[ItemGraph], ItemGraph]:
    """A graph whose catalogue lacks some columns."""

    def dropped(graph: ItemGraph) -> ItemGraph:
        return replace(graph, items=graph.items.drop_columns([c for c in columns if c in graph.items.column_names]))

    return dropped


def unweighted(graph: ItemGraph) -> ItemGraph:
    """Every edge weighs one."""
    return replace(graph, weight=np.ones_like(graph.weight))


def shares(**kept: float) -> Settings:
    """Only these edge types are averaged over."""
    return {"propagation": {"strong_click": 0.0, "swing": 0.0, "co_search": 0.0} | kept}


CHANGES = (
    Change("released"),
    Change("no hop", shares()),
    Change("strong click alone", shares(strong_click=1.0)),
    Change("Swing alone", shares(swing=1.0)),
    Change("co-search alone", shares(co_search=1.0)),
    Change("without Swing", {"propagation": {"swing": 0.0}}),
    Change("without co-search", {"propagation": {"co_search": 0.0}}),
    Change("all types alike", shares(strong_click=1.0, swing=1.0, co_search=1.0)),
    Change("edges unweighted", graph=unweighted),
    Change("10 neighbours", {"propagation": {"top_k": 10}}),
    Change("100 neighbours", {"propagation": {"top_k": 100}}),
    Change("heads fixed at their start", {"train": {"network_lr": 1e-9}}),
    Change("heads learn 3 times as fast", {"train": {"network_lr": 0.003}}),
    Change("logQ everywhere", {"loss": {"logq": "all"}}),
    Change("no logQ", {"loss": {"logq": "none"}}),
    Change("in-batch negatives alone", {"loss": {"random_negatives": 0}}),
    Change("4096 random negatives", {"loss": {"random_negatives": 4096}}),
    Change("temperature .03", {"loss": {"temperature": 0.03}}),
    Change("temperature .1", {"loss": {"temperature": 0.1}}),
    Change("no dropout", {"dropout": 0.0}),
    Change("no id table", {"features": {"id_min_events": 10**9}}),
    Change("id table alone", graph=without("category", "brand", "price", "title", "embedding")),
    Change("without category", graph=without("category")),
    Change("without brand", graph=without("brand")),
    Change("without price", graph=without("price")),
    Change("without title", graph=without("title")),
    Change("tail averaged in training alone", retrieval={"long_tail": False}),
    Change("tail averaged nowhere", {"tail": {"enabled": False}}),
    Change("groups of 4", {"tail": {"group_size": 4}}),
    Change("groups of 16", {"tail": {"group_size": 16}}),
    Change("one member", {"members": 1}),
    Change("one member of 64", {"members": 1, "dim": 64}),
    Change("2 members", {"members": 2}),
    Change("8 members", {"members": 8}),
    Change("pairs up to 3 steps apart", {"train": {"max_steps_apart": 3}}),
    Change("no shift of demand", retrieval={"prior_weight": 0.0}),
    Change("no bonus of direct edges", retrieval={"direct_weight": 0.0}),
)


def main() -> int:
    """Measure the changes and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--graph", action="append", required=True, metavar="NAME=GRAPH")
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--changes", nargs="+", default=[change.name for change in CHANGES])
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    changes = [change for change in CHANGES if change.name in chosen.changes or change.name == "released"]
    tables = []
    for named in chosen.graph:
        name, _, root = named.partition("=")
        tables.append(table(name, ablated(name, Path(root), changes, chosen.seeds)))
        if chosen.output:
            chosen.output.write_text("\n".join(tables), encoding="utf-8")
    print("\n".join(tables))
    return 0


def ablated(name: str, root: Path, changes: list[Change], seeds: int) -> dict[str, list[list[float]]]:
    """Change → (seeds, CELLS) hits on the hold-out; what changes nothing in this shop is left out."""
    items = root / "tables" / "items"
    graph = load_graph(root, "fit", items if items.exists() else None)
    found: dict[str, list[list[float]]] = {}
    kept: dict[int, Embeddings] = {}
    for change in changes:
        given = change.graph(graph) if change.graph else graph
        if (
            change.graph is not None
            and given.items.column_names == graph.items.column_names
            and not (given.weight != graph.weight).any()
        ):
            continue
        config = Config.model_validate({"retrieval": change.retrieval})
        holdout = HoldOut.of(root, config)
        assert holdout is not None
        for seed in range(seeds):
            embeddings = kept.get(seed)
            if change.model or change.graph or embeddings is None:
                settings = change.model | {"train": change.model.get("train", {}) | {"seed": seed}}
                embeddings = train(given, ModelConfig.model_validate(settings), validate=holdout.rate).embeddings
            if change.name == "released":
                kept[seed] = embeddings
            found.setdefault(change.name, []).append(cells(holdout, embeddings, config))
        print(name, change.name, np.round(np.mean(found[change.name], axis=0), 4).tolist(), file=sys.stderr, flush=True)
    return found


def cells(holdout: HoldOut, embeddings: Embeddings, config: Config) -> list[float]:
    """The CELLS, with the weights of the score chosen anew."""
    weights = holdout.weights(embeddings)
    catalogue = catalogue_of(embeddings, holdout.graph / "fit", weights)
    ranker = EmbeddingRanker(catalogue, holdout.edges(weights), config.retrieval)
    rows = evaluate("", ranker, holdout.pairs, samples=1)
    values = {(row["slice"], row["metric"], row["k"]): row["value"] for row in rows}
    return [float("nan") if values.get(cell) is None else values[cell] for cell in CELLS]


def table(name: str, found: dict[str, list[list[float]]]) -> str:
    """Markdown: the released model's hits, and what each change adds to them."""
    base = np.mean(found["released"], axis=0)
    lines = [f"## {name}", "", "| change | HR@20 | HR@100 | tail HR@100 | cold HR@100 |", "|---|---:|---:|---:|---:|"]
    for change, values in found.items():
        mean = np.mean(values, axis=0)
        shown = [f"{v:.3f}" for v in base] if change == "released" else [f"{v:+.3f}" for v in mean - base]
        lines.append(f"| {change} | {' | '.join('–' if 'nan' in cell else cell for cell in shown)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
