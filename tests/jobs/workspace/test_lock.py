"""One writer at a time: who holds the lock of a workspace, and when another process takes it over."""

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from jobs.errors import LockLostError, StoreError, WorkspaceBusyError
from jobs.nightly.versions import rollback
from jobs.workspace import lock, storage
from jobs.workspace.workspace import Workspace
from tests.jobs.conftest import manifest, publish


def test_writing_needs_the_lock(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="scratch_folder needs the lock"), workspace.scratch_folder():
        pass
    with pytest.raises(StoreError, match="publish needs the lock"):
        workspace.publish(tmp_path, manifest())


def test_a_run_whose_lock_was_taken_away_cannot_publish(workspace: Workspace, tmp_path: Path) -> None:
    def publish_without_the_lock() -> None:
        with workspace.lock(), workspace.scratch_folder() as staged:
            (tmp_path / "ws" / "lock").unlink()
            with Workspace(tmp_path / "ws").lock():
                workspace.publish(staged, manifest())

    with pytest.raises(LockLostError, match=f"process {os.getpid()} .* holds it now"):
        publish_without_the_lock()
    assert workspace.versions() == []


def test_a_second_writer_is_refused_and_told_who_writes_and_since_when(any_workspace: Workspace) -> None:
    second = Workspace(any_workspace.uri)
    with any_workspace.lock(), pytest.raises(WorkspaceBusyError) as error, second.lock():
        pass
    message = str(error.value)
    assert f"process {os.getpid()}" in message
    assert "ago" in message
    assert "runs out" in message
    with any_workspace.lock():
        pass


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(lock, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.05)


def leave_lock(workspace: Workspace, **changes: object) -> lock.Owner:
    """Leave the lock of an owner that equals this process except for some fields; return the owner."""
    owner = lock.Owner.this_process().model_copy(update=changes)
    workspace.write_file("lock", owner.model_dump_json().encode())
    return owner


ELSEWHERE = {"host": "elsewhere", "kernel": "another", "pid": 2**22 + 1, "renewed": 9e9}


@pytest.mark.usefixtures("short_lease")
def test_the_lock_of_another_host_that_is_not_renewed_is_taken_over_after_a_lease(any_workspace: Workspace) -> None:
    leave_lock(any_workspace, **ELSEWHERE)
    begin = time.monotonic()
    with any_workspace.lock():
        assert 1.0 <= time.monotonic() - begin < 30.0


@pytest.mark.usefixtures("short_lease")
def test_the_lock_of_another_host_that_is_renewed_is_respected_whatever_its_clock_says(
    any_workspace: Workspace,
) -> None:
    owner = leave_lock(any_workspace, **ELSEWHERE)
    renewed = owner.model_copy(update={"renewals": 1, "renewed": 1.0}).model_dump_json().encode()
    renewal = threading.Timer(0.4, any_workspace.write_file, ("lock", renewed))
    renewal.start()
    with pytest.raises(WorkspaceBusyError, match="on elsewhere"), any_workspace.lock():
        pass
    renewal.join()
    assert any_workspace.read_file("lock") == renewed


@pytest.mark.usefixtures("short_lease")
@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_an_unreadable_lock_is_respected_for_a_lease(any_workspace: Workspace, content: bytes) -> None:
    any_workspace.write_file("lock", content)
    begin = time.monotonic()
    with any_workspace.lock():
        assert 1.0 <= time.monotonic() - begin < 30.0


@pytest.mark.parametrize("age", [0.0, 59.0])
def test_a_process_of_another_pid_namespace_keeps_its_lock_although_no_process_here_has_its_id(
    workspace: Workspace, age: float
) -> None:
    leave_lock(workspace, pids="pid:[1]", pid=2**22 + 1, renewed=lock._now() - age)
    begin = time.monotonic()
    with pytest.raises(WorkspaceBusyError, match="being written"), workspace.lock():
        pass
    assert time.monotonic() - begin < 1.0, "on one kernel, nobody has to watch the lock"


def test_a_dead_container_blocks_no_longer_than_a_lease(workspace: Workspace) -> None:
    leave_lock(workspace, pids="pid:[1]", renewed=lock._now() - 61)
    with workspace.lock():
        pass


def test_a_process_that_stood_still_has_lost_its_lock_although_it_lives(workspace: Workspace) -> None:
    leave_lock(workspace, renewed=lock._now() - 61)
    with workspace.lock():
        pass


def test_a_run_of_an_older_release_keeps_its_lock_while_it_lives(workspace: Workspace) -> None:
    fields = lock.Owner.this_process().model_dump(mode="json", exclude={"kernel", "pids", "renewals", "renewed"})
    workspace.write_file("lock", json.dumps(fields).encode())
    with pytest.raises(WorkspaceBusyError, match="being written"), workspace.lock():
        pass


@pytest.mark.usefixtures("short_lease")
def test_a_lock_is_renewed_in_the_background(any_workspace: Workspace) -> None:
    with any_workspace.lock():
        begin = time.monotonic()
        renewals = 0
        while renewals < 3 or time.monotonic() - begin < 1.5:  # longer than the lease
            assert time.monotonic() - begin < 60
            time.sleep(0.05)
            renewals = lock.Owner.model_validate_json(any_workspace.read_file("lock") or b"").renewals
        with pytest.raises(WorkspaceBusyError), Workspace(any_workspace.uri).lock():
            pass
    assert any_workspace.read_file("lock") is None


def test_a_renewal_that_the_store_carried_out_but_reported_as_failed_keeps_the_lock(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = storage.Storage.replace

    def lossy(self: storage.Storage, name: str, content: bytes, expected: bytes) -> bool:
        replace(self, name, content, expected)
        return False

    with workspace.lock():
        with monkeypatch.context() as patch:
            patch.setattr(storage.Storage, "replace", lossy)
            workspace.check_lock()
        workspace.check_lock()


def test_a_process_id_that_is_used_again_does_not_keep_the_lock(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "ws").mkdir()
    earlier = lock.Owner.this_process().model_copy(update={"started": "1"})
    (tmp_path / "ws" / "lock").write_text(earlier.model_dump_json())
    with workspace.lock():
        pass


def python(code: str, *arguments: str, prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start a Python process that can import the project."""
    root = Path(storage.__file__).parents[2]
    command = [*prefix, sys.executable, "-c", code, *arguments]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, text=True, cwd=root, **pipes)  # type: ignore[call-overload, no-any-return]


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
    with python(HOLD, str(tmp_path / "ws")) as process:
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
                    # The lock is held until all others have tried, however slow they are.
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


def test_a_full_disk_leaves_no_lock(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "write_whole", full)
    with pytest.raises(OSError, match="No space"), workspace.lock():
        pass
    monkeypatch.undo()
    publish(workspace)


STOPPED = """
import os, signal, sys
from jobs.workspace import lock
lock.LEASE_SECONDS, lock.RENEW_SECONDS, lock.POLL_SECONDS = 1.0, 0.2, 0.05
from tests.jobs.conftest import manifest
from jobs.workspace.workspace import Workspace
workspace = Workspace(sys.argv[1])
with workspace.lock(), workspace.scratch_folder() as staged:
    (staged / "file").write_text("of the stopped run")
    print("held", flush=True)
    sys.stdin.readline()
    workspace.publish(staged, manifest("1" * 32))
"""


@pytest.mark.usefixtures("short_lease")
def test_a_run_that_stood_still_publishes_nothing_when_it_goes_on(workspace: Workspace, tmp_path: Path) -> None:
    with python(STOPPED, str(tmp_path / "ws")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(WorkspaceBusyError), workspace.lock():
            pass
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        name = publish(workspace)
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate("go on\n", timeout=60)
    assert process.returncode == 1
    assert "LockLostError: this run has lost its lock" in errors
    assert "it publishes nothing more" in errors
    assert workspace.versions() == [workspace.current()] == [name]


def test_a_run_in_another_pid_namespace_is_respected_and_when_it_is_killed_blocks_for_a_lease(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--map-root-user"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system allows no namespaces")
    with python(HOLD, str(tmp_path / "ws"), prefix=unshare) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        holder = lock.Owner.model_validate_json(workspace.read_file("lock") or b"")
        assert holder.pid < 10, "an id that is something else here"
        with pytest.raises(WorkspaceBusyError, match=f"process {holder.pid} on"), workspace.lock():
            pass
        process.kill()
        process.wait()
        with pytest.raises(WorkspaceBusyError), workspace.lock():
            pass
        monkeypatch.setattr(lock, "LEASE_SECONDS", 1.0)
        time.sleep(1.1)
        with workspace.lock():
            pass


def test_a_rollback_does_not_wait_for_a_build(workspace: Workspace) -> None:
    first, second = publish(workspace), publish(workspace, fingerprint="1" * 32)
    with workspace.lock():
        assert rollback(Workspace(workspace.uri), None) == (second, first)
        assert workspace.current() == first


def test_a_rollback_waits_for_the_moment_of_publication(any_workspace: Workspace) -> None:
    first, second = publish(any_workspace), publish(any_workspace, fingerprint="1" * 32)
    with any_workspace._moment():
        other = threading.Thread(target=rollback, args=(Workspace(any_workspace.uri), None))
        other.start()
        other.join(timeout=0.3)
        assert other.is_alive()
        assert any_workspace.current() == second
    other.join()
    assert any_workspace.current() == first


def test_a_workspace_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ws").write_text("")
    with pytest.raises(NotADirectoryError), Workspace(tmp_path / "ws").lock():
        pass
