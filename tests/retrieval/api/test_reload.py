"""Another version under load: served without a failed request, or refused while the one before it goes on."""

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
from tests.retrieval.conftest import WRITE, shown, until


def test_another_version_is_served_without_a_failed_request_and_keeps_the_changes(shop, world) -> None:
    shop.versions["v2"] = shop.version("v2", 5)
    with shop.serving() as client:
        paused = next(iter(shown(client).values()))
        client.patch(f"/v1/ads/{paused}", json={"version": 9, "status": "paused"}, headers=WRITE)
        stop, seen = threading.Event(), list[tuple[int, str]]()

        def ask() -> None:
            with httpx.Client(base_url=client.base_url) as own:
                while not stop.is_set():
                    answer = own.post("/v1/retrieve", json={"items": ["item00004"], "k": 5})
                    seen.append((answer.status_code, answer.json()["version"]))

        asking = [threading.Thread(target=ask) for _ in range(3)]
        for thread in asking:
            thread.start()
        shop.published = "v2"
        until(lambda: client.get("/v1/version").json()["version"] == "v2")
        stop.set()
        for thread in asking:
            thread.join()
        assert {status for status, _ in seen} == {200}
        assert {version for _, version in seen} <= {"v1", "v2"}
        rows = world.random_ads(60, 150, 5)
        expected = world.slow_winners(
            [*rows, *({**row, "version": 9, "status": "paused"} for row in rows if row["ad_id"] == paused)],
            set(shop.catalogue.item_ids),
            world.AS_OF,
            None,
        )
        assert shown(client) == {item: ad["ad_id"] for item, ad in expected.items()}
        until(lambda: 'lightsage_reloads_total{outcome="served"} 1.0' in client.get("/metrics").text)


def test_versions_that_were_served_are_let_go(shop) -> None:
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
            assert shown(client)
            shop.published = name
            until(lambda name=name: client.get("/v1/version").json()["version"] == name)
            until(lambda name=name: [one for one in alive if alive[one]() is not None] == [name])


def test_a_version_that_cannot_be_loaded_is_refused_until_it_can(shop) -> None:
    def broken() -> Snapshot:
        raise OSError("versions/v2/index/item.npy: SHA-256 is not that of the manifest")

    shop.versions["v2"] = broken
    with shop.serving() as client:
        before = shown(client)
        shop.published = "v2"
        until(lambda: client.get("/readyz").json()["refused"] is not None)
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["version"], ready.json()["refused"]["version"]) == (200, "v1", "v2")
        assert "item.npy" in ready.json()["refused"]["why"]
        assert "lightsage_version_refused 1.0" in client.get("/metrics").text
        assert shown(client) == before
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
        assert shown(client)


def test_a_version_is_warmed_for_the_countries_of_the_most_ads(world, catalogue, edges, monkeypatch) -> None:
    countries = [[f"c{n}" for n in range(most)] for most in range(1, 13)]
    rows = [
        {"ad_id": f"a{n}", "item_id": f"item{n:05d}", "campaign_id": "c", "countries": some}
        for n, some in enumerate(countries)
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
    assert largest.pop(None) == 1, "of the whole catalogue; no ad is for everywhere"
    assert sorted(largest) == [f"c{n}" for n in range(8)]
    assert all(largest.values())


def test_a_log_of_changes_that_cannot_be_read_keeps_what_is_served(shop) -> None:
    class Away(MemoryChangeLog):
        away = False

        def after(self, sequence: int, limit: int | None = None) -> list[Entry]:
            if self.away:
                raise ChangeLogError("changes.sqlite: disk I/O error")
            return super().after(sequence, limit)

    log = Away()
    shop.versions["v2"] = shop.version("v2", 5)
    with shop.serving(log) as client:
        before = shown(client)
        log.away = True
        shop.published = "v2"
        until(lambda: client.get("/readyz").json()["refused"] is not None)
        assert "disk I/O error" in client.get("/readyz").json()["refused"]["why"]
        assert shown(client) == before
        log.away = False
        until(lambda: client.get("/readyz").json() == {"status": "ready", "version": "v2", "refused": None})


def test_a_workspace_that_is_away_fails_nothing(shop) -> None:
    with shop.serving() as client:
        del shop.versions["v1"]
        shop.published = "v3"
        until(lambda: client.get("/readyz").json()["refused"] is not None)
        assert client.get("/v1/version").json()["current_version"] == "v3"
        assert shown(client)
