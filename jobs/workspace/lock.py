"""Locks of a workspace: each lock is a file that names its owner, and that the owner renews while it holds the lock.

A lock is a lease. A thread of the owner renews it every RENEW_SECONDS. If the owner disappears, the lease runs out
after LEASE_SECONDS, and another process takes the lock over. If that process can see that the owner has ended, it need
not wait. Processes of one kernel compare times on the clock of that kernel. The clocks of two hosts may differ. So a
lease of another host counts as run out if it does not change while this process watches it for LEASE_SECONDS.

Only `jobs.workspace.workspace` uses this module.
"""

import contextlib
import logging
import os
import socket
import sys
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.errors import LockLostError, StoreError, WorkspaceBusyError
from jobs.workspace.storage import Storage

logger = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
RENEW_SECONDS = 10.0
POLL_SECONDS = 0.5


class Owner(BaseModel):
    """The process that holds a lock.

    Args:
        host: the name of its host or container.
        pid: its process id.
        started: its start time, as the kernel writes it; a later process with the same pid has another start time.
        since: when the process took the lock, UTC.
        command: its command line.
        token: a random text that no other owner has.
        kernel: the name of the running kernel and its clock; empty if unknown, and in locks of older releases.
        pids: the name of the PID namespace in which `pid` is valid.
        renewals: how often the lock was renewed.
        renewed: when it was last renewed, in seconds on the clock of `kernel`.
    """

    model_config = ConfigDict(frozen=True)

    host: str
    pid: int
    started: str
    since: datetime
    command: str
    token: str
    kernel: str = ""
    pids: str = ""
    renewals: int = 0
    renewed: float = 0.0

    @classmethod
    def this_process(cls) -> "Owner":
        """Describe the calling process as an owner, with a new token."""
        return cls(
            host=socket.gethostname(),
            pid=os.getpid(),
            started=_fields_of("self")[1],
            since=datetime.now(UTC).replace(microsecond=0),
            command=" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            token=uuid.uuid4().hex,
            kernel=_kernel(),
            pids=_link("/proc/self/ns/pid"),
            renewed=_now(),
        )

    def again(self) -> "Owner":
        """Return the same owner after one more renewal."""
        return self.model_copy(update={"renewals": self.renewals + 1, "renewed": _now()})

    def holds(self) -> bool | None:
        """Return whether the owner still holds its lock; None if that cannot be seen from here."""
        if self.kernel != _kernel():
            # Older releases do not renew their locks, so such a lock is held for as long as its process lives.
            old_and_alive = not self.kernel and self.host == socket.gethostname() and self._has_ended() is False
            return True if old_and_alive else None
        if self.pids == _link("/proc/self/ns/pid") and self._has_ended():
            return False
        return _now() - self.renewed <= LEASE_SECONDS if self.kernel else None

    def _has_ended(self) -> bool | None:
        """Whether the process has ended; None if unknown. The answer is right only in the owner's PID namespace."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it runs under another user
        if _link("/proc/self") != str(os.getpid()):
            return None  # /proc shows another namespace
        state, started = _fields_of(str(self.pid))
        return (state in "ZX" or started != self.started) if state else None


class Lock:
    """A lock of a workspace, which this process may take.

    Args:
        storage: the files of the workspace.
        name: the name of the lock's file.
    """

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage, self._name = storage, name
        self._owner: Owner | None = None
        self._mutex = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self, patience: float = 0.0) -> None:
        """Take the lock, and renew it in the background until it is released.

        A lock whose owner is gone is taken over.

        Args:
            patience: for how many seconds to wait while another process holds the lock. If the owner is on another
                host, it can take LEASE_SECONDS more to find out whether it still lives.

        Raises:
            WorkspaceBusyError: another process holds the lock; the message names it.
        """
        mine = Owner.this_process()
        patient_until = time.monotonic() + patience
        watched: bytes | None = None
        since = 0.0
        while True:
            content = self._storage.read_if_exists(self._name)
            if content is None:
                if self._storage.create(self._name, _json(mine)):
                    break
                time.sleep(POLL_SECONDS)
                continue
            holder = _parsed(content)
            holds = holder.holds() if holder else None
            if holds is None:
                if content == watched:
                    holds = False if time.monotonic() - since > LEASE_SECONDS else None
                else:
                    holds = None if watched is None else True
                    watched, since = content, time.monotonic()
            if holds is False and self._take_over(mine, holder, content):
                break
            if holds and time.monotonic() >= patient_until:
                raise WorkspaceBusyError(_busy(holder, self._storage.path(self._name), self._storage.uri))
            time.sleep(POLL_SECONDS)
        self._owner = mine
        self._ended.clear()
        self._thread = threading.Thread(target=self._keep_renewing, name=f"renew {self._name}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Renew the lock, which only its owner can do.

        Raises:
            LockLostError: this process does not hold the lock, or no longer holds it.
        """
        with self._mutex:
            if self._owner is None:
                raise LockLostError(f"this run does not hold the lock {self._storage.path(self._name)}")
            renewed = self._owner.again()
            if self._storage.replace(self._name, _json(renewed), _json(self._owner)):
                self._owner = renewed
                return
            holder = _parsed(self._storage.read_if_exists(self._name) or b"")
            if holder is not None and holder.token == self._owner.token:
                self._owner = holder  # the store reported the last renewal as failed, but had carried it out
                return
            taken = f": {_described(holder)} holds it now" if holder else ""
            raise LockLostError(
                f"this run has lost its lock of workspace {self._storage.uri}{taken}. This run stood still, or could "
                f"not reach the workspace, for more than {LEASE_SECONDS:.0f} s, so it publishes nothing more. Run it "
                "again"
            )

    def release(self) -> None:
        """Stop renewing the lock, and delete it if this process still holds it."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=RENEW_SECONDS)
        try:
            self.check()
            self._storage.delete(self._name)
        except LockLostError as error:
            logger.warning("%s", error)
        except (StoreError, OSError) as error:  # the lock runs out by itself
            logger.warning("the lock %s cannot be released: %s", self._storage.path(self._name), error)
        self._owner = None

    def _take_over(self, mine: Owner, holder: Owner | None, content: bytes) -> bool:
        if not self._storage.replace(self._name, _json(mine), content):
            return False  # its owner renewed it, or another process was faster
        who = f"{_described(holder)} is gone" if holder else "its content cannot be read"
        logger.warning("taking over %s of %s: %s", self._name, self._storage.uri, who)
        return True

    def _keep_renewing(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            try:
                self.check()
            except LockLostError as error:
                logger.error("%s", error)
                return
            except Exception as error:  # the next attempt may succeed; publishing checks again
                logger.warning("the lock of %s could not be renewed: %s", self._storage.uri, error)


def _json(owner: Owner) -> bytes:
    return owner.model_dump_json().encode()


def _parsed(content: bytes) -> Owner | None:
    with contextlib.suppress(ValidationError):
        return Owner.model_validate_json(content)
    return None


def _described(holder: Owner) -> str:
    return f"process {holder.pid} on {holder.host} (`{holder.command}`)"


def _busy(holder: Owner | None, path: str, uri: str) -> str:
    if holder is None:
        return f"workspace {uri} is locked by an unknown owner that renews {path}; try again when it has ended"
    age = datetime.now(UTC).replace(microsecond=0) - holder.since
    return (
        f"workspace {uri} is being written by process {holder.pid} on {holder.host}, which began at "
        f"{holder.since:%Y-%m-%d %H:%M:%S} UTC ({age} ago): `{holder.command}`. Wait for it to end; if it is gone, "
        f"its lock runs out within {LEASE_SECONDS:.0f} s"
    )


def _kernel() -> str:
    """Return a name of the running kernel and its clock; "" if there is none, so that times cannot be compared."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return f"{boot} {_link('/proc/self/ns/time')}" if hasattr(time, "CLOCK_BOOTTIME") else ""


def _now() -> float:
    """Return the seconds since the kernel started, with the time asleep; 0 if there is no such clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else 0.0


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _fields_of(process: str) -> tuple[str, str]:
    """Return the state and the start time of a process, as the kernel writes them; "" and "" if they are unreadable."""
    try:
        # The state is field 3, the start time field 22. Field 2, the command in parentheses, may contain blanks.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[0], fields[19]
