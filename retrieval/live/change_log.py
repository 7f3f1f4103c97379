"""The log of live changes, which several servers can share: a snapshot of older entries, and a list of newer ones.

**What it holds.** Entries are numbered from 1 and never changed, and no number is used twice. The *snapshot* holds what
`Changes` records of all entries up to the snapshot's sequence number: the newest value of every changed field. No
version needs the values that newer ones have replaced. After `changes_compact_after` entries (20,000, more for a large
log) a server writes a new snapshot and deletes the entries that the snapshot covers. It keeps the last thousand of
them, so that readers that follow closely miss nothing. A reader that asks for deleted entries is told the snapshot's
sequence number (`CompactedError`); a server then reads the snapshot.

**The file.** `SqliteChangeLog` keeps all this in one SQLite file: the tables `entries`, `snapshot` (Arrow streams in
parts, each with a checksum) and `log` (one row: the log's identity, and the snapshot's sequence number). A batch of
changes is one transaction, and so is a snapshot. So a process may be killed, or the power may fail, at any step.
SQLite uses its rollback journal, so that all confirmed changes are in the one file. This file may be copied or moved
alone, and read from a read-only folder; a write-ahead log would be left behind. A snapshot is not written into a second
file that replaces the first, because the servers would have to agree on when to change over. The view `changes` has the
name of the earlier format's table, so that one query reads both formats, and so that people with `sqlite3` find it.
Earlier releases refuse a file that has the view.

**No confirmed change is lost.** Before and after each write the path must still lead to the file that is open (device
and inode). Before each write, the file must have the same identity, and its last sequence number must not be below one
that was seen before. If the path leads to a newer copy of the same log, the copy is opened and followed. Otherwise the
write fails, and the error message says what to do.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from zlib import crc32

import pyarrow as pa

from retrieval.errors import ChangeLogError
from retrieval.live import snapshot, stored_change
from retrieval.live.change import Change
from retrieval.live.log_file import LogFile, failure
from retrieval.live.recorded import Changes
from retrieval.values import END_OF_TIMES, FIRST_TIME, parse_time, to_datetime

_log = logging.getLogger(__name__)
# The number of newest entries that stay when a new snapshot covers them.
_STAY = 1000
_PART_BYTES = 4_000_000
_ROWS_AT_ONCE = 10_000


class Entry(NamedTuple):
    """An entry of the log, numbered from 1. `change` is None if this release cannot read it."""

    sequence: int
    received_at: datetime
    change: Change | None


class CompactedError(ChangeLogError):
    """The log no longer has entries that were asked for; `sequence` is the last number that the snapshot covers."""

    def __init__(self, sequence: int) -> None:
        super().__init__(
            f"the log of live changes no longer has the entries after that number, as its snapshot covers them: go on "
            f"after sequence {sequence}, at which the snapshot was made"
        )
        self.sequence = sequence


class ChangeLog(Protocol):
    """What a server needs from a log. All methods may block and may be called from any thread.

    Attributes:
        snapshot_sequence: the number of the last entry that the snapshot covers, as far as this object has seen.
    """

    snapshot_sequence: int

    def append(self, changes: Sequence[Change]) -> list[Entry]:
        """Write changes, all or none; they are durable once it returns."""
        ...

    def after(self, sequence: int, limit: int | None = None) -> list[Entry]:
        """Return the entries with a higher sequence number in order, at most `limit` of them.

        Raises:
            CompactedError: some of these entries are covered by the snapshot and deleted.
        """
        ...

    def read(self) -> Changes:
        """Return what all entries record: the snapshot, and the entries after it."""
        ...

    def compact(self, changes: Changes) -> bool:
        """Make a snapshot of what all entries record, and delete the entries that it covers, except the last ones.

        Returns:
            Whether a snapshot was made. None is made if `changes` lacks an entry that another server has written, or
            if the log is read-only.
        """
        ...


class MemoryChangeLog:
    """A log in memory, which is lost when the process ends."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._first = 1
        self._snapshot: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self.snapshot_sequence = 0

    def append(self, changes: Sequence[Change]) -> list[Entry]:
        """See `ChangeLog`."""
        now = datetime.now(UTC)
        with self._lock:
            first = self._first + len(self._entries)
            entries = [Entry(number, now, change) for number, change in enumerate(changes, start=first)]
            self._entries.extend(entries)
        return entries

    def after(self, sequence: int, limit: int | None = None) -> list[Entry]:
        """See `ChangeLog`."""
        with self._lock:
            if sequence < self._first - 1:
                raise CompactedError(self.snapshot_sequence)
            return self._entries[sequence - self._first + 1 :][:limit]

    def read(self) -> Changes:
        """See `ChangeLog`."""
        changes = Changes()
        with self._lock:
            for kind, content in self._snapshot.items():
                snapshot.decode(content, kind, changes)
            for entry in self._entries[max(self.snapshot_sequence - self._first + 1, 0) :]:
                changes.add(entry.sequence, entry.change)
            changes.sequence = max(changes.sequence, self.snapshot_sequence)
        return changes

    def compact(self, changes: Changes) -> bool:
        """See `ChangeLog`."""
        with self._lock:
            if changes.sequence != self._first + len(self._entries) - 1:
                return False
            self._snapshot = {kind: snapshot.encode(changes, kind).to_pybytes() for kind in snapshot.KINDS}
            self.snapshot_sequence = changes.sequence
            self._entries = self._entries[-_STAY:]
            self._first = changes.sequence - len(self._entries) + 1
        return True


class SqliteChangeLog:
    """A log in a SQLite file that the servers of one host share; an earlier format is turned into the present one.

    Args:
        path: the file; it is made if there is none.
        read_only: whether to leave the file as it is, whatever its format; the file need not exist yet, and it may lie
            in a read-only folder.

    Raises:
        ChangeLogError: the file is damaged, is not a log, is locked for too long, cannot be written, or was moved away
            or replaced; the message names it, and says what to do.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path, self._read_only = path, read_only
        self._lock = threading.Lock()
        self._file = LogFile(path, read_only=read_only)
        # Readers have a connection of their own, so that they need not wait for a writer that waits for others.
        self._reading = threading.Lock()
        self._reader = self._file if read_only else LogFile(path, read_only=False)
        self._last = 0
        self._ahead: Changes | None = None
        self.snapshot_sequence = 0
        if not read_only:
            # A file or folder that cannot be written is an error now, and not at the first change.
            with self._file.writing(0) as connection:
                connection.execute("UPDATE log SET identity = identity")

    @property
    def _connection(self) -> Any:
        return self._file.connection

    def append(self, changes: Sequence[Change]) -> list[Entry]:
        """See `ChangeLog`."""
        now = datetime.now(UTC)
        rows = [(now.isoformat(), stored_change.write(change)) for change in changes]
        with self._lock, self._file.writing(self._last) as connection:
            first = self._file.last_sequence() + 1
            connection.executemany("INSERT INTO entries (received_at, change) VALUES (?, ?)", rows)
            last = self._file.last_sequence()
            assert last - first + 1 == len(rows)
        self._last = max(last, self._last)
        return [Entry(number, now, change) for number, change in enumerate(changes, start=first)]

    def after(self, sequence: int, limit: int | None = None) -> list[Entry]:
        """See `ChangeLog`."""
        with self._transaction() as file:
            if file.connection is None:
                return []
            if sequence < file.oldest_sequence() - 1:
                raise CompactedError(self.snapshot_sequence)
            query = "SELECT sequence, received_at, change FROM changes WHERE sequence > ? ORDER BY sequence LIMIT ?"
            rows = file.connection.execute(query, (sequence, -1 if limit is None else limit)).fetchall()
        return [
            Entry(number, _received_at(received_at), self._change(number, change))
            for number, received_at, change in rows
        ]

    def read_ahead(self) -> int:
        """Read what the next call of `read` returns, and return how many ads and campaigns were changed."""
        self._ahead = self.read()
        return len(self._ahead)

    def read(self) -> Changes:
        """See `ChangeLog`."""
        if self._ahead is not None:
            changes, self._ahead = self._ahead, None
            return changes
        changes = Changes()
        with self._transaction() as file:
            if file.connection is None:
                return changes
            changes.sequence = self.snapshot_sequence
            if self.snapshot_sequence:
                self._read_snapshot(file.connection, changes)
            query = "SELECT sequence, CAST(change AS BLOB) FROM changes WHERE sequence > ? ORDER BY sequence"
            cursor = file.connection.execute(query, (self.snapshot_sequence,))
            entries = stored_change.EntriesReader(changes, self._warn)
            with _no_garbage_collection():
                while rows := cursor.fetchmany(_ROWS_AT_ONCE):
                    entries.add(*zip(*rows, strict=True))
                entries.record()
        return changes

    def compact(self, changes: Changes) -> bool:
        """See `ChangeLog`."""
        if self._read_only:
            return False
        parts = []
        for kind in snapshot.KINDS:
            content = memoryview(snapshot.encode(changes, kind))
            for start in range(0, len(content), _PART_BYTES):
                part = content[start : start + _PART_BYTES]
                parts.append((kind, part, crc32(part)))
        with self._lock:
            with self._file.writing(self._last) as connection:
                if self._file.last_sequence() != changes.sequence:
                    return False
                connection.execute("DELETE FROM snapshot")
                connection.executemany("INSERT INTO snapshot (kind, content, crc32) VALUES (?, ?, ?)", parts)
                connection.execute("UPDATE log SET snapshot_sequence = ?", (changes.sequence,))
                connection.execute("DELETE FROM entries WHERE sequence <= ?", (changes.sequence - _STAY,))
            self._file.give_back_space()
        self.snapshot_sequence = changes.sequence
        return True

    @contextmanager
    def _transaction(self) -> Iterator[LogFile]:
        """Read one state of the file until the block ends."""
        with self._reading, self._reader.reading(self._last):
            if self._reader.connection is not None:
                self.snapshot_sequence = self._reader.snapshot_sequence()
                self._last = max(self._last, self._reader.last_sequence())
            yield self._reader

    def _read_snapshot(self, connection: Any, changes: Changes) -> None:
        contents = {kind: bytearray() for kind in snapshot.KINDS}
        try:
            for part, kind, content, checksum in connection.execute(
                "SELECT part, kind, content, crc32 FROM snapshot ORDER BY part"
            ):
                if crc32(content) != checksum:
                    raise ValueError(f"part {part} does not have its checksum")
                contents[kind] += content
            for kind, content in contents.items():
                snapshot.decode(content, kind, changes)
        except (ValueError, TypeError, KeyError, pa.ArrowException) as error:
            raise failure(self._path, "read", f"its snapshot is damaged: {error}") from error

    def _change(self, number: int, text: str) -> Change | None:
        """Return a change; None if it cannot be read, so that it does not block later ones."""
        try:
            return stored_change.read(text)
        except (ValueError, TypeError, RecursionError) as error:
            self._warn(number, error)
            return None

    def _warn(self, number: int, error: Exception) -> None:
        _log.warning("%s: this build cannot read entry %d and skips it: %s", self._path, number, error)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._reader.close()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect no garbage: a million entries make no cycles, and looking for cycles takes a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _received_at(written: str) -> datetime:
    time = parse_time(str(written))
    return to_datetime(time if time is not None and FIRST_TIME <= time < END_OF_TIMES else 0)
