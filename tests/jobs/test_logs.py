"""Log lines in JSON, and on a terminal."""

import io
import json
import logging
import re

import pytest
from rich.console import Console

from jobs.logs import JsonLines, log_to_stderr


def test_a_record_is_one_line_of_json_with_its_extra_fields_and_traceback() -> None:
    record = logging.makeLogRecord(
        {
            "name": "retrieval.api.telemetry",
            "levelname": "WARNING",
            "msg": "%s took\n%.1f s",
            "args": ("/v1/retrieve", 2.0),
        }
    )
    record.request_id, record.seconds = "abc", 2.0
    line = JsonLines().format(record)
    assert "\n" not in line
    fields = json.loads(line)
    assert fields.pop("time").endswith("+00:00")
    assert fields == {
        "level": "WARNING",
        "logger": "retrieval.api.telemetry",
        "message": "/v1/retrieve took\n2.0 s",
        "request_id": "abc",
        "seconds": 2.0,
    }
    try:
        raise ValueError("wrong")
    except ValueError as error:
        record.exc_info = (ValueError, error, error.__traceback__)
    assert "ValueError: wrong" in json.loads(JsonLines().format(record))["traceback"]


def test_a_line_on_a_terminal_has_its_level_once(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("jobs.logs.Console", lambda **_: Console(file=screen, force_terminal=True, width=200))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()  # else the handlers of the test runner would be closed
    try:
        log_to_stderr(verbose=False, lines="plain")
        logging.getLogger("jobs").error("no such file")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    line = re.sub(r"\x1b\[[\d;]*m", "", screen.getvalue())
    assert line.split() == ["ERROR", "no", "such", "file"]
