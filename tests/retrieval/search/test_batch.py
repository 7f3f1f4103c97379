"""A table of queries gets the same answers as single requests."""

from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from retrieval.ann.tuning import build
from retrieval.catalogue.ads import Ads
from retrieval.config import RetrievalConfig
from retrieval.errors import QueriesError, RequestError
from retrieval.queries import Queries
from retrieval.search import batch
from retrieval.search.batch import SCHEMA, retrieve_tables
from retrieval.search.query_table import conform_queries
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Retriever


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
@pytest.mark.parametrize("path", ["one product", "one by one", "index"])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_query_of_a_batch_equals_a_single_request(
    world, catalogue, edges, queries, all_items, include_current, path, threads, monkeypatch
) -> None:
    monkeypatch.setattr(batch, "_GATHERED_ROWS", 100)
    ads = Ads.from_table(world.ads_table(world.random_ads(60, 90, 4)), catalogue.row_of, quiet=True)
    config = RetrievalConfig(batch_exact_below=1000 if path == "one product" else 0, exact_below=5)
    # Half of the rows are indexed, so that the others are searched beside the index.
    rows = np.arange(0, 60, 2)
    everything = RetrievalConfig(exact_below=60)
    ann = build(catalogue.item, catalogue.query, rows, everything, bias=catalogue.bias)[0] if path == "index" else None
    retriever = Retriever(catalogue, edges, ads, ann, as_of=world.AS_OF, config=config)
    default = world.AS_OF + timedelta(hours=1)
    switches = {"all_items": all_items, "include_current": include_current}
    streamed = (
        iter([conform_queries(part) for part in (queries.slice(0, 30), queries.slice(30))]) if threads > 1 else queries
    )
    monkeypatch.setattr(batch, "_CHUNK_QUERIES", 15)
    tables = list(retrieve_tables(retriever, streamed, 9, at=default, threads=threads, **switches))
    assert [table.schema for table in tables] == [SCHEMA] * 3
    actual = pa.concat_tables(tables).to_pylist()
    expected = []
    for query in queries.to_pylist():
        at = query["at"] or default
        single = retriever.retrieve(
            RetrievalRequest(query["item_ids"] or [], 9, at=at, country=query["country"], **switches)
        ).results
        expected += [(query["query_id"], rank, *result[:2], result[3]) for rank, result in enumerate(single, start=1)]
    assert [(r["query_id"], r["rank"], r["item_id"], r["ad_id"], r["reason"]) for r in actual] == expected
    assert {r["reason"] for r in actual} >= {"fallback", "embedding"}


def test_at_and_country_are_optional_and_k_may_exceed_the_catalogue(world, catalogue, edges) -> None:
    retriever = Retriever(catalogue, edges, None, None, as_of=world.AS_OF)
    table = pa.table({"query_id": ["q"], "item_ids": [["item00001"]]})
    (answer,) = retrieve_tables(retriever, table, 1000)
    assert answer["rank"].to_pylist() == list(range(1, 60))
    scores = answer["score"].to_pylist()
    assert scores == sorted(scores, reverse=True)
    (empty,) = retrieve_tables(retriever, table.slice(0, 0), 5)
    assert empty.num_rows == 0


def test_a_wrong_k_and_wrong_queries_are_refused_before_any_is_answered(world, catalogue, edges) -> None:
    retriever = Retriever(catalogue, edges, None, None, as_of=world.AS_OF)
    with pytest.raises(RequestError, match="k: got 0"):
        retrieve_tables(retriever, pa.table({"query_id": ["q"], "item_ids": [["a"]]}), 0)
    with pytest.raises(QueriesError, match="'item_ids' is missing"):
        retrieve_tables(retriever, pa.table({"query_id": ["q"]}), 5)


class OddEncoder:
    """A session encoder that reverses the query vector."""

    length = 5

    def __init__(self, catalogue) -> None:
        self.catalogue = catalogue

    def vectors(self, queries: Queries) -> np.ndarray:
        return -self.catalogue.query[queries.last]


def test_a_single_item_is_its_own_query_whatever_the_other_queries_are(world, catalogue, edges) -> None:
    encoder = OddEncoder(catalogue)
    retriever = Retriever(catalogue, edges, None, None, as_of=world.AS_OF, session_encoder=encoder)
    lists = [["item00001"], ["item00001", "item00002"], ["item00003"]]
    (answer,) = retrieve_tables(retriever, pa.table({"query_id": ["a", "b", "c"], "item_ids": lists}), 5)
    expected = [item for items in lists for item in retriever.retrieve(RetrievalRequest(items, 5)).items]
    assert answer["item_id"].to_pylist() == expected
    assert (
        expected[:5]
        == Retriever(catalogue, edges, None, None, as_of=world.AS_OF).retrieve(RetrievalRequest(lists[0], 5)).items
    )
    assert expected[:5] != expected[5:10]


def test_a_catalogue_that_the_index_holds_only_in_part_is_ranked_by_products(
    world, catalogue, edges, monkeypatch
) -> None:
    ads = Ads.from_table(world.ads_table(world.random_ads(60, 20, 4)), catalogue.row_of, quiet=True)
    ann = build(catalogue.item, catalogue.query, np.arange(0, 60, 10), RetrievalConfig(), bias=catalogue.bias)[0]
    config = RetrievalConfig(batch_exact_below=0, exact_below=1)
    retriever = Retriever(catalogue, edges, ads, ann, as_of=world.AS_OF, config=config)
    monkeypatch.setattr(retriever.planner, "search_many", None)  # this search would gather 54 rows for every query
    table = pa.table({"query_id": ["a"], "item_ids": [["item00001"]]})
    (answer,) = retrieve_tables(retriever, table, 5, all_items=True)
    single = retriever.retrieve(RetrievalRequest(["item00001"], 5, all_items=True))
    assert answer["item_id"].to_pylist() == single.items
    assert single.plan == "exact", "most rows would have to be fetched beside the index"


def test_times_beyond_the_calendar_are_answered(world, catalogue, edges) -> None:
    ads = Ads.from_table(world.ads_table(world.random_ads(60, 90, 4)), catalogue.row_of, quiet=True)
    config = RetrievalConfig(batch_exact_below=0)
    retriever = Retriever(catalogue, edges, ads, None, as_of=world.AS_OF, config=config)
    late = pa.array([300_000_000_000_000_000], pa.int64()).cast(pa.timestamp("us", "UTC"))
    (answer,) = retrieve_tables(retriever, pa.table({"query_id": ["q"], "item_ids": [["item00001"]], "at": late}), 5)
    assert len(answer)
