"""Stages are done once, again when what went in changed or what came out is damaged, and never by half."""

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
from jobs.workspace.checkpoints import Done, Stages

Build = Callable[[Path, ProgressCallback], None]


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return Stages(tmp_path / "work", StageProgress())


def writes(text: str, calls: list[str]) -> Build:
    def build(out: Path, _: ProgressCallback) -> None:
        calls.append(text)
        (out / "deep").mkdir()
        (out / "deep" / "file").write_text(text)

    return build


def run(stages: Stages, inputs: dict[str, Any], text: str, calls: list[str]) -> Done:
    return stages.run("graph", inputs, writes(text, calls))


def test_a_stage_is_done_once_for_the_same_inputs(stages: Stages) -> None:
    calls: list[str] = []
    first = run(stages, {"a": 1, "b": ["x"]}, "one", calls)
    again = run(stages, {"b": ["x"], "a": 1}, "two", calls)
    assert calls == ["one"]
    assert (first.reused, again.reused, first.mark) == (False, True, again.mark)
    assert (again.folder / "deep" / "file").read_text() == "one"
    assert stages.reused == ["graph"]
    assert [record.name for record in stages.progress.records] == ["graph"]


def test_changed_inputs_are_named_and_make_another_mark(stages: Stages, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []
    first = run(stages, {"a": 1, "b": 1}, "one", calls)
    with caplog.at_level("INFO", "jobs.workspace.checkpoints"):
        changed = run(stages, {"a": 1, "b": 2, "c": 0}, "two", calls)
    assert calls == ["one", "two"]
    assert changed.mark != first.mark
    assert (changed.folder / "deep" / "file").read_text() == "two"
    assert "b, c changed" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "gone", "other", "stamp", "no stamp"])
def test_what_is_damaged_is_done_again(stages: Stages, damage: str) -> None:
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


def test_a_stage_that_fails_leaves_what_was_there_and_no_scratch(stages: Stages) -> None:
    folder = run(stages, {"a": 1}, "one", []).folder

    def fails(out: Path, _: ProgressCallback) -> None:
        (out / "half").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        stages.run("graph", {"a": 2}, fails)
    assert (folder / "deep" / "file").read_text() == "one"
    assert [path.name for path in stages.folder.iterdir()] == ["graph"]


def test_a_full_disk_is_said_and_leaves_nothing(stages: Stages) -> None:
    def fills(_: Path, __: ProgressCallback) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WorkspaceFullError, match=r"no space left while building in .*bytes free"):
        stages.run("graph", {}, fills)
    assert list(stages.folder.iterdir()) == []


def test_what_a_dead_run_left_behind_is_swept(stages: Stages) -> None:
    left = stages.folder / ".graph-0000.part"
    left.mkdir()
    Stages(stages.folder, StageProgress())
    assert not left.exists()


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=3), values, max_size=3), st.data())
def test_equal_inputs_and_only_they_are_recognised(
    tmp_path_factory: pytest.TempPathFactory, inputs: dict[str, Any], data: st.DataObject
) -> None:
    other = data.draw(st.just(inputs) | st.dictionaries(st.text(min_size=1, max_size=3), values, max_size=3))
    stages = Stages(tmp_path_factory.mktemp("work"), StageProgress())
    run(stages, inputs, "one", [])
    same = json.dumps(inputs, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert run(stages, other, "two", []).reused == same
