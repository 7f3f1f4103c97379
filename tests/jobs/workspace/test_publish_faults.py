"""A version is published whole or not at all, whatever fails on the way."""

import errno
import os
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from jobs.errors import WorkspaceFullError
from jobs.workspace import atomic_files, version_folder
from jobs.workspace import workspace as store
from jobs.workspace.manifest import version_name
from jobs.workspace.workspace import Workspace
from tests.jobs.conftest import AS_OF, publish


class CrashError(BaseException):
    """Stands for the end of the process: no handler may repair anything."""


# The steps of publishing at which files reach the disk; publishing takes each step once.
DISK_STEPS = [
    *((version_folder, step) for step in ("flushed", "write_whole", "flush")),
    (store, "write_current"),
]
EACH_STEP = pytest.mark.parametrize(("module", "step"), DISK_STEPS, ids=[step for _, step in DISK_STEPS])


@EACH_STEP
def test_publishing_takes_each_step_to_the_disk(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    publish(workspace)
    calls, original = [], getattr(module, step)

    def counted(*args: object) -> object:
        calls.append(args)
        return original(*args)

    monkeypatch.setattr(module, step, counted)
    assert publish(workspace, fingerprint="1" * 32) == version_name(AS_OF, "1" * 32)
    assert len(calls) == 1


@EACH_STEP
def test_a_crash_while_publishing_leaves_the_earlier_version_current_or_the_new_one_whole(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    before = publish(workspace)

    def crash(*_: object) -> object:
        raise CrashError

    monkeypatch.setattr(module, step, crash)
    new = version_name(AS_OF, "1" * 32)
    with pytest.raises(CrashError):
        publish(workspace, fingerprint="1" * 32)
    monkeypatch.undo()
    assert workspace.current() == before
    assert workspace.open(verify=True).name == before
    assert set(workspace.versions()) <= {before, new}
    for name in workspace.versions():
        workspace.open(name, verify=True)


def fail_in_a_scratch_folder(workspace: Workspace, error: Exception) -> None:
    with workspace.lock(), workspace.scratch_folder() as staged:
        (staged / "half").write_text("half")
        raise error


def full_disk(code: int) -> OSError:
    return OSError(code, os.strerror(code))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_reported_and_nothing_is_published(workspace: Workspace, tmp_path: Path, code: int) -> None:
    before = publish(workspace)
    with pytest.raises(WorkspaceFullError, match="Free some space"):
        fail_in_a_scratch_folder(workspace, full_disk(code))
    assert workspace.current() == before
    assert workspace.versions() == [before]
    assert list((tmp_path / "ws" / "staging").iterdir()) == []


def test_a_disk_that_fills_up_while_publishing_is_reported_and_nothing_is_published(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = publish(workspace)

    def no_space(*_: object) -> None:
        raise full_disk(errno.ENOSPC)

    monkeypatch.setattr(version_folder, "write_whole", no_space)
    with pytest.raises(WorkspaceFullError):
        publish(workspace, fingerprint="1" * 32)
    assert workspace.current() == before
    assert workspace.versions() == [before]


def test_a_full_disk_is_recognised_in_the_errors_of_other_libraries() -> None:
    assert atomic_files.is_disk_full(RuntimeError("py4j: java.io.IOException: No space left on device"))
    wrapped = RuntimeError("job aborted")
    wrapped.__cause__ = full_disk(errno.ENOSPC)
    assert atomic_files.is_disk_full(wrapped)
    wrapped.__cause__, wrapped.__context__ = None, full_disk(errno.ENOSPC)
    assert not atomic_files.is_disk_full(wrapped), "raised `from None`: the hidden error is not its cause"
    assert not atomic_files.is_disk_full(OSError(errno.EACCES, "denied"))


def test_other_errors_pass_through_and_leave_nothing(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fail_in_a_scratch_folder(workspace, ZeroDivisionError())
    assert list((tmp_path / "ws" / "staging").iterdir()) == []
    assert not (tmp_path / "ws" / "lock").exists()


def test_a_version_that_cannot_be_deleted_now_is_unlisted_and_deleted_by_the_next_run(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = publish(workspace)
    publish(workspace, fingerprint="1" * 32)

    def busy(*_: object, **__: object) -> None:
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(shutil, "rmtree", busy)
    with workspace.lock(), pytest.raises(OSError, match="busy"):
        workspace.remove(old)
    monkeypatch.undo()
    assert old not in workspace.versions()
    with workspace.lock():
        assert not list((tmp_path / "ws" / "staging").iterdir())
