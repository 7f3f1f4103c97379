"""Settings of what tests start: of every JVM, those of commands and of clusters too, and of threads."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("SPARK_CONF_DIR", str(Path(__file__).with_name("spark")))
# As the command does: threads that wait by spinning starve each other, the more so beside a second process of tests.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Files that make what many others share. They come when the JVMs are warm, and while there is other work.
_MAKERS = ("jobs/candidates/test_compare.py", "jobs/nightly/test_nightly.py")
_MADE_BEFORE = "tests/graph_build/report"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the makers where no process waits for what the other one makes."""
    makers = [item for item in items if item.path.as_posix().endswith(_MAKERS)]
    others = [item for item in items if not item.path.as_posix().endswith(_MAKERS)]
    place = next((n for n, item in enumerate(others) if _MADE_BEFORE in item.path.as_posix()), 0)
    items[:] = [*others[:place], *makers, *others[place:]]
