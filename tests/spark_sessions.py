"""The Spark session that the tests of one process share."""

from typing import Any


def small_session() -> Any:
    """Return the session, which is started at the first call.

    It compiles no generated code, because on a few rows this takes longer than it saves. Commands that tests start as
    processes of their own do compile it.
    """
    from graph_build.spark.session import spark_session

    session = spark_session(master="local[2]", driver_memory="1g", shuffle_partitions=2)
    session.conf.set("spark.sql.codegen.wholeStage", "false")
    session.conf.set("spark.sql.codegen.factoryMode", "NO_CODEGEN")
    return session
