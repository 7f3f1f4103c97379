"""Checks that the host has Spark 4.0 or newer. Older releases lack names that the other modules import."""

from importlib.util import find_spec

from graph_build.errors import SparkVersionError

OLDEST = 4


def check_spark() -> None:
    """Check that pyspark is installed and new enough.

    Raises:
        SparkVersionError: pyspark is not installed, or too old.
    """
    if find_spec("pyspark") is None:
        raise SparkVersionError(
            "the package pyspark is not installed, with which the item graph is built; "
            "`pip install 'lightsage-ads-retrieval[graph]'` installs it"
        )
    import pyspark

    check_version(pyspark.__version__, "this host has")


def check_version(release: str, what: str) -> None:
    """Check that a release of Spark is new enough.

    Args:
        release: the release, such as 4.0.1.
        what: where the release was seen, for the message, such as "the cluster runs".

    Raises:
        SparkVersionError: the release is older than 4.0.
    """
    major = release.partition(".")[0]
    if major.isdigit() and int(major) < OLDEST:
        raise SparkVersionError(
            f"{what} Spark {release}, but the graph build needs Spark {OLDEST}.0 or newer: submit it to a newer "
            "cluster, or build the graph on one host with `lightsage run --events`"
        )
