"""`serve` as a process with real requests over HTTP."""

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
    with serving(command, cwd=tmp_path_factory.mktemp("serve")) as url:
        yield url


def post(url: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/retrieve", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_results_are_ads_that_were_eligible_at_the_as_of_time(url, shop, popular_items):
    status, answer = post(url, {"items": popular_items[:3], "k": 12, "country": "FR"})
    assert (status, answer["asked"], answer["returned"]) == (200, 12, 12)
    assert answer["version"] == shop.version.name
    ads = {ad["ad_id"]: ad for ad in pq.read_table(shop.files.ads).to_pylist()}
    for result in answer["results"]:
        ad = ads[result["ad_id"]]
        assert ad["item_id"] == result["item_id"]
        assert ad["status"] in (None, "active")
        assert not ad["countries"] or "FR" in {c.upper() for c in ad["countries"]}


def test_the_time_of_a_request_overrides_the_serving_time(url, popular_items):
    _, now = post(url, {"items": popular_items[:1], "k": 500})
    _, later = post(url, {"items": popular_items[:1], "k": 500, "at": "2031-01-01T00:00:00Z"})
    assert later["returned"] < now["returned"]


def test_an_unknown_key_is_refused_by_name(url):
    status, answer = post(url, {"items": ["x"], "kay": 3})
    assert status == 422
    assert "kay" in json.dumps(answer)


def test_unknown_items_are_listed_and_get_fallback_results(url):
    status, answer = post(url, {"items": ["no-such-item"], "k": 3})
    assert (status, answer["unknown_items"]) == (200, ["no-such-item"])
    assert {result["reason"] for result in answer["results"]} == {"fallback"}


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/v1/version", "/metrics", "/docs", "/openapi.json"])
def test_every_other_page_answers_get_and_head(url, path):
    with urllib.request.urlopen(url + path, timeout=10) as answer:
        assert answer.status == 200
        assert answer.read()
    with urllib.request.urlopen(urllib.request.Request(url + path, method="HEAD"), timeout=10) as answer:
        assert answer.status == 200
        assert int(answer.headers["content-length"]) > 0
        assert not answer.read()


def test_the_version_has_the_number_of_ads_in_flight_at_the_serving_time(url):
    with urllib.request.urlopen(f"{url}/v1/version", timeout=10) as answer:
        version = json.load(answer)
    assert 0 < version["ads_in_flight"] < version["ads"]


def test_an_item_has_neighbours_other_than_itself(url, popular_items):
    item = popular_items[0]
    with urllib.request.urlopen(f"{url}/v1/items/{item}/neighbors?k=5", timeout=10) as answer:
        neighbours = json.load(answer)
    assert neighbours["returned"] == 5
    assert item not in {result["item_id"] for result in neighbours["results"]}
