"""`lightsage serve` as a backend engineer meets it: a process, a port, requests over a real socket."""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest


@pytest.fixture(scope="module")
def url(shop, serving, tmp_path_factory) -> Iterator[str]:
    lightsage = Path(sys.executable).with_name("lightsage")
    command = [lightsage, "serve", "--workspace", shop.workspace, "--at", "as-of", "--port", 0]
    with serving(command, cwd=tmp_path_factory.mktemp("serve")) as found:
        yield found


def post(url: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/retrieve", json.dumps(body).encode(), kind)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def popular(shop) -> list[str]:
    items = pq.read_table(shop.version / "index" / "items.parquet").sort_by([("events", "descending")])
    return items["item_id"].to_pylist()[:3]


def test_answers_with_ads_that_were_eligible_then(url, shop):
    status, found = post(url, {"items": popular(shop), "k": 12, "country": "FR"})
    assert (status, found["asked"], found["returned"]) == (200, 12, 12)
    assert found["version"] == shop.version.name
    ads = {ad["ad_id"]: ad for ad in pq.read_table(shop.files.ads).to_pylist()}
    for result in found["results"]:
        ad = ads[result["ad_id"]]
        assert ad["item_id"] == result["item_id"]
        assert ad["status"] in (None, "active")
        assert not ad["countries"] or "FR" in {c.upper() for c in ad["countries"]}


def test_a_later_time_in_the_request_wins(url, shop):
    _, now = post(url, {"items": popular(shop)[:1], "k": 500})
    _, later = post(url, {"items": popular(shop)[:1], "k": 500, "at": "2031-01-01T00:00:00Z"})
    assert later["returned"] < now["returned"]


def test_an_unknown_key_is_named(url):
    status, found = post(url, {"items": ["x"], "kay": 3})
    assert status == 422
    assert "kay" in json.dumps(found)


def test_unknown_items_are_listed_and_fall_back(url):
    status, found = post(url, {"items": ["no-such-item"], "k": 3})
    assert (status, found["unknown_items"]) == (200, ["no-such-item"])
    assert {result["reason"] for result in found["results"]} == {"fallback"}


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/v1/version", "/metrics", "/docs", "/openapi.json"])
def test_the_other_pages_answer(url, path):
    with urllib.request.urlopen(url + path, timeout=10) as answer:
        assert answer.status == 200
        assert answer.read()
    with urllib.request.urlopen(urllib.request.Request(url + path, method="HEAD"), timeout=10) as answer:
        assert answer.status == 200
        assert int(answer.headers["content-length"]) > 0
        assert not answer.read()


def test_the_version_says_how_many_ads_are_in_flight_at_the_serving_time(url):
    with urllib.request.urlopen(f"{url}/v1/version", timeout=10) as answer:
        found = json.load(answer)
    assert 0 < found["ads_in_flight"] < found["ads"]


def test_neighbours_of_an_item(url, shop):
    item = popular(shop)[0]
    with urllib.request.urlopen(f"{url}/v1/items/{item}/neighbors?k=5", timeout=10) as answer:
        found = json.load(answer)
    assert found["returned"] == 5
    assert item not in {result["item_id"] for result in found["results"]}
