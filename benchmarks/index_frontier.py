"""Recall against queries per CPU-second: our two kinds of index, with their exact ranking, beside hnswlib and usearch.

    python benchmarks/index_frontier.py [--rows 250000] [--dim 64] [--output TABLE.md] [--picture PICTURE.png]

On generated clustered vectors, or on a version's own with `--index WORKSPACE/versions/NAME/index`: queries are the
items' query vectors. One thread, 100 neighbours by inner product, all in one run. Needs the extra `benchmark`.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import hnswlib
import numpy as np
from filters import generated
from usearch.index import Index as Usearch

from retrieval import topk
from retrieval.ann.faiss_index import use_threads, with_bias
from retrieval.ann.tuning import build
from retrieval.catalogue.items import load_array
from retrieval.config import RetrievalConfig

K = 100
SEED = 3
Point = tuple[str, float, float]
Search = Callable[[np.ndarray], np.ndarray]


def main() -> int:
    """Build, measure, print, draw."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=250_000)
    options.add_argument("--dim", type=int, default=64)
    options.add_argument("--queries", type=int, default=500)
    options.add_argument("--index", type=Path)
    options.add_argument("--output", type=Path)
    options.add_argument("--picture", type=Path)
    chosen = options.parse_args()
    if chosen.index:
        names = ("query", "item", "bias")
        query, item, bias = (np.asarray(load_array(chosen.index / f"{name}.npy")) for name in names)
        item, query = with_bias(item, bias), with_bias(query, np.ones(len(query), np.float32))
    else:
        catalogue = generated(chosen.rows, chosen.dim)
        query, item = catalogue.query, catalogue.item
    rows = np.random.default_rng(SEED).choice(len(query), min(chosen.queries, len(query)), replace=False)
    queries = np.ascontiguousarray(query[rows])
    truth = topk.search(queries, item, K).rows.reshape(-1, K)
    lines, curves = [], dict[str, list[Point]]()
    for name, (seconds, points) in peers(item, query).items():
        curves[name] = [(setting, *measured(search, queries, truth)) for setting, search in points]
        for setting, recall, rate in curves[name]:
            lines.append(f"| {name} | {setting} | {recall:.3f} | {rate:,.0f} | {seconds:.0f} |")
            print(lines[-1], file=sys.stderr, flush=True)
    page = "\n".join(
        [
            "# The index beside others",
            "",
            f"{len(item):,} × {item.shape[1]}, {len(queries)} queries one at a time on one thread; built on all.",
            "",
            "| index | setting | recall@100 | queries per CPU-second | build s |",
            "|---|---|---:|---:|---:|",
            *lines,
            "",
        ]
    )
    if chosen.output:
        chosen.output.write_text(page, encoding="utf-8")
    if chosen.picture:
        draw(curves, chosen.picture)
    print(page)
    return 0


def peers(item: np.ndarray, query: np.ndarray) -> dict[str, tuple[float, Iterator[tuple[str, Search]]]]:
    """Index → (seconds to build, settings)."""
    found: dict[str, tuple[float, Iterator[tuple[str, Search]]]] = {}
    everything = np.arange(len(item), dtype=np.int64)
    for kind, name in (("ivf_sq8", "LightSAGE, IVF-SQ8"), ("ivf_pq4", "LightSAGE, IVF-PQ4 fast scan")):
        began = time.perf_counter()
        config = RetrievalConfig(exact_below=0, index_kinds=(kind,), tuning_queries=100)
        ann, _ = build(item, query, everything, config)
        found[name] = (time.perf_counter() - began, ours(ann.index, ann.parameters, item))
    began = time.perf_counter()
    graph = hnswlib.Index(space="ip", dim=item.shape[1])
    graph.init_index(len(item), M=16, ef_construction=200)
    graph.add_items(item)
    graph.set_num_threads(1)
    found["hnswlib, M 16"] = (time.perf_counter() - began, by_ef(graph))
    began = time.perf_counter()
    other = Usearch(ndim=item.shape[1], metric="ip", dtype="i8", connectivity=16, expansion_add=200)
    other.add(everything, item)
    found["usearch, M 16, 8 bits, ranked exactly"] = (time.perf_counter() - began, by_expansion(other, item))
    use_threads(1)
    return found


def ours(index: faiss.Index, parameters: dict[str, int], item: np.ndarray) -> Iterator[tuple[str, Search]]:
    """nprobe from a quarter of the tuned one to four times as much."""
    shortlist = parameters["shortlist"]
    for share in (0.25, 0.5, 1.0, 2.0, 4.0):
        nprobe = max(1, round(share * parameters["nprobe"]))
        given = faiss.SearchParametersIVF(nprobe=nprobe)

        def search(vector: np.ndarray, given: faiss.SearchParametersIVF = given) -> np.ndarray:
            return ranked(index.search(vector[None], shortlist * K, params=given)[1][0], vector, item)

        yield f"nprobe {nprobe}, shortlist {shortlist}", search


def by_ef(graph: hnswlib.Index) -> Iterator[tuple[str, Search]]:
    """Ever wider search."""
    for ef in (100, 150, 200, 300, 500, 800):

        def search(vector: np.ndarray, ef: int = ef) -> np.ndarray:
            graph.set_ef(ef)
            return graph.knn_query(vector[None], K)[0][0]

        yield f"ef {ef}", search


def by_expansion(index: Usearch, item: np.ndarray) -> Iterator[tuple[str, Search]]:
    """Ever wider search; three times the rows, ranked exactly, as eight bits misplace some."""
    for expansion in (300, 500, 800, 1200):

        def search(vector: np.ndarray, expansion: int = expansion) -> np.ndarray:
            index.expansion_search = expansion
            return ranked(index.search(vector, 3 * K, threads=1).keys.astype(np.int64), vector, item)

        yield f"expansion {expansion}", search


def ranked(rows: np.ndarray, vector: np.ndarray, item: np.ndarray) -> np.ndarray:
    """The best K of a shortlist."""
    rows = rows[rows >= 0]
    score = item[rows] @ vector
    return rows[np.argpartition(-score, K - 1)[:K]] if len(rows) > K else rows


def measured(search: Search, queries: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """(recall, queries per CPU-second)."""
    for vector in queries[:20]:
        search(vector)
    began = time.thread_time()
    found = [search(vector) for vector in queries]
    spent = time.thread_time() - began
    recall = float(np.mean([np.isin(true, rows).mean() for true, rows in zip(truth, found, strict=True)]))
    return recall, len(queries) / spent


def draw(curves: dict[str, list[Point]], path: Path) -> None:
    """Recall to the right, speed upwards."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for name, points in curves.items():
        style = {"lw": 2.2} if name.startswith("LightSAGE") else {"lw": 1.2, "ls": "--"}
        axes.plot([recall for _, recall, _ in points], [rate for _, _, rate in points], "o-", ms=4, label=name, **style)
    axes.axvline(RetrievalConfig().target_recall, color="grey", lw=0.8)
    axes.set(xlabel="recall@100", ylabel="queries per CPU-second", yscale="log")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
