"""Who may read and write: tokens, routes that are not listed as readable, and headers against framing."""

import pytest

from retrieval.api.admission import Tokens
from retrieval.errors import TokenError
from tests.retrieval.api.client import assert_problem


@pytest.mark.parametrize("token", ["", " ", "\n", "a\nb", "a\0b", "\x7f"])
@pytest.mark.parametrize("name", ["read", "write"])
def test_a_token_that_no_client_can_send_is_refused_at_the_start(name: str, token: str) -> None:
    with pytest.raises(TokenError, match=f"LIGHTSAGE_{name.upper()}_TOKEN"):
        Tokens(**{name: token})


@pytest.mark.parametrize(
    ("token", "sent"),
    [
        ("secret\n", b"Bearer secret"),
        ("\tsecret\r\n", b"bearer  secret "),
        ("ключ-é", "Bearer ключ-é".encode()),
        ("two words", b"BEARER two words"),
        ("\udcff\udcfe", b"Bearer \xff\xfe"),  # how Python reads environment bytes that are not UTF-8
    ],
)
def test_a_token_is_compared_in_the_bytes_that_a_client_sends(token: str, sent: bytes) -> None:
    tokens = Tokens(write=token, read="other")
    assert tokens.may_write(sent)
    assert tokens.may_read(sent)
    for wrong in (b"", b"Bearer", b"Bearer ", sent + b"x", sent[:-1] + b"\xe9", b"Basic " + sent[7:]):
        if wrong.strip() != sent.strip():
            assert not tokens.may_write(wrong)


def test_what_is_not_listed_as_readable_needs_the_write_token(shop) -> None:
    with shop.serving() as client:
        for method, path in (("POST", "/v1/new"), ("DELETE", "/v1/items/x"), ("PUT", "/v1/items"), ("PUT", "/new")):
            assert_problem(client.request(method, path), 401, "write token")
            admitted = client.request(method, path, headers={"Authorization": "Bearer write-secret"})
            assert admitted.status_code in (404, 405)
        assert client.post("/v1/retrieve", json={"items": []}).status_code == 200
        assert client.post("/v1/explain", json={"items": []}).status_code == 200
    with shop.serving(tokens=Tokens()) as client:
        assert_problem(client.put("/v1/new"), 403, "LIGHTSAGE_WRITE_TOKEN")
        assert client.get("/v1/new").status_code == 404


def test_rejected_requests_are_counted_under_their_route(shop) -> None:
    with shop.serving(tokens=Tokens(read="read-secret")) as client:
        client.post("/v1/retrieve", json={"items": []})
        client.get("/v1/items/a/neighbors")
        client.get("/v1/nothing")
        metrics = client.get("/metrics").text
    for endpoint in ("/v1/retrieve", "/v1/items/{item_id:path}/neighbors", "unknown"):
        assert f'lightsage_requests_total{{endpoint="{endpoint}",status="401"}} 1' in metrics


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/oauth2-redirect"])
def test_no_html_may_be_framed(client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-type"].startswith("text/html")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
