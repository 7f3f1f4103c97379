"""Settings for the JVMs and threads that tests start, also within commands and clusters; and the order of the tests."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("SPARK_CONF_DIR", str(Path(__file__).with_name("spark")))
# The command sets this too: threads that wait by spinning starve each other, above all beside a second test process.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Files that build what many others share. They run when the JVMs are warm, and while other tests can still run beside.
_MAKERS = ("jobs/candidates/test_compare.py", "jobs/nightly/test_nightly.py")
_MADE_BEFORE = "tests/graph_build/report"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that build what others share where no process has to wait for the other's build."""
    makers = [item for item in items if item.path.as_posix().endswith(_MAKERS)]
    others = [item for item in items if not item.path.as_posix().endswith(_MAKERS)]
    place = next((n for n, item in enumerate(others) if _MADE_BEFORE in item.path.as_posix()), 0)
    items[:] = [*others[:place], *makers, *others[place:]]
