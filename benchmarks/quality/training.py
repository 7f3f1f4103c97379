"""Training speed: pairs (positives) per CPU-second compared with a sampled GraphSAGE, and growth to 50 million edges.

    python benchmarks/quality/training.py [--items 100000 300000 1000000] [--threads 2] [--output TABLE.md]

The graphs are generated, with 50 edges per item. The cost of a step is the difference between a long and a short run,
so that the preparation is not counted. Both networks have the same features, loss and negatives, and a trainable table.
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
from networks import NetworkTrainer

from model.config import ModelConfig
from model.embed import embed
from model.graph import ItemGraph
from model.trainer import train

DEGREE = 50
SHORT, LONG = 10, 40
LONGER = 110  # for measure_size, where the preparation takes minutes, and not always the same time
BATCH = 1024
FIXED, LEARNED = "LightSAGE, table fixed", "LightSAGE, table learned"
SIZES = {"64 dimensions": {"dim": 64, "members": 1}, "192 dimensions, 4 members": {}}


def main() -> int:
    """Measure both tables and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of torch (default: all cores)")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = compare(options.items[0], options.threads)
    page = "\n".join([*head(options.threads), *table, "", *growth(options.items, options.threads)]) + "\n"
    if options.output:
        options.output.write_text(page, encoding="utf-8")
    print(page)
    return 0


def head(threads: int) -> list[str]:
    """The head of the page."""
    command = f"python benchmarks/quality/training.py --threads {threads} --output docs/benchmarks/training.md"
    return ["# Training speed", "", f"`{command}`; torch has {threads} thread{'s' * (threads > 1)}.", ""]


def generate_graph(items: int, seed: int = 0) -> ItemGraph:
    """A long-tailed graph with edges within groups of 100 items: 50 edges, 5 training pairs and 3 features per item."""
    rng = np.random.default_rng(seed)

    def near(rows: np.ndarray) -> np.ndarray:
        """Another item of the same group of 100, most often one of the group's first."""
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
    """Settings for this many steps."""
    learning = {"max_pairs_per_epoch": steps * BATCH, "max_epochs": 1, "threads": threads}
    learning |= {"table_lr": 0} if fixed else {}
    return ModelConfig.model_validate(shape | {"train": learning})


def seconds_of(work: Callable[[], Any]) -> tuple[float, float]:
    """CPU and wall seconds of a piece of work."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def per_step(work: Callable[[int], Any]) -> tuple[float, float]:
    """CPU and wall seconds of a step: the median difference of three pairs of a long and a short run, per step."""
    differences = []
    for _ in range(3):
        short, long = (seconds_of(lambda steps=steps: work(steps)) for steps in (SHORT, LONG))
        differences.append([(b - a) / (LONG - SHORT) for a, b in zip(short, long, strict=True)])
    cpu, wall = np.median(differences, axis=0)
    return float(cpu), float(wall)


def compare(items: int, threads: int) -> list[str]:
    """The table of LightSAGE, with its table fixed and learned, and of GraphSAGE with one and two layers."""
    graph = generate_graph(items)
    lines = [
        f"The graph has {items:,} items and {len(graph.src):,} edges. A batch has {BATCH} pairs (positives) and 512 "
        "random negatives. GraphSAGE samples 10 neighbours per layer; LightSAGE reads all 30 that it keeps. "
        "LightSAGE's feature table is learned, or fixed at a factorisation of the graph. The last column divides the "
        "positives per CPU-second by those of GraphSAGE with 2 layers.",
        "",
        "| network | size | positives per CPU-second | ms a step | relative to GraphSAGE, 2 layers |",
        "|---|---|---:|---:|---:|",
    ]
    for size, shape in SIZES.items():
        rate: dict[str, tuple[float, float]] = {}
        for layers in (2, 1):
            params = {"dim": shape.get("dim", 192), "layers": layers, "fanout": 10, "top_k": 30, "dropout": 0.2}
            network = NetworkTrainer("GraphSAGE", graph, params | {"lr": 0.003}, 0)

            def sage(steps: int, network: NetworkTrainer = network) -> None:
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
    """The table of the released network's cost and memory by catalogue size, each size in a process of its own."""
    lines = [
        "The second table shows what the released network (192 dimensions, 4 members) takes on catalogues of growing "
        "size. Peak memory is that of the whole process, the graph included:",
        "",
        "| items | edges | table | prepare s | ms a step | embed all s | peak GiB |",
        "|---:|---:|---|---:|---:|---:|---:|",
    ]
    for items in sizes:
        for fixed in (False, True):
            with get_context("spawn").Pool(1) as pool:
                prepare, step, embedding, peak = pool.apply(measure_size, (items, fixed, threads))
            first = f"| {items:,} | {items * DEGREE:,} | {'fixed' if fixed else 'learned'} |"
            lines.append(f"{first} {prepare:.1f} | {1e3 * step:.0f} | {embedding:.1f} | {peak:.1f} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return lines


def measure_size(items: int, fixed: bool, threads: int) -> tuple[float, float, float, float]:
    """Seconds before the first step, wall seconds of a step, seconds to embed all items, and peak memory in GiB."""
    graph = generate_graph(items)
    torch.set_num_threads(threads)
    train(graph, config(1, fixed, threads))
    (_, short), (_, long) = (
        seconds_of(lambda steps=steps: train(graph, config(steps, fixed, threads))) for steps in (SHORT, LONGER)
    )
    model = train(graph, config(1, fixed, threads))
    _, embedding = seconds_of(lambda: embed(graph, model.network, model.encoder, model.embeddings.prior))
    step = (long - short) / (LONGER - SHORT)
    return short - SHORT * step - embedding, step, embedding, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    sys.exit(main())
