"""Prefixes of a Matryoshka embedding beside embeddings trained at that size and a PCA rotation of a plain one.

    python benchmarks/matryoshka.py --graph NAME=GRAPH [--graph …] [--seeds 2] [--threads 2] [--output TABLE.md]

GRAPH is a folder that `benchmarks/quality` or `lightsage run` built. Models are trained on `fit/` and judged on the
hold-out, each with weights of the score of its own; nothing here reads a test.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from semantic_ids import CELLS, Shop, seeded, shown

from model.embeddings import Embeddings
from model.trainer import train
from retrieval.ann.matryoshka import unit_prefix
from retrieval.arrays import Floats

DIM = 256
PREFIXES = (16, 32, 64, 128)


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--graph", action="append", required=True, metavar="NAME=GRAPH")
    options.add_argument("--seeds", type=int, default=2)
    options.add_argument("--threads", type=int, default=0, help="of torch (default: as many as cores)")
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    pages = ["# Matryoshka embeddings", "", "`python benchmarks/matryoshka.py --graph NAME=GRAPH …`", ""]
    for named in chosen.graph:
        pages += table(Shop.of(named), chosen.seeds, chosen.threads)
        if chosen.output:
            chosen.output.write_text("\n".join(pages), encoding="utf-8")
    print("\n".join(pages))
    return 0


def table(shop: Shop, seeds: int, threads: int) -> list[str]:
    """One shop's."""
    lines = [
        f"## {shop.name}",
        "",
        "| embedding | dimensions | HR@20 | HR@100 | tail HR@100 | cold HR@100 | of one trained at that size |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]

    def trained(seed: int, **sections: Any) -> Embeddings:
        return train(shop.graph, seeded(seed, threads, **{"members": 1} | sections)).embeddings

    def add(name: str, dim: int, found: list[Embeddings], own: float | None = None) -> float:
        cells = np.mean([shop.cells(embeddings) for embeddings in found], axis=0)
        hits = float(np.mean(cells[: CELLS.index(("all", "HR", 100)) + 1]))
        share = "" if own is None else f"{hits / own:.3f}"
        lines.append(f"| {name} | {dim} | {shown(cells)} | {share} |")
        print(shop.name, lines[-1], file=sys.stderr, flush=True)
        return hits

    add("released", 192, [train(shop.graph, seeded(seed, threads)).embeddings for seed in range(seeds)])
    plain = [trained(seed, dim=DIM) for seed in range(seeds)]
    whole = add("plain", DIM, plain)
    nested = [trained(seed, dim=DIM, matryoshka=PREFIXES) for seed in range(seeds)]
    add("Matryoshka", DIM, nested, whole)
    for dim in PREFIXES:
        own = add("trained at that size", dim, [trained(seed, dim=dim) for seed in range(seeds)])
        add("Matryoshka prefix", dim, [cut(one, lambda v, dim=dim: unit_prefix(v, dim)) for one in nested], own)
        add("PCA of the plain one", dim, [cut(one, principal(one.item, dim)) for one in plain], own)
    return [*lines, ""]


def cut(embeddings: Embeddings, shorten: Callable[[Floats], Floats]) -> Embeddings:
    """Embeddings whose vectors are unit_prefix."""
    query, item, own = (shorten(np.asarray(v)) for v in (embeddings.query, embeddings.item, embeddings.item_unaveraged))
    return Embeddings(embeddings.item_ids, query, item, embeddings.tail_rows, own, embeddings.prior)


def principal(vectors: Floats, dim: int) -> Callable[[Floats], Floats]:
    """Turns vectors to the principal axes of these, and keeps the first."""
    _, axes = np.linalg.eigh(vectors.T @ vectors)
    turn = np.ascontiguousarray(axes[:, ::-1][:, :dim], np.float32)
    return lambda given: unit_prefix(given @ turn, dim)


if __name__ == "__main__":
    sys.exit(main())
