"""The programs of docs/clients.md print the ads that the server returns, and nothing if there is no server."""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.source_tree import ROOT
from tests.stub_server import run_without_proxy, stub_server

# language of the block → (file, command without the file).
PROGRAMS = {
    "python": ("client.py", [sys.executable]),
    "js": ("client.js", ["node"]),
    "java": ("LightSage.java", ["java"]),
}
# Starting a JVM with a compiler takes seconds.
LANGUAGES = ["python", "js", pytest.param("java", marks=[pytest.mark.slow, pytest.mark.thorough])]
VIEWS = ["item00003", "item00021"]


def block(language: str) -> str:
    """Return the program of docs/clients.md in a language."""
    found = re.search(rf"```{language}\n(.*?)```", (ROOT / "docs" / "clients.md").read_text(), re.DOTALL)
    assert found
    return found[1]


def run(command: list[str], url: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run_without_proxy(command, LIGHTSAGE_URL=url, **variables)


@pytest.fixture
def program(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Return the command that runs the program of docs/clients.md in one language."""
    file, command = PROGRAMS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    if request.param == "java" and shutil.which("javac") is None:
        pytest.skip("there is no Java compiler")
    # A machine that is busy with other tests might not answer within half a second.
    text = block(request.param).replace("timeout=0.5", "timeout=20").replace("500", "20000")
    (tmp_path / file).write_text(text)
    return [*command, str(tmp_path / file), *VIEWS]


@contextmanager
def unused_port() -> Iterator[str]:
    """A URL at which nothing listens during the block."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize("program", LANGUAGES, indirect=True)
def test_a_program_prints_what_the_server_returns(shop, world, program: list[str]) -> None:
    with shop.serving() as client:
        request = {"items": VIEWS, "k": 3, "country": "DE"}
        results = client.post("/v1/retrieve", json=request).json()["results"]
        job = run(program, str(client.base_url).rstrip("/"))
    assert job.returncode == 0, job.stderr
    assert results
    lines = [line.split() for line in job.stdout.splitlines()]
    assert [line[:2] for line in lines] == [[result["ad_id"], result["item_id"]] for result in results]
    assert [float(line[2]) for line in lines] == pytest.approx([result["score"] for result in results])


@pytest.mark.parametrize("program", LANGUAGES, indirect=True)
def test_a_program_asks_a_busy_server_once_more(program: list[str]) -> None:
    result = {"rank": 1, "item_id": "b", "ad_id": "a", "score": 0.5, "reason": "swing"}
    answer = json.dumps({"results": [result]}, separators=(",", ":")).encode()
    with stub_server((503, b"{}"), (200, answer)) as busy_once:
        job = run(program, busy_once.url)
    assert (job.stdout, busy_once.statuses) == ("a b 0.5\n", [503, 200])


@pytest.mark.parametrize("program", LANGUAGES, indirect=True)
def test_a_program_prints_nothing_if_there_is_no_server(program: list[str]) -> None:
    with unused_port() as url:
        job = run(program, url)
    assert (job.returncode, job.stdout, job.stderr) == (0, "", "")


@pytest.mark.parametrize("program", LANGUAGES, indirect=True)
def test_a_program_sends_the_token_and_reports_a_refusal(shop, program: list[str]) -> None:
    from retrieval.api.app import Tokens

    with shop.serving(tokens=Tokens(read="read-secret")) as client:
        url = str(client.base_url).rstrip("/")
        refusal = run(program, url)
        job = run(program, url, LIGHTSAGE_READ_TOKEN="read-secret")
    assert refusal.returncode != 0
    assert "401" in refusal.stderr
    assert len(job.stdout.splitlines()) == 3


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_line_prints_the_answer_or_the_error(shop) -> None:
    from retrieval.api.app import Tokens

    script = block("sh").replace("--max-time 0.5", "--max-time 20").replace('"sku-1", "sku-2"', '"item00003"')
    with shop.serving(tokens=Tokens(read="read-secret")) as client:
        url = str(client.base_url).rstrip("/")
        headers = {"Authorization": "Bearer read-secret"}
        request = {"items": ["item00003"], "k": 3, "country": "DE"}
        expected = client.post("/v1/retrieve", json=request, headers=headers).json()
        job = run(["sh", "-c", script], url, LIGHTSAGE_READ_TOKEN="read-secret")
        refusal = run(["sh", "-c", script], url)
    assert json.loads(job.stdout) == expected
    assert json.loads(refusal.stdout)["status"] == 401
    assert refusal.returncode != 0
