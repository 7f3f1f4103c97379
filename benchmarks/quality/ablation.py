"""The effect of each part of the method: one change at a time, measured on the hold-outs of several shops.

    python benchmarks/quality/ablation.py --graph yoochoose=GRAPH --graph rees46=GRAPH [--seeds 2] [--output TABLE.md]
        [--other-graph "yoochoose: edges without decay=GRAPH" …]

GRAPH is a folder built by `benchmarks/quality` or `lightsage run`. Other graphs are built from the same events with
another `[graph]` configuration; each is one more change. No test is read.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from jobs.config import Config
from jobs.pipeline.holdout import HoldoutEvaluation
from model.config import ModelConfig, PropagationConfig, TailConfig
from model.embed import embed
from model.embeddings import Embeddings
from model.encoder_input import encoder_input
from model.graph import EDGE_TYPES, ItemGraph, load_graph
from model.network import LightSAGE
from model.propagation import Neighbourhood, in_neighbours
from model.tail import TailGroups, group_tail
from model.trainer import train
from retrieval.config import ScoreWeights

CELLS = (("all", "HR", 20), ("all", "HR", 100), ("tail", "HR", 100), ("cold", "HR", 100))
Settings = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """One change to the released model: to its configuration, ranking, input or code.

    `root` is another graph of the same events. `code` maps names in the model's modules to replacements for the time of
    the training. `averaged` says that tail items are averaged when they are embedded, but not in training. `needs` is
    an edge type without which the change has no effect.
    """

    name: str
    model: Settings = field(default_factory=dict)
    retrieval: Settings = field(default_factory=dict)
    graph: Callable[[ItemGraph], ItemGraph] | None = None
    root: Path | None = None
    code: Settings = field(default_factory=dict)
    averaged: bool = False
    needs: str = ""

    @property
    def trains(self) -> bool:
        """Whether the change needs a training of its own."""
        return bool(self.model or self.graph or self.root or self.code or self.averaged)


def drop_columns(*columns: str) -> Callable[[ItemGraph], ItemGraph]:
    """A function that removes columns from the catalogue of a graph."""

    def dropped(graph: ItemGraph) -> ItemGraph:
        return replace(graph, items=graph.items.drop_columns([c for c in columns if c in graph.items.column_names]))

    return dropped


def unweighted(graph: ItemGraph) -> ItemGraph:
    """A graph in which every edge has weight one."""
    return replace(graph, weight=np.ones_like(graph.weight))


def two_hops(graph: ItemGraph, config: PropagationConfig) -> Neighbourhood:
    """Neighbours, and neighbours of neighbours, each hop with half of the weight; as many are kept as with one hop."""
    near = in_neighbours(graph, config)
    n = graph.num_items
    hop = sp.csr_array((near.weight, near.neighbour, near.indptr), shape=(n, n))
    hop = sp.diags_array(1 / np.maximum(near.total, 1e-12)) @ hop
    both = (hop + hop @ hop).tocoo()
    distinct = both.coords[0] != both.coords[1]
    src, dst = both.coords[1][distinct].astype(np.int32), both.coords[0][distinct].astype(np.int32)
    kind = np.full(len(src), EDGE_TYPES.index("strong_click"), graph.edge_type.dtype)
    joined = replace(graph, src=src, dst=dst, edge_type=kind, weight=both.data[distinct].astype(np.float32))
    return in_neighbours(joined, config.model_copy(update={"strong_click": 1.0}))


class OneProjection(LightSAGE):
    """A network whose two roles share one head."""

    def __init__(self, *shape: Any) -> None:
        super().__init__(*shape)
        self.heads["item"] = self.heads["query"]


def at_random(graph: ItemGraph, features: Any, neighbours: Neighbourhood, config: TailConfig, seed: int) -> TailGroups:
    """Tail groups of random items."""
    rows = np.flatnonzero(graph.is_tail)
    count = -(-len(rows) // config.group_size)
    return TailGroups(rows, np.random.default_rng(seed).permutation(len(rows)) % max(1, count), count)


def no_own_edge(self: Neighbourhood, dst: NDArray[np.integer], src: NDArray[np.integer]) -> NDArray[np.float32]:
    """Pretend that the trained pair has no edge of its own."""
    return np.zeros(len(dst), np.float32)


def shares(**weights: float) -> Settings:
    """Settings with which only these edge types are averaged."""
    return {"propagation": {"strong_click": 0.0, "swing": 0.0, "co_search": 0.0} | weights}


CHANGES = (
    Change("released"),
    Change("no hop", shares()),
    Change("strong click alone", shares(strong_click=1.0)),
    Change("Swing alone", shares(swing=1.0)),
    Change("co-search alone", shares(co_search=1.0), needs="co_search"),
    Change("without Swing", {"propagation": {"swing": 0.0}}),
    Change("without co-search", {"propagation": {"co_search": 0.0}}, needs="co_search"),
    Change("all types alike", shares(strong_click=1.0, swing=1.0, co_search=1.0)),
    Change("edges unweighted", graph=unweighted),
    Change("two hops", code={"model.trainer.in_neighbours": two_hops}),
    Change("100 neighbours", {"propagation": {"top_k": 100}}),
    Change("heads fixed at their start", {"train": {"network_lr": 1e-9}}),
    Change("one projection for both roles", code={"model.trainer.LightSAGE": OneProjection}),
    Change("a pair reads its own edge", code={"model.propagation.Neighbourhood.edge_weights": no_own_edge}),
    Change("logQ everywhere", {"loss": {"logq": "all"}}),
    Change("no logQ", {"loss": {"logq": "none"}}),
    Change("in-batch negatives alone", {"loss": {"random_negatives": 0}}),
    Change("4096 random negatives", {"loss": {"random_negatives": 4096}}),
    Change("temperature .1", {"loss": {"temperature": 0.1}}),
    Change("no dropout", {"dropout": 0.0}),
    Change("id table fixed at a factorisation", {"train": {"table_lr": 0.0}}),
    Change("no id table", {"features": {"id_min_events": 10**9}}),
    Change("id table alone", graph=drop_columns("category", "brand", "price", "title", "embedding")),
    Change("without category", graph=drop_columns("category")),
    Change("without brand", graph=drop_columns("brand")),
    Change("without price", graph=drop_columns("price")),
    Change("without title", graph=drop_columns("title")),
    Change("tail averaged at inference too", {"tail": {"at_inference": True}}),
    Change("tail averaged at inference alone", {"tail": {"enabled": False}}, averaged=True),
    Change("tail averaged nowhere", {"tail": {"enabled": False}}),
    Change("groups of 4", {"tail": {"group_size": 4}}),
    Change("groups of 16", {"tail": {"group_size": 16}}),
    Change("groups of 2 at random", code={"model.trainer.group_tail": at_random}),
    Change("one member", {"members": 1}),
    Change("Matryoshka", {"members": 1, "dim": 256, "matryoshka": (16, 32, 64, 128)}),
    Change("pairs up to 3 steps apart", {"train": {"max_steps_apart": 3}}),
    Change("no shift of demand", retrieval={"prior_weight": 0.0}),
    Change("no bonus of direct edges", retrieval={"direct_weight": 0.0}),
    Change("dial at 0", retrieval={"popularity_weight": 0.0}),
)


HEAD = """# Ablation

`python benchmarks/quality/ablation.py --graph NAME=GRAPH …`

The first row of a table shows the hits of the released model on the hold-out. Each other row shows how one change to
this model changes the hits. In every row the weights of the score are those of the released model, unless the change is
to a weight. Changes that cannot make a difference in a shop are left out, such as those of co-search in a shop without
searches.
"""


def main() -> int:
    """Measure the changes and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graph", action="append", required=True, metavar="NAME=GRAPH")
    parser.add_argument("--other-graph", action="append", default=[], metavar="NAME: CHANGE=GRAPH")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--changes", nargs="+", default=[change.name for change in CHANGES])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    changes = [change for change in CHANGES if change.name in options.changes or change.name == "released"]
    tables = []
    for name_and_root in options.graph:
        name, _, root = name_and_root.partition("=")
        shop = f"{name}: "
        others = [text.removeprefix(shop).split("=", 1) for text in options.other_graph if text.startswith(shop)]
        all_changes = [*changes, *(Change(change, root=Path(other)) for change, other in others)]
        tables.append(table(name, measure_changes(name, Path(root), all_changes, options.seeds)))
        if options.output:
            options.output.write_text("\n".join([HEAD, *tables]), encoding="utf-8")
    print("\n".join([HEAD, *tables]))
    return 0


def measure_changes(name: str, root: Path, changes: list[Change], seeds: int) -> dict[str, list[list[float]]]:
    """By change, the (seeds, CELLS) hits on the hold-out; changes without effect in this shop are left out.

    The weights of the score are those of the released model, so that only the change itself makes a difference.
    """
    graph = fit_graph(root)
    hits: dict[str, list[list[float]]] = {}
    released: dict[int, tuple[Embeddings, ScoreWeights]] = {}
    for change in changes:
        changed = fit_graph(change.root) if change.root else change.graph(graph) if change.graph else graph
        if change.graph is not None and same(changed, graph):
            continue
        if change.needs and not (graph.edge_type == EDGE_TYPES.index(change.needs)).any():
            continue
        config = Config.model_validate({"retrieval": change.retrieval})
        holdout = HoldoutEvaluation.load(change.root or root, config)
        assert holdout is not None
        for seed in range(seeds):
            if seed not in released:
                embeddings = train_change(graph, CHANGES[0], seed)
                released[seed] = (
                    embeddings,
                    holdout.choose_weights(embeddings),
                )  # the first change is the released model
            embeddings = train_change(changed, change, seed) if change.trains else released[seed][0]
            weights = released[seed][1].model_copy(update=fixed_weights(change.retrieval))
            hits.setdefault(change.name, []).append(cells(holdout, embeddings, weights))
        print(name, change.name, np.round(np.mean(hits[change.name], axis=0), 4).tolist(), file=sys.stderr, flush=True)
    return hits


def fit_graph(root: Path) -> ItemGraph:
    """The `fit/` graph, with the catalogue if there is one."""
    items = root / "tables" / "items"
    return load_graph(root, "fit", items if items.exists() else None)


def same(a: ItemGraph, b: ItemGraph) -> bool:
    """Whether two graphs have the same catalogue columns and edge weights."""
    return a.items.column_names == b.items.column_names and np.array_equal(a.weight, b.weight)


def fixed_weights(retrieval: Settings) -> Settings:
    """The weights of the score among some settings of retrieval, by their names in ScoreWeights."""
    return {name.removesuffix("_weight"): value for name, value in retrieval.items() if name.endswith("_weight")}


def train_change(graph: ItemGraph, change: Change, seed: int) -> Embeddings:
    """Train a changed model on the whole schedule, and return its embeddings."""
    settings = change.model | {"train": change.model.get("train", {}) | {"seed": seed}}
    config = ModelConfig.model_validate(settings)
    with ExitStack() as stack:
        for target, replacement in change.code.items():
            stack.enter_context(patch(target, replacement))
        model = train(graph, config)
        if not change.averaged:
            return model.embeddings
        matrix = model.features.transform(graph.items, graph.item_ids, graph.events >= config.features.id_min_events)
        neighbours = in_neighbours(graph, config.propagation)
        tail = config.tail.model_copy(update={"enabled": True})
        encoder = encoder_input(graph, matrix, neighbours, group_tail(graph, matrix, neighbours, tail, seed))
        return embed(graph, model.network, encoder, model.embeddings.prior)


def cells(holdout: HoldoutEvaluation, embeddings: Embeddings, weights: ScoreWeights) -> list[float]:
    """The CELLS of a model."""
    rows = holdout.rows("", embeddings, weights)
    values = {(row["slice"], row["metric"], row["k"]): row["value"] for row in rows}
    return [float("nan") if values.get(cell) is None else values[cell] for cell in CELLS]


def table(name: str, hits: dict[str, list[list[float]]]) -> str:
    """The table of one shop: the hits of the released model, and the difference that each change makes."""
    base = np.mean(hits["released"], axis=0)
    lines = [f"## {name}", "", "| change | HR@20 | HR@100 | tail HR@100 | cold HR@100 |", "|---|---:|---:|---:|---:|"]
    for change, values in hits.items():
        mean = np.mean(values, axis=0)
        texts = [f"{v:.3f}" for v in base] if change == "released" else [f"{v:+.3f}" for v in mean - base]
        lines.append(f"| {change} | {' | '.join('–' if 'nan' in cell else cell for cell in texts)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
