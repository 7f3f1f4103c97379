"""Filtered search: LightSAGE's planner compared with FAISS selectors and post-filtering, by share of eligible rows.

    python benchmarks/filters.py [--rows 1000000] [--dim 64] [--queries 200] [--output TABLE.md]

The vectors are generated in clusters. Five countries have ads for ever smaller shares of the catalogue. Every result is
compared with that of exact filtered search. Searches use one thread. All rows of the table come from one run.
"""

import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

import faiss
import numpy as np
import pyarrow as pa
from _page import argument_parser, print_progress, publish

from retrieval.ann import faiss_index
from retrieval.ann.tuning import build
from retrieval.catalogue.ads import Ads
from retrieval.catalogue.edges import Edges
from retrieval.catalogue.items import Catalogue
from retrieval.config import RetrievalConfig
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Retriever

K = 100
SHARES = {"AA": 1.0, "AB": 0.1, "AC": 0.01, "AD": 0.001, "AE": 0.0001}
AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
Search = Callable[[int, str], np.ndarray]


def main() -> int:
    """Build the indexes, measure every search and print the page."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    catalogue = generate_catalogue(options.rows, options.dim)
    ads = Ads.from_table(ads_table(catalogue), catalogue.row_of)
    config = RetrievalConfig(index_kinds=("ivf_sq8",))
    began = time.perf_counter()
    built, tried = build(catalogue.item, catalogue.query, np.arange(options.rows, dtype=np.int64), config)
    print_progress(f"{tried}\nin {time.perf_counter() - began:.0f} s")
    hnsw = faiss.IndexHNSWSQ(options.dim, faiss.ScalarQuantizer.QT_8bit, 16, faiss.METRIC_INNER_PRODUCT)
    began = time.perf_counter()
    hnsw.train(catalogue.item[:: max(1, options.rows // 100_000)])
    hnsw.add(catalogue.item)
    print_progress(f"HNSW in {time.perf_counter() - began:.0f} s")
    faiss_index.use_threads(1)
    retriever = Retriever(catalogue, no_edges(options.rows), ads, built, as_of=AS_OF, config=config)
    scopes = {country: retriever.scope(RetrievalRequest([], 1, at=AS_OF, country=country)) for country in SHARES}
    selections = {country: built.selection(scope.mask) for country, scope in scopes.items()}

    def ours(row: int, country: str) -> np.ndarray:
        results = retriever.retrieve(
            RetrievalRequest([catalogue.item_ids[row]], K, country=country, reasons=False)
        ).results
        return np.array([catalogue.row_of[result.item_id] for result in results], np.int64)

    def with_selector(index: object, parameters: Callable[[object], object]) -> Search:
        def search(row: int, country: str) -> np.ndarray:
            settings = parameters(selections[country].selector)
            rows = index.search(catalogue.query[row : row + 1], K + 1, params=settings)[1][0]  # type: ignore[attr-defined]
            return rows[(rows >= 0) & (rows != row)][:K]

        return search

    def post_filtered(row: int, country: str) -> np.ndarray:
        settings = faiss.SearchParametersIVF(nprobe=built.parameters["nprobe"])
        rows = built.index.search(catalogue.query[row : row + 1], 3 * K + 1, params=settings)[1][0]
        return rows[(rows >= 0) & (rows != row) & scopes[country].mask[rows]][:K]

    nprobe = built.parameters["nprobe"]
    searches: dict[str, Search] = {
        "LightSAGE": ours,
        f"FAISS IVF-SQ8 with a selector, nprobe {nprobe}": with_selector(
            built.index, lambda sel: faiss.SearchParametersIVF(nprobe=nprobe, sel=sel)
        ),
        "FAISS HNSW16-SQ8 with a selector, efSearch 200": with_selector(
            hnsw, lambda sel: faiss.SearchParametersHNSW(efSearch=200, sel=sel)
        ),
        f"IVF-SQ8, {3 * K} rows, filtered afterwards": post_filtered,
    }
    lines = [
        f"The searches are among {options.rows:,} vectors of {options.dim} dimensions, on one thread, with "
        f"{options.queries} queries per cell and k = {K}. A cell has the recall@{K}, compared with an exact filtered "
        "search, and a query's median time in ms. *Short* is the share of lists with fewer rows than the exact search "
        "gives.",
        "",
        "| search | " + " | ".join(f"{share:.2%} eligible" for share in SHARES.values()) + " |",
        "|---|" + "---:|" * len(SHARES),
    ]
    rows = np.random.default_rng(1).choice(options.rows, options.queries, replace=False)
    truth = {country: exact(catalogue, rows, scope.rows) for country, scope in scopes.items()}
    for name, search in searches.items():
        cells = [measure(search, rows, country, truth[country], scopes[country].mask) for country in SHARES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print_progress(lines[-1])
    page = (
        "\n".join(
            [
                "# Filtered search",
                "",
                f"`python benchmarks/filters.py --output …`, on {os.cpu_count()} cores.",
                "",
                *lines,
            ]
        )
        + "\n"
    )
    return publish(page, options.output)


def measure(search: Search, rows: np.ndarray, country: str, truth: list[np.ndarray], mask: np.ndarray) -> str:
    """The cell of one search and one share: recall and median time."""
    search(int(rows[0]), country)
    times, hits, total, short = [], 0, 0, 0
    for row, true in zip(rows.tolist(), truth, strict=True):
        began = time.perf_counter()
        result = search(row, country)
        times.append(time.perf_counter() - began)
        assert mask[result].all(), "a result is not eligible"
        hits += len(np.intersect1d(result, true))
        total += len(true)
        short += len(result) < len(true)
    too_short = f", {short / len(rows):.0%} short" if short else ""
    return f"{hits / total:.3f} / {1e3 * np.median(times):.2f}{too_short}"


def exact(catalogue: Catalogue, rows: np.ndarray, eligible: np.ndarray) -> list[np.ndarray]:
    """The results of exact filtered search."""
    candidates = catalogue.item[eligible]
    results = []
    for row in rows.tolist():
        score = candidates @ catalogue.query[row]
        score[eligible == row] = -np.inf
        k = min(K, len(eligible) - int((eligible == row).any()))
        best = np.argpartition(-score, k - 1)[:k] if k < len(score) else np.arange(len(score))
        results.append(eligible[best[np.isfinite(score[best])]])
    return results


def generate_catalogue(n: int, dim: int, clusters: int = 5000) -> Catalogue:
    """A catalogue of unit vectors in clusters of very unequal size, as in a real catalogue."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((clusters, dim)).astype(np.float32)
    cluster = (clusters * rng.random(n) ** 2).astype(np.int64)

    def around(spread: float) -> np.ndarray:
        vectors = centres[cluster] + spread * rng.standard_normal((n, dim)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    ids = np.array([f"i{row:07d}" for row in range(n)], dtype=object)
    zeros = np.zeros(n, np.int64)
    empty = np.zeros((0, dim), np.float32)
    bias = np.zeros(n, np.float32)
    attributes = pa.table({"item_id": pa.array(ids, pa.string())})
    query, item = around(0.8), around(0.6)
    return Catalogue(ids, query, item, zeros[:0], empty, zeros, np.zeros(n), bias, attributes)


def ads_table(catalogue: Catalogue) -> pa.Table:
    """One ad per item; each runs in a random number of countries."""
    draw = np.random.default_rng(2).random(catalogue.n_rows)
    lists = [[country for country, share in SHARES.items() if value < share] for value in draw.tolist()]
    ids = pa.array(catalogue.item_ids, pa.string())
    return pa.table({"ad_id": ids, "item_id": ids, "campaign_id": ids, "countries": pa.array(lists)})


def no_edges(n: int) -> Edges:
    """A graph without edges."""
    none = np.zeros(0, np.int64)
    return Edges(np.zeros(n + 1, np.int64), none.astype(np.int32), none.astype(np.uint8), none.astype(np.float32), ())


if __name__ == "__main__":
    sys.exit(main())
