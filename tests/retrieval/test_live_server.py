"""A server that moves on under load: live changes, other versions, ones that cannot be served, too many requests."""

import asyncio
import json
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from retrieval.ads import Ads
from retrieval.api import Snapshot, Tokens, create_app
from retrieval.change_log import ChangeLog, Entry, MemoryChangeLog, SqliteChangeLog
from retrieval.changes import Change
from retrieval.config import ServeConfig
from retrieval.errors import ChangeLogError
from retrieval.retriever import Retriever
from retrieval.served import warm
from retrieval.server import create_server

WRITE = {"Authorization": "Bearer write-secret"}
FAST = {"current_check_seconds": 0.02, "changes_poll_seconds": 0.02, "retry_refused_seconds": 0.0}


class Shop:
    """Versions to publish, and servers over what is published."""

    def __init__(self, world: SimpleNamespace, catalogue: Any, edges: Any) -> None:
        self.world, self.catalogue, self.edges = world, catalogue, edges
        self.published = "v1"
        self.versions: dict[str, Callable[[], Snapshot]] = {"v1": self.version("v1", 4)}

    def version(self, name: str, seed: int | None, catalogue: Any = None) -> Callable[[], Snapshot]:
        catalogue = catalogue or self.catalogue
        rows = None if seed is None else self.world.random_ads(60, 150, seed)
        ads = None if rows is None else Ads(self.world.ads_table(rows), catalogue.row_of, quiet=True)
        return lambda: Snapshot(
            name, self.world.AS_OF, Retriever(catalogue, self.edges, ads, None, as_of=self.world.AS_OF)
        )

    @contextmanager
    def serving(
        self, log: ChangeLog | None = None, tokens: Tokens | None = None, **config: Any
    ) -> Iterator[httpx.Client]:
        app = create_app(
            lambda: self.versions[self.published](),
            lambda: self.published,
            ServeConfig.model_validate(FAST | config),
            lambda as_of: as_of,
            log,
            tokens or Tokens(write="write-secret"),
        )
        with self.world.serving(app) as url, httpx.Client(base_url=url, timeout=20) as client:
            yield client


@pytest.fixture
def shop(world, catalogue, edges) -> Shop:
    return Shop(world, catalogue, edges)


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)


def shown(client: httpx.Client, **more: Any) -> dict[str, str]:
    """Ad by item, of all that may be shown."""
    results = client.post("/v1/retrieve", json={"items": [], "k": 100} | more).json()["results"]
    return {result["item_id"]: result["ad_id"] for result in results}


def outcomes(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [change["outcome"] for change in response.json()["changes"]]


def test_a_paused_ad_is_gone_from_the_next_request_and_the_next_best_takes_its_place(shop) -> None:
    with shop.serving() as client:
        before = shown(client)
        item, ad = next(iter(before.items()))
        assert outcomes(client.patch(f"/v1/ads/{ad}", json={"version": 9, "status": "paused"}, headers=WRITE)) == [
            "applied"
        ]
        assert shown(client).get(item) != ad
        again = client.patch(f"/v1/ads/{ad}", json={"version": 9, "status": "paused"}, headers=WRITE)
        assert outcomes(again) == ["repeated"]
        assert again.json()["sequence"] == 1, "what was said already is not written again"
        late = {"version": 8, "status": "active"}
        assert outcomes(client.patch(f"/v1/ads/{ad}", json=late, headers=WRITE)) == ["superseded"]
        assert shown(client).get(item) != ad
        back = {"changes": [{"ad_id": ad, "version": 10, "status": None}]}
        assert outcomes(client.post("/v1/changes", json=back, headers=WRITE)) == ["applied"]
        assert shown(client) == before


def test_a_campaign_an_end_and_a_new_ad(shop, world) -> None:
    with shop.serving() as client:
        before = shown(client)
        free = next(item for item in shop.catalogue.item_ids if item not in before)
        soon = (world.AS_OF + timedelta(minutes=10)).isoformat()
        batch = [
            {"campaign_id": "c1", "version": 7, "status": "exhausted"},
            {"ad_id": "brand/new", "item_id": free, "campaign_id": "c9", "version": 1, "bid": 5.0, "ends_at": soon},
            {"ad_id": "joins", "item_id": free, "campaign_id": "c1", "version": 1, "bid": 9.0},
            {"ad_id": "stranger", "item_id": "nobody", "campaign_id": "c9", "version": 1},
        ]
        found = client.post("/v1/changes", json={"changes": batch}, headers=WRITE)
        assert outcomes(found) == ["applied", "applied", "applied", "waiting"]
        assert "'nobody' is not in the catalogue" in found.json()["changes"][3]["why"]
        after = shown(client)
        assert after[free] == "brand/new", "its rival joined a campaign that is exhausted"
        rows = [
            ad | {"status": "exhausted"} if ad["campaign_id"] == "c1" else ad for ad in world.random_ads(60, 150, 4)
        ]
        winners = world.slow_winners(rows, set(shop.catalogue.item_ids), world.AS_OF, None)
        assert after == {item: ad["ad_id"] for item, ad in winners.items()} | {free: "brand/new"} != before
        assert free not in shown(client, at=(world.AS_OF + timedelta(minutes=10)).isoformat())
        asked = client.post("/v1/retrieve", json={"items": [shop.catalogue.item_ids[0]], "k": 100}).json()["results"]
        assert {(r["item_id"], r["ad_id"]) for r in asked} >= {(free, "brand/new")}, "embedded, not only popular"
        move = {"version": 2, "ends_at": (world.AS_OF + timedelta(hours=2)).isoformat()}
        assert outcomes(client.patch("/v1/ads/brand%2Fnew", json=move, headers=WRITE)) == ["applied"]
        assert shown(client, at=soon)[free] == "brand/new"


def test_changes_outlive_the_server_and_reach_the_others_that_share_the_log(shop, tmp_path: Path) -> None:
    path = tmp_path / "changes.sqlite"
    with shop.serving(SqliteChangeLog(path)) as one, shop.serving(SqliteChangeLog(path)) as other:
        item, ad = next(iter(shown(one).items()))
        one.patch(f"/v1/ads/{ad}", json={"version": 9, "status": "paused"}, headers=WRITE)
        until(lambda: shown(other).get(item) != ad)
        assert other.get("/v1/version").json()["changes_sequence"] == 1
        page = other.get("/v1/changes", params={"after": 0}).json()
        assert (page["sequence"], page["changes"][0]["change"]) == (
            1,
            {"ad_id": ad, "version": 9, "status": "paused"},
        )
        assert other.get("/v1/changes", params={"after": 1}).json() == {"sequence": 1, "changes": []}
    with shop.serving(SqliteChangeLog(path)) as later:
        assert shown(later).get(item) != ad


def test_a_log_that_cannot_be_written_changes_nothing(shop, tmp_path: Path) -> None:
    log = SqliteChangeLog(tmp_path / "changes.sqlite")
    log._open.execute("PRAGMA max_page_count = 4")
    with shop.serving(log) as client:
        before = shown(client)
        batch = [{"ad_id": f"{ad}{'x' * 400}", "version": 9, "status": "paused"} for ad in before.values()]
        batch += [{"ad_id": ad, "version": 9, "status": "paused"} for ad in before.values()]
        refused = client.post("/v1/changes", json={"changes": batch * 10}, headers=WRITE)
        assert (refused.status_code, refused.json()["title"]) == (507, "Insufficient Storage")
        assert "changes.sqlite" in refused.json()["detail"]
        assert shown(client) == before


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/v1/changes", {"changes": []}, 422, "changes"),
        ("POST", "/v1/changes", {"changes": [{"ad_id": "a", "version": 1}]}, 422, "changes nothing"),
        ("POST", "/v1/changes", [1], 422, "body"),
        ("PATCH", "/v1/ads/a", {"ad_id": "b", "version": 1, "status": "paused"}, 422, "ad_id"),
        ("PATCH", "/v1/ads/a", {"version": 1, "stauts": "paused"}, 422, "stauts"),
        ("PATCH", "/v1/campaigns/c", {"ad_id": "b", "version": 1, "status": "paused"}, 422, "campaign_id"),
        ("PATCH", "/v1/campaigns/c", {"version": 1, "bid": 1.0}, 422, "bid"),
    ],
)
def test_a_wrong_change_names_its_field(shop, method, path, body, status, said) -> None:
    with shop.serving() as client:
        found = client.request(method, path, json=body, headers=WRITE)
        assert found.status_code == status
        assert said in found.json()["detail"]
        assert client.get("/v1/version").json()["changes_sequence"] == 0


def test_without_an_ads_table_there_is_nothing_to_change(shop) -> None:
    shop.versions["v1"] = shop.version("v1", None)
    with shop.serving() as client:
        found = client.patch("/v1/ads/a", json={"version": 1, "status": "paused"}, headers=WRITE)
        assert found.status_code == 422
        assert "no ads table" in found.json()["detail"]


def test_tokens(shop) -> None:
    change = {"json": {"version": 1, "status": "paused"}}
    with shop.serving() as client:
        assert client.patch("/v1/ads/a", **change).status_code == 401
        refused = client.patch("/v1/ads/a", **change, headers={"Authorization": "Bearer wrong"})
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert client.post("/v1/retrieve", json={"items": []}).status_code == 200
    with shop.serving(tokens=Tokens()) as client:
        refused = client.patch("/v1/ads/a", **change, headers=WRITE)
        assert (refused.status_code, "LIGHTSAGE_WRITE_TOKEN" in refused.text) == (403, True)
    with shop.serving(tokens=Tokens("write-secret", "read-secret")) as client:
        asks = [client.post("/v1/retrieve", json={"items": []}, headers=h).status_code for h in ({}, WRITE)]
        assert asks == [401, 200]
        read = {"Authorization": "Bearer read-secret"}
        assert client.get("/v1/version", headers=read).status_code == 200
        assert client.patch("/v1/ads/a", **change, headers=read).status_code == 401
        assert client.get("/readyz").status_code == 200
    assert "secret" not in repr(Tokens("write-secret", "read-secret"))


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
    ads = Ads(world.ads_table(rows), catalogue.row_of)
    retriever = Retriever(catalogue, edges, ads, None, as_of=world.AS_OF)
    found: dict[str | None, int] = {}
    retrieve = Retriever.retrieve

    def noted(self: Retriever, *given: Any, **more: Any) -> Any:
        answer = retrieve(self, *given, **more)
        found[more.get("country")] = max(found.get(more.get("country"), 0), len(answer.results))
        return answer

    monkeypatch.setattr(Retriever, "retrieve", noted)
    warm(retriever, world.AS_OF)
    assert found.pop(None) == 1, "of the whole catalogue; no ad is for everywhere"
    assert sorted(found) == [f"c{n}" for n in range(8)]
    assert all(found.values())


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


def test_more_requests_than_are_taken_at_once_are_told_to_come_back(shop) -> None:
    with shop.serving(max_in_flight=2, body_seconds=1.0) as client:
        host, port = client.base_url.host, client.base_url.port
        head = b"POST /v1/retrieve HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
        slow = [socket.create_connection((host, port)) for _ in range(2)]
        for one in slow:
            one.sendall(head)

        def turned_away() -> bool:
            refused = client.post("/v1/retrieve", json={"items": []})
            return refused.status_code == 503 and refused.headers["retry-after"] == "1"

        until(turned_away)
        assert client.get("/healthz").status_code == client.get("/metrics").status_code == 200
        for one in slow:
            answer = one.recv(10_000)
            assert b"408" in answer.split(b"\r\n")[0], "who sends nothing does not hold a place for ever"
            one.close()
        until(lambda: client.post("/v1/retrieve", json={"items": []}).status_code == 200)
        assert "lightsage_turned_away_total" in client.get("/metrics").text


def test_running_requests_are_answered_before_the_server_ends(shop, world) -> None:
    async def ended() -> list[int]:
        app = create_app(
            lambda: shop.versions["v1"](), lambda: "v1", ServeConfig(), lambda as_of: as_of, MemoryChangeLog()
        )
        ready = asyncio.Event()
        server = create_server(app, port=0, on_listening=lambda url: ready.set())
        running = asyncio.create_task(server.serve())
        await ready.wait()
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        reader, writer = await asyncio.open_connection(host, port)
        body = json.dumps({"items": ["item00001"]}).encode()
        writer.write(b"POST /v1/retrieve HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
        await writer.drain()
        await asyncio.sleep(0.05)
        server.should_exit = True
        await asyncio.sleep(0.2)
        writer.write(body)
        await writer.drain()
        status = int((await reader.readline()).split()[1])
        writer.close()
        await running
        return [status]

    assert asyncio.run(asyncio.wait_for(ended(), 20)) == [200]


def test_changes_of_many_come_in_one_order_everywhere(shop) -> None:
    """Two servers that share a log are sent changes of one ad at once; both end with what the highest version says."""
    log = MemoryChangeLog()
    with shop.serving(log) as one, shop.serving(log) as other:
        item, ad = next(iter(shown(one).items()))

        def send(client: httpx.Client, versions: range) -> None:
            with httpx.Client(base_url=client.base_url) as own:
                for version in versions:
                    status = "paused" if version % 2 else "active"
                    own.patch(f"/v1/ads/{ad}", json={"version": version, "status": status}, headers=WRITE)

        senders = [
            threading.Thread(target=send, args=(client, range(40, 10 + start, -2) if start else range(11, 40, 2)))
            for start, client in enumerate((one, other))
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        last = max(log.after(0), key=lambda entry: entry.change.version).change
        assert isinstance(last, Change)
        wanted = last.status == "active"
        until(lambda: (shown(one).get(item) == ad) == (shown(other).get(item) == ad) == wanted)
