"""Settings of what tests start: of every JVM, those of commands and of clusters too, and of threads."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("SPARK_CONF_DIR", str(Path(__file__).with_name("spark")))
# As the command does: threads that wait by spinning starve each other, the more so beside a second process of tests.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_MAKERS = ("jobs/candidates/test_compare.py", "jobs/nightly/test_nightly.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that make what others share, one in each process, so that neither waits for the other."""
    items.sort(key=lambda item: not item.path.as_posix().endswith(_MAKERS))
