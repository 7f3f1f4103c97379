"""The SQLite file of a log of live changes: opens, recognises and migrates it, and notices when it is replaced."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from retrieval.errors import ChangeLogError, LockedChangeLogError

_BUSY_SECONDS = 10.0
_LOCKED = ("SQLITE_BUSY", "SQLITE_LOCKED")
_FORMAT = 2
_COLUMNS = ["sequence", "received_at", "change"]
_SNAPSHOT = """
CREATE TABLE log (identity TEXT NOT NULL, snapshot_sequence INTEGER NOT NULL);
CREATE TABLE snapshot (part INTEGER PRIMARY KEY, kind TEXT NOT NULL, content BLOB NOT NULL, crc32 INTEGER NOT NULL);
CREATE VIEW changes AS SELECT sequence, received_at, change FROM entries;
CREATE TRIGGER changes_insert INSTEAD OF INSERT ON changes
BEGIN INSERT INTO entries (received_at, change) VALUES (NEW.received_at, NEW.change); END;
CREATE TRIGGER changes_update INSTEAD OF UPDATE ON changes
BEGIN SELECT RAISE(ABORT, 'the log of changes is append-only'); END;
CREATE TRIGGER changes_delete INSTEAD OF DELETE ON changes
BEGIN SELECT RAISE(ABORT, 'the log of changes is append-only'); END;
CREATE TRIGGER entries_update BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'the log of changes is append-only'); END;
CREATE TRIGGER entries_delete BEFORE DELETE ON entries WHEN OLD.sequence > (SELECT snapshot_sequence FROM log)
BEGIN SELECT RAISE(ABORT, 'the log of changes is append-only'); END;
"""
_CREATE = """
CREATE TABLE entries (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, received_at TEXT NOT NULL, change TEXT NOT NULL
);
"""
_MIGRATE = """
DROP TRIGGER IF EXISTS append_only_update;
DROP TRIGGER IF EXISTS append_only_delete;
ALTER TABLE changes RENAME TO entries;
"""
# Unused pages are given back if they take more bytes than this, and outnumber the pages in use.
_UNUSED_BYTES = 8_000_000
_SIDE_FILES = ("", "-journal", "-wal")


class LogFile:
    """A connection to the file of a log, for one thread at a time.

    Attributes:
        connection: the SQLite connection; None while a log that is only read has no file yet.

    Raises:
        ChangeLogError: see `SqliteChangeLog`.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self._path, self._read_only = path, read_only
        self.connection: Any = None
        self._identity, self._inode = "", (0, 0)
        self._copy: TemporaryDirectory[str] | None = None
        self._copied: list[tuple[int, int, int]] = []
        with self._reported("opened"):
            self._open()

    @contextmanager
    def writing(self, seen: int) -> Iterator[Any]:
        """Yield the connection in a transaction that shuts out other writers; commit it if the block raises nothing.

        Args:
            seen: the highest sequence number seen in this log before.
        """
        with self._reported("written"):
            self._follow(seen)
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                # Another process may have replaced the file while this process waited.
                self._check_in_place()
                self._check_content(seen)
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                # If the disk is full, SQLite has already ended the transaction.
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
            self._check_in_place()

    @contextmanager
    def reading(self, seen: int) -> Iterator[None]:
        """Read one state of the file until the block ends.

        Args:
            seen: the highest sequence number seen in this log before.
        """
        with self._reported("read"):
            self._follow(seen)
            if self.connection is None:
                yield
                return
            self.connection.execute("BEGIN")
            try:
                self._check_content(seen)
                yield
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")

    def last_sequence(self) -> int:
        """Return the highest sequence number that was ever used."""
        table = "entries" if self._format() == _FORMAT else "changes"
        row = self.connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        return int(row[0]) if row else 0

    def snapshot_sequence(self) -> int:
        """Return the number of the last entry that the snapshot covers; 0 without a snapshot."""
        if self._format() < _FORMAT:
            return 0
        return int(self.connection.execute("SELECT snapshot_sequence FROM log").fetchone()[0])

    def oldest_sequence(self) -> int:
        """Return the number of the oldest entry that was not deleted; if there is none, that of the next entry."""
        oldest = self.connection.execute("SELECT MIN(sequence) FROM changes").fetchone()[0]
        return self.snapshot_sequence() + 1 if oldest is None else int(oldest)

    def give_back_space(self) -> None:
        """Make the file smaller if most of it is not in use."""
        with self._reported("written"):
            pages, unused, size = (
                int(self.connection.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_count", "freelist_count", "page_size")
            )
            if unused * size > _UNUSED_BYTES and unused > pages // 2:
                with suppress(sqlite3.OperationalError):  # others use the file, or the disk is full; try next time
                    self.connection.execute("VACUUM")

    def close(self) -> None:
        """Close the file."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        if self._copy is not None:
            self._copy.cleanup()
            self._copy = None

    def _open(self) -> None:
        if self._read_only:
            self._open_to_read()
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._connect(self._path, "rwc")
        self._set_up()
        self._know()
        # A confirmed change must survive a power failure.
        self.connection.execute("PRAGMA synchronous = EXTRA")

    def _open_to_read(self) -> None:
        if not self._path.exists():
            return
        try:
            self._connect(self._path, "ro")
            self._recognise()
        except sqlite3.OperationalError:
            # In a read-only folder, SQLite cannot open a file whose last writer was killed, or that has a write-ahead
            # log; so a copy is opened.
            self.close()
            self._copied = self._stamps()
            self._copy = TemporaryDirectory(prefix="changes-")
            for suffix in _SIDE_FILES:
                with suppress(FileNotFoundError):
                    shutil.copyfile(f"{self._path}{suffix}", f"{self._copy.name}/changes.sqlite{suffix}")
            self._connect(Path(self._copy.name, "changes.sqlite"), "rw")
            self._recognise()
        self._know()

    def _connect(self, path: Path, mode: str) -> None:
        uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
        self.connection = sqlite3.connect(
            uri, uri=True, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None
        )
        # Text that is not UTF-8 must not block the entries around it.
        self.connection.text_factory = lambda text: text.decode(errors="replace")

    def _set_up(self) -> None:
        """Create or migrate the tables; retry while another server does so, because SQLite does not always wait."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                # An earlier format had a write-ahead log; that log stays while another process has the file open.
                with suppress(sqlite3.OperationalError):
                    self.connection.execute("PRAGMA journal_mode = DELETE")
                if self._recognise() < _FORMAT:
                    self._create()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def _create(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            if self._recognise() < _FORMAT:
                for statement in _statements((_MIGRATE if self._tables() else _CREATE) + _SNAPSHOT):
                    self.connection.execute(statement)
                self.connection.execute("INSERT INTO log VALUES (?, 0)", (uuid.uuid4().hex,))
                self.connection.execute(f"PRAGMA user_version = {_FORMAT}")
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def _format(self) -> int:
        return int(self.connection.execute("PRAGMA user_version").fetchone()[0])

    def _tables(self) -> list[str]:
        query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
        return [str(name) for (name,) in self.connection.execute(query)]

    def _recognise(self) -> int:
        """Return the format of the file; 0 for an empty file, and for one in the first format.

        Raises:
            ChangeLogError: the file is not a log, or has a newer format.
        """
        if self.connection.in_transaction:
            return self._recognise_state()
        # Reads one state, because another server may be creating the tables.
        self.connection.execute("BEGIN")
        try:
            return self._recognise_state()
        finally:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def _recognise_state(self) -> int:
        version, tables = self._format(), self._tables()
        if not tables and version == 0:
            return 0
        columns = [str(row[1]) for row in self.connection.execute("PRAGMA table_info(changes)")]
        if columns != _COLUMNS or version not in (0, _FORMAT) or (version == 0 and tables != ["changes"]):
            newer = version > _FORMAT and columns == _COLUMNS
            what = "it was written by a newer build" if newer else f"it is a database of something else ({version})"
            raise failure(self._path, "opened", what, "name another file with --changes")
        return version

    def _know(self) -> None:
        """Remember which file is open."""
        self._inode = self._inode_at_path() or (0, 0)
        self._identity = self._identity_in_file()

    def _identity_in_file(self) -> str:
        if self._format() < _FORMAT:
            return ""
        return str(self.connection.execute("SELECT identity FROM log").fetchone()[0])

    def _inode_at_path(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_dev, status.st_ino

    def _stamps(self) -> list[tuple[int, int, int]]:
        """Return numbers that change when the file or one of its side files is written."""
        stamps = []
        for suffix in _SIDE_FILES:
            with suppress(OSError):
                status = os.stat(f"{self._path}{suffix}")
                stamps.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return stamps

    def _follow(self, seen: int) -> None:
        """If the path now leads to another file, open that file; it must continue the log that was open."""
        if self._read_only and (self.connection is None or (self._copy is not None and self._copied != self._stamps())):
            identity = self._identity
            self.close()
            self._open()
            self._identity = identity or self._identity
            return
        inode = self._inode_at_path()
        if inode == self._inode:
            return
        if inode is None:
            raise self._lost("was moved away or deleted while it was in use", "put it back, or")
        previous, identity = self.connection, self._identity
        try:
            self._open()
            self._check_content(seen, identity)
        except BaseException:
            if self.connection is not previous:
                self.connection.close()
            self.connection, self._identity, self._inode = previous, identity, (0, 0)
            raise
        previous.close()

    def _check_in_place(self) -> None:
        inode = self._inode_at_path()
        if inode != self._inode:
            raise self._lost("was moved away or replaced while it was in use", "put it back, or")

    def _check_content(self, seen: int, identity: str | None = None) -> None:
        """Make sure that the file is the log that was opened, and lacks no entry that was seen in it."""
        expected = self._identity if identity is None else identity
        present = self._identity_in_file()
        # The expected identity is empty if the log was opened in the first format, and then migrated by another server.
        if present != expected and expected:
            raise self._lost("was replaced by another log while it was in use", "put the earlier one back, or")
        self._identity = present
        if (last := self.last_sequence()) < seen:
            what = f"was replaced by an older copy while it was in use (its last entry is {last}, not {seen})"
            raise self._lost(what, "put the newer one back, or")

    def _lost(self, what: str, or_else: str) -> ChangeLogError:
        return ChangeLogError(
            f"{self._path}: the log of live changes {what}, so no change can be recorded: {or_else} restart the "
            "server, which then goes on with the changes of the file that lies there, and of no other"
        )

    @contextmanager
    def _reported(self, action: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise failure(self._path, action, error) from error


def failure(path: Path, action: str, error: Exception | str, way_out: str | None = None) -> ChangeLogError:
    """Return the error for a log that cannot be used.

    Args:
        path: the file.
        action: what could not be done with it: "opened", "read" or "written".
        error: why not.
        way_out: what to do; None = what the error suggests.
    """
    kind = LockedChangeLogError if _name(error).startswith(_LOCKED) else ChangeLogError
    return kind(f"{path}: the log of live changes cannot be {action} ({error}): {way_out or _way_out(error)}")


def _name(error: Exception | str) -> str:
    return str(getattr(error, "sqlite_errorname", ""))


def _way_out(error: Exception | str) -> str:
    name = _name(error)
    if name.startswith("SQLITE_FULL"):
        return "free space on its disk"
    if name.startswith(_LOCKED):
        return "stop the process that holds it locked"
    if name.startswith("SQLITE_NOTADB"):
        return "it is no SQLite file; name another one with --changes, or move it away while no server runs"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")) or isinstance(error, OSError):
        return (
            "make the file and its folder writable, or name another file with --changes; a server without "
            "LIGHTSAGE_WRITE_TOKEN takes no changes and needs only to read it"
        )
    return (
        "restore a copy of it, or move it away while no server runs; that starts an empty log, and loses every change "
        "that the nightly table does not have yet (sqlite3 FILE .recover shows what can be saved)"
    )


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script; a trigger ends with END."""
    statement = ""
    for line in script.strip().splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
