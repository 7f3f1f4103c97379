"""`lightsage run` continues after a kill, and a resumed run publishes the same version as an uninterrupted one."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs.cli.cli import main
from tests.jobs.faults import run_until_killed

CONFIG = "[model]\ndim = 16\nmembers = 1\n[model.train]\nmax_epochs = 0.5\nthreads = 1\nseed = {seed}\n"
STAGES = {"graph": "graph: copy", "fit": "train: choose steps", "refit": "train: all events", "index": "index"}


@dataclass(frozen=True)
class Run:
    """A `run` that starts from the shop's graph, so that it needs no Spark, in a workspace of its own."""

    graph: Path
    root: Path

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    def arguments(self, seed: int = 0) -> list[str]:
        config = self.root / f"seed-{seed}.toml"
        config.write_text(CONFIG.format(seed=seed))
        return ["run", "--graph", str(self.graph), "--workspace", str(self.workspace), "--config", str(config)]

    def manifest(self) -> dict[str, Any]:
        current = json.loads((self.workspace / "current").read_text())["version"]
        return json.loads((self.workspace / "versions" / current / "manifest.json").read_text())  # type: ignore[no-any-return]

    def files(self) -> dict[str, Any]:
        """Return path → size and checksum of the version's files, without model.json, which holds the training time."""
        return {name: record for name, record in self.manifest()["files"].items() if name != "model/model.json"}

    def checkpoints(self) -> set[str]:
        folder = self.workspace / "build"
        return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.fixture(scope="module")
def uninterrupted(shop: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(shop.version / "graph", tmp_path_factory.mktemp("uninterrupted"))
    assert main(run.arguments()) == 0
    return run


@pytest.fixture(scope="module")
def killed(shop: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was killed at the beginning of its third stage."""
    run = Run(shop.version / "graph", tmp_path_factory.mktemp("killed"))
    run_until_killed(run.arguments(), STAGES["refit"])
    return run


@pytest.fixture
def stopped(killed: Run, tmp_path: Path) -> Run:
    shutil.copytree(killed.workspace, tmp_path / "workspace")
    return Run(killed.graph, tmp_path)


def test_an_uninterrupted_run_names_its_stages_and_leaves_no_checkpoints(uninterrupted: Run) -> None:
    stages = [record["name"] for record in uninterrupted.manifest()["summary"]["stages"]]
    assert stages == ["read", *STAGES.values()]
    assert uninterrupted.checkpoints() == set()


@pytest.mark.slow
def test_a_killed_run_continues_after_its_finished_stages(
    stopped: Run, uninterrupted: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stopped.checkpoints() == {"graph", "fit"}
    assert not (stopped.workspace / "current").exists()
    assert main(stopped.arguments()) == 0
    assert "stages reused from a run that was stopped: graph, fit" in capsys.readouterr().err
    manifest, expected = stopped.manifest(), uninterrupted.manifest()
    assert [record["name"] for record in manifest["summary"]["stages"]] == ["read", STAGES["refit"], STAGES["index"]]
    for field in ("version", "fingerprint", "metrics"):
        assert manifest[field] == expected[field]
    assert stopped.files() == uninterrupted.files()
    assert stopped.checkpoints() == set()


@pytest.mark.slow
def test_a_changed_configuration_reruns_the_stages_that_depend_on_it(
    stopped: Run, uninterrupted: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(stopped.arguments(seed=1)) == 0
    assert "stages reused from a run that was stopped: graph\n" in capsys.readouterr().err
    assert stopped.files() != uninterrupted.files()
    assert stopped.checkpoints() == set(), "the checkpoints of the other run are gone too"


@pytest.mark.slow
def test_a_run_killed_at_any_point_publishes_nothing_and_a_rerun_finishes(
    shop: Any, uninterrupted: Run, tmp_path: Path
) -> None:
    run = Run(shop.version / "graph", tmp_path)
    for stage, label in STAGES.items():
        for point in (label, f"stamp of {stage}"):
            run_until_killed(run.arguments(), point)
            assert not (run.workspace / "current").exists(), point
    for point in ("publish", "manifest.json", "current"):
        run_until_killed(run.arguments(), point)
        assert not (run.workspace / "current").exists(), point
    assert main(run.arguments()) == 0
    assert run.files() == uninterrupted.files()
    assert run.checkpoints() == set()
    assert not list((run.workspace / "staging").glob("*"))


@pytest.mark.slow
@pytest.mark.thorough
def test_a_run_killed_while_spark_works_is_finished_by_the_next(shop: Any, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    arguments = ["run", *shop.arguments, "--workspace", str(workspace)]
    for point in ("graph", "stamp of graph", STAGES["fit"]):
        run_until_killed(arguments, point)
        assert not (workspace / "current").exists(), point
    assert {path.name for path in (workspace / "build").iterdir()} == {"graph"}
    assert main(arguments) == 0
    [version] = (workspace / "versions").iterdir()
    assert not (workspace / "build").exists()
    assert json.loads((version / "manifest.json").read_text())["metrics"]["validation"]["steps"] > 0
