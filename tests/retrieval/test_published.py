"""A server says once when another version is published than the one it serves, and never fails on it."""

import asyncio
import contextlib
import logging

import pytest

from retrieval.published import Published


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    found = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert not any(record.exc_info for record in caplog.records), "no tracebacks"
    caplog.clear()
    return found


def test_each_change_of_what_is_published_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    names = ["v1", "v1", "v2", "v2", "v3", "v1", "v1"]
    looked_at = iter(names)
    published = Published(lambda: next(looked_at))
    assert [published.look("v1") for _ in names] == names
    found = lines(caplog)
    assert [level for level, _ in found] == ["WARNING", "WARNING", "INFO"]
    assert found[0][1] == "version v2 is published, but v1 is served: restart the server to serve it"


def test_what_cannot_be_read_is_one_line_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> str:
        raise OSError("the share is away")

    published = Published(broken)
    assert [published.look("v1"), published.look("v1")] == [None, None]
    ((level, line),) = lines(caplog)
    assert level == "WARNING"
    assert "cannot be read (the share is away); v1 is served on" in line


def test_it_is_looked_at_again_and_again_without_a_request(caplog: pytest.LogCaptureFixture) -> None:
    names = iter(["v1", "v1", *["v2"] * 1000])

    async def a_while() -> None:
        watching = asyncio.create_task(Published(lambda: next(names)).watch("v1", 0.001))
        while not caplog.records:
            await asyncio.sleep(0.001)
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    asyncio.run(asyncio.wait_for(a_while(), 10))
    assert "version v2 is published" in caplog.text
