"""Live changes over HTTP, the tokens that they need, and the end of a server with requests on the way."""

import asyncio
import json
import threading
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from retrieval.api.app import Tokens, create_app
from retrieval.api.server import create_server
from retrieval.config import ServeConfig
from retrieval.live.change import Change
from retrieval.live.change_log import MemoryChangeLog, SqliteChangeLog
from tests.retrieval.conftest import WRITE, ads_by_item, until


def outcomes(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [change["outcome"] for change in response.json()["changes"]]


def test_a_paused_ad_is_gone_from_the_next_request_and_the_next_best_takes_its_place(shop) -> None:
    with shop.serving() as client:
        before = ads_by_item(client)
        item, ad = next(iter(before.items()))
        assert outcomes(client.patch(f"/v1/ads/{ad}", json={"version": 9, "status": "paused"}, headers=WRITE)) == [
            "applied"
        ]
        assert ads_by_item(client).get(item) != ad
        repeated = client.patch(f"/v1/ads/{ad}", json={"version": 9, "status": "paused"}, headers=WRITE)
        assert outcomes(repeated) == ["repeated"]
        assert repeated.json()["sequence"] == 1, "a repeated change is not written again"
        late = {"version": 8, "status": "active"}
        assert outcomes(client.patch(f"/v1/ads/{ad}", json=late, headers=WRITE)) == ["superseded"]
        assert ads_by_item(client).get(item) != ad
        resumed = {"changes": [{"ad_id": ad, "version": 10, "status": None}]}
        assert outcomes(client.post("/v1/changes", json=resumed, headers=WRITE)) == ["applied"]
        assert ads_by_item(client) == before


def test_changes_of_campaigns_end_times_and_new_ads_take_effect_at_once(shop, world) -> None:
    with shop.serving() as client:
        before = ads_by_item(client)
        new_item = next(item for item in shop.catalogue.item_ids if item not in before)
        soon = (world.AS_OF + timedelta(minutes=10)).isoformat()
        batch = [
            {"campaign_id": "c1", "version": 7, "status": "exhausted"},
            {
                "ad_id": "brand/new",
                "item_id": new_item,
                "campaign_id": "c9",
                "version": 1,
                "bid": 5.0,
                "ends_at": soon,
            },
            {"ad_id": "joins", "item_id": new_item, "campaign_id": "c1", "version": 1, "bid": 9.0},
            {"ad_id": "stranger", "item_id": "nobody", "campaign_id": "c9", "version": 1},
        ]
        response = client.post("/v1/changes", json={"changes": batch}, headers=WRITE)
        assert outcomes(response) == ["applied", "applied", "applied", "waiting"]
        assert "'nobody' is not in the catalogue" in response.json()["changes"][3]["why"]
        after = ads_by_item(client)
        assert after[new_item] == "brand/new", "its rival joined a campaign that is exhausted"
        rows = [
            ad | {"status": "exhausted"} if ad["campaign_id"] == "c1" else ad for ad in world.random_ads(60, 150, 4)
        ]
        winners = world.slow_winners(rows, set(shop.catalogue.item_ids), world.AS_OF, None)
        assert after == {item: ad["ad_id"] for item, ad in winners.items()} | {new_item: "brand/new"} != before
        assert new_item not in ads_by_item(client, at=(world.AS_OF + timedelta(minutes=10)).isoformat())
        results = client.post("/v1/retrieve", json={"items": [shop.catalogue.item_ids[0]], "k": 100}).json()["results"]
        assert {(r["item_id"], r["ad_id"]) for r in results} >= {(new_item, "brand/new")}, (
            "retrieved by its embedding, not only by popularity"
        )
        move = {"version": 2, "ends_at": (world.AS_OF + timedelta(hours=2)).isoformat()}
        assert outcomes(client.patch("/v1/ads/brand%2Fnew", json=move, headers=WRITE)) == ["applied"]
        assert ads_by_item(client, at=soon)[new_item] == "brand/new"


def test_changes_outlive_the_server_and_reach_other_servers_that_share_the_log(shop, tmp_path: Path) -> None:
    path = tmp_path / "changes.sqlite"
    with shop.serving(SqliteChangeLog(path)) as first, shop.serving(SqliteChangeLog(path)) as second:
        item, ad = next(iter(ads_by_item(first).items()))
        first.patch(f"/v1/ads/{ad}", json={"version": 9, "status": "paused"}, headers=WRITE)
        until(lambda: ads_by_item(second).get(item) != ad)
        assert second.get("/v1/version").json()["changes_sequence"] == 1
        page = second.get("/v1/changes", params={"after": 0}).json()
        assert (page["sequence"], page["changes"][0]["change"]) == (
            1,
            {"ad_id": ad, "version": 9, "status": "paused"},
        )
        assert second.get("/v1/changes", params={"after": 1}).json() == {"sequence": 1, "changes": []}
    with shop.serving(SqliteChangeLog(path)) as later:
        assert ads_by_item(later).get(item) != ad


def test_a_log_that_cannot_be_written_changes_nothing(shop, tmp_path: Path) -> None:
    log = SqliteChangeLog(tmp_path / "changes.sqlite")
    log._connection.execute("PRAGMA max_page_count = 4")
    with shop.serving(log) as client:
        before = ads_by_item(client)
        batch = [{"ad_id": f"{ad}{'x' * 400}", "version": 9, "status": "paused"} for ad in before.values()]
        batch += [{"ad_id": ad, "version": 9, "status": "paused"} for ad in before.values()]
        refused = client.post("/v1/changes", json={"changes": batch * 10}, headers=WRITE)
        assert (refused.status_code, refused.json()["title"]) == (507, "Insufficient Storage")
        assert "changes.sqlite" in refused.json()["detail"]
        assert ads_by_item(client) == before


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
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
def test_a_wrong_change_names_its_field(shop, method, path, body, status, message) -> None:
    with shop.serving() as client:
        response = client.request(method, path, json=body, headers=WRITE)
        assert response.status_code == status
        assert message in response.json()["detail"]
        assert client.get("/v1/version").json()["changes_sequence"] == 0


def test_without_an_ads_table_there_is_nothing_to_change(shop) -> None:
    shop.versions["v1"] = shop.version("v1", None)
    with shop.serving() as client:
        response = client.patch("/v1/ads/a", json={"version": 1, "status": "paused"}, headers=WRITE)
        assert response.status_code == 422
        assert "no ads table" in response.json()["detail"]


def test_reading_and_writing_need_their_tokens(shop) -> None:
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
        statuses = [client.post("/v1/retrieve", json={"items": []}, headers=h).status_code for h in ({}, WRITE)]
        assert statuses == [401, 200]
        read = {"Authorization": "Bearer read-secret"}
        assert client.get("/v1/version", headers=read).status_code == 200
        assert client.patch("/v1/ads/a", **change, headers=read).status_code == 401
        assert client.get("/readyz").status_code == 200
    assert "secret" not in repr(Tokens("write-secret", "read-secret"))


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


def test_concurrent_changes_end_in_the_same_state_on_every_server(shop) -> None:
    """Two servers share a log and get changes of one ad at once; both end with the status of the highest version."""
    log = MemoryChangeLog()
    with shop.serving(log) as first, shop.serving(log) as second:
        item, ad = next(iter(ads_by_item(first).items()))

        def send(client: httpx.Client, versions: range) -> None:
            with httpx.Client(base_url=client.base_url) as thread_client:
                for version in versions:
                    status = "paused" if version % 2 else "active"
                    thread_client.patch(f"/v1/ads/{ad}", json={"version": version, "status": status}, headers=WRITE)

        senders = [
            threading.Thread(target=send, args=(client, range(40, 10 + start, -2) if start else range(11, 40, 2)))
            for start, client in enumerate((first, second))
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        last = max(log.after(0), key=lambda entry: entry.change.version).change
        assert isinstance(last, Change)
        shown_at_last = last.status == "active"
        until(lambda: (ads_by_item(first).get(item) == ad) == (ads_by_item(second).get(item) == ad) == shown_at_last)
