"""The `lock` file of a workspace: it lets only one process write at a time, and names that process.

Only `workspace` uses this module.
"""

import contextlib
import fcntl
import json
import logging
import os
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.errors import WorkspaceBusyError

logger = logging.getLogger(__name__)

_TORN_SECONDS = 60.0


class Owner(BaseModel):
    """The process that holds a lock. `started` distinguishes it from a later process with the same pid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    pid: int
    started: str
    since: datetime
    command: str
    token: str

    @classmethod
    def this_process(cls) -> "Owner":
        """Describe the calling process, with a token of its own."""
        return cls(
            host=socket.gethostname(),
            pid=os.getpid(),
            started=_start_time(os.getpid()),
            since=datetime.now(UTC).replace(microsecond=0),
            command=" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            token=uuid.uuid4().hex,
        )

    def is_dead(self) -> bool:
        """Return whether the owner ran on this host and has ended. An owner on another host never counts as dead."""
        return self.host == socket.gethostname() and _start_time(self.pid) != self.started


def acquire(fs: Any, path: str, uri: str) -> Owner:
    """Write the lock file for this process.

    The lock of a dead local owner is replaced. An `flock` of the folder protects reading and replacing it: if two runs
    find the same dead owner, only one of them takes over. Between hosts, the run that creates the file first wins.

    Args:
        fs: the file system of the workspace.
        path: the path of the lock file.
        uri: the URI of the workspace, for messages.

    Raises:
        WorkspaceBusyError: another process holds the lock; the message names it.
    """
    mine = Owner.this_process()
    with _one_at_a_time(fs, path):
        holder = read(fs, path)
        if holder is not None and holder.is_dead():
            logger.warning("taking over the lock of %s: its process %d (%s) is gone", uri, holder.pid, holder.command)
            fs.rm_file(path)
        elif holder is None and _is_torn(fs, path):
            logger.warning("taking over the lock of %s: %s is unreadable, and nobody is writing it", uri, path)
            fs.rm_file(path)
        try:
            with fs.open(path, "xb") as stream:
                _write(fs, path, stream, mine)
        except FileExistsError:
            raise WorkspaceBusyError(_busy(read(fs, path), path, uri)) from None
    return mine


def _write(fs: Any, path: str, stream: Any, mine: Owner) -> None:
    """Write all of the lock or nothing: a full disk must not leave a lock that nobody holds."""
    try:
        stream.write(mine.model_dump_json().encode())
        stream.flush()
    except OSError:
        fs.rm_file(path)
        raise


def _is_torn(fs: Any, path: str) -> bool:
    """Return whether an unreadable local lock is so old that nobody can still be writing it."""
    if "file" not in fs.protocol:
        return False
    try:
        return time.time() - Path(path).stat().st_mtime > _TORN_SECONDS
    except FileNotFoundError:
        return False


def read(fs: Any, path: str) -> Owner | None:
    """Return the owner of a lock; None if there is no lock, or an unreadable one.

    Args:
        fs: the file system of the workspace.
        path: the path of the lock file.
    """
    try:
        return Owner.model_validate_json(fs.cat_file(path))
    except (FileNotFoundError, ValidationError, json.JSONDecodeError):
        return None


def release(fs: Any, path: str, mine: Owner) -> None:
    """Remove the lock if this process still holds it.

    Args:
        fs: the file system of the workspace.
        path: the path of the lock file.
        mine: the owner that `acquire` returned.
    """
    holder = read(fs, path)
    if holder is not None and holder.token == mine.token:
        fs.rm_file(path)


@contextlib.contextmanager
def _one_at_a_time(fs: Any, path: str) -> Iterator[None]:
    if "file" not in fs.protocol:
        yield
        return
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _busy(holder: Owner | None, path: str, uri: str) -> str:
    if holder is None:
        return f"workspace {uri} is locked by an unknown owner; if no run is writing to it, delete {path}"
    age = datetime.now(UTC).replace(microsecond=0) - holder.since
    return (
        f"workspace {uri} is being written by process {holder.pid} on {holder.host} since "
        f"{holder.since:%Y-%m-%d %H:%M:%S} UTC ({age} ago): `{holder.command}`. Wait for it to end; "
        f"if that process is gone, delete {path}"
    )


def _start_time(pid: int) -> str:
    """Return a process's start time as the kernel writes it; "" if the process has ended, "?" if unknown."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass  # it runs under another user
    try:
        # Fields 3 (state) and 22 (start); the command name before them stands in parentheses and may contain blanks.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "?"
    return "" if fields[0] == "Z" else fields[19]
