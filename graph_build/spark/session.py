"""Starts the Spark session that the graph build runs in: the cluster's under spark-submit, else a quiet local one."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from graph_build.errors import GraphInputError, SparkJobError
from graph_build.spark.java import java_home
from graph_build.spark.requirements import check_spark, check_version

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, DataFrameReader, SparkSession

# Settings of queries, not of the process, so that they can also be set in a session that somebody else started.
QUERY_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.adaptive.enabled": "true",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # A shop's `color` and `Color` are two columns, as they are to parquet.
    "spark.sql.caseSensitive": "true",
    # pandas writes nanoseconds; Spark reads them only as plain integers.
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    # Times before 1900 are read as they are written. Without these settings, Spark refuses them, or moves them to
    # another calendar.
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
    # Only Spark's vectorized reader can read half-precision floats.
    "spark.sql.parquet.enableVectorizedReader": "true",
    "spark.sql.parquet.enableNestedColumnVectorizedReader": "true",
    # A file that cannot be read must not count as empty.
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
    # CSV may be in any encoding that Java knows.
    "spark.sql.legacy.javaCharsets": "true",
    # Spark's default is INT96, which other readers read as nanoseconds without a time zone.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
}

# At most this many events share a partition of a shuffle; their edges take a few hundred MB.
SHUFFLE_EVENTS = 1_000_000

LONGEST_CAUSE = 500  # characters; a cause may hold a whole plan or row

_PATTERN = {*"[]{}*?\\"}

# Intermediate results are written to parquet files in this folder, so that Spark's plans stay short and no result is
# lost with an executor.
STAGING = "_staging"
_UNREADABLE_FILE = re.compile(r"\[FAILED_READ_FILE\.\w+\] Encountered error while reading file (\S.*?)\.\s")

# Pattern of the JVM's error about an object store → what to do.
_STORE_REMEDIES = {
    r"S3AFileSystem not found|No FileSystem for scheme": (
        "Write S3 paths as s3a://, and start Spark with the package of its Hadoop release, e.g. "
        "`--packages org.apache.hadoop:hadoop-aws:3.4.1` (other stores have packages of their own)"
    ),
    r"NoAuthWithAWSException|CredentialInitializationException|No AWS Credentials|NoAwsCredentials|"
    r"InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|Status Code: 40[13]": (
        "Check the credentials and what they allow: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment of "
        "every worker, or Spark's settings spark.hadoop.fs.s3a.*"
    ),
}


def spark_session(
    *,
    master: str | None = None,
    app_name: str = "lightsage-graph",
    driver_memory: str = "3g",
    shuffle_partitions: int | None = None,
    local_dir: str | None = None,
) -> "SparkSession":
    """Return the active session if there is one, with only the query settings changed; else a new one.

    Under spark-submit, only the query settings, `app_name`, `shuffle_partitions` and a given `master` are set. All
    other settings are those of the cluster.

    Args:
        master: Spark's master; by default what spark-submit set, else `local[*]`.
        app_name: the name that Spark's own pages show.
        driver_memory: heap of the JVM in local mode, e.g. `"3g"`.
        shuffle_partitions: upper bound of the partitions after a shuffle; by default twice the cores locally,
            Spark's own default on a cluster. Adaptive execution joins small partitions.
        local_dir: where shuffles spill; by default Spark's.

    Raises:
        JavaNotFoundError: no Java 17 or later on this host.
        SparkVersionError: Spark is older than 4.0.
    """
    check_spark()
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    if active is not None:
        return _with_query_settings(active)

    submitted = "SPARK_ENV_LOADED" in os.environ or "PYSPARK_GATEWAY_PORT" in os.environ
    builder = SparkSession.builder.appName(app_name)
    if not submitted:
        os.environ["JAVA_HOME"] = str(java_home())
        # By default Spark's workers run the `python3` on PATH, which may belong to another environment than this one.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        master = master or "local[*]"
        room = str(Path(__file__).resolve().parents[2])
        paths = [room, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        log4j = Path(__file__).with_name("log4j2.json").resolve().as_uri()
        settings = {
            "spark.driver.memory": driver_memory,
            "spark.ui.enabled": "false",
            # To note the line of Python that built a column, Spark would call the JVM five times for every column.
            "spark.python.sql.dataFrameDebugging.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.shuffle.partitions": str(shuffle_partitions or 2 * _cores(master)),
            "spark.executorEnv.OMP_NUM_THREADS": "1",
            "spark.executorEnv.PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
            # Workers are started with `python -m`, which would look for our packages in the working directory first.
            "spark.executorEnv.PYTHONSAFEPATH": "1",
            # Small batches keep the memory of the Python workers low.
            "spark.sql.execution.arrow.maxRecordsPerBatch": "50000",
            "spark.driver.extraJavaOptions": f"-XX:+UseParallelGC -Dlog4j2.configurationFile={log4j}",
        }
        if master.startswith("local"):  # with any other master, workers must be able to reach this host
            settings |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
        if local_dir is not None:
            settings["spark.local.dir"] = local_dir
        for name, value in settings.items():
            builder = builder.config(name, value)
    elif shuffle_partitions is not None:
        builder = builder.config("spark.sql.shuffle.partitions", str(shuffle_partitions))
    if master is not None:
        builder = builder.master(master)
    spark = builder.getOrCreate()
    return _with_query_settings(spark)


def reader(spark: "SparkSession") -> "DataFrameReader":
    """Return Spark's reader of files, for which a path is never a pattern: a folder may be called `shop [1]`."""
    return spark.read.option("__globPaths__", False)


def by_literal_name(paths: "Sequence[str]", read: "Callable[[list[str]], DataFrame]") -> "DataFrame":
    """Return the rows of all paths; each path is a name, even if it looks like a pattern.

    Where patterns are off, Spark reads every path once more for each path that looks like a pattern. Such a path is
    therefore read on its own.

    Args:
        paths: at least one file or folder.
        read: reads a list of paths with `reader`.
    """
    plain = [path for path in paths if not _PATTERN & {*path}]
    groups = [plain, *([path] for path in paths if _PATTERN & {*path})]
    return reduce(lambda rows, more: rows.unionAll(more), [read(group) for group in groups if group])


@contextmanager
def session_for_one_build(*, master: str | None = None, driver_memory: str = "3g") -> "Iterator[SparkSession]":
    """Give a Spark session to the block. If it was started for the block, it ends with the block, and so does its JVM.

    `SparkSession.stop` alone would leave the JVM running, and its heap would hold memory that the training needs.

    Args:
        master: Spark's master, as in `spark_session`.
        driver_memory: heap of the JVM in local mode, e.g. `"3g"`.

    Raises:
        GraphInputError: a file that Spark was reading is damaged, or an object store cannot be used.
        SparkJobError: Spark failed inside the block for another reason.
    """
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    try:
        yield spark_session(master=master, driver_memory=driver_memory)
    except (PySparkException, Py4JError, ConnectionError) as error:
        # Spark's own exceptions ask the JVM for their text, but the JVM is gone by the time they are printed.
        raise _readable(error) from None
    except KeyboardInterrupt:
        _end_starting()
        raise
    finally:
        if active is None:
            _end_session()


def _end_session() -> None:
    """Stop the session and the JVM that was started for it."""
    from py4j.protocol import Py4JError
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    gateway = SparkContext._gateway
    process = getattr(gateway, "proc", None)
    with suppress(Py4JError, OSError):  # a JVM that died has nothing left to stop
        if (spark := SparkSession.getActiveSession()) is not None:
            spark.stop()
    if gateway is not None and process is not None:  # under spark-submit the JVM is not ours
        gateway.shutdown()
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.wait(timeout=30)
        SparkContext._gateway = SparkContext._jvm = None


def _end_starting() -> None:
    """End a JVM that Python was starting when it was interrupted; nothing else ends such a JVM."""
    from pyspark import SparkContext

    if SparkContext._gateway is None:
        with suppress(ImportError):
            import psutil

            for child in psutil.Process().children():
                if child.name() == "java":
                    child.kill()


def _readable(error: Exception) -> GraphInputError | SparkJobError:
    """Return the root cause in one line, while the JVM can still tell it."""
    from py4j.protocol import Py4JError, Py4JJavaError

    report = str(error)
    unanswered = isinstance(error, Py4JError) and not isinstance(error, Py4JJavaError)
    if unanswered or isinstance(error, ConnectionError):
        return SparkJobError(
            "Spark's JVM ended in the middle of the job, most often because the system was out of memory; "
            "close other programs or give it less (`driver_memory = '2g'` under `[spark]` in the configuration)"
        )
    # "An error occurred while calling o7.count.\n: SomeException: why\n\tat …\nCaused by: RootException: why\n\tat …"
    root = report.rpartition("Caused by: ")[2].partition("\n:")
    cause = " ".join((root[2] or root[0]).partition("\n\tat ")[0].split())[:LONGEST_CAUSE]
    if remedy := _store_remedy(report):
        unusable = GraphInputError(f"Spark cannot use an object store: {cause}. {remedy}")
        unusable.add_note(report)
        return unusable
    if (file := _UNREADABLE_FILE.search(report)) and f"/{STAGING}/" not in file[1]:
        path = unquote(re.sub("^file:/+", "/", file[1]))
        damaged = GraphInputError(f"{path}: the file is damaged ({cause}); write it anew")
        damaged.add_note(report)
        return damaged
    advice = ""
    if "OutOfMemoryError" in report:
        advice = "; give it more memory (`driver_memory = '6g'` under `[spark]` in the configuration)"
    readable = SparkJobError(f"Spark failed: {cause or type(error).__name__}{advice}")
    readable.add_note(report)
    return readable


def _store_remedy(report: str) -> str | None:
    """Return what to do about an error of Spark's own readers of object stores; None for any other error."""
    return next((remedy for pattern, remedy in _STORE_REMEDIES.items() if re.search(pattern, report)), None)


def make_room(spark: "SparkSession", events: int) -> None:
    """Raise the number of partitions after a shuffle to what the events need; Spark joins small partitions again.

    Args:
        spark: the Spark session.
        events: how many events will be shuffled.
    """
    name = "spark.sql.shuffle.partitions"
    spark.conf.set(name, str(max(int(spark.conf.get(name) or 0), -(-events // SHUFFLE_EVENTS))))


def _with_query_settings(spark: "SparkSession") -> "SparkSession":
    check_version(spark.version, "the cluster runs")
    for name, value in QUERY_SETTINGS.items():
        spark.conf.set(name, value)
    return spark


def _cores(master: str) -> int:
    """Return the number of cores that a `local[n]` master uses."""
    inside = master.partition("[")[2].partition("]")[0].partition(",")[0]
    return int(inside) if inside.isdigit() else len(os.sched_getaffinity(0))
