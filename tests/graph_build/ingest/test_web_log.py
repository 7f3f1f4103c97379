"""A line of a web server's log becomes a record; its path and query are empty unless a person was shown a page."""

from typing import Any

import pytest

from graph_build.ingest.web_log import parse_line

START = '192.0.2.7 - anna [02/Mar/2026:09:05:07 +0100] "'
BROWSER = '" 200 512 "https://shop.example/" "Mozilla/5.0 \\"x\\""'


def record(text: str) -> dict[str, Any]:
    parsed = parse_line(text.encode())
    assert parsed is not None
    return parsed


def test_a_line_of_the_combined_format_is_read() -> None:
    assert record(f"{START}GET /product/a%20b/?ref=x&item=7 HTTP/1.1{BROWSER}") == {
        "host": "192.0.2.7",
        "user": "anna",
        "time": "2026-03-02T09:05:07+0100",
        "method": "GET",
        "page": "/product/a%20b/?ref=x&item=7",
        "path": ["product", "a b"],
        "query": {"ref": "x", "item": "7"},
        "status": "200",
        "bytes": "512",
        "referrer": "https://shop.example/",
        "agent": 'Mozilla/5.0 \\"x\\"',
    }


def test_a_line_of_the_common_format_has_no_browser() -> None:
    parsed = record(f'{START}GET /product/7 HTTP/1.0" 304 -')
    assert (parsed["path"], parsed["agent"], parsed["bytes"]) == (["product", "7"], "-", None)


@pytest.mark.parametrize(
    "line",
    [
        f'{START}GET /product/7 HTTP/1.1" 404 33 "-" "Mozilla/5.0"',
        f'{START}HEAD /product/7 HTTP/1.1" 200 0 "-" "Mozilla/5.0"',
        f'{START}GET /product/7 HTTP/1.1" 200 9 "-" "Examplebot/2.1"',
        f'{START}\\x16\\x03\\x01" 400 0 "-" "-"',
        f'{START}GET http://[bad/product/7 HTTP/1.1" 200 9 "-" "Mozilla/5.0"',
    ],
)
def test_failures_robots_and_noise_show_no_page(line: str) -> None:
    assert record(line)["path"] == []
    assert record(line)["query"] == {}


@pytest.mark.parametrize("line", ["", "{}", "a b c", START.replace("Mar", "Mrz") + 'GET / HTTP/1.1" 200 1'])
def test_what_is_no_line_of_a_web_log_is_no_record(line: str) -> None:
    assert parse_line(line.encode()) is None
