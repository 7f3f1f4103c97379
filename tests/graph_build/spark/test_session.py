"""What a failure of Spark itself says, in the session and after its JVM is gone."""

import subprocess
import sys
from typing import Any

import pytest

from graph_build.errors import SparkJobError
from graph_build.spark.session import session_for_one_build


def test_spark_failures_say_their_root_cause_and_keep_the_rest_as_a_note(spark: Any) -> None:
    with pytest.raises(SparkJobError, match="the disk burns") as raised, session_for_one_build() as session:
        session.sql("select raise_error('the disk burns')").collect()
    assert "\n" not in str(raised.value)
    assert raised.value.__notes__
    assert spark.range(3).count() == 3, "a session that was there before goes on"


def test_errors_of_the_block_itself_pass_unchanged(spark: Any) -> None:
    with pytest.raises(KeyError, match="mine"), session_for_one_build():
        raise KeyError("mine")


ENDINGS = {
    "the disk burns": "spark.sql(\"select raise_error('the disk burns')\").collect()",
    "JVM ended in the middle": "SparkContext._gateway.proc.kill(); spark.range(3).count()",
}


@pytest.mark.slow
@pytest.mark.parametrize("said", ENDINGS)
def test_the_cause_can_be_read_when_the_jvm_is_gone(said: str) -> None:
    code = f"""
from pyspark import SparkContext
from graph_build.errors import SparkJobError
from graph_build.spark.session import session_for_one_build
try:
    with session_for_one_build(master="local[1]", driver_memory="1g") as spark:
        {ENDINGS[said]}
except SparkJobError as error:
    print("caught:", error)
    assert SparkContext._gateway is None
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert "caught:" in ran.stdout
    assert said in ran.stdout
