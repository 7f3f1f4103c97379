"""If Spark is too old or not installed, the error is one line that says what to do."""

import logging
from types import SimpleNamespace
from typing import Any

import pyspark
import pytest

from graph_build.__main__ import main
from graph_build.errors import GraphInputError, SparkJobError, SparkVersionError
from graph_build.spark import requirements, session, storage


def test_an_older_spark_is_refused_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pyspark, "__version__", "3.5.1")
    with caplog.at_level(logging.ERROR):
        assert main(["--events", "e", "--out", "o"]) == 2
    assert "this host has Spark 3.5.1, but the graph build needs Spark 4.0 or newer" in caplog.text
    assert "Traceback" not in caplog.text


def test_an_older_cluster_behind_a_newer_client_is_refused() -> None:
    with pytest.raises(SparkVersionError, match=r"the cluster runs Spark 3\.4\.0"):
        session._with_query_settings(SimpleNamespace(version="3.4.0"))  # type: ignore[arg-type]


@pytest.mark.parametrize("release", ["4.0.0", "4.3.0", "5.0", "4.1.0.dev0", "unknown"])
def test_newer_releases_pass(release: str) -> None:
    requirements.check_version(release, "the cluster runs")


def test_a_missing_pyspark_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "find_spec", lambda _: None)
    with pytest.raises(SparkVersionError, match=r"pip install 'lightsage-ads-retrieval\[graph\]'"):
        requirements.check_spark()


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ('org.apache.hadoop.fs.UnsupportedFileSystemException: No FileSystem for scheme "s3"\n\tat x', "s3a://"),
        (
            "java.lang.ClassNotFoundException: Class org.apache.hadoop.fs.s3a.S3AFileSystem not found\n\tat x",
            "--packages",
        ),
        (
            "NoAuthWithAWSException: No AWS Credentials provided by TemporaryAWSCredentialsProvider\n\tat x",
            "AWS_ACCESS",
        ),
        ("software.amazon.awssdk.services.s3.model.S3Exception: (Service: S3, Status Code: 403)\n\tat x", "AWS_ACCESS"),
    ],
)
def test_what_spark_says_of_an_object_store_is_one_line_with_the_way_out(report: str, words: str) -> None:
    error = session._readable(RuntimeError(f"An error occurred while calling o1.load.\n: {report}"))
    assert isinstance(error, GraphInputError)
    assert words in str(error)
    assert "\n" not in str(error)
    assert isinstance(session._readable(RuntimeError("o1\n: java.lang.Error: else\n\tat x")), SparkJobError)


def test_a_scheme_whose_package_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def fails(*_: Any, **__: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", fails)
    for read in (storage.read_text, storage.exists, storage.list_folder, storage.open_file, storage.names_below):
        with pytest.raises(GraphInputError, match="s3://bucket/x cannot be used: Install s3fs to access S3"):
            read("s3://bucket/x")
    with pytest.raises(GraphInputError):
        storage.write_text("s3://bucket/x", "")
