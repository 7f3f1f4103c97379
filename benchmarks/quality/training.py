"""How fast LightSAGE learns: positives per CPU-second beside a sampled GraphSAGE, and growth to 50 million edges.

    python benchmarks/quality/training.py [--items 100000 300000 1000000] [--threads 2] [--output TABLE.md]

On generated graphs of 50 edges an item. A step's cost is the difference of a long and a short run, so that what is
prepared once counts for itself. Both networks have our features, loss and negatives, and a trainable table.
"""

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from networks import Fitted

from model.config import ModelConfig
from model.embed import embed
from model.graph import ItemGraph
from model.trainer import train

DEGREE = 50
SHORT, LONG = 10, 40
LONGER = 110  # where preparing takes minutes, and as much longer or unit_prefix
BATCH = 1024
FIXED, LEARNED = "LightSAGE, table fixed", "LightSAGE, table learned"
SIZES = {"64 dimensions": {"dim": 64, "members": 1}, "192 dimensions, 4 members": {}}


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--items", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    options.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch (default: as many as cores)")
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    table = beside(chosen.items[0], chosen.threads)
    page = "\n".join([*head(chosen.threads), *table, "", *growth(chosen.items, chosen.threads)]) + "\n"
    if chosen.output:
        chosen.output.write_text(page, encoding="utf-8")
    print(page)
    return 0


def head(threads: int) -> list[str]:
    """What the page says first."""
    command = f"python benchmarks/quality/training.py --threads {threads} --output docs/benchmarks/training.md"
    return ["# Training speed", "", f"`{command}`; torch has {threads} thread{'s' * (threads > 1)}.", ""]


def generated(items: int, seed: int = 0) -> ItemGraph:
    """A long-tailed graph in whose corners the edges stay: 50 edges and 5 training pairs an item, three features."""
    rng = np.random.default_rng(seed)

    def near(rows: np.ndarray) -> np.ndarray:
        """Another item of the same corner of a hundred, its first ones most often."""
        other = rows // 100 * 100 + np.minimum(rng.zipf(1.3, len(rows)) - 1, 99)
        return np.where(other == rows, other ^ 1, np.minimum(other, items - 1))

    popular = (items * rng.random(items * DEGREE) ** 2).astype(np.int64)
    src, dst = popular, near(popular)
    query = (items * rng.random(items * 5) ** 2).astype(np.int64)
    pairs = np.stack([query, near(query)], axis=1).astype(np.int32)
    events = np.bincount(query, minlength=items) + 1
    names = pa.array([f"i{row:08d}" for row in range(items)])
    return ItemGraph(
        item_ids=names,
        events=events,
        is_tail=events <= 5,
        src=src.astype(np.int32),
        dst=dst.astype(np.int32),
        edge_type=rng.integers(0, 2, len(src)).astype(np.uint8),
        weight=rng.random(len(src)).astype(np.float32) + 0.1,
        pairs=pairs,
        pair_steps=np.ones(len(pairs), np.int32),
        pair_age=np.zeros(len(pairs), np.float32),
        items=pa.table(
            {
                "item_id": names,
                "category": pa.array(np.arange(items) // 100 % 1000).cast(pa.string()),
                "brand": pa.array(rng.integers(0, 5000, items)).cast(pa.string()),
                "price": rng.lognormal(3, 1, items),
            }
        ),
    )


def config(steps: int, fixed: bool, threads: int, **shape: Any) -> ModelConfig:
    """So many steps."""
    learning = {"max_pairs_per_epoch": steps * BATCH, "max_epochs": 1, "threads": threads}
    learning |= {"table_lr": 0} if fixed else {}
    return ModelConfig.model_validate(shape | {"train": learning})


def spent(work: Callable[[], Any]) -> tuple[float, float]:
    """(CPU, wall) seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def per_step(work: Callable[[int], Any]) -> tuple[float, float]:
    """(CPU, wall) seconds of a step: the median over three pairs of runs of how much more the long one takes."""
    more = []
    for _ in range(3):
        short, long = (spent(lambda steps=steps: work(steps)) for steps in (SHORT, LONG))
        more.append([(b - a) / (LONG - SHORT) for a, b in zip(short, long, strict=True)])
    cpu, wall = np.median(more, axis=0)
    return float(cpu), float(wall)


def beside(items: int, threads: int) -> list[str]:
    """A table: ours, fixed and learned, and GraphSAGE of one and two layers, on one graph."""
    graph = generated(items)
    lines = [
        f"{items:,} items, {len(graph.src):,} edges; batches of {BATCH} pairs, 512 random negatives; 10 neighbours a "
        "layer are sampled for GraphSAGE, LightSAGE reads all of its 30.",
        "",
        "| network | size | positives per CPU-second | ms a step | of GraphSAGE, 2 layers |",
        "|---|---|---:|---:|---:|",
    ]
    for size, shape in SIZES.items():
        rate: dict[str, tuple[float, float]] = {}
        for layers in (2, 1):
            params = {"dim": shape.get("dim", 192), "layers": layers, "fanout": 10, "top_k": 30, "dropout": 0.2}
            network = Fitted("GraphSAGE", graph, params | {"lr": 0.003}, 0)

            def sage(steps: int, network: Fitted = network) -> None:
                for _ in range(steps):
                    network.step(network.rng.integers(0, len(network.pairs), BATCH), 1.0)

            rate[f"GraphSAGE, {layers} layer{'s' * (layers > 1)}"] = per_step(sage)
        for name, fixed in ((LEARNED, False), (FIXED, True)):

            def ours(steps: int, fixed: bool = fixed, shape: dict[str, Any] = shape) -> None:
                train(graph, config(steps, fixed, threads, **shape))

            rate[name] = per_step(ours)
        base = rate["GraphSAGE, 2 layers"][0]
        for name, (cpu, wall) in rate.items():
            lines.append(f"| {name} | {size} | {BATCH / cpu:,.0f} | {1e3 * wall:.0f} | {base / cpu:.1f}x |")
            print(lines[-1], file=sys.stderr, flush=True)
    return lines


def growth(sizes: list[int], threads: int) -> list[str]:
    """A table: cost and memory of the released network by catalogue, each in a process of its own."""
    lines = [
        "The released network (192 dimensions, 4 members) by catalogue; peak memory of the whole process, the graph in "
        "memory included:",
        "",
        "| items | edges | table | prepare s | ms a step | embed all s | peak GiB |",
        "|---:|---:|---|---:|---:|---:|---:|",
    ]
    for items in sizes:
        for fixed in (False, True):
            with get_context("spawn").Pool(1) as pool:
                prepare, step, whole, peak = pool.apply(grown, (items, fixed, threads))
            first = f"| {items:,} | {items * DEGREE:,} | {'fixed' if fixed else 'learned'} |"
            lines.append(f"{first} {prepare:.1f} | {1e3 * step:.0f} | {whole:.1f} | {peak:.1f} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return lines


def grown(items: int, fixed: bool, threads: int) -> tuple[float, float, float, float]:
    """(seconds before the first step, wall seconds a step, seconds to embed all items, peak GiB)."""
    graph = generated(items)
    torch.set_num_threads(threads)
    train(graph, config(1, fixed, threads))
    (_, short), (_, long) = (
        spent(lambda steps=steps: train(graph, config(steps, fixed, threads))) for steps in (SHORT, LONGER)
    )
    model = train(graph, config(1, fixed, threads))
    _, whole = spent(lambda: embed(graph, model.network, model.encoder, model.embeddings.prior))
    step = (long - short) / (LONGER - SHORT)
    return short - SHORT * step - whole, step, whole, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    sys.exit(main())
