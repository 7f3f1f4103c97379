"""Requests' times and texts are read as the graph build reads them: a golden file and a slow reference say how."""

import datetime as dt
import json
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from retrieval.values import END_OF_TIMES, FIRST_TIME, clean_text, parse_time
from tests.oracles.times import read_time, written_times

GOLDEN = json.loads((Path(__file__).parents[1] / "graph_build/ingest/golden_values.json").read_text(encoding="utf-8"))


def read(text: str) -> int | None:
    time = parse_time(text)
    return time if time is not None and FIRST_TIME <= time < END_OF_TIMES else None


@given(written_times() | st.text(max_size=12))
@example("9999-12-31T24:00")
@settings(deadline=None, max_examples=500)
def test_times_are_read_as_the_slow_reference_reads_them(text: str) -> None:
    assert read(text) == read_time(text)


def test_the_golden_times_and_texts_are_read_as_the_file_says() -> None:
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    for text, time in GOLDEN["times"].items():
        expected = time and (dt.datetime.fromisoformat(time) - epoch) // dt.timedelta(microseconds=1)
        assert read(text) == expected, text
    assert {text: clean_text(text) for text in GOLDEN["texts"]} == GOLDEN["texts"]
