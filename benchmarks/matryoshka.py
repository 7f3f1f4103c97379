"""Prefixes of Matryoshka embeddings compared with embeddings trained at their size, and with a PCA of plain ones.

    python benchmarks/matryoshka.py --graph NAME=GRAPH [--graph …] [--seeds 2] [--threads 2] [--output TABLE.md]

GRAPH is a folder built by `benchmarks/quality` or `lightsage run`. Models are trained on `fit/` and measured on the
hold-out, each with the weights of the score that the hold-out chooses for it. No test is read.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from _holdout import CELLS, mean_cells, measure_on
from _page import add_graphs, argument_parser, print_progress, publish, write_page
from semantic_ids import Shop, seeded

from model.embeddings import Embeddings
from model.trainer import train
from retrieval.ann.matryoshka import unit_prefix
from retrieval.arrays import Floats

DIM = 256
PREFIXES = (16, 32, 64, 128)


def main() -> int:
    """Train all models, measure them and print the page."""
    parser = argument_parser(__doc__)
    add_graphs(parser, seeds=2)
    options = parser.parse_args()
    pages = ["# Matryoshka embeddings", "", "`python benchmarks/matryoshka.py --graph NAME=GRAPH …`", ""]
    for name_and_root in options.graph:
        pages += table(Shop.of(name_and_root), options.seeds, options.threads)
        write_page("\n".join(pages), options.output)
    return publish("\n".join(pages), options.output)


def table(shop: Shop, seeds: int, threads: int) -> list[str]:
    """The table of one shop."""
    lines = [
        f"## {shop.name}",
        "",
        "| embedding | dimensions | HR@20 | HR@100 | tail HR@100 | cold HR@100 | of one trained at that size |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]

    def trained(seed: int, **sections: Any) -> Embeddings:
        return train(shop.graph, seeded(seed, threads, **{"members": 1} | sections)).embeddings

    def add(name: str, dim: int, embeddings: list[Embeddings], reference: float | None = None) -> float:
        runs = [measure_on(shop.holdout, one)(one) for one in embeddings]
        hits = float(np.mean(np.mean(runs, axis=0)[: CELLS.index(("all", "HR", 100)) + 1]))
        share = "" if reference is None else f"{hits / reference:.3f}"
        lines.append(f"| {name} | {dim} | {mean_cells(runs)} | {share} |")
        print_progress(f"{shop.name} {lines[-1]}")
        return hits

    add("released", 192, [train(shop.graph, seeded(seed, threads)).embeddings for seed in range(seeds)])
    plain = [trained(seed, dim=DIM) for seed in range(seeds)]
    plain_hits = add("plain", DIM, plain)
    nested = [trained(seed, dim=DIM, matryoshka=PREFIXES) for seed in range(seeds)]
    add("Matryoshka", DIM, nested, plain_hits)
    for dim in PREFIXES:
        trained_hits = add("trained at that size", dim, [trained(seed, dim=dim) for seed in range(seeds)])
        add(
            "Matryoshka prefix",
            dim,
            [shorten(one, lambda v, dim=dim: unit_prefix(v, dim)) for one in nested],
            trained_hits,
        )
        add("PCA of the plain one", dim, [shorten(one, principal(one.item, dim)) for one in plain], trained_hits)
    return [*lines, ""]


def shorten(embeddings: Embeddings, cut: Callable[[Floats], Floats]) -> Embeddings:
    """Embeddings whose vectors are cut to fewer dimensions."""
    query, item, unaveraged = (
        cut(np.asarray(v)) for v in (embeddings.query, embeddings.item, embeddings.item_unaveraged)
    )
    return Embeddings(embeddings.item_ids, query, item, embeddings.tail_rows, unaveraged, embeddings.prior)


def principal(vectors: Floats, dim: int) -> Callable[[Floats], Floats]:
    """A function that projects any vectors onto the first principal axes of the given ones."""
    _, axes = np.linalg.eigh(vectors.T @ vectors)
    projection = np.ascontiguousarray(axes[:, ::-1][:, :dim], np.float32)
    return lambda v: unit_prefix(v @ projection, dim)


if __name__ == "__main__":
    sys.exit(main())
