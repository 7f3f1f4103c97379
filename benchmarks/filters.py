"""Filtered search: our planner beside plain FAISS selectors and post-filtering, by the share of rows that are eligible.

    python benchmarks/filters.py [--rows 1000000] [--dim 64] [--queries 200] [--output TABLE.md]

Generated clustered vectors; an item's ads are eligible in countries of ever smaller shares of the catalogue. Every list
is compared with the exact filtered one. One thread, each row of the table in the same run.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa

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
    """Build, measure, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--dim", type=int, default=64)
    options.add_argument("--queries", type=int, default=200)
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    catalogue = generated(chosen.rows, chosen.dim)
    ads = Ads.from_table(ads_table(catalogue), catalogue.row_of)
    config = RetrievalConfig(index_kinds=("ivf_sq8",))
    began = time.perf_counter()
    built, tried = build(catalogue.item, catalogue.query, np.arange(chosen.rows, dtype=np.int64), config)
    say(f"{tried}\nin {time.perf_counter() - began:.0f} s")
    hnsw = faiss.IndexHNSWSQ(chosen.dim, faiss.ScalarQuantizer.QT_8bit, 16, faiss.METRIC_INNER_PRODUCT)
    began = time.perf_counter()
    hnsw.train(catalogue.item[:: max(1, chosen.rows // 100_000)])
    hnsw.add(catalogue.item)
    say(f"HNSW in {time.perf_counter() - began:.0f} s")
    faiss_index.use_threads(1)
    retriever = Retriever(catalogue, no_edges(chosen.rows), ads, built, as_of=AS_OF, config=config)
    scopes = {country: retriever.scope(RetrievalRequest([], 1, at=AS_OF, country=country)) for country in SHARES}
    selections = {country: built.selection(scope.mask) for country, scope in scopes.items()}

    def ours(row: int, country: str) -> np.ndarray:
        found = retriever.retrieve(
            RetrievalRequest([catalogue.item_ids[row]], K, country=country, reasons=False)
        ).results
        return np.array([catalogue.row_of[result.item_id] for result in found], np.int64)

    def selected(index: object, parameters: Callable[[object], object]) -> Search:
        def search(row: int, country: str) -> np.ndarray:
            given = parameters(selections[country].selector)
            found = index.search(catalogue.query[row : row + 1], K + 1, params=given)[1][0]  # type: ignore[attr-defined]
            return found[(found >= 0) & (found != row)][:K]

        return search

    def post_filtered(row: int, country: str) -> np.ndarray:
        given = faiss.SearchParametersIVF(nprobe=built.parameters["nprobe"])
        found = built.index.search(catalogue.query[row : row + 1], 3 * K + 1, params=given)[1][0]
        return found[(found >= 0) & (found != row) & scopes[country].mask[found]][:K]

    nprobe = built.parameters["nprobe"]
    searches: dict[str, Search] = {
        "LightSAGE": ours,
        f"FAISS IVF-SQ8 with a selector, nprobe {nprobe}": selected(
            built.index, lambda sel: faiss.SearchParametersIVF(nprobe=nprobe, sel=sel)
        ),
        "FAISS HNSW16-SQ8 with a selector, efSearch 200": selected(
            hnsw, lambda sel: faiss.SearchParametersHNSW(efSearch=200, sel=sel)
        ),
        f"IVF-SQ8, {3 * K} rows, filtered afterwards": post_filtered,
    }
    lines = [
        f"{chosen.rows:,} × {chosen.dim}, {chosen.queries} queries a cell, k = {K}, one thread: recall@{K} against "
        "exact filtered search / median ms. *Short*: lists with fewer rows than exist.",
        "",
        "| search | " + " | ".join(f"{share:.2%} eligible" for share in SHARES.values()) + " |",
        "|---|" + "---:|" * len(SHARES),
    ]
    rows = np.random.default_rng(1).choice(chosen.rows, chosen.queries, replace=False)
    truth = {country: exact(catalogue, rows, scope.rows) for country, scope in scopes.items()}
    for name, search in searches.items():
        cells = [cell(search, rows, country, truth[country], scopes[country].mask) for country in SHARES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        say(lines[-1])
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
    if chosen.output:
        chosen.output.write_text(page, encoding="utf-8")
    print(page)
    return 0


def cell(search: Search, rows: np.ndarray, country: str, truth: list[np.ndarray], mask: np.ndarray) -> str:
    """Recall and median time of one search at one share."""
    search(int(rows[0]), country)
    times, hits, wanted, short = [], 0, 0, 0
    for row, true in zip(rows.tolist(), truth, strict=True):
        began = time.perf_counter()
        found = search(row, country)
        times.append(time.perf_counter() - began)
        assert mask[found].all(), "a row came back that is not eligible"
        hits += len(np.intersect1d(found, true))
        wanted += len(true)
        short += len(found) < len(true)
    said = f", {short / len(rows):.0%} short" if short else ""
    return f"{hits / wanted:.3f} / {1e3 * np.median(times):.2f}{said}"


def exact(catalogue: Catalogue, rows: np.ndarray, eligible: np.ndarray) -> list[np.ndarray]:
    """The true lists."""
    candidates = catalogue.item[eligible]
    found = []
    for row in rows.tolist():
        score = candidates @ catalogue.query[row]
        score[eligible == row] = -np.inf
        k = min(K, len(eligible) - int((eligible == row).any()))
        best = np.argpartition(-score, k - 1)[:k] if k < len(score) else np.arange(len(score))
        found.append(eligible[best[np.isfinite(score[best])]])
    return found


def generated(n: int, dim: int, clusters: int = 5000) -> Catalogue:
    """Unit vectors around centres of very unequal size, as those of a catalogue are."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((clusters, dim)).astype(np.float32)
    of = (clusters * rng.random(n) ** 2).astype(np.int64)

    def around(spread: float) -> np.ndarray:
        vectors = centres[of] + spread * rng.standard_normal((n, dim)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    ids = np.array([f"i{row:07d}" for row in range(n)], dtype=object)
    zeros = np.zeros(n, np.int64)
    empty = np.zeros((0, dim), np.float32)
    bias = np.zeros(n, np.float32)
    attributes = pa.table({"item_id": pa.array(ids, pa.string())})
    query, item = around(0.8), around(0.6)
    return Catalogue(ids, query, item, zeros[:0], empty, zeros, np.zeros(n), bias, attributes)


def ads_table(catalogue: Catalogue) -> pa.Table:
    """An ad an item, for as many countries as chance gives it."""
    draw = np.random.default_rng(2).random(catalogue.n_rows)
    lists = [[country for country, share in SHARES.items() if one < share] for one in draw.tolist()]
    ids = pa.array(catalogue.item_ids, pa.string())
    return pa.table({"ad_id": ids, "item_id": ids, "campaign_id": ids, "countries": pa.array(lists)})


def no_edges(n: int) -> Edges:
    """A graph without any."""
    none = np.zeros(0, np.int64)
    return Edges(np.zeros(n + 1, np.int64), none.astype(np.int32), none.astype(np.uint8), none.astype(np.float32), ())


def say(text: str) -> None:
    """To the terminal."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
