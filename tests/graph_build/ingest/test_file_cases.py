"""The Arrow reader and the Spark reader read the files of every case alike, and refuse the same rows."""

from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import functions as F

from graph_build.config import InputConfig
from graph_build.ingest import arrow_reader, events, spark_reader
from tests.graph_build.ingest.cases import NOW
from tests.graph_build.ingest.file_cases import FILE_CASES, FileCase, Row
from tests.graph_build.ingest.layout_cases import LAYOUT_CASES

COLUMNS = ("item_id", "event_type", "query", "reason")


def written(case: FileCase, folder: Path) -> tuple[str, InputConfig]:
    """Write the files of a case; return the folder and the configuration."""
    for name, content in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return str(folder), InputConfig.model_validate(case.input)


CASES = [*FILE_CASES, *LAYOUT_CASES]
# Spark takes seconds to plan the reading of a case. In the fast tests, it reads only these; in the slow ones, the rest.
_QUICK = {
    "rows with other numbers of values than the header",
    "names of folders that are mapped to columns",
    "needed columns of uncommon types and names",
    "times of the type INT96",
    "damaged lines of JSON are refused one by one",
    "constants for rows that have no value of their own, and types that mean nothing",
}
QUICK = [case for case in CASES if case.name in _QUICK]
OTHERS = [case for case in CASES if case.name not in _QUICK]
assert len(QUICK) == len(_QUICK)


def read_by_spark(spark: Any, cases: list[FileCase], folders: pytest.TempPathFactory) -> dict[str, list[Row]]:
    """Return the rows of some cases, read in one job."""
    frames = []
    for n, case in enumerate(cases):
        path, config = written(case, folders.mktemp("case"))
        sources = spark_reader.sources("events", [path], config)
        rows = spark_reader.read(spark, "events", sources, config, events.reason(None, config.events.types, NOW))
        rows = rows.withColumn("event_type", events.event_type(config.events.types))
        frames.append(rows.select(F.lit(n).alias("case"), *COLUMNS, "file", "block", "row"))
    rows = reduce(lambda one, other: one.union(other), frames).orderBy("case", "file", "block", "row").collect()
    read: dict[str, list[Row]] = {case.name: [] for case in cases}
    for row in rows:
        read[cases[row["case"]].name].append(tuple(row[name] for name in COLUMNS))  # type: ignore[arg-type]
    return read


@pytest.fixture(scope="module")
def quick_rows(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Row]]:
    return read_by_spark(spark, QUICK, tmp_path_factory)


@pytest.fixture(scope="module")
def other_rows(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Row]]:
    return read_by_spark(spark, OTHERS, tmp_path_factory)


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_spark_reads_files_as_the_table_says(quick_rows: dict[str, list[Row]], case: FileCase) -> None:
    assert quick_rows[case.name] == case.rows


@pytest.mark.slow
@pytest.mark.parametrize("case", OTHERS, ids=lambda case: case.name)
def test_spark_reads_other_layouts_as_the_table_says(other_rows: dict[str, list[Row]], case: FileCase) -> None:
    assert other_rows[case.name] == case.rows


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_arrow_reads_files_as_the_table_says(tmp_path: Path, case: FileCase) -> None:
    path, config = written(case, tmp_path)
    places = [
        (place, file, source)
        for source in arrow_reader.find_sources("events", [path], config)
        for place, file in zip(source.places, source.files, strict=True)
    ]
    read: list[Row] = []
    for place, file, source in sorted(places, key=lambda entry: entry[0]):
        rows = arrow_reader._read_file(source, file, place, config)
        values = rows.select(COLUMNS[:3]).to_pylist()
        reasons = arrow_reader._reasons(rows, NOW).to_pylist()
        read += [(*row.values(), reason) for row, reason in zip(values, reasons, strict=True)]
    assert read == case.rows
