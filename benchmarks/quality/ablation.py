"""What each part of the method is worth: one change at a time, measured on the hold-outs of several shops.

    python benchmarks/quality/ablation.py --graph yoochoose=GRAPH --graph rees46=GRAPH [--seeds 2] [--output TABLE.md]
        [--other-graph "yoochoose: edges without decay=GRAPH" …]

GRAPH is a folder that `benchmarks/quality` or `lightsage run` built; the other graphs are built from the same events
with another `[graph]` configuration, and stand as changes of their own. Nothing here reads a test.
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
    """One change of the released model: of its configuration, of how it is ranked, of what it is given, or of its code.

    `root`: another graph of the same events. `code`: what stands for a name of the model's modules while it trains.
    `averaged`: whether tail items are averaged when they are embedded though not in training. `needs`: the edge type
    without which it changes nothing.
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
        """Whether the network is another one than the released."""
        return bool(self.model or self.graph or self.root or self.code or self.averaged)


def without(*columns: str) -> Callable[[ItemGraph], ItemGraph]:
    """A graph whose catalogue lacks some columns."""

    def dropped(graph: ItemGraph) -> ItemGraph:
        return replace(graph, items=graph.items.drop_columns([c for c in columns if c in graph.items.column_names]))

    return dropped


def unweighted(graph: ItemGraph) -> ItemGraph:
    """Every edge weighs one."""
    return replace(graph, weight=np.ones_like(graph.weight))


def two_hops(graph: ItemGraph, config: PropagationConfig) -> Neighbourhood:
    """The neighbours' neighbours beside the neighbours, each hop with half of the weight; as many kept."""
    near = in_neighbours(graph, config)
    n = graph.num_items
    hop = sp.csr_array((near.weight, near.neighbour, near.indptr), shape=(n, n))
    hop = sp.diags_array(1 / np.maximum(near.total, 1e-12)) @ hop
    both = (hop + hop @ hop).tocoo()
    kept = both.coords[0] != both.coords[1]
    src, dst = both.coords[1][kept].astype(np.int32), both.coords[0][kept].astype(np.int32)
    kind = np.full(len(src), EDGE_TYPES.index("strong_click"), graph.edge_type.dtype)
    joined = replace(graph, src=src, dst=dst, edge_type=kind, weight=both.data[kept].astype(np.float32))
    return in_neighbours(joined, config.model_copy(update={"strong_click": 1.0}))


class OneProjection(LightSAGE):
    """Both roles share one head."""

    def __init__(self, *shape: Any) -> None:
        super().__init__(*shape)
        self.heads["item"] = self.heads["query"]


def at_random(graph: ItemGraph, features: Any, neighbours: Neighbourhood, config: TailConfig, seed: int) -> TailGroups:
    """Tail groups of strangers."""
    rows = np.flatnonzero(graph.is_tail)
    count = -(-len(rows) // config.group_size)
    return TailGroups(rows, np.random.default_rng(seed).permutation(len(rows)) % max(1, count), count)


def no_own_edge(self: Neighbourhood, dst: NDArray[np.integer], src: NDArray[np.integer]) -> NDArray[np.float32]:
    """As if the pair that is trained had no edge of its own."""
    return np.zeros(len(dst), np.float32)


def shares(**kept: float) -> Settings:
    """Only these edge types are averaged over."""
    return {"propagation": {"strong_click": 0.0, "swing": 0.0, "co_search": 0.0} | kept}


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
    Change("id table alone", graph=without("category", "brand", "price", "title", "embedding")),
    Change("without category", graph=without("category")),
    Change("without brand", graph=without("brand")),
    Change("without price", graph=without("price")),
    Change("without title", graph=without("title")),
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

Hits on the hold-out: the released model's, and what each change adds to them by itself. The score's weights stay those
of the released model. What would change nothing in a shop is left out, as co-search where nobody searches.
"""


def main() -> int:
    """Measure the changes and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--graph", action="append", required=True, metavar="NAME=GRAPH")
    options.add_argument("--other-graph", action="append", default=[], metavar="NAME: CHANGE=GRAPH")
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--changes", nargs="+", default=[change.name for change in CHANGES])
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    changes = [change for change in CHANGES if change.name in chosen.changes or change.name == "released"]
    tables = []
    for named in chosen.graph:
        name, _, root = named.partition("=")
        shop = f"{name}: "
        others = [text.removeprefix(shop).split("=", 1) for text in chosen.other_graph if text.startswith(shop)]
        given = [*changes, *(Change(change, root=Path(other)) for change, other in others)]
        tables.append(table(name, ablated(name, Path(root), given, chosen.seeds)))
        if chosen.output:
            chosen.output.write_text("\n".join([HEAD, *tables]), encoding="utf-8")
    print("\n".join([HEAD, *tables]))
    return 0


def ablated(name: str, root: Path, changes: list[Change], seeds: int) -> dict[str, list[list[float]]]:
    """Change → (seeds, CELLS) hits on the hold-out; what changes nothing in this shop is left out.

    The score's weights are those of the released model, so that a change is judged by what it does itself.
    """
    graph = fit_graph(root)
    found: dict[str, list[list[float]]] = {}
    released: dict[int, tuple[Embeddings, ScoreWeights]] = {}
    for change in changes:
        given = fit_graph(change.root) if change.root else change.graph(graph) if change.graph else graph
        if change.graph is not None and same(given, graph):
            continue
        if change.needs and not (graph.edge_type == EDGE_TYPES.index(change.needs)).any():
            continue
        config = Config.model_validate({"retrieval": change.retrieval})
        holdout = HoldoutEvaluation.load(change.root or root, config)
        assert holdout is not None
        for seed in range(seeds):
            if seed not in released:
                embeddings = trained(graph, CHANGES[0], seed)
                released[seed] = (
                    embeddings,
                    holdout.choose_weights(embeddings),
                )  # the first change is the released model
            embeddings = trained(given, change, seed) if change.trains else released[seed][0]
            weights = released[seed][1].model_copy(update=fixed(change.retrieval))
            found.setdefault(change.name, []).append(cells(holdout, embeddings, weights))
        print(name, change.name, np.round(np.mean(found[change.name], axis=0), 4).tolist(), file=sys.stderr, flush=True)
    return found


def fit_graph(root: Path) -> ItemGraph:
    """The graph of the fit, with the catalogue if there is one."""
    items = root / "tables" / "items"
    return load_graph(root, "fit", items if items.exists() else None)


def same(one: ItemGraph, other: ItemGraph) -> bool:
    """Whether neither catalogue nor weights differ."""
    return one.items.column_names == other.items.column_names and np.array_equal(one.weight, other.weight)


def fixed(retrieval: Settings) -> Settings:
    """The score's weights among some settings of retrieval, by the names that ScoreWeights has for them."""
    return {name.removesuffix("_weight"): value for name, value in retrieval.items() if name.endswith("_weight")}


def trained(graph: ItemGraph, change: Change, seed: int) -> Embeddings:
    """Embeddings after the whole schedule."""
    settings = change.model | {"train": change.model.get("train", {}) | {"seed": seed}}
    config = ModelConfig.model_validate(settings)
    with ExitStack() as stack:
        for target, stand_in in change.code.items():
            stack.enter_context(patch(target, stand_in))
        model = train(graph, config)
        if not change.averaged:
            return model.embeddings
        matrix = model.features.transform(graph.items, graph.item_ids, graph.events >= config.features.id_min_events)
        neighbours = in_neighbours(graph, config.propagation)
        tail = config.tail.model_copy(update={"enabled": True})
        encoder = encoder_input(graph, matrix, neighbours, group_tail(graph, matrix, neighbours, tail, seed))
        return embed(graph, model.network, encoder, model.embeddings.prior)


def cells(holdout: HoldoutEvaluation, embeddings: Embeddings, weights: ScoreWeights) -> list[float]:
    """The CELLS."""
    rows = holdout.rows("", embeddings, weights)
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
