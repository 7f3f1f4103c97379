"""Log lines in JSON."""

import json
import logging

from jobs.logs import JsonLines


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
