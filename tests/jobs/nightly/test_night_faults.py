"""The served version survives every fault of a night, and a rerun finishes the night."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.nightly import nightly
from jobs.workspace import checkpoints, version_folder
from tests.jobs.faults import broken_stage, run_until_killed
from tests.jobs.nightly.workspaces import DAYS, FIRST, SECOND, Night

STAGES = ("fit", "judge", "refit", "index", "canary", "publish")


_SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "input_is",
    [pytest.param("missing", marks=_SLOW), pytest.param("empty", marks=_SLOW), "truncated", "of another day"],
)
def test_a_day_that_cannot_be_read_changes_nothing_and_a_rerun_finishes(
    published: Night, first: Night, input_is: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = published.root / "log" / SECOND / "events.parquet"
    content = path.read_bytes()
    if input_is == "missing":
        path.unlink()
    elif input_is == "empty":
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    elif input_is == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        shutil.copyfile(published.root / "log" / FIRST / "events.parquet", path)
    assert published.run(SECOND) == 2
    assert SECOND in capsys.readouterr().err
    assert published.current == first.current
    assert published.intact()
    assert published.record(SECOND)["outcome"] == "failed"
    path.write_bytes(content)
    days = json.loads((published.workspace / "days" / "days.json").read_text())["days"]
    assert sorted(days) == DAYS[:-1]


@pytest.mark.slow
def test_a_full_disk_while_the_manifest_is_written_changes_nothing_and_a_rerun_finishes(
    stopped: Night, first: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(version_folder, "write_whole", fail_for_lack_of_space)
        assert stopped.run(SECOND) == 1
    assert stopped.current == first.current
    assert stopped.intact()
    assert stopped.run(SECOND) == 0
    assert stopped.record(SECOND)["reused"] == ["ingest", "graph", "fit", "judge", "refit", "index"]


@pytest.mark.slow
def test_a_night_killed_in_the_middle_of_a_stage_continues_after_the_stage_before(stopped: Night, first: Night) -> None:
    kill_at(stopped, "stamp of refit")
    assert stopped.current == first.current
    assert stopped.intact()
    assert stopped.run(SECOND) == 0
    assert stopped.record(SECOND)["reused"] == ["ingest", "graph", "fit", "judge"]


def fail_for_lack_of_space(path: Path, content: bytes) -> None:
    raise OSError(28, "No space left on device", str(path))


def kill_at(night: Night, point: str) -> None:
    run_until_killed(night.arguments(SECOND), point)


# The next tests kill a night, or fill its disk, in every stage and at every write of the workspace. The same night is
# stopped at one point after the other: an attempt that reaches a later point has finished the stages before it.


@pytest.mark.slow
def test_a_kill_anywhere_leaves_the_served_version_and_a_rerun_finishes(stopped: Night, first: Night) -> None:
    points = [point for stage in STAGES[:4] for point in (stage, f"stamp of {stage}")]
    for point in [*points, *STAGES[4:], "manifest.json"]:
        kill_at(stopped, point)
        assert stopped.current == first.current, point
        assert stopped.intact(), point
    for point in ("current", "night.json"):
        kill_at(stopped, point)
        assert stopped.intact(), point
    assert stopped.run(SECOND) == 0
    assert stopped.record(SECOND)["version"] == stopped.current != first.current
    assert stopped.intact()
    assert not list((stopped.workspace / "staging").glob("*"))


@pytest.mark.slow
def test_a_kill_while_spark_works_leaves_the_served_version_and_a_rerun_finishes(
    published: Night, first: Night
) -> None:
    for point in ("ingest", "graph", "stamp of graph"):
        kill_at(published, point)
        assert published.current == first.current, point
        assert published.intact(), point
    assert published.run(SECOND) == 0
    assert published.record(SECOND)["outcome"] == "published"


@pytest.mark.slow
def test_a_full_disk_in_any_stage_leaves_the_served_version_and_a_rerun_finishes(
    published: Night, first: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in ("ingest", "graph", *STAGES):
        with broken_stage(monkeypatch, stage, OSError(28, "No space left on device")):
            assert published.run(SECOND) == 1, stage
        assert published.current == first.current, stage
        assert published.intact(), stage
    assert published.run(SECOND) == 0
    assert published.intact()


@pytest.mark.slow
@pytest.mark.parametrize("module", [version_folder, checkpoints], ids=["store", "stages"])
def test_a_full_disk_in_any_write_leaves_a_served_version_and_a_rerun_finishes(
    stopped: Night, first: Night, module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_whole_before: Callable[[Path, bytes], None] = module.write_whole
    for n_successful in range(20):
        remaining = n_successful

        def write_whole(path: Path, content: bytes) -> None:
            nonlocal remaining
            if remaining == 0:
                fail_for_lack_of_space(path, content)
            remaining -= 1
            write_whole_before(path, content)

        with monkeypatch.context() as patch:
            patch.setattr(module, "write_whole", write_whole)
            code = stopped.run(SECOND)
        assert stopped.intact()
        if remaining > 0:
            break
        assert code in (0, 1)
    assert code == 0
    assert nightly.Workspace(stopped.workspace).current() != first.current
