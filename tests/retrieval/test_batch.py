"""A table of queries gives what single requests give."""

from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from retrieval import batch
from retrieval.ads import Ads
from retrieval.ann_build import build
from retrieval.batch import SCHEMA, retrieve_tables
from retrieval.config import RetrievalConfig
from retrieval.errors import QueriesError, RequestError
from retrieval.query_table import conform_queries
from retrieval.retriever import Retriever


@pytest.fixture(scope="module")
def queries(world: SimpleNamespace) -> pa.Table:
    lists = [["item00001"], ["item00004", "item00009"], ["ghost"], [], None, ["item00002", "ghost"], ["item00007"] * 2]
    rows = [
        {
            "query_id": f"q{at}",
            "item_ids": lists[at % 7],
            "at": None if at % 3 == 0 else world.AS_OF + timedelta(hours=at % 5 - 2),
            "country": [None, "de", "FR"][at % 3],
        }
        for at in range(42)
    ]
    return pa.Table.from_pylist(
        rows,
        schema=pa.schema(
            [
                ("query_id", pa.string()),
                ("item_ids", pa.list_(pa.string())),
                ("at", pa.timestamp("us", "UTC")),
                ("country", pa.string()),
            ]
        ),
    )


@pytest.mark.parametrize("all_items", [False, True])
@pytest.mark.parametrize("include_current", [False, True])
@pytest.mark.parametrize("way", ["one product", "one by one", "index"])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_query_is_answered_as_alone(
    world, catalogue, edges, queries, all_items, include_current, way, threads, monkeypatch
) -> None:
    monkeypatch.setattr(batch, "_GATHERED_ROWS", 100)
    ads = Ads(world.ads_table(world.random_ads(60, 90, 4)), catalogue.row_of, quiet=True)
    config = RetrievalConfig(batch_exact_below=1000 if way == "one product" else 0, exact_below=5)
    # Half of the rows are indexed, so that the others have to be looked at beside it.
    rows = np.arange(0, 60, 2)
    everything = RetrievalConfig(exact_below=60)
    ann = build(catalogue.item, catalogue.query, rows, everything, bias=catalogue.bias)[0] if way == "index" else None
    retriever = Retriever(catalogue, edges, ads, ann, as_of=world.AS_OF, config=config)
    default = world.AS_OF + timedelta(hours=1)
    switches = {"all_items": all_items, "include_current": include_current}
    streamed = (
        iter([conform_queries(part) for part in (queries.slice(0, 30), queries.slice(30))]) if threads > 1 else queries
    )
    monkeypatch.setattr(batch, "_CHUNK_QUERIES", 15)
    tables = list(retrieve_tables(retriever, streamed, 9, at=default, threads=threads, **switches))
    assert [table.schema for table in tables] == [SCHEMA] * 3
    got = pa.concat_tables(tables).to_pylist()
    want = []
    for query in queries.to_pylist():
        at = query["at"] or default
        alone = retriever.retrieve(query["item_ids"] or [], 9, at=at, country=query["country"], **switches).results
        want += [(query["query_id"], rank, *result[:2], result[3]) for rank, result in enumerate(alone, start=1)]
    assert [(r["query_id"], r["rank"], r["item_id"], r["ad_id"], r["reason"]) for r in got] == want
    assert {r["reason"] for r in got} >= {"fallback", "embedding"}


def test_at_and_country_are_optional_and_k_may_exceed_the_catalogue(world, catalogue, edges) -> None:
    retriever = Retriever(catalogue, edges, None, None, as_of=world.AS_OF)
    table = pa.table({"query_id": ["q"], "item_ids": [["item00001"]]})
    (found,) = retrieve_tables(retriever, table, 1000)
    assert found["rank"].to_pylist() == list(range(1, 60))
    scores = found["score"].to_pylist()
    assert scores == sorted(scores, reverse=True)
    (none,) = retrieve_tables(retriever, table.slice(0, 0), 5)
    assert none.num_rows == 0


def test_k_and_queries_are_refused_before_any_is_answered(world, catalogue, edges) -> None:
    retriever = Retriever(catalogue, edges, None, None, as_of=world.AS_OF)
    with pytest.raises(RequestError, match="k: got 0"):
        retrieve_tables(retriever, pa.table({"query_id": ["q"], "item_ids": [["a"]]}), 0)
    with pytest.raises(QueriesError, match="'item_ids' is missing"):
        retrieve_tables(retriever, pa.table({"query_id": ["q"]}), 5)
