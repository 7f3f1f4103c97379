"""Slow requests run in threads of their own, few of them may wait, and other requests do not wait for them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest

from retrieval.api import page_routes
from retrieval.api.app import Snapshot
from retrieval.catalogue.ads import Ads
from retrieval.search.describe import MOST_WORDS, completions
from retrieval.search.request import RetrievalRequest
from retrieval.search.retriever import Retriever
from tests.retrieval.api.client import assert_problem
from tests.retrieval.conftest import WRITE, until


def test_explanations_beyond_the_limit_are_told_to_retry_and_all_others_are_answered(shop, monkeypatch) -> None:
    running, go_on = threading.Semaphore(0), threading.Event()
    explained = page_routes.explain.results

    def slow(*arguments: Any) -> Any:
        running.release()
        assert go_on.wait(20)
        return explained(*arguments)

    monkeypatch.setattr(page_routes.explain, "results", slow)
    body = {"items": ["item00001"], "k": 5}
    with shop.serving(slow_threads=1, max_slow=3) as client, ThreadPoolExecutor(3) as pool:
        try:
            held = [pool.submit(client.post, "/v1/explain", json=body) for _ in range(3)]
            assert running.acquire(timeout=20)
            until(lambda: client.post("/v1/explain", json=body).status_code == 503)
            refused = client.post("/v1/explain", json=body)
            assert_problem(refused, 503, "take long")
            assert refused.headers["retry-after"] == "1"
            assert client.get("/v1/items", params={"q": "item"}).status_code == 503
            assert client.get("/v1/items/item00001/graph").status_code == 503
            for k in (5, 500):
                assert client.post("/v1/retrieve", json=body | {"k": k}).status_code == 200
            assert client.get("/v1/items/item00001/neighbors?k=300").status_code == 200
            for path in ("/healthz", "/readyz", "/metrics", "/v1/version", "/"):
                assert client.get(path).status_code == 200
        finally:
            go_on.set()
        assert [future.result().status_code for future in held] == [200] * 3
        assert client.post("/v1/explain", json=body).status_code == 200


@pytest.mark.parametrize("k", [5, 101, 1000])
def test_an_answer_is_the_same_from_the_event_loop_and_from_a_thread(shop, world, k: int) -> None:
    retriever = shop.versions["v1"]().retriever
    expected = retriever.retrieve(RetrievalRequest(["item00004"], k, at=world.AS_OF)).items
    with shop.serving() as client:
        answer = client.post("/v1/retrieve", json={"items": ["item00004"], "k": k}).json()
        assert [line["item_id"] for line in answer["results"]] == expected
        long_body = {"items": ["item00004"], "k": k, "exclude": ["ghost" * 100] * 100}
        assert client.post("/v1/retrieve", json=long_body).json() == answer
        metrics = client.get("/metrics").text
    assert f"lightsage_asked_results_total {2.0 * k}" in metrics


def test_no_answer_mixes_ads_from_before_and_after_a_change(shop, world, catalogue, edges) -> None:
    """Ads change their places in the arrays with each change; an answer that mixed both would show wrong ads."""
    rows = [{"ad_id": f"ad-{n % 60}-{n}", "item_id": f"item{n % 60:05d}", "campaign_id": "c"} for n in range(120)]
    ads = Ads.from_table(world.ads_table(rows), catalogue.row_of, quiet=True)
    retriever = Retriever(catalogue, edges, ads, None, as_of=world.AS_OF)
    shop.versions["v1"] = lambda: Snapshot("v1", world.AS_OF, retriever)
    stop, wrong = threading.Event(), list[str]()

    def ask(client: Any, path: str) -> None:
        while not stop.is_set():
            response = client.post(path, json={"items": ["item00001"], "k": 500, "include_current": True})
            for line in response.json()["results"]:
                if int(line["ad_id"].split("-")[1]) != int(line["item_id"][-5:]):
                    wrong.append(f"{line['ad_id']} for {line['item_id']}")

    with shop.serving(max_slow=64) as client, ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, client, path) for path in ("/v1/retrieve", "/v1/explain") * 2]
        for n in range(60):
            new = {
                "ad_id": f"ad-{n}-0{n}",
                "item_id": f"item{n:05d}",
                "campaign_id": "c",
                "version": n,
                "bid": float(n),
            }
            assert client.post("/v1/changes", json={"changes": [new]}, headers=WRITE).status_code == 200
        stop.set()
        for future in asking:
            future.result()
    assert wrong == []


def test_of_many_words_the_first_few_are_looked_for(world) -> None:
    catalogue = world.small_catalogue(20)
    titles = ["one two three four five six seven eight nine", *["one two"] * 19]
    object.__setattr__(catalogue, "attributes", catalogue.attributes.append_column("title", pa.array(titles)))
    retriever = Retriever(catalogue, world.small_edges(catalogue), None, None, as_of=world.AS_OF)
    assert MOST_WORDS == 8
    for text, n in (
        ("one two one two", 20),
        (titles[0], 1),
        (f"{titles[0]} absent" + " more" * 250, 1),
        ("two absent", 0),
    ):
        assert len(completions(retriever, text, 50)) == n
