"""The errors of Spark name their root cause, in a live session and after its JVM has ended."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph_build.errors import GraphInputError, SparkJobError
from graph_build.spark.session import by_literal_name, reader, session_for_one_build


def test_a_spark_failure_names_its_root_cause_and_keeps_the_rest_as_a_note(spark: Any) -> None:
    with pytest.raises(SparkJobError, match="the disk burns") as raised, session_for_one_build() as session:
        session.sql("select raise_error('the disk burns')").collect()
    assert "\n" not in str(raised.value)
    assert raised.value.__notes__
    assert spark.range(3).count() == 3, "an earlier session stays alive"


def test_errors_of_the_code_inside_the_block_are_raised_unchanged(spark: Any) -> None:
    with pytest.raises(KeyError, match="mine"), session_for_one_build():
        raise KeyError("mine")


def test_a_damaged_file_is_wrong_input_and_is_named(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "a b.parquet"
    pq.write_table(pa.table({"id": [str(n) for n in range(1000)]}), path, compression="zstd", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[100:1000] = bytes(900)
    path.write_bytes(content)
    with pytest.raises(GraphInputError, match=r"/a b\.parquet: the file is damaged") as raised, session_for_one_build():
        spark.read.parquet(str(path)).collect()
    assert "\n" not in str(raised.value)


def test_every_path_is_read_once_even_if_names_look_like_patterns(spark: Any, tmp_path: Path) -> None:
    names = ["shop [1]/a.parquet", "shop [1]/b*.parquet", "c.parquet", "d.parquet"]
    (tmp_path / "shop [1]").mkdir()
    for name in names:
        pq.write_table(pa.table({"name": [name]}), tmp_path / name)
    paths = [str(tmp_path / name) for name in names]
    rows = by_literal_name(paths, lambda some: reader(spark).schema("name string").parquet(*some))
    assert sorted(row["name"] for row in rows.collect()) == sorted(names)


FAILURES = {
    "the disk burns": "spark.sql(\"select raise_error('the disk burns')\").collect()",
    "JVM ended in the middle": "SparkContext._gateway.proc.kill(); spark.range(3).count()",
}


@pytest.mark.slow
@pytest.mark.parametrize("cause", FAILURES)
def test_the_cause_is_reported_after_the_jvm_has_ended(cause: str) -> None:
    code = f"""
from pyspark import SparkContext
from graph_build.errors import SparkJobError
from graph_build.spark.session import session_for_one_build
try:
    with session_for_one_build(master="local[1]", driver_memory="1g") as spark:
        {FAILURES[cause]}
except SparkJobError as error:
    print("caught:", error)
    assert SparkContext._gateway is None
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert "caught:" in process.stdout
    assert cause in process.stdout


@pytest.mark.slow
def test_workers_import_our_packages_although_the_working_directory_has_others(tmp_path: Path) -> None:
    (tmp_path / "graph_build").mkdir()
    (tmp_path / "graph_build" / "__init__.py").write_text("raise RuntimeError('the package of the user')\n")
    code = """
from graph_build.spark.session import spark_session
spark = spark_session(master="local[1]", driver_memory="512m")
print(spark.sparkContext.parallelize([0], 1).map(lambda _: __import__("graph_build").__file__).collect()[0])
"""
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert str(tmp_path) not in done.stdout.splitlines()[-1]
