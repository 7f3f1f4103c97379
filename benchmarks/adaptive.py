"""Adaptive and funnel retrieval beside full flat search, over a million vectors with a trained model's structure.

    python benchmarks/adaptive.py --embeddings WORKSPACE/versions/NAME/embeddings --work DIR [--rows 1000000]
        [--queries 10000] [--prefixes 16 32 64] [--output TABLE.md]

The model must have been trained with `[model] matryoshka`. A generated item lies between a trained item and one of the
ten nearest to it, in both of its roles alike. Every search has a process of its own and one thread; it answers all of
the queries, each another, from a page cache that was asked to forget its files.
"""

import argparse
import os
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from model.embeddings import Embeddings
from retrieval import topk
from retrieval.ann import faiss_index
from retrieval.ann.faiss_index import Ann
from retrieval.ann.tuning import build
from retrieval.arrays import Floats, Rows
from retrieval.catalogue.items import load_array
from retrieval.config import RetrievalConfig

K = 100
NEAREST = 10
JUDGED = 2_000
"""Queries whose exact answer is known."""
PART = 50_000


def main() -> int:
    """Generate, build, measure, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--embeddings", type=Path, required=True)
    options.add_argument("--work", type=Path, required=True, help="where vectors and indexes are kept")
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--queries", type=int, default=10_000)
    options.add_argument("--prefixes", type=int, nargs="+", default=[16, 32, 64])
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    folder = chosen.work / f"vectors-{chosen.rows}"
    if not (folder / "truth.npy").exists():
        generate(Embeddings.load(chosen.embeddings), chosen.rows, chosen.queries, folder)
    searches: dict[str, tuple[str, dict[str, Any]]] = {}
    for prefix in chosen.prefixes:
        searches[f"adaptive, flat, {prefix} dimensions"] = adaptive(folder, prefix, index_kinds=("flat",))
        searches[f"funnel, flat, {prefix} dimensions"] = adaptive(folder, prefix, index_kinds=("flat",), funnel=True)
    searches["adaptive, inverted lists, 32 dimensions"] = adaptive(folder, 32)
    searches["inverted lists, all dimensions"] = adaptive(folder, None)
    results = {"full flat search": alone(folder, "", {}, chosen.queries // 10)}
    say("full flat search", results["full flat search"])
    for name, (file, parameters) in searches.items():
        results[name] = alone(folder, file, parameters, chosen.queries)
        say(name, results[name])
    page = table(results, chosen.rows, chosen.queries)
    if chosen.output:
        chosen.output.write_text(page, encoding="utf-8")
    print(page)
    return 0


def say(name: str, found: dict[str, float]) -> None:
    """A line while it works."""
    print(name, found, file=sys.stderr, flush=True)


def generate(trained: Embeddings, rows: int, queries: int, folder: Path) -> None:
    """item.npy (rows, D), query.npy (queries, D) of distinct items, truth.npy (JUDGED, K) rows."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    item, query = np.asarray(trained.item), np.asarray(trained.query)
    near = topk.search(item, item, NEAREST + 1).rows.reshape(len(item), -1)[:, 1:]
    one = generator.integers(0, len(item), rows)
    other = near[one, generator.integers(0, NEAREST, rows)]
    share = generator.random((rows, 1), np.float32)
    out = np.lib.format.open_memmap(folder / "item.npy", "w+", np.float32, (rows, item.shape[1]))
    for a in range(0, rows, PART):
        part = slice(a, a + PART)
        out[part] = between(item, one[part], other[part], share[part])
    out.flush()
    asked = generator.choice(rows, queries, replace=False)
    np.save(folder / "query.npy", between(query, one[asked], other[asked], share[asked]))
    judged = np.load(folder / "query.npy")[:JUDGED]
    np.save(folder / "truth.npy", topk.search(judged, np.asarray(out), K).rows.reshape(len(judged), K))


def between(vectors: Floats, one: Rows, other: Rows, share: Floats) -> Floats:
    """Unit vectors on the way from one to the other."""
    mixed = vectors[one] + share * (vectors[other] - vectors[one])
    return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), np.float32)


def adaptive(folder: Path, prefix: int | None, **config: Any) -> tuple[str, dict[str, Any]]:
    """(file, what `ann.read` needs) of an index tuned on the last of the queries, which are not judged."""
    name = f"{prefix or 'all'}-{'-'.join(f'{value}' for value in config.values())}.faiss"
    item = np.asarray(load_array(folder / "item.npy"))
    query = np.asarray(load_array(folder / "query.npy"))[JUDGED:]
    wanted = RetrievalConfig(exact_below=0, index_prefix=prefix, target_recall=0.975, tuning_queries=300, **config)
    built, _ = build(item, query, np.arange(len(item)), wanted)
    built.write(folder / name)
    print(name, f"tuned to recall {built.recall:.4f}", built.parameters, file=sys.stderr, flush=True)
    return name, {"kind": built.kind, "parameters": built.parameters, "recall": built.recall}


def alone(folder: Path, file: str, parameters: dict[str, Any], queries: int) -> dict[str, float]:
    """Measured in a process of its own."""
    parent, child = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=measure, args=(folder, file, parameters, queries, child))
    process.start()
    found: dict[str, float] = parent.recv()
    process.join()
    return found


def measure(folder: Path, file: str, parameters: dict[str, Any], queries: int, pipe: Any) -> None:
    """Answer the queries; recall on those whose answer is known."""
    faiss_index.use_threads(1)
    query = np.load(folder / "query.npy")[:queries]
    truth = np.load(folder / "truth.npy")
    forget(folder / "item.npy")
    if file:
        forget(folder / file)
        item = load_array(folder / "item.npy")
        index = faiss_index.read(folder / file, np.arange(len(item)), **parameters)
        bias = np.zeros(len(item), np.float32)
    else:
        index = None
        flat = faiss.IndexFlatIP(query.shape[1])
        stored = load_array(folder / "item.npy")
        for a in range(0, len(stored), PART):
            flat.add(np.ascontiguousarray(stored[a : a + PART]))
        del stored
    found, walls, spent = [], [], time.thread_time()
    for vector in query:
        began = time.perf_counter()
        if index is None:
            found.append(flat.search(vector[None], K)[1][0])
        else:
            found.append(answered(index, vector, item, bias))
        walls.append(time.perf_counter() - began)
    spent = time.thread_time() - spent
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    judged = min(len(truth), len(found))
    stored = load_array(folder / "item.npy")
    recall = np.mean([reached(stored, *one) for one in zip(query[:judged], truth, found, strict=False)])
    pipe.send(
        {
            "recall": float(recall),
            "cpu_ms": 1e3 * spent / len(query),
            "anonymous_mb": int(status["RssAnon"].split()[0]) / 1024,
            "file_mb": int(status["RssFile"].split()[0]) / 1024,
            "median_ms": 1e3 * float(np.median(walls)),
            "cold_p99_ms": 1e3 * float(np.quantile(walls[:1000], 0.99)),
        }
    )


def reached(item: Floats, vector: Floats, true: Rows, rows: Rows) -> float:
    """The share of the best K that is found; what scores as high as the last of them is as good: many are the same."""
    return float(np.mean(item[rows] @ vector >= (item[true] @ vector).min() - 1e-6))


def answered(index: Ann, vector: Floats, item: Floats, bias: Floats) -> Rows:
    """The best K: a shortlist by the index, narrowed, and ranked by all dimensions."""
    rows = index.narrow(index.search_one(vector, K * index.shortlist), vector, item, bias, 2 * K)
    score = item[rows] @ vector
    return rows[np.argpartition(-score, K - 1)[:K]] if len(rows) > K else rows


def forget(path: Path) -> None:
    """Ask the page cache to drop a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def table(results: dict[str, dict[str, float]], rows: int, queries: int) -> str:
    """Markdown, with shares of the full search."""
    full = next(iter(results.values()))
    lines = [
        "# Adaptive retrieval",
        "",
        "`python benchmarks/adaptive.py --embeddings WORKSPACE/versions/NAME/embeddings --work DIR`",
        "",
        "",
        f"{rows:,} vectors with a trained model's structure, {queries:,} distinct queries (full search: a tenth), "
        f"k = {K}, one thread. Memory after the last query: anonymous, and mapped from files. p99: the first "
        "thousand queries, from a cold page cache.",
        "",
        "| search | recall@100 | CPU ms | of full | RssAnon MB | of full | RssFile MB | median ms | cold p99 ms |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, found in results.items():
        shares = [found[key] / full[key] for key in ("cpu_ms", "anonymous_mb")]
        lines.append(
            f"| {name} | {found['recall']:.3f} | {found['cpu_ms']:.2f} | {shares[0]:.3f} | "
            f"{found['anonymous_mb']:.0f} | {shares[1]:.3f} | {found['file_mb']:.0f} | {found['median_ms']:.2f} | "
            f"{found['cold_p99_ms']:.1f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
