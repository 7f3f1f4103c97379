"""Recall against queries per CPU-second: LightSAGE's two index kinds compared with hnswlib and usearch.

    python benchmarks/index_frontier.py [--rows 250000] [--dim 64] [--output TABLE.md] [--picture PICTURE.png]

The vectors are generated in clusters; `--index WORKSPACE/versions/NAME/index` takes those of a version instead. Queries
are the query vectors of items. A search finds 100 neighbours by inner product, on one thread. All figures come from one
run. The benchmark needs the extra `benchmark`.
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import faiss
import numpy as np
from _page import argument_parser, print_progress, publish
from filters import generate_catalogue

from retrieval import topk
from retrieval.ann.faiss_index import use_threads, with_bias
from retrieval.ann.tuning import build
from retrieval.catalogue.items import load_array
from retrieval.config import RetrievalConfig

if TYPE_CHECKING:
    import hnswlib
    from usearch.index import Index as Usearch

K = 100
SEED = 3
Point = tuple[str, float, float]
Search = Callable[[np.ndarray], np.ndarray]


def main() -> int:
    """Build the indexes, measure, draw the picture and print the page."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=250_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--index", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    if options.index:
        names = ("query", "item", "bias")
        query, item, bias = (np.asarray(load_array(options.index / f"{name}.npy")) for name in names)
        item, query = with_bias(item, bias), with_bias(query, np.ones(len(query), np.float32))
    else:
        catalogue = generate_catalogue(options.rows, options.dim)
        query, item = catalogue.query, catalogue.item
    rows = np.random.default_rng(SEED).choice(len(query), min(options.queries, len(query)), replace=False)
    queries = np.ascontiguousarray(query[rows])
    truth = topk.search(queries, item, K).rows.reshape(-1, K)
    lines, curves = [], dict[str, list[Point]]()
    for name, (seconds, points) in build_indexes(item, query).items():
        curves[name] = [(setting, *measure(search, queries, truth)) for setting, search in points]
        for setting, recall, rate in curves[name]:
            lines.append(f"| {name} | {setting} | {recall:.3f} | {rate:,.0f} | {seconds:.0f} |")
            print_progress(lines[-1])
    page = "\n".join(
        [
            "# The index beside others",
            "",
            f"Each index has {len(item):,} vectors of {item.shape[1]} dimensions. {len(queries)} queries are answered "
            "one at a time on one thread; the indexes are built on all cores.",
            "",
            "| index | setting | recall@100 | queries per CPU-second | build s |",
            "|---|---|---:|---:|---:|",
            *lines,
            "",
        ]
    )
    if options.picture:
        draw(curves, options.picture)
    return publish(page, options.output)


def build_indexes(item: np.ndarray, query: np.ndarray) -> dict[str, tuple[float, Iterator[tuple[str, Search]]]]:
    """Return for each index the seconds of the build, and the settings to measure."""
    import hnswlib
    from usearch.index import Index as Usearch

    indexes: dict[str, tuple[float, Iterator[tuple[str, Search]]]] = {}
    everything = np.arange(len(item), dtype=np.int64)
    for kind, name in (("ivf_sq8", "LightSAGE, IVF-SQ8"), ("ivf_pq4", "LightSAGE, IVF-PQ4 fast scan")):
        began = time.perf_counter()
        config = RetrievalConfig(exact_below=0, index_kinds=(kind,), tuning_queries=100)
        ann, _ = build(item, query, everything, config)
        indexes[name] = (time.perf_counter() - began, ours(ann.index, ann.parameters, item))
    began = time.perf_counter()
    graph = hnswlib.Index(space="ip", dim=item.shape[1])
    graph.init_index(len(item), M=16, ef_construction=200)
    graph.add_items(item)
    graph.set_num_threads(1)
    indexes["hnswlib, M 16"] = (time.perf_counter() - began, by_ef(graph))
    began = time.perf_counter()
    usearch = Usearch(ndim=item.shape[1], metric="ip", dtype="i8", connectivity=16, expansion_add=200)
    usearch.add(everything, item)
    indexes["usearch, M 16, 8 bits, ranked exactly"] = (time.perf_counter() - began, by_expansion(usearch, item))
    use_threads(1)
    return indexes


def ours(index: faiss.Index, parameters: dict[str, int], item: np.ndarray) -> Iterator[tuple[str, Search]]:
    """LightSAGE with nprobe from a quarter to four times the tuned value."""
    shortlist = parameters["shortlist"]
    for share in (0.25, 0.5, 1.0, 2.0, 4.0):
        nprobe = max(1, round(share * parameters["nprobe"]))
        settings = faiss.SearchParametersIVF(nprobe=nprobe)

        def search(vector: np.ndarray, settings: faiss.SearchParametersIVF = settings) -> np.ndarray:
            return rank_exactly(index.search(vector[None], shortlist * K, params=settings)[1][0], vector, item)

        yield f"nprobe {nprobe}, shortlist {shortlist}", search


def by_ef(graph: "hnswlib.Index") -> Iterator[tuple[str, Search]]:
    """hnswlib with ever wider search."""
    for ef in (100, 150, 200, 300, 500, 800):

        def search(vector: np.ndarray, ef: int = ef) -> np.ndarray:
            graph.set_ef(ef)
            return graph.knn_query(vector[None], K)[0][0]

        yield f"ef {ef}", search


def by_expansion(index: "Usearch", item: np.ndarray) -> Iterator[tuple[str, Search]]:
    """usearch with ever wider search for 3 K rows, which are then ranked exactly, since eight bits misplace some."""
    for expansion in (300, 500, 800, 1200):

        def search(vector: np.ndarray, expansion: int = expansion) -> np.ndarray:
            index.expansion_search = expansion
            return rank_exactly(index.search(vector, 3 * K, threads=1).keys.astype(np.int64), vector, item)

        yield f"expansion {expansion}", search


def rank_exactly(rows: np.ndarray, vector: np.ndarray, item: np.ndarray) -> np.ndarray:
    """The best K rows of a shortlist by exact scores."""
    rows = rows[rows >= 0]
    score = item[rows] @ vector
    return rows[np.argpartition(-score, K - 1)[:K]] if len(rows) > K else rows


def measure(search: Search, queries: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Recall and queries per CPU-second."""
    for vector in queries[:20]:
        search(vector)
    began = time.thread_time()
    results = [search(vector) for vector in queries]
    spent = time.thread_time() - began
    recall = float(np.mean([np.isin(true, rows).mean() for true, rows in zip(truth, results, strict=True)]))
    return recall, len(queries) / spent


def draw(curves: dict[str, list[Point]], path: Path) -> None:
    """Draw queries per CPU-second against recall."""
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
