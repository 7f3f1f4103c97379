"""Nights on a small marketplace: what they publish and refuse, and that the served version survives every fault."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs.cli.cli import main
from jobs.marketplace import MarketplaceConfig, MarketplaceFiles, generate
from jobs.nightly import nightly
from jobs.workspace import checkpoints
from jobs.workspace import workspace as store
from jobs.workspace.workspace import Workspace
from tests.jobs.faults import broken_stage, run_until_killed

DAYS = [f"2026-03-0{n}" for n in range(2, 7)]
FIRST, SECOND = DAYS[-2:]
STAGES = ("fit", "judge", "refit", "index", "canary", "publish")


@dataclass(frozen=True)
class Night:
    """A workspace of nights, and the logs by day beside it."""

    root: Path
    files: MarketplaceFiles

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    @property
    def current(self) -> str:
        return Workspace(self.workspace).current()

    def record(self, date: str) -> dict[str, Any]:
        return json.loads((self.workspace / "nights" / date / "night.json").read_text())  # type: ignore[no-any-return]

    def arguments(self, date: str, *more: object) -> list[str]:
        tables = ["--items", str(self.files.items), "--ads", str(self.files.ads)]
        log = ["--events", str(self.root / "log" / "{date}")]
        return ["nightly", "--date", date, *log, *tables, "--workspace", str(self.workspace), *map(str, more)]

    def run(self, date: str, *more: object) -> int:
        return main(self.arguments(date, *more))

    def intact(self) -> bool:
        """Whether every file of the served version is as it was published."""
        Workspace(self.workspace).open(verify=True)
        return True


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, spark_for_commands: Any) -> Night:
    """Three days are stored, and the night of the fourth is published."""
    root = tmp_path_factory.mktemp("nights")
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
    return night


@pytest.fixture(scope="module")
def half(first: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """The second night stopped after its graph."""
    night = copy(first, tmp_path_factory.mktemp("half"))
    with pytest.MonkeyPatch.context() as patch, broken_stage(patch, "fit"):
        assert night.run(SECOND) == 1
    return night


def copy(night: Night, root: Path) -> Night:
    for name in ("workspace", "log"):
        shutil.copytree(night.root / name, root / name)
    return Night(root, night.files)


@pytest.fixture
def stopped(half: Night, tmp_path: Path) -> Night:
    return copy(half, tmp_path)


@pytest.fixture
def published(first: Night, tmp_path: Path) -> Night:
    return copy(first, tmp_path)


def test_the_first_night_is_published_and_reports(first: Night) -> None:
    record = first.record(FIRST)
    assert record["outcome"] == "published"
    assert record["version"] == first.current
    assert record["parent"] is None
    assert not record["warm"]
    assert {row["model"] for row in record["quality"]} == {"fit", "transitions", "rules", "item-kNN", "popularity"}
    assert all(gate["passed"] for gate in record["gates"])
    assert set(record["days"]) == set(DAYS[:-1])
    folder = first.workspace / "nights"
    assert "Published" in (folder / FIRST / "report.html").read_text()
    assert 'lightsage_night_outcome{outcome="published"} 1.0' in (folder / "lightsage.prom").read_text()
    assert not (folder / FIRST / "work").exists()
    assert first.intact()


def test_a_night_that_failed_goes_on_after_its_finished_stages(stopped: Night, first: Night) -> None:
    record = stopped.record(SECOND)
    assert (record["outcome"], record["error"]) == ("failed", "fit")
    assert stopped.current == first.current
    assert "is still served" in (stopped.workspace / "nights" / SECOND / "report.html").read_text()
    assert stopped.run(SECOND) == 0
    record = stopped.record(SECOND)
    assert record["reused"] == ["ingest", "graph"]
    assert record["outcome"] == "published"
    assert record["parent"] == first.current
    assert record["warm"]
    assert record["overlap"] > 0.2
    assert {"fit", "published"} <= {row["model"] for row in record["quality"]}
    version = stopped.workspace / "versions" / stopped.current
    manifest = json.loads((version / "manifest.json").read_text())
    assert manifest["config"]["parent"] == first.current
    assert all(gate["passed"] for gate in manifest["metrics"]["gates"])
    # The same date again: recognised by its inputs, though its stages are gone.
    assert stopped.run(SECOND) == 0
    assert stopped.record(SECOND) == record, "re-running a published date keeps its record"
    assert 'outcome="unchanged"} 1.0' in (stopped.workspace / "nights" / "lightsage.prom").read_text()
    assert len(list((stopped.workspace / "versions").iterdir())) == 2
    # An earlier night does not replace a later one.
    assert stopped.run(FIRST) == 2
    assert stopped.record(FIRST)["outcome"] == "published"


def test_a_failed_gate_keeps_the_served_version_and_force_is_recorded(
    stopped: Night, first: Night, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = tmp_path / "strict.toml"
    strict.write_text("[nightly]\noverlap = 1.0\n")
    assert stopped.run(SECOND, "--config", strict) == 4
    assert "neighbours of the probes that stay: found 0." in capsys.readouterr().err
    assert stopped.current == first.current
    record = stopped.record(SECOND)
    assert record["outcome"] == "refused"
    assert "allowed at least 1" in record["error"]
    page = (stopped.workspace / "nights" / SECOND / "report.html").read_text()
    assert "Refused by its gates" in page
    assert stopped.run(SECOND, "--config", strict, "--force") == 0
    assert stopped.record(SECOND)["reused"] == ["ingest", "graph", "fit", "judge", "refit", "index"]
    manifest = json.loads((stopped.workspace / "versions" / stopped.current / "manifest.json").read_text())
    assert manifest["metrics"]["forced"] == ["neighbours of the probes that stay"]
    # A rollback was a decision: the version is not published again without --force.
    assert main(["rollback", "--workspace", str(stopped.workspace)]) == 0
    assert stopped.run(SECOND, "--config", strict) == 4
    assert "published only with --force" in capsys.readouterr().err
    assert stopped.current == first.current
    assert stopped.record(SECOND)["outcome"] == "published", "re-running a published date keeps its record"


def test_a_forgotten_user_is_in_no_graph_of_a_resumed_night(stopped: Night) -> None:
    events = pq.read_table(stopped.root / "log" / FIRST / "events.parquet")
    user = events["user_id"].drop_null()[0].as_py()
    assert main(["forget", "--user", user, "--workspace", str(stopped.workspace)]) == 0
    with pytest.MonkeyPatch.context() as patch, broken_stage(patch, "graph"):
        assert stopped.run(SECOND) == 1, "the graph is built again"
    assert stopped.record(SECOND)["reused"] == ["ingest"]


def test_old_versions_that_cannot_be_deleted_do_not_undo_a_night(
    stopped: Night, first: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(nightly, "delete_old_versions", busy)
    assert stopped.run(SECOND) == 0
    record = stopped.record(SECOND)
    assert (record["outcome"], record["version"]) == ("published", stopped.current)
    assert stopped.current != first.current
    assert any("could not be deleted: Operation not permitted" in doubt for doubt in record["doubts"])


def test_an_unreadable_parent_is_passed_over_with_a_warning(stopped: Night, first: Night) -> None:
    broken = stopped.workspace / "versions" / first.current / "embeddings" / "item.npy"
    broken.write_bytes(broken.read_bytes()[:-100])
    assert stopped.run(SECOND) == 0
    record = stopped.record(SECOND)
    assert record["outcome"] == "published"
    assert record["parent"] is None
    assert any("cannot be read" in doubt for doubt in record["doubts"])
    assert stopped.intact()


@pytest.mark.parametrize("input_is", ["missing", "empty", "truncated", "of another day"])
def test_a_day_that_cannot_be_read_changes_nothing_and_a_rerun_finishes(
    published: Night, first: Night, input_is: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = published.root / "log" / SECOND / "events.parquet"
    whole = path.read_bytes()
    if input_is == "missing":
        path.unlink()
    elif input_is == "empty":
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    elif input_is == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        shutil.copyfile(published.root / "log" / FIRST / "events.parquet", path)
    assert published.run(SECOND) == 2
    assert SECOND in capsys.readouterr().err
    assert published.current == first.current
    assert published.intact()
    assert published.record(SECOND)["outcome"] == "failed"
    path.write_bytes(whole)
    days = json.loads((published.workspace / "days" / "days.json").read_text())["days"]
    assert sorted(days) == DAYS[:-1]


def test_a_disk_that_fills_while_the_manifest_is_written(
    stopped: Night, first: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_whole", full)
        assert stopped.run(SECOND) == 1
    assert stopped.current == first.current
    assert stopped.intact()
    assert stopped.run(SECOND) == 0
    assert stopped.record(SECOND)["reused"] == ["ingest", "graph", "fit", "judge", "refit", "index"]


def test_a_run_that_is_killed_in_the_middle_of_a_stage(stopped: Night, first: Night) -> None:
    killed(stopped, "stamp of refit")
    assert stopped.current == first.current
    assert stopped.intact()
    assert stopped.run(SECOND) == 0
    assert stopped.record(SECOND)["reused"] == ["ingest", "graph", "fit", "judge"]


def full(path: Path, content: bytes) -> None:
    raise OSError(28, "No space left on device", str(path))


def killed(night: Night, point: str) -> None:
    run_until_killed(night.arguments(SECOND), point)


# The matrix: every stage and every write of the workspace, each with a kill and a full disk. One night suffers them in
# turn: an attempt that reaches a later point has finished the stages before it.


@pytest.mark.slow
def test_a_kill_anywhere_leaves_the_served_version_and_a_rerun_finishes(stopped: Night, first: Night) -> None:
    points = [point for stage in STAGES[:4] for point in (stage, f"stamp of {stage}")]
    for point in [*points, *STAGES[4:], "manifest.json"]:
        killed(stopped, point)
        assert stopped.current == first.current, point
        assert stopped.intact(), point
    for point in ("current", "night.json"):
        killed(stopped, point)
        assert stopped.intact(), point
    assert stopped.run(SECOND) == 0
    assert stopped.record(SECOND)["version"] == stopped.current != first.current
    assert stopped.intact()
    assert not list((stopped.workspace / "staging").glob("*"))


@pytest.mark.slow
def test_a_kill_while_spark_works(published: Night, first: Night) -> None:
    for point in ("ingest", "graph", "stamp of graph"):
        killed(published, point)
        assert published.current == first.current, point
        assert published.intact(), point
    assert published.run(SECOND) == 0
    assert published.record(SECOND)["outcome"] == "published"


@pytest.mark.slow
def test_a_full_disk_in_any_stage(published: Night, first: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    for stage in ("ingest", "graph", *STAGES):
        with broken_stage(monkeypatch, stage, OSError(28, "No space left on device")):
            assert published.run(SECOND) == 1, stage
        assert published.current == first.current, stage
        assert published.intact(), stage
    assert published.run(SECOND) == 0
    assert published.intact()


@pytest.mark.slow
@pytest.mark.parametrize("module", [store, checkpoints], ids=["store", "stages"])
def test_a_full_disk_in_every_write(stopped: Night, first: Night, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[[Path, bytes], None] = module.write_whole
    for survived in range(20):
        remaining = survived

        def write_whole(path: Path, content: bytes) -> None:
            nonlocal remaining
            if remaining == 0:
                full(path, content)
            remaining -= 1
            real(path, content)

        with monkeypatch.context() as patch:
            patch.setattr(module, "write_whole", write_whole)
            code = stopped.run(SECOND)
        assert stopped.intact()
        if remaining > 0:
            break
        assert code in (0, 1)
    assert code == 0
    assert nightly.Workspace(stopped.workspace).current() != first.current
