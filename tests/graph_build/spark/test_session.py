"""The errors of Spark name their root cause, in a live session and after its JVM has ended."""

import subprocess
import sys
from typing import Any

import pytest

from graph_build.errors import SparkJobError
from graph_build.spark.session import session_for_one_build


def test_a_spark_failure_names_its_root_cause_and_keeps_the_rest_as_a_note(spark: Any) -> None:
    with pytest.raises(SparkJobError, match="the disk burns") as raised, session_for_one_build() as session:
        session.sql("select raise_error('the disk burns')").collect()
    assert "\n" not in str(raised.value)
    assert raised.value.__notes__
    assert spark.range(3).count() == 3, "an earlier session stays alive"


def test_errors_of_the_code_inside_the_block_are_raised_unchanged(spark: Any) -> None:
    with pytest.raises(KeyError, match="mine"), session_for_one_build():
        raise KeyError("mine")


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
