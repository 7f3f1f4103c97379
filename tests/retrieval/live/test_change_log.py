"""The change log is numbered, append-only and shared by processes; a batch is written whole or not at all."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from retrieval.errors import ChangeLogError
from retrieval.live.change import Change
from retrieval.live.change_log import ChangeLog, MemoryChangeLog, SqliteChangeLog
from retrieval.live.recorded import Changes


def pause(ad: str, version: int = 1) -> Change:
    return Change(ad_id=ad, version=version, status="paused", ends_at=None)


@pytest.fixture(params=["memory", "sqlite"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> ChangeLog:
    return MemoryChangeLog() if request.param == "memory" else SqliteChangeLog(tmp_path / "live" / "changes.sqlite")


def test_entries_are_numbered_in_order_and_read_from_any_number_on(log: ChangeLog) -> None:
    first = log.append([pause("a"), pause("b")])
    second = log.append([Change(campaign_id="c", version=2, status=None)])
    assert [entry.sequence for entry in [*first, *second]] == [1, 2, 3]
    assert log.after(0) == [*first, *second]
    assert log.after(1, limit=1) == [first[1]]
    assert log.after(3) == []
    assert log.after(0)[0].change.values() == {"status": "paused", "ends_at": None}, (
        "null is a value, a missing field is not"
    )
    assert log.after(2)[0].change.values() == {"status": None}


def test_a_sqlite_log_outlives_its_process_and_is_shared(tmp_path: Path) -> None:
    path = tmp_path / "changes.sqlite"
    first, second = SqliteChangeLog(path), SqliteChangeLog(path)
    first.append([pause("a")])
    assert [entry.change.ad_id for entry in second.after(0)] == ["a"]
    first.close()
    assert second.append([pause("b")])[0].sequence == 2
    second.close()
    assert len(SqliteChangeLog(path).after(0)) == 2


def test_two_writers_share_one_sequence(tmp_path: Path) -> None:
    path = tmp_path / "changes.sqlite"

    def write(name: str) -> None:
        log = SqliteChangeLog(path)
        for version in range(15):
            log.append([pause(name, version), pause(name, version)])

    writers = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    entries = SqliteChangeLog(path).after(0)
    assert [entry.sequence for entry in entries] == list(range(1, 121))
    pairs = zip(entries[::2], entries[1::2], strict=True)
    assert all(a.change == b.change for a, b in pairs), "the entries of a batch are adjacent"


def test_nothing_of_a_batch_is_written_when_it_fails_half_way(tmp_path: Path) -> None:
    log = SqliteChangeLog(tmp_path / "changes.sqlite")
    with pytest.raises(AttributeError):
        log.append([pause("a"), None])  # type: ignore[list-item]
    assert log.after(0) == []
    assert log.append([pause("b")])[0].sequence == 1


def test_the_log_refuses_to_be_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "changes.sqlite"
    SqliteChangeLog(path).append([pause("a")])
    for statement in ("DELETE FROM changes", "UPDATE changes SET change = '{}'"):
        with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)


def test_a_damaged_or_unwritable_log_is_named(tmp_path: Path) -> None:
    path = tmp_path / "changes.sqlite"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(ChangeLogError, match=r"changes\.sqlite: the log of live changes cannot be opened"):
        SqliteChangeLog(path)
    (tmp_path / "file").touch()
    with pytest.raises(ChangeLogError, match="cannot be opened"):
        SqliteChangeLog(tmp_path / "file" / "changes.sqlite")


def test_a_full_disk_is_reported_and_earlier_entries_stay(tmp_path: Path) -> None:
    path = tmp_path / "changes.sqlite"
    log = SqliteChangeLog(path)
    log.append([pause("a")])
    log._connection.execute("PRAGMA max_page_count = 6")
    with pytest.raises(ChangeLogError, match=r"cannot be written .*full"):
        log.append([pause(f"a{n}" * 50) for n in range(500)])
    assert len(log.after(0)) == 1
    log._connection.execute("PRAGMA max_page_count = 100000")
    assert log.append([pause("b")])[0].sequence == 2


def test_unknown_fields_are_ignored_and_unreadable_entries_are_skipped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "changes.sqlite"
    log = SqliteChangeLog(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        insert = "INSERT INTO changes (received_at, change) VALUES ('2026-01-01T00:00:00+00:00', ?)"
        connection.execute(insert, ('{"ad_id": "a", "version": 1, "status": "paused", "mood": "blue"}',))
        connection.execute(insert, ('{"ad_id": "a"}',))
        garbage = "INSERT INTO changes (received_at, change) VALUES ('yesterday', CAST(? AS TEXT))"
        connection.execute(garbage, (b'{"ad_id": "\xff", "version": 1, "status": "paused"}',))
        connection.execute(garbage, ("[" * 100_000,))
    assert log.after(0, limit=1)[0].change.values() == {"status": "paused"}
    later = log.append([pause("b")])[0]
    second, third, fourth, last = log.after(1)
    assert [(entry.sequence, entry.change) for entry in (second, fourth, last)] == [
        (2, None),
        (4, None),
        (5, later.change),
    ]
    assert third.change is not None
    assert third.change.ad_id == "\ufffd"
    assert "changes.sqlite: this build cannot read entry 2" in caplog.text
    changes = Changes()
    for entry in log.after(0):
        changes.add(entry.sequence, entry.change)
    assert (changes.sequence, set(changes.ads.row_of)) == (5, {"a", "b", "\ufffd"})
