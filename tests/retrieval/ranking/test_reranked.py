"""Retrieval and re-ranking together: in single requests, in batches and over HTTP, with each stage on and off."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from retrieval.ann.tuning import build
from retrieval.api.app import Snapshot, create_app
from retrieval.catalogue.ads import Ads
from retrieval.catalogue.edges import Edges
from retrieval.catalogue.items import Catalogue
from retrieval.config import RetrievalConfig
from retrieval.index_folder import IndexContents, build_index, read_index
from retrieval.queries import Queries
from retrieval.ranking.reranked import RerankedRanker
from retrieval.ranking.reranker import Context
from retrieval.search import batch
from retrieval.search.batch import retrieve_tables
from retrieval.search.explain import missing, results
from retrieval.search.filters import Filters
from retrieval.search.request import RetrievalRequest, Stages
from retrieval.search.retriever import Retriever

N, DEPTH = 60, 12


@pytest.fixture(params=["exact", "index"])
def retrievers(request: pytest.FixtureRequest, world: Any, catalogue: Catalogue, edges: Edges) -> SimpleNamespace:
    """The same retriever with and without a re-ranker."""
    rows = world.random_ads(N, 90, 4)
    ads = Ads.from_table(world.ads_table(rows), catalogue.row_of, quiet=True)
    config = RetrievalConfig(exact_below=0 if request.param == "index" else 1000)
    ann = build(catalogue.item, catalogue.query, np.arange(N), RetrievalConfig(), bias=catalogue.bias)[0]
    parts = {"as_of": world.AS_OF, "config": config}
    reranker = world.small_reranker()
    without = Retriever(catalogue, edges, ads, ann, **parts)
    return SimpleNamespace(
        without=without, ranked=Retriever(catalogue, edges, ads, ann, **parts, reranker=reranker), reranker=reranker
    )


def slow_reranked(
    retrievers: SimpleNamespace, items: list[str], k: int, filters: Filters, **fields: Any
) -> list[tuple[str, str]]:
    """Reorder the best retrieved items by the re-ranker, then apply the cap item by item."""
    uncapped = filters.model_copy(update={"max_per_advertiser": None, "max_per_campaign": None})
    retrieved = retrievers.without.retrieve(RetrievalRequest(items, N, filters=uncapped, country=fields.get("country")))
    catalogue, ads = retrievers.without.catalogue, retrievers.without.ads
    rows = np.array([catalogue.row_of[item] for item in retrieved.items], np.int64)
    context = Context.of(np.array(catalogue.rows(items)[0]), retrievers.without.config.recency_weight, **fields)
    best = retrievers.reranker.scores(context, rows[:DEPTH], np.array(retrieved.scores[:DEPTH], np.float32))
    order = [*np.lexsort((rows[:DEPTH], -best)).tolist(), *range(DEPTH, len(rows))]
    expected, shown = [], []
    for position in order:
        advertiser = ads.row(retrieved.ads[position])["advertiser_id"]
        if filters.max_per_advertiser and advertiser and shown.count(advertiser) >= filters.max_per_advertiser:
            continue
        shown.append(advertiser)
        expected.append((retrieved.items[position], retrieved.ads[position]))
    return expected[:k]


@pytest.mark.parametrize("k", [1, 5, DEPTH, 40])
@pytest.mark.parametrize("filters", [Filters(), Filters(max_per_advertiser=1), Filters(category="Shoes")])
@pytest.mark.parametrize("fields", [{}, {"query": "RED  shoes", "country": "de"}])
def test_results_equal_retrieval_reordered_by_the_reranker(
    retrievers: Any, k: int, filters: Filters, fields: dict[str, str]
) -> None:
    for items in (["item00001"], ["item00004", "item00009", "item00017", "item00030"]):
        response = retrievers.ranked.retrieve(RetrievalRequest(items, k, filters=filters, **fields))
        assert list(zip(response.items, response.ads, strict=True)) == slow_reranked(
            retrievers, items, k, filters, **fields
        )
        assert response.scores == sorted(response.scores, reverse=True)


def test_a_stage_that_is_switched_off_has_no_effect(retrievers: Any) -> None:
    off = Stages(prerank=False)
    arguments = (["item00001", "item00004"], 9)
    assert (
        retrievers.ranked.retrieve(RetrievalRequest(*arguments, stages=off)).results
        == retrievers.without.retrieve(RetrievalRequest(*arguments)).results
    )
    assert (
        retrievers.ranked.retrieve(RetrievalRequest(*arguments)).results
        != retrievers.without.retrieve(RetrievalRequest(*arguments)).results
    )
    assert retrievers.ranked.stages == Stages(session=False, prerank=True)


def test_the_scores_of_the_stages_add_up(retrievers: Any) -> None:
    response = retrievers.ranked.retrieve(
        RetrievalRequest(["item00001"], 9, country="DE", query="red shoes", stage_scores=True)
    )
    retrieval_scores = {
        result.item_id: result.score
        for result in retrievers.without.retrieve(RetrievalRequest(["item00001"], N, country="DE")).results
    }
    assert response.stages is not None
    for result, stages in zip(response.results, response.stages, strict=True):
        assert stages["retrieval"] == pytest.approx(retrieval_scores[result.item_id])
        assert stages["prerank"] == result.score
        assert stages["retrieval"] + sum(stages["counters"].values()) == pytest.approx(result.score, abs=1e-5)
    assert set(response.stages[0]["counters"]) == {"item>item", "item>category", "query>item", "country>item"}
    unranked = retrievers.without.retrieve(RetrievalRequest(["item00001"], 3, stage_scores=True))
    assert unranked.stages == [{"retrieval": score} for score in unranked.scores]
    assert retrievers.without.retrieve(RetrievalRequest(["ghost"], 3, stage_scores=True)).stages is None


def test_min_score_applies_to_the_reranked_score(retrievers: Any) -> None:
    scores = retrievers.ranked.retrieve(RetrievalRequest(["item00001"], 10)).scores
    assert len(retrievers.ranked.retrieve(RetrievalRequest(["item00001"], 10, min_score=scores[4])).items) == 5


@pytest.mark.parametrize("path", ["one product", "index"])
def test_batches_equal_single_requests(world, catalogue, edges, path, monkeypatch) -> None:
    monkeypatch.setattr(batch, "_GATHERED_ROWS", 100)
    ads = Ads.from_table(world.ads_table(world.random_ads(N, 90, 4)), catalogue.row_of, quiet=True)
    config = RetrievalConfig(batch_exact_below=1000 if path == "one product" else 0, exact_below=5)
    everything = np.arange(N)
    ann = build(catalogue.item, catalogue.query, everything, RetrievalConfig(), bias=catalogue.bias)[0]
    retriever = Retriever(catalogue, edges, ads, ann, as_of=world.AS_OF, config=config, reranker=world.small_reranker())
    lists = [[f"item{number:05}"] for number in range(N)] + [
        ["item00002", "item00007"],
        ["ghost"],
        ["item00003", "ghost"],
    ]
    countries = [[None, "de", "FR"][number % 3] for number in range(len(lists))]
    texts = [[None, "red shoes", "blue"][number % 3] for number in range(len(lists))]
    ids = [str(number) for number in range(len(lists))]
    queries = pa.table({"query_id": ids, "item_ids": lists, "country": countries[::-1], "query": texts})
    for k in (4, 30):
        answers = pa.concat_tables(retrieve_tables(retriever, queries, k)).to_pylist()
        expected = []
        for number, (items, country, query) in enumerate(zip(lists, countries[::-1], texts, strict=True)):
            single = retriever.retrieve(RetrievalRequest(items, k, country=country, query=query)).results
            expected += [
                (str(number), rank, result.item_id, result.ad_id) for rank, result in enumerate(single, start=1)
            ]
        assert [(row["query_id"], row["rank"], row["item_id"], row["ad_id"]) for row in answers] == expected


def test_a_ranker_for_evaluation_equals_single_requests(world, catalogue, edges) -> None:
    retriever = Retriever(catalogue, edges, None, None, as_of=world.AS_OF, reranker=world.small_reranker())
    ranked = RerankedRanker(retriever.ranker, world.small_reranker())
    lists = ranked.rank(Queries(np.array([3, 5, 9]), np.array([0, 1, 3])), 20)
    for line, items in enumerate((["item00003"], ["item00005", "item00009"])):
        expected = [catalogue.row_of[item] for item in retriever.retrieve(RetrievalRequest(items, 20)).items]
        assert lists.rows[lists.offsets[line] : lists.offsets[line + 1]].tolist() == expected


def test_explanations_name_the_stages_and_the_rank_of_an_item(retrievers: Any, world: Any) -> None:
    request = RetrievalRequest(["item00001"], 5, at=world.AS_OF, country="DE", query="red shoes")
    lines = results(retrievers.ranked, request)["results"]
    assert [set(line["stages"]) for line in lines] == [{"retrieval", "prerank", "counters"}] * 5
    assert sum(lines[0]["parts"].values()) == pytest.approx(lines[0]["stages"]["retrieval"])
    everything = retrievers.ranked.retrieve(RetrievalRequest(["item00001"], N, country="DE", query="red shoes")).items
    for position in (2, 8, DEPTH - 1, DEPTH + 2):
        reason = missing(retrievers.ranked, request, everything[position])
        assert reason.rank == position + 1
        assert reason.shown == (position < 5)


@pytest.fixture(scope="module")
def url(world: Any, catalogue: Catalogue, edges: Edges, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("index")
    build_index(folder, IndexContents(catalogue, edges, None, world.AS_OF, reranker=world.small_reranker()))
    app = create_app(lambda: Snapshot("v1", world.AS_OF, Retriever.of(read_index(folder))), lambda: "v1")
    with world.serving(app) as address:
        yield address


def test_stages_are_switched_and_their_scores_returned_over_http(url: str) -> None:
    def ask(**fields: Any) -> list[dict[str, Any]]:
        answer = httpx.post(f"{url}/v1/retrieve", json={"items": ["item00001", "item00004"], "k": 5} | fields)
        assert answer.status_code == 200, answer.text
        results_of_answer: list[dict[str, Any]] = answer.json()["results"]
        return results_of_answer

    assert httpx.get(f"{url}/v1/version").json()["stages"] == {"session": False, "prerank": True}
    plain = ask()
    assert all("stages" not in result for result in plain)
    scored = ask(stage_scores=True)
    assert [result["item_id"] for result in scored] == [result["item_id"] for result in plain]
    assert scored[0]["stages"]["prerank"] == scored[0]["score"]
    assert [result["item_id"] for result in ask(stages={"prerank": False})] != [result["item_id"] for result in plain]
    assert [result["score"] for result in ask(query="red shoes")] != [result["score"] for result in plain]
    wrong = httpx.post(f"{url}/v1/retrieve", json={"items": ["item00001"], "stages": {"pre": True}})
    assert wrong.status_code == 422
    assert "pre" in wrong.json()["errors"][0]["field"]


def test_a_reranker_of_another_catalogue_is_refused(world: Any, catalogue: Catalogue, edges: Edges, tmp_path) -> None:
    build_index(tmp_path, IndexContents(catalogue, edges, None, world.AS_OF, reranker=world.small_reranker()))
    weights = read_index(tmp_path).meta["prerank"]
    assert weights == pytest.approx(world.small_reranker().weights)
    replace(world.small_reranker(40)).write(tmp_path)
    with pytest.raises(Exception, match="covers another catalogue"):
        read_index(tmp_path)


def test_the_reranker_reads_only_the_recent_items(world: Any, catalogue: Catalogue, edges: Edges) -> None:
    config = RetrievalConfig(recent_items=1)
    retriever = Retriever(
        catalogue, edges, None, None, as_of=world.AS_OF, config=config, reranker=world.small_reranker()
    )
    items = ["item00007", "item00011", "item00004"]
    (answers,) = retrieve_tables(retriever, pa.table({"query_id": ["q"], "item_ids": [items]}), 8)
    single = retriever.retrieve(RetrievalRequest(items, 8))
    assert answers["item_id"].to_pylist() == single.items == retriever.retrieve(RetrievalRequest(items[-1:], 8)).items
    np.testing.assert_allclose(answers["score"].to_pylist(), single.scores, rtol=1e-5)


def test_a_missing_item_has_the_score_that_it_would_be_shown_with(retrievers: SimpleNamespace, world: Any) -> None:
    shown = retrievers.ranked.retrieve(RetrievalRequest(["item00004"], N, country="DE"))
    for position in (0, DEPTH - 1, DEPTH, len(shown.items) - 1):
        request = RetrievalRequest(
            ["item00004"], 1, at=world.AS_OF, country="DE", min_score=shown.scores[position] + 1e-3
        )
        reason = missing(retrievers.ranked, request, shown.items[position])
        assert reason.score == pytest.approx(shown.scores[position], abs=1e-4)
        assert "below min_score" in reason.why[0]
