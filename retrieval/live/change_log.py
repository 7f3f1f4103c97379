"""The log of live changes: an append-only, numbered list that every server sharing it reads."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from retrieval.errors import ChangeLogError
from retrieval.live.change import Change
from retrieval.values import END_OF_TIMES, FIRST_TIME, parse_time, to_datetime

_log = logging.getLogger(__name__)
_BUSY_SECONDS = 15.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS changes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, received_at TEXT NOT NULL, change TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS append_only_update BEFORE UPDATE ON changes
BEGIN SELECT RAISE(ABORT, 'the log of changes is append-only'); END;
CREATE TRIGGER IF NOT EXISTS append_only_delete BEFORE DELETE ON changes
BEGIN SELECT RAISE(ABORT, 'the log of changes is append-only'); END;
"""


class Entry(NamedTuple):
    """An entry of the log, numbered from 1. `change` is None if this build cannot read it."""

    sequence: int
    received_at: datetime
    change: Change | None


class ChangeLog(Protocol):
    """What a server needs from a log. Both methods may block and may be called from any thread."""

    def append(self, changes: Sequence[Change]) -> list[Entry]:
        """Write changes, all or none; they are durable once it returns."""
        ...

    def after(self, sequence: int, limit: int | None = None) -> list[Entry]:
        """Return the entries with a higher sequence number in order, at most `limit` of them."""
        ...


class MemoryChangeLog:
    """A log in memory, which is lost when the process ends."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._lock = threading.Lock()

    def append(self, changes: Sequence[Change]) -> list[Entry]:
        """See `ChangeLog`."""
        now = datetime.now(UTC)
        with self._lock:
            first = len(self._entries) + 1
            entries = [Entry(number, now, change) for number, change in enumerate(changes, start=first)]
            self._entries.extend(entries)
        return entries

    def after(self, sequence: int, limit: int | None = None) -> list[Entry]:
        """See `ChangeLog`."""
        with self._lock:
            return self._entries[sequence:][:limit]


class SqliteChangeLog:
    """A log in a SQLite file (in WAL mode) that the servers of one host share.

    Raises:
        ChangeLogError: the file is damaged, locked for too long, or cannot be written; the message names it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None
            )
            # Text that is not UTF-8 must not block the entries around it.
            self._connection.text_factory = lambda text: text.decode(errors="replace")
            self._set_up()
            # A confirmed change must survive a power failure.
            self._connection.execute("PRAGMA synchronous = FULL")
        except (sqlite3.Error, OSError) as error:
            raise self._failed("opened", error) from error

    def _set_up(self) -> None:
        """Create the table; retry while another server does so, as SQLite does not wait for that by itself."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.executescript(_SCHEMA)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def append(self, changes: Sequence[Change]) -> list[Entry]:
        """See `ChangeLog`."""
        now = datetime.now(UTC)
        with self._lock:
            try:
                with closing(self._connection.cursor()) as cursor:
                    cursor.execute("BEGIN IMMEDIATE")
                    try:
                        entries = [Entry(self._insert(cursor, now, change), now, change) for change in changes]
                        cursor.execute("COMMIT")
                    except BaseException:
                        # If the disk is full, SQLite has already ended the transaction.
                        if self._connection.in_transaction:
                            cursor.execute("ROLLBACK")
                        raise
            except sqlite3.Error as error:
                raise self._failed("written", error) from error
        return entries

    @staticmethod
    def _insert(cursor: sqlite3.Cursor, now: datetime, change: Change) -> int:
        body = change.model_dump_json(exclude_unset=True)
        cursor.execute("INSERT INTO changes (received_at, change) VALUES (?, ?)", (now.isoformat(), body))
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def after(self, sequence: int, limit: int | None = None) -> list[Entry]:
        """See `ChangeLog`."""
        query = "SELECT sequence, received_at, change FROM changes WHERE sequence > ? ORDER BY sequence LIMIT ?"
        with self._lock:
            try:
                rows = self._connection.execute(query, (sequence, -1 if limit is None else limit)).fetchall()
            except sqlite3.Error as error:
                raise self._failed("read", error) from error
        return [
            Entry(number, self._received_at(received_at), self._read(number, change))
            for number, received_at, change in rows
        ]

    @staticmethod
    def _received_at(written: str) -> datetime:
        time = parse_time(str(written))
        return to_datetime(time if time is not None and FIRST_TIME <= time < END_OF_TIMES else 0)

    def _read(self, number: int, change: str) -> Change | None:
        """Parse a change, ignoring the fields of newer builds; an unreadable change must not block later ones."""
        try:
            fields = json.loads(change)
            return Change.model_validate({name: fields[name] for name in fields if name in Change.model_fields})
        except (ValueError, TypeError, RecursionError) as error:
            _log.warning("%s: this build cannot read entry %d and skips it: %s", self._path, number, error)
            return None

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _failed(self, action: str, error: Exception) -> ChangeLogError:
        return ChangeLogError(
            f"{self._path}: the log of live changes cannot be {action} ({error}): if the disk is full, free space; "
            "if the file is locked or not writable, stop the other process or change the permissions; if it is "
            "damaged, move it away while no server runs. That starts an empty log and loses every change that the "
            "nightly table does not have yet"
        )
