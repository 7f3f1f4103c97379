"""Workspaces in which one night was published, and the next one was stopped or has not begun."""

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs.cli.cli import main
from jobs.marketplace import MarketplaceConfig, generate
from tests.jobs.conftest import made_once, marketplace_files
from tests.jobs.faults import broken_stage
from tests.jobs.nightly.workspaces import DAYS, FIRST, SECOND, Night, copy_night


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory, spark_for_commands: Any) -> Night:
    """Return a workspace in which three days are stored and the night of the fourth is published."""

    def make(root: Path) -> None:
        files = generate(MarketplaceConfig.small(), root / "marketplace")
        events = pq.read_table(files.events)
        day = pc.strftime(events["timestamp"], format="%Y-%m-%d")
        for date in DAYS:
            (root / "log" / date).mkdir(parents=True)
            pq.write_table(events.filter(pc.equal(day, date)), root / "log" / date / "events.parquet")
        night = Night(root, files)
        logs = [str(root / "log" / date) for date in DAYS[:-2]]
        assert main(["ingest", "--events", *logs, "--workspace", str(night.workspace)]) == 0
        assert night.run(FIRST) == 0

    root = made_once(tmp_path_factory, "nights", make)
    return Night(root, marketplace_files(root / "marketplace"))


@pytest.fixture(scope="session")
def stopped_after_graph(first: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Return a workspace in which the second night stopped after its graph was built."""

    def make(root: Path) -> None:
        root.mkdir()
        night = copy_night(first, root)
        with pytest.MonkeyPatch.context() as patch, broken_stage(patch, "fit"):
            assert night.run(SECOND) == 1

    return Night(made_once(tmp_path_factory, "stopped-night", make), first.files)


@pytest.fixture
def stopped(stopped_after_graph: Night, tmp_path: Path) -> Night:
    return copy_night(stopped_after_graph, tmp_path)


@pytest.fixture
def published(first: Night, tmp_path: Path) -> Night:
    return copy_night(first, tmp_path)
