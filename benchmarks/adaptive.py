"""Adaptive and funnel retrieval compared with exact search, on a million vectors generated from a trained model.

    python benchmarks/adaptive.py --embeddings WORKSPACE/versions/NAME/embeddings --work DIR [--rows 1000000]
        [--queries 10000] [--prefixes 16 32 64] [--output TABLE.md]

The model must have been trained with `[model] matryoshka`. Each generated item lies between a trained item and one of
its ten nearest neighbours, in both roles. Every search runs in a process of its own with one thread, and answers
distinct queries; its files are dropped from the page cache before.
"""

import os
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from _page import argument_parser, print_progress, publish

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
TRUE_QUERIES = 2_000
"""Number of queries whose exact results are known."""
BLOCK = 50_000


def main() -> int:
    """Generate the vectors, build the indexes, measure every search and print the page."""
    parser = argument_parser(__doc__)
    parser.add_argument("--embeddings", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for vectors and indexes")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--prefixes", type=int, nargs="+", default=[16, 32, 64])
    options = parser.parse_args()
    folder = options.work / f"vectors-{options.rows}"
    if not (folder / "truth.npy").exists():
        generate(Embeddings.load(options.embeddings), options.rows, options.queries, folder)
    searches: dict[str, tuple[str, dict[str, Any]]] = {}
    for prefix in options.prefixes:
        searches[f"adaptive, flat, {prefix} dimensions"] = build_index(folder, prefix, index_kinds=("flat",))
        searches[f"funnel, flat, {prefix} dimensions"] = build_index(folder, prefix, index_kinds=("flat",), funnel=True)
    searches["adaptive, inverted lists, 32 dimensions"] = build_index(folder, 32)
    searches["inverted lists, all dimensions"] = build_index(folder, None)
    results = {"full flat search": measure_apart(folder, "", {}, options.queries // 10)}
    print_progress(f"full flat search {results['full flat search']}")
    for name, (file, parameters) in searches.items():
        results[name] = measure_apart(folder, file, parameters, options.queries)
        print_progress(f"{name} {results[name]}")
    page = table(results, options.rows, options.queries)
    return publish(page, options.output)


def generate(trained: Embeddings, rows: int, queries: int, folder: Path) -> None:
    """Write item.npy (rows, D), query.npy (queries, D) of distinct items, and truth.npy (TRUE_QUERIES, K) rows."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    item, query = np.asarray(trained.item), np.asarray(trained.query)
    near = topk.search(item, item, NEAREST + 1).rows.reshape(len(item), -1)[:, 1:]
    first = generator.integers(0, len(item), rows)
    second = near[first, generator.integers(0, NEAREST, rows)]
    share = generator.random((rows, 1), np.float32)
    out = np.lib.format.open_memmap(folder / "item.npy", "w+", np.float32, (rows, item.shape[1]))
    for a in range(0, rows, BLOCK):
        block = slice(a, a + BLOCK)
        out[block] = between(item, first[block], second[block], share[block])
    out.flush()
    sample = generator.choice(rows, queries, replace=False)
    np.save(folder / "query.npy", between(query, first[sample], second[sample], share[sample]))
    known = np.load(folder / "query.npy")[:TRUE_QUERIES]
    np.save(folder / "truth.npy", topk.search(known, np.asarray(out), K).rows.reshape(len(known), K))


def between(vectors: Floats, first: Rows, second: Rows, share: Floats) -> Floats:
    """Unit vectors between pairs of vectors; `share` says how far from the first to the second."""
    mixed = vectors[first] + share * (vectors[second] - vectors[first])
    return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), np.float32)


def build_index(folder: Path, prefix: int | None, **config: Any) -> tuple[str, dict[str, Any]]:
    """Build an index, tuned on queries whose recall is not measured; returns its file and parameters for reading it."""
    name = f"{prefix or 'all'}-{'-'.join(f'{value}' for value in config.values())}.faiss"
    item = np.asarray(load_array(folder / "item.npy"))
    query = np.asarray(load_array(folder / "query.npy"))[TRUE_QUERIES:]
    settings = RetrievalConfig(exact_below=0, index_prefix=prefix, target_recall=0.975, tuning_queries=300, **config)
    built, _ = build(item, query, np.arange(len(item)), settings)
    built.write(folder / name)
    print_progress(f"{name} tuned to recall {built.recall:.4f} {built.parameters}")
    return name, {"kind": built.kind, "parameters": built.parameters, "recall": built.recall}


def measure_apart(folder: Path, file: str, parameters: dict[str, Any], queries: int) -> dict[str, float]:
    """Measure a search in a process of its own."""
    parent, child = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=measure, args=(folder, file, parameters, queries, child))
    process.start()
    result: dict[str, float] = parent.recv()
    process.join()
    return result


def measure(folder: Path, file: str, parameters: dict[str, Any], queries: int, pipe: Any) -> None:
    """Answer the queries, and send the cost and the recall on the queries whose exact results are known."""
    faiss_index.use_threads(1)
    query = np.load(folder / "query.npy")[:queries]
    truth = np.load(folder / "truth.npy")
    drop_from_page_cache(folder / "item.npy")
    if file:
        drop_from_page_cache(folder / file)
        item = load_array(folder / "item.npy")
        index = faiss_index.read(folder / file, np.arange(len(item)), **parameters)
        bias = np.zeros(len(item), np.float32)
    else:
        index = None
        flat = faiss.IndexFlatIP(query.shape[1])
        stored = load_array(folder / "item.npy")
        for a in range(0, len(stored), BLOCK):
            flat.add(np.ascontiguousarray(stored[a : a + BLOCK]))
        del stored
    results, walls, started = [], [], time.thread_time()
    for vector in query:
        began = time.perf_counter()
        if index is None:
            results.append(flat.search(vector[None], K)[1][0])
        else:
            results.append(search(index, vector, item, bias))
        walls.append(time.perf_counter() - began)
    spent = time.thread_time() - started
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    known = min(len(truth), len(results))
    stored = load_array(folder / "item.npy")
    recall = np.mean([recall_of(stored, *triple) for triple in zip(query[:known], truth, results, strict=False)])
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


def recall_of(item: Floats, vector: Floats, true: Rows, rows: Rows) -> float:
    """Share of the rows that score at least as high as the true K-th row; the rows may differ if vectors are equal."""
    return float(np.mean(item[rows] @ vector >= (item[true] @ vector).min() - 1e-6))


def search(index: Ann, vector: Floats, item: Floats, bias: Floats) -> Rows:
    """The best K rows of a shortlist from the index, narrowed step by step and ranked by all dimensions."""
    rows = index.narrow(index.search_one(vector, K * index.shortlist), vector, item, bias, 2 * K)
    score = item[rows] @ vector
    return rows[np.argpartition(-score, K - 1)[:K]] if len(rows) > K else rows


def drop_from_page_cache(path: Path) -> None:
    """Ask the system to drop a file from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def table(results: dict[str, dict[str, float]], rows: int, queries: int) -> str:
    """The page, in Markdown; costs are also given as shares of the exact search's costs."""
    full = next(iter(results.values()))
    lines = [
        "# Adaptive retrieval",
        "",
        "`python benchmarks/adaptive.py --embeddings WORKSPACE/versions/NAME/embeddings --work DIR`",
        "",
        f"{rows:,} vectors with a trained model's structure, {queries:,} distinct queries (full search: a tenth), "
        f"k = {K}, one thread. Memory after the last query: anonymous, and mapped from files. p99: the first "
        "thousand queries, from a cold page cache.",
        "",
        "| search | recall@100 | CPU ms | of full | RssAnon MB | of full | RssFile MB | median ms | cold p99 ms |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, result in results.items():
        shares = [result[key] / full[key] for key in ("cpu_ms", "anonymous_mb")]
        lines.append(
            f"| {name} | {result['recall']:.3f} | {result['cpu_ms']:.2f} | {shares[0]:.3f} | "
            f"{result['anonymous_mb']:.0f} | {shares[1]:.3f} | {result['file_mb']:.0f} | {result['median_ms']:.2f} | "
            f"{result['cold_p99_ms']:.1f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
