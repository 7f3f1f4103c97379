"""No text makes a request fail, and a request that holds far too much is refused before it takes time."""

import json
import time
from typing import Any

import pytest

from tests.retrieval.api.client import assert_problem

# Case folding or composition makes some of these texts longer; headers, paths or indexes do not expect the others.
TEXTS = [
    "ß" * 257,
    "ß" * 512,
    "ŉ" * 300,
    "ﷺ" * 512,
    "İ" * 400,
    "\u0344" * 512,
    "a" + "\u0301\u0316" * 255,
    "\0",
    "a\0b",
    "\ufeff",
    "\U0010ffff" * 128,
    "> > >",
    ">" * 512,
    "x" * 513,
    "' OR 1=1 --",
    "%00%ff",
    "../../etc/passwd",
    "\u202e" * 100,
]
FIELDS = [
    ("items",),
    ("exclude",),
    ("query",),
    ("country",),
    ("at",),
    ("expected",),
    ("filters", "category"),
    ("filters", "exclude_advertisers"),
    ("filters", "exclude_campaigns"),
]
LISTS = ("items", "exclude", "exclude_advertisers", "exclude_campaigns")


def body_with(field: tuple[str, ...], text: str) -> dict[str, Any]:
    value: Any = [text] if field[-1] in LISTS else text
    for name in reversed(field):
        value = {name: value}
    return {"items": ["item00001"], "k": 3} | value


@pytest.mark.parametrize("field", FIELDS, ids=".".join)
def test_no_text_makes_a_request_fail(client, field) -> None:
    for text in TEXTS:
        for path in ("/v1/retrieve", "/v1/explain"):
            if field == ("expected",) and path == "/v1/retrieve":
                continue
            response = client.post(path, content=json.dumps(body_with(field, text)))
            assert response.status_code in (200, 422), (path, text[:20], response.text)
    for raw in ('"\\ud800"', '"\\udfff\\ud800"'):
        text = json.dumps(body_with(field, "@")).replace('"@"', raw)
        assert client.post("/v1/explain", content=text).status_code == 400


def test_no_text_in_a_path_or_query_makes_a_request_fail(client) -> None:
    for text in [*TEXTS, "a" + "\u0301\u0316" * 2000]:
        for path in ("/v1/items/{}/neighbors", "/v1/items/{}/graph"):
            with_id = client.build_request("GET", client.base_url.join(path.format("X")))
            with_id.url = with_id.url.copy_with(
                raw_path=path.format("".join(f"%{b:02x}" for b in text.encode())).encode()
            )
            assert client.send(with_id).status_code == 404
        assert client.get("/v1/items", params={"q": text}).status_code in (200, 422)
    for query in (b"q=%ff%fe", b"q=%ed%a0%80", b"q=%00", b"limit=1" + b"0" * 5000 + b"&q=a"):
        url = client.base_url.copy_with(raw_path=b"/v1/items?" + query)
        assert client.get(url).status_code in (200, 422)


@pytest.mark.parametrize(
    "raw",
    [
        '{"items": [], "k": ' + "9" * 4000 + "}",
        '{"items": [], "k": -' + "9" * 30 + "}",
        '{"items": [], "k": 1e400}',
        '{"items": [], "min_score": ' + "9" * 400 + "}",
        '{"items": [], "min_score": NaN}',
        '{"items": [], "min_score": -Infinity}',
        '{"items": [], "min_score": 1e308}',
        '{"items": ["item00001"], "min_score": -1e308}',
        '{"items": [], "filters": {"price_min": 1e308, "price_max": 1e309}}',
        '{"items": ["item00001"], "filters": {"max_per_campaign": ' + "9" * 30 + "}}",
        '{"items": ["item00001"], "filters": {"max_per_advertiser": 9223372036854775808}}',
        '{"items": ' + "[" * 2000,
        '{"items": ' + "[" * 150 + "]" * 150 + "}",
        '{"a":' * 1000,
        '{"items": [], "at": ' + '{"a":' * 150 + "1" + "}" * 150 + "}",
        '{"items": [], "at": [' + "1," * 2000 + "1]}",
        '{"items": [], "at": "' + "1" * 4000 + '"}',
        '{"items": [], "at": "2026-01-01T00:00:00 ' + "A" * 2000 + "/" + "B" * 2000 + '"}',
        "null",
        "",
        "[]",
        '"\\u0000"',
        "\ufeff{}",
    ],
    ids=lambda raw: raw[:40],
)
def test_no_number_or_nesting_makes_a_request_fail(client, raw: str) -> None:
    for path in ("/v1/retrieve", "/v1/explain"):
        response = client.post(path, content=raw.encode())
        assert response.status_code in (200, 400, 422), response.text
        if response.status_code != 200:
            assert response.headers["content-type"] == "application/problem+json"
            assert len(response.content) < 10_000


def test_a_body_with_far_too_many_keys_or_values_is_refused_before_it_is_read(shop) -> None:
    keys = '{"items": [],' + ",".join(f'"{n:x}" :1' for n in range(80_000)) + "}"
    values = '{"items": [' + ",".join("1" for _ in range(400_000)) + "]}"
    with shop.serving() as client:
        for path in ("/v1/retrieve", "/v1/explain"):
            assert_problem(client.post(path, content=keys), 422, "more than 200 keys")
            assert_problem(client.post(path, content=values), 422, "commas")
        start = time.perf_counter()
        client.post("/v1/retrieve", content=keys)
        assert time.perf_counter() - start < 0.25, "to list the keys takes half a second"
        full = {"items": ['id with "quotes": and, commas, '[:40]] * 100, "exclude": ["a,b,c,d,e"] * 1000}
        assert client.post("/v1/retrieve", json=full).status_code == 200
