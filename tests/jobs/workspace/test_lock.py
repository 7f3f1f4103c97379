"""One writer at a time: who holds the lock of a workspace, and when another process takes it over."""

import errno
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jobs.errors import StoreError, WorkspaceBusyError
from jobs.workspace import lock
from jobs.workspace import workspace as store
from jobs.workspace.workspace import Workspace
from tests.jobs.conftest import manifest, publish


def test_writing_needs_the_lock(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="scratch_folder needs the lock"), workspace.scratch_folder():
        pass
    with pytest.raises(StoreError, match="publish needs the lock"):
        workspace.publish(tmp_path, manifest())


def test_a_run_whose_lock_was_taken_away_cannot_publish(workspace: Workspace, tmp_path: Path) -> None:
    with workspace.lock(), workspace.scratch_folder() as staged:
        (tmp_path / "ws" / "lock").unlink()
        with Workspace(tmp_path / "ws").lock(), pytest.raises(StoreError, match="does not hold it"):
            workspace.publish(staged, manifest())
    assert workspace.versions() == []


def test_a_second_writer_is_refused_and_told_who_writes_and_since_when(any_workspace: Workspace) -> None:
    second = Workspace(any_workspace.uri)
    with any_workspace.lock(), pytest.raises(WorkspaceBusyError) as error, second.lock():
        pass
    message = str(error.value)
    assert f"process {os.getpid()}" in message
    assert "ago" in message
    assert "delete" in message
    with any_workspace.lock():
        pass


def test_an_unreadable_lock_is_respected(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / "lock").write_text("")
    with pytest.raises(WorkspaceBusyError, match="unknown owner"), workspace.lock():
        pass


def test_the_lock_of_another_host_is_never_taken_over(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "ws").mkdir()
    elsewhere = lock.Owner.this_process().model_copy(update={"host": "elsewhere", "pid": 2**22 + 1})
    (tmp_path / "ws" / "lock").write_text(elsewhere.model_dump_json())
    with pytest.raises(WorkspaceBusyError, match="on elsewhere"), workspace.lock():
        pass


def test_a_process_id_that_is_used_again_does_not_keep_the_lock(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "ws").mkdir()
    earlier = lock.Owner.this_process().model_copy(update={"started": "1"})
    (tmp_path / "ws" / "lock").write_text(earlier.model_dump_json())
    with workspace.lock():
        pass


HOLD = """
import sys, time
from jobs.workspace.workspace import Workspace
workspace = Workspace(sys.argv[1])
with workspace.lock(), workspace.scratch_folder() as staged:
    (staged / "half").write_text("half")
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_run_is_taken_over_and_its_leftovers_deleted(
    workspace: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = publish(workspace)
    root = Path(store.__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "ws")], stdout=subprocess.PIPE, text=True, cwd=root
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(WorkspaceBusyError, match=f"process {process.pid}"), workspace.lock():
            pass
        process.send_signal(signal.SIGKILL)
    assert workspace.current() == name
    with caplog.at_level(logging.WARNING), workspace.lock():
        assert list((tmp_path / "ws" / "staging").iterdir()) == []
    assert f"process {process.pid}" in caplog.text
    assert workspace.versions() == [name]


def test_only_one_of_many_writers_takes_over_the_lock_of_a_dead_owner(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "ws").mkdir()
    dead = lock.Owner.this_process().model_copy(update={"started": "1"}).model_dump_json()
    for _ in range(20):
        (tmp_path / "ws" / "lock").write_text(dead)
        outcomes: list[str] = []
        barrier = threading.Barrier(8)

        def contend(outcomes: list[str] = outcomes, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            try:
                with Workspace(tmp_path / "ws").lock():
                    outcomes.append("got")
                    # Held until all others have tried, however slow they are.
                    deadline = time.monotonic() + 10
                    while len(outcomes) < 8 and time.monotonic() < deadline:
                        time.sleep(0.001)
            except WorkspaceBusyError:
                outcomes.append("busy")

        threads = [threading.Thread(target=contend) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["busy"] * 7 + ["got"]


def test_an_unreadable_lock_is_taken_over_after_a_while(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / "lock").write_text("")
    os.utime(tmp_path / "ws" / "lock", (0, 0))
    with workspace.lock():
        assert (tmp_path / "ws" / "lock").read_text()


def test_a_full_disk_leaves_no_lock(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lock.Owner, "model_dump_json", full)
    with pytest.raises(OSError, match="No space"), workspace.lock():
        pass
    monkeypatch.undo()
    publish(workspace)
