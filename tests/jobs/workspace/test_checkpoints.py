"""A stage runs once, and again if its inputs change or its outputs are damaged; it never stays half finished."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import WorkspaceFullError
from jobs.progress import ProgressCallback, StageProgress
from jobs.workspace.checkpoints import Checkpoints, StageResult

Build = Callable[[Path, ProgressCallback], None]


@pytest.fixture
def stages(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "work", StageProgress())


def writes(text: str, calls: list[str]) -> Build:
    def build(out: Path, _: ProgressCallback) -> None:
        calls.append(text)
        (out / "deep").mkdir()
        (out / "deep" / "file").write_text(text)

    return build


def run(stages: Checkpoints, inputs: dict[str, Any], text: str, calls: list[str]) -> StageResult:
    return stages.run("graph", inputs, writes(text, calls))


def test_a_stage_runs_once_for_the_same_inputs(stages: Checkpoints) -> None:
    calls: list[str] = []
    first = run(stages, {"a": 1, "b": ["x"]}, "one", calls)
    repeated = run(stages, {"b": ["x"], "a": 1}, "two", calls)
    assert calls == ["one"]
    assert (first.reused, repeated.reused, first.fingerprint) == (False, True, repeated.fingerprint)
    assert (repeated.folder / "deep" / "file").read_text() == "one"
    assert stages.reused == ["graph"]
    assert [record.name for record in stages.progress.records] == ["graph"]


def test_changed_inputs_are_named_and_make_another_fingerprint(
    stages: Checkpoints, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []
    first = run(stages, {"a": 1, "b": 1}, "one", calls)
    with caplog.at_level("INFO", "jobs.workspace.checkpoints"):
        changed = run(stages, {"a": 1, "b": 2, "c": 0}, "two", calls)
    assert calls == ["one", "two"]
    assert changed.fingerprint != first.fingerprint
    assert (changed.folder / "deep" / "file").read_text() == "two"
    assert "b, c changed" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "gone", "other", "stamp", "no stamp"])
def test_a_damaged_stage_runs_again(stages: Checkpoints, damage: str) -> None:
    calls: list[str] = []
    folder = run(stages, {}, "one", calls).folder
    file, stamp = folder / "deep" / "file", folder / "stage.json"
    if damage == "cut":
        file.write_text("on")
    elif damage == "gone":
        file.unlink()
    elif damage == "other":
        file.write_text("eno")
    elif damage == "stamp":
        stamp.write_text(stamp.read_text()[:40])
    else:
        stamp.unlink()
    assert not run(stages, {}, "two", calls).reused
    assert file.read_text() == "two"


def test_a_stage_that_fails_leaves_the_earlier_result_and_no_scratch_folder(stages: Checkpoints) -> None:
    folder = run(stages, {"a": 1}, "one", []).folder

    def fails(out: Path, _: ProgressCallback) -> None:
        (out / "half").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        stages.run("graph", {"a": 2}, fails)
    assert (folder / "deep" / "file").read_text() == "one"
    assert [path.name for path in stages.folder.iterdir()] == ["graph"]


def test_a_full_disk_is_reported_and_leaves_nothing(stages: Checkpoints) -> None:
    def fills(_: Path, __: ProgressCallback) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WorkspaceFullError, match=r"no space left while building in .*bytes free"):
        stages.run("graph", {}, fills)
    assert list(stages.folder.iterdir()) == []


def test_leftovers_of_a_dead_run_are_deleted(stages: Checkpoints) -> None:
    leftover = stages.folder / ".graph-0000.part"
    leftover.mkdir()
    Checkpoints(stages.folder, StageProgress())
    assert not leftover.exists()


def test_outputs_are_linked_elsewhere_without_the_stamp(stages: Checkpoints, tmp_path: Path) -> None:
    result = run(stages, {}, "one", [])
    result.link_into(tmp_path / "version")
    paths = [path for path in (tmp_path / "version").rglob("*") if path.is_file()]
    assert [path.relative_to(tmp_path / "version").as_posix() for path in paths] == ["deep/file"]
    assert paths[0].samefile(result.folder / "deep" / "file")
    stages.remove()
    assert paths[0].read_text() == "one"


def test_a_label_names_the_stage_only_in_the_progress(stages: Checkpoints) -> None:
    result = stages.run("graph", {}, writes("one", []), label="graph: copy")
    assert result.folder.name == "graph"
    assert [record.name for record in stages.progress.records] == ["graph: copy"]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=3), values, max_size=3), st.data())
def test_a_stage_is_reused_exactly_for_equal_inputs(
    tmp_path_factory: pytest.TempPathFactory, inputs: dict[str, Any], data: st.DataObject
) -> None:
    other_inputs = data.draw(st.just(inputs) | st.dictionaries(st.text(min_size=1, max_size=3), values, max_size=3))
    stages = Checkpoints(tmp_path_factory.mktemp("work"), StageProgress())
    run(stages, inputs, "one", [])
    same = json.dumps(inputs, sort_keys=True) == json.dumps(other_inputs, sort_keys=True)
    assert run(stages, other_inputs, "two", []).reused == same
