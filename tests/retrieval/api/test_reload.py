"""A new version under load is served without a failed request, or refused while the earlier one stays served."""

import threading
import weakref
from collections.abc import Callable

import httpx

from retrieval.api.app import Snapshot
from retrieval.api.state import warm
from retrieval.catalogue.ads import Ads
from retrieval.errors import ChangeLogError
from retrieval.live.change_log import Entry, MemoryChangeLog
from retrieval.search.request import RetrievalRequest
from retrieval.search.response import Response
from retrieval.search.retriever import Retriever
from tests.retrieval.conftest import WRITE, ads_by_item, until


def test_a_new_version_is_served_without_a_failed_request_and_keeps_the_changes(shop, world) -> None:
    shop.versions["v2"] = shop.version("v2", 5)
    with shop.serving() as client:
        paused = next(iter(ads_by_item(client).values()))
        client.patch(f"/v1/ads/{paused}", json={"version": 9, "status": "paused"}, headers=WRITE)
        stop, answers = threading.Event(), list[tuple[int, str]]()

        def ask() -> None:
            with httpx.Client(base_url=client.base_url) as thread_client:
                while not stop.is_set():
                    answer = thread_client.post("/v1/retrieve", json={"items": ["item00004"], "k": 5})
                    answers.append((answer.status_code, answer.json()["version"]))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        shop.published = "v2"
        until(lambda: client.get("/v1/version").json()["version"] == "v2")
        stop.set()
        for thread in threads:
            thread.join()
        assert {status for status, _ in answers} == {200}
        assert {version for _, version in answers} <= {"v1", "v2"}
        rows = world.random_ads(60, 150, 5)
        expected = world.slow_winners(
            [*rows, *({**row, "version": 9, "status": "paused"} for row in rows if row["ad_id"] == paused)],
            set(shop.catalogue.item_ids),
            world.AS_OF,
            None,
        )
        assert ads_by_item(client) == {item: ad["ad_id"] for item, ad in expected.items()}
        until(lambda: 'lightsage_reloads_total{outcome="served"} 1.0' in client.get("/metrics").text)


def test_versions_that_are_no_longer_served_are_freed(shop) -> None:
    alive: dict[str, weakref.ref[Retriever]] = {}

    def version(name: str, seed: int) -> Callable[[], Snapshot]:
        make = shop.version(name, seed)

        def load() -> Snapshot:
            snapshot = make()
            alive[name] = weakref.ref(snapshot.retriever)
            return snapshot

        return load

    for seed, name in enumerate(("v1", "v2", "v3")):
        shop.versions[name] = version(name, seed)
    with shop.serving() as client:
        for name in ("v2", "v3"):
            assert ads_by_item(client)
            shop.published = name
            until(lambda name=name: client.get("/v1/version").json()["version"] == name)
            until(lambda name=name: [loaded for loaded in alive if alive[loaded]() is not None] == [name])


def test_a_version_that_cannot_be_loaded_is_refused_until_it_can(shop) -> None:
    def broken() -> Snapshot:
        raise OSError("versions/v2/index/item.npy: SHA-256 is not that of the manifest")

    shop.versions["v2"] = broken
    with shop.serving() as client:
        before = ads_by_item(client)
        shop.published = "v2"
        until(lambda: client.get("/readyz").json()["refused"] is not None)
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["version"], ready.json()["refused"]["version"]) == (200, "v1", "v2")
        assert "item.npy" in ready.json()["refused"]["why"]
        assert "lightsage_version_refused 1.0" in client.get("/metrics").text
        assert ads_by_item(client) == before
        shop.versions["v2"] = shop.version("v2", 5)
        until(lambda: client.get("/readyz").json() == {"status": "ready", "version": "v2", "refused": None})
        assert "lightsage_version_refused 0.0" in client.get("/metrics").text


def test_a_version_that_loads_but_cannot_answer_is_refused(shop) -> None:
    def loads() -> Snapshot:
        snapshot = shop.version("v2", 5)()
        snapshot.retriever.catalogue = None  # type: ignore[assignment]
        return snapshot

    shop.versions["v2"] = loads
    with shop.serving() as client:
        shop.published = "v2"
        until(lambda: client.get("/readyz").json()["refused"] is not None)
        assert ads_by_item(client)


def test_a_version_is_warmed_up_for_the_countries_with_the_most_ads(world, catalogue, edges, monkeypatch) -> None:
    countries = [[f"c{n}" for n in range(count)] for count in range(1, 13)]
    rows = [
        {"ad_id": f"a{n}", "item_id": f"item{n:05d}", "campaign_id": "c", "countries": codes}
        for n, codes in enumerate(countries)
    ]
    ads = Ads.from_table(world.ads_table(rows), catalogue.row_of)
    retriever = Retriever(catalogue, edges, ads, None, as_of=world.AS_OF)
    largest: dict[str | None, int] = {}
    retrieve = Retriever.retrieve

    def recorded(self: Retriever, request: RetrievalRequest) -> Response:
        response = retrieve(self, request)
        largest[request.country] = max(largest.get(request.country, 0), len(response.results))
        return response

    monkeypatch.setattr(Retriever, "retrieve", recorded)
    warm(retriever, world.AS_OF)
    assert largest.pop(None) == 1, (
        "only the request over the whole catalogue has a result: every ad is limited to countries"
    )
    assert sorted(largest) == [f"c{n}" for n in range(8)]
    assert all(largest.values())


def test_a_new_version_is_refused_while_the_change_log_cannot_be_read(shop) -> None:
    class UnreadableLog(MemoryChangeLog):
        unreadable = False

        def after(self, sequence: int, limit: int | None = None) -> list[Entry]:
            if self.unreadable:
                raise ChangeLogError("changes.sqlite: disk I/O error")
            return super().after(sequence, limit)

    log = UnreadableLog()
    shop.versions["v2"] = shop.version("v2", 5)
    with shop.serving(log) as client:
        before = ads_by_item(client)
        log.unreadable = True
        shop.published = "v2"
        until(lambda: client.get("/readyz").json()["refused"] is not None)
        assert "disk I/O error" in client.get("/readyz").json()["refused"]["why"]
        assert ads_by_item(client) == before
        log.unreadable = False
        until(lambda: client.get("/readyz").json() == {"status": "ready", "version": "v2", "refused": None})


def test_an_unreachable_workspace_fails_no_request(shop) -> None:
    with shop.serving() as client:
        del shop.versions["v1"]
        shop.published = "v3"
        until(lambda: client.get("/readyz").json()["refused"] is not None)
        assert client.get("/v1/version").json()["current_version"] == "v3"
        assert ads_by_item(client)
