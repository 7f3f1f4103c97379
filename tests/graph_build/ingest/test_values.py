"""Times are read as a slow reference reads them; a golden file of values is shared with the tests of retrieval."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F

from graph_build.ingest import spark_values
from graph_build.ingest.arrow_values import read_value
from graph_build.ingest.spark_values import written_text
from graph_build.ingest.values import END_OF_TIMES, FIRST_TIME, clean_text
from tests.oracles.times import read_time, sampled_times, written_times

GOLDEN = json.loads(Path(__file__).with_name("golden_values.json").read_text(encoding="utf-8"))


def read(texts: list[str]) -> list[int | None]:
    times = read_value(pa.chunked_array([pa.array(texts, pa.string())]), "time").cast(pa.int64()).to_pylist()
    return [time if time is not None and FIRST_TIME <= time < END_OF_TIMES else None for time in times]


@given(st.lists(written_times(), min_size=1, max_size=20))
@example(["2026-W53-7T24:00:00+14:00", "9999-12-31T24:00", "0001-01-01T00:00:00 Europe/Berlin"])
@settings(deadline=None, max_examples=300)
def test_times_are_read_as_the_slow_reference_reads_them(texts: list[str]) -> None:
    assert read(texts) == [read_time(text) for text in texts]


def test_spark_reads_times_as_the_slow_reference_reads_them(spark: Any) -> None:
    texts = sorted(sampled_times(600, seed=7) | set(GOLDEN["times"]))
    rows = spark.createDataFrame(list(enumerate(texts)), "n int, text string")
    time = F.unix_micros(spark_values.read_value(written_text(F.col("text")), "time", pa.string()))
    micros = [row[0] for row in rows.sort("n").select(time).collect()]
    within = [time if time is not None and FIRST_TIME <= time < END_OF_TIMES else None for time in micros]
    assert dict(zip(texts, within, strict=True)) == {text: read_time(text) for text in texts}


def test_the_golden_times_and_texts_are_read_as_the_file_says() -> None:
    expected = [time and dt.datetime.fromisoformat(time) for time in GOLDEN["times"].values()]
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    micros = [time and (time - epoch) // dt.timedelta(microseconds=1) for time in expected]
    assert read(list(GOLDEN["times"])) == micros
    assert [clean_text(text) for text in GOLDEN["texts"]] == list(GOLDEN["texts"].values())


@pytest.mark.parametrize("text", GOLDEN["texts"])
def test_arrow_cleans_texts_as_python_does(text: str) -> None:
    assert read_value(pa.chunked_array([[text]]), "id").to_pylist() == [clean_text(text)]
