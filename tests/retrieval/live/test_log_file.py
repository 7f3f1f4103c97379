"""The change log's file: migrated, compacted, moved, replaced, read-only or damaged, and its writer killed."""

import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import BusyError, ChangeLogError
from retrieval.live import change_log, log_file, stored_change
from retrieval.live.change import Change
from retrieval.live.change_log import ChangeLog, CompactedError, MemoryChangeLog, SqliteChangeLog
from retrieval.live.recorded import Changes
from tests.retrieval.live.log_contents import contents
from tests.retrieval.live.test_live_ads import changes

FIRST_FORMAT = """
CREATE TABLE IF NOT EXISTS changes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, received_at TEXT NOT NULL, change TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS append_only_update BEFORE UPDATE ON changes
BEGIN SELECT RAISE(ABORT, 'the log of changes is append-only'); END;
CREATE TRIGGER IF NOT EXISTS append_only_delete BEFORE DELETE ON changes
BEGIN SELECT RAISE(ABORT, 'the log of changes is append-only'); END;
"""


def pause(ad: str, version: int = 1) -> Change:
    return Change(ad_id=ad, version=version, status="paused")


def first_format(path: Path, n: int) -> sqlite3.Connection:
    """Write a log of n changes in the first format, and leave it open with its write-ahead log."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(FIRST_FORMAT)
    for number in range(n):
        row = ("2026-03-01T00:00:00+00:00", stored_change.write(pause(f"a{number}", number)))
        connection.execute("INSERT INTO changes (received_at, change) VALUES (?, ?)", row)
    return connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "changes.sqlite"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "_BUSY_SECONDS", 1.0)
    monkeypatch.setattr(change_log, "_STAY", 2)


@pytest.fixture(params=["memory", "sqlite"])
def log(request: pytest.FixtureRequest, path: Path) -> ChangeLog:
    return MemoryChangeLog() if request.param == "memory" else SqliteChangeLog(path)


@settings(deadline=None, max_examples=60)
@given(st.lists(changes, max_size=25), st.integers(0, 25), st.booleans())
def test_a_snapshot_and_the_entries_after_it_record_what_all_entries_record(
    drawn: list[Change], cut: int, in_memory: bool
) -> None:
    path = Path(f"/dev/shm/changes-{os.getpid()}.sqlite")
    path.unlink(missing_ok=True)
    log: ChangeLog = MemoryChangeLog() if in_memory else SqliteChangeLog(path)
    expected = Changes()
    for number, change in enumerate(drawn, start=1):
        log.append([change])
        expected.add(number, change)
        if number == cut:
            assert log.compact(log.read())
    assert contents(log.read()) == contents(expected)
    if not in_memory:
        assert contents(SqliteChangeLog(path, read_only=True).read()) == contents(expected)


def read_fast(texts: list[str]) -> tuple[Changes, list[int]]:
    """Record texts as a log does when it is opened; return the records and the numbers of the unreadable texts."""
    recorded, unreadable = Changes(), list[int]()
    encoded = [text.encode() for text in texts]
    entries = stored_change.EntriesReader(recorded, lambda number, _: unreadable.append(number))
    half = len(texts) // 2
    for part in (range(half), range(half, len(texts))):
        if part:
            entries.add([number + 1 for number in part], [encoded[number] for number in part])
    entries.record()
    return recorded, unreadable


def read_slowly(texts: list[str]) -> tuple[Changes, list[int]]:
    """Do the same as `read_fast`, but read one entry at a time by the model of a change."""
    recorded, unreadable = Changes(), list[int]()
    for number, text in enumerate(texts, start=1):
        try:
            recorded.add(number, stored_change.read(text))
        except (ValueError, TypeError, RecursionError):
            recorded.add(number, None)
            unreadable.append(number)
    return recorded, unreadable


def same_records(texts: list[str]) -> bool:
    (fast, unreadable), (slow, unreadable_slowly) = read_fast(texts), read_slowly(texts)
    return (contents(fast), unreadable) == (contents(slow), unreadable_slowly)


@settings(deadline=None, max_examples=200)
@given(st.lists(changes, min_size=1, max_size=40))
def test_entries_that_are_read_in_a_block_are_recorded_as_one_after_the_other(drawn: list[Change]) -> None:
    assert same_records([stored_change.write(change) for change in drawn])


UNUSUAL = [
    '{"ad_id": " a", "version": 1, "status": "Paused"}',
    '{"ad_id": "caf\u00e9", "version": 1, "status": null, "mood": "blue"}',
    '{"ad_id": "a", "version": 1, "starts_at": "1800-01-01T00:00:00Z", "ends_at": "3000-01-01T00:00:00Z"}',
    '{"ad_id": "a", "version": 1, "advertiser_id": null, "countries": [" de"], "bid": 1}',
    '{"ad_id": "a", "version": 2, "countries": ["de", "FR"], "bid": -0.0}',
    '{"ad_id": "a", "version": 2, "countries": [], "bid": 0.1}',
    '{"campaign_id": "c", "version": 1, "ends_at": "2026-03-01T00:00:00.5Z"}',
    '{"campaign_id": "c", "version": 9223372036854775807, "ends_at": null}',
    '{"version": 3, "status": "active", "ad_id": "a"}',
    '{"ad_id": "a\\"", "version": 3, "status": "active"}',
    '{"ad_id": "a\\u0041", "version": 3, "status": "active"}',
    '{"ad_id": "null", "version": 3, "campaign_id": "null", "item_id": "null"}',
    '{"ad_id": "null", "campaign_id": "null", "version": 3, "item_id": "null"}',
]
UNREADABLE = [
    '{"ad_id": "a", "version": 1}',
    '{"ad_id": null, "campaign_id": "c", "version": 1}',
    '{"campaign_id": "c", "version": 1}',
    '{"campaign_id": "c", "version": 1, "bid": 1.0}',
    '{"version": 1, "status": "paused"}',
    '{"ad_id": "a", "version": 1, "item_id": null}',
    '{"ad_id": "a", "version": true, "status": null}',
    '{"ad_id": "a", "version": 9223372036854775808, "status": null}',
    '{"ad_id": "a", "version": 1, "starts_at": "2026-03-02T00:00:00Z", "ends_at": "2026-03-01T00:00:00Z"}',
    '{"ad_id": "a", "version": 1, "ends_at": "2026-02-30T00:00:00Z"}',
    '{"ad_id": "a", "version": 1, "ends_at": "2026-02-20T25:00:00Z"}',
    '{"ad_id": "%s", "version": 1, "status": null}' % ("a" * 513),
    "[1]",
    "7",
    "",
]


@pytest.mark.parametrize("text", UNUSUAL)
def test_values_that_are_written_in_other_ways_are_read_by_the_model(text: str) -> None:
    assert read_slowly([text])[1] == []
    assert same_records([text])


@pytest.mark.parametrize("text", UNREADABLE)
def test_a_text_that_is_no_change_is_not_read(text: str) -> None:
    usual = '{"ad_id": "a", "version": 1, "status": "paused", "ends_at": "2026-02-20T00:00:00Z"}'
    assert read_fast([usual, text])[1] == [2]
    assert same_records([usual, text, usual])


def test_all_forms_together_are_recorded_in_their_order() -> None:
    texts = [*UNUSUAL, *UNREADABLE]
    for seed in range(20):
        random.Random(seed).shuffle(texts)
        assert same_records(texts)


def test_numbers_go_on_after_a_snapshot_and_older_entries_are_refused_with_its_sequence(log: ChangeLog) -> None:
    for version in range(1, 6):
        log.append([pause("a", version)])
    assert log.compact(log.read())
    assert log.append([pause("b")])[0].sequence == 6
    assert [entry.sequence for entry in log.after(3)] == [4, 5, 6]
    with pytest.raises(CompactedError, match="after sequence 5") as refused:
        log.after(2)
    assert refused.value.sequence == 5
    assert contents(log.read())["ads"] == {"a": {"status": (5, 5, "paused")}, "b": {"status": (1, 6, "paused")}}


def test_a_snapshot_that_lacks_an_entry_is_not_made(log: ChangeLog) -> None:
    log.append([pause("a")])
    recorded = log.read()
    log.append([pause("b")])
    assert not log.compact(recorded)
    assert len(log.after(0)) == 2


def test_numbers_go_on_when_every_entry_is_covered_and_the_file_is_opened_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_log, "_STAY", 0)
    log = SqliteChangeLog(path)
    log.append([pause("a"), pause("b")])
    assert log.compact(log.read())
    log.close()
    log = SqliteChangeLog(path)
    assert log.after(2) == []
    assert log.append([pause("c")])[0].sequence == 3


def test_a_log_that_others_have_open_is_compacted_under_them(path: Path) -> None:
    first, second = SqliteChangeLog(path), SqliteChangeLog(path)
    first.append([pause(f"a{number}") for number in range(5)])
    assert second.compact(second.read())
    assert first.append([pause("b")])[0].sequence == 6
    assert [entry.change.ad_id for entry in first.after(5)] == ["b"]
    with pytest.raises(CompactedError):
        first.after(0)
    assert contents(first.read()) == contents(second.read())


def test_most_of_the_file_is_given_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "_UNUSED_BYTES", 100_000)
    log = SqliteChangeLog(path)
    log.append([pause("a", version) for version in range(10_000)])
    before = path.stat().st_size
    assert log.compact(log.read())
    assert path.stat().st_size < before / 10


def test_a_log_of_the_first_format_is_migrated_and_its_builds_then_refuse_it(path: Path) -> None:
    first_format(path, 3).close()
    log = SqliteChangeLog(path)
    assert [entry.sequence for entry in log.after(0)] == [1, 2, 3]
    assert log.append([pause("b")])[0].sequence == 4
    assert sorted(contents(log.read())["ads"]) == ["a0", "a1", "a2", "b"]
    assert sorted(os.listdir(path.parent)) == ["changes.sqlite"], "all of it is in one file"
    with (
        closing(sqlite3.connect(path)) as connection,
        pytest.raises(sqlite3.OperationalError, match="BEFORE trigger on view"),
    ):
        connection.executescript(FIRST_FORMAT)


def test_a_read_only_log_follows_the_file_and_never_writes_it(path: Path) -> None:
    reader = SqliteChangeLog(path, read_only=True)
    assert (reader.after(0), len(reader.read()), os.listdir(path.parent)) == ([], 0, [])
    writer = SqliteChangeLog(path)
    writer.append([pause("a"), pause("b")])
    before = path.read_bytes()
    assert [entry.sequence for entry in reader.after(0)] == [1, 2]
    assert not reader.compact(reader.read())
    with pytest.raises(ChangeLogError, match="make the file and its folder writable"):
        reader.append([pause("c")])
    assert path.read_bytes() == before


def test_a_log_that_cannot_be_written_is_refused_when_it_is_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SqliteChangeLog(path).close()
    connect = log_file.LogFile._connect
    monkeypatch.setattr(log_file.LogFile, "_connect", lambda self, file, mode: connect(self, file, "ro"))
    with pytest.raises(ChangeLogError, match="a server without LIGHTSAGE_WRITE_TOKEN takes no changes"):
        SqliteChangeLog(path)


def test_a_read_only_log_of_the_first_format_is_read_with_its_write_ahead_log_and_left_as_it_is(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = log_file.LogFile._connect

    def in_a_read_only_folder(self: log_file.LogFile, file: Path, mode: str) -> None:
        if mode == "ro":
            raise sqlite3.OperationalError("unable to open database file")
        connect(self, file, mode)

    monkeypatch.setattr(log_file.LogFile, "_connect", in_a_read_only_folder)
    connection = first_format(path, 3)
    killed = tmp_path / "killed"
    killed.mkdir()
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", f"{killed / path.name}{suffix}")
    connection.close()
    before = {name: (killed / name).read_bytes() for name in os.listdir(killed)}
    log = SqliteChangeLog(killed / path.name, read_only=True)
    assert [entry.sequence for entry in log.after(0)] == [1, 2, 3]
    assert len(log.read()) == 3
    log.close()
    assert {name: (killed / name).read_bytes() for name in os.listdir(killed)} == before


def test_a_read_only_log_sees_that_another_server_migrates_it(path: Path) -> None:
    first_format(path, 3).close()
    reader = SqliteChangeLog(path, read_only=True)
    assert len(reader.read()) == 3
    writer = SqliteChangeLog(path)
    writer.append([pause("b")])
    assert [entry.sequence for entry in reader.after(3)] == [4]


def test_nothing_is_confirmed_while_the_file_is_elsewhere(path: Path) -> None:
    log = SqliteChangeLog(path)
    log.append([pause("a")])
    path.rename(path.with_suffix(".away"))
    for _ in range(2):
        with pytest.raises(ChangeLogError, match=r"moved away or deleted .*put it back, or restart"):
            log.append([pause("b")])
        with pytest.raises(ChangeLogError, match="moved away or deleted"):
            log.after(0)
    path.with_suffix(".away").rename(path)
    assert log.append([pause("b")])[0].sequence == 2
    assert len(SqliteChangeLog(path).after(0)) == 2


def test_a_file_that_is_moved_while_a_change_is_written_does_not_confirm_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SqliteChangeLog(path)
    last_sequence = log_file.LogFile.last_sequence

    def moved(self: Any) -> int:
        number = last_sequence(self)
        if number == 1 and path.exists():
            path.rename(path.with_suffix(".away"))
        return number

    monkeypatch.setattr(log_file.LogFile, "last_sequence", moved)
    with pytest.raises(ChangeLogError):
        log.append([pause("a")])


def test_another_log_in_its_place_is_refused_and_a_newer_copy_of_it_is_followed(path: Path, tmp_path: Path) -> None:
    log = SqliteChangeLog(path)
    log.append([pause("a")])
    older = shutil.copyfile(path, tmp_path / "older")
    log.append([pause("b")])
    newer, other = shutil.copyfile(path, tmp_path / "newer"), tmp_path / "other"
    stranger = SqliteChangeLog(other)
    stranger.append([pause("x")] * 5)
    stranger.close()
    os.replace(other, path)
    with pytest.raises(ChangeLogError, match="replaced by another log"):
        log.append([pause("c")])
    shutil.copyfile(older, tmp_path / "copy")
    os.replace(tmp_path / "copy", path)
    with pytest.raises(ChangeLogError, match=r"older copy .*its last entry is 1, not 2"):
        log.append([pause("c")])
    os.replace(newer, path)
    assert log.append([pause("c")])[0].sequence == 3
    assert [entry.change.ad_id for entry in SqliteChangeLog(path).after(0)] == ["a", "b", "c"]
    path.write_bytes(Path(older).read_bytes())  # written over the same file, which keeps its inode
    with pytest.raises(ChangeLogError):
        log.append([pause("d")])


def test_a_locked_file_is_named_as_such_and_can_be_tried_again(path: Path) -> None:
    log = SqliteChangeLog(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError, match="stop the process that holds it locked"):
            log.append([pause("a")])
        assert log.after(0) == [], "readers do not wait"
        other.execute("ROLLBACK")
    assert log.append([pause("a")])[0].sequence == 1


def broken(kind: str, path: Path) -> None:
    """Put something in place of a log."""
    if kind == "a folder":
        path.mkdir()
    elif kind == "no database":
        path.write_bytes(b"no database" * 1000)
    elif kind in ("another database", "another table of changes", "a newer format"):
        with closing(sqlite3.connect(path)) as connection:
            table = "albums" if kind == "another database" else "changes"
            columns = "sequence, received_at, change" if kind == "a newer format" else "id, artist"
            connection.execute(f"CREATE TABLE {table} ({columns})")
            connection.execute(f"PRAGMA user_version = {7 if kind == 'a newer format' else 0}")
    else:
        log = SqliteChangeLog(path)
        log.append([pause(f"a{number}" * 50) for number in range(500)])
        if kind == "damaged snapshot":
            log.compact(log.read())
        log.close()
        content = bytearray(path.read_bytes())
        if kind == "cut short":
            content = content[: len(content) // 2]
        elif kind == "damaged snapshot":
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("UPDATE snapshot SET content = zeroblob(length(content))")
            return
        else:
            content[5000:] = b"\xa5" * (len(content) - 5000)
        path.write_bytes(content)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    ("kind", "way_out"),
    [
        ("a folder", "name another file with --changes"),
        ("no database", "name another one with --changes"),
        ("another database", "name another file with --changes"),
        ("another table of changes", "name another file with --changes"),
        ("a newer format", "written by a newer build"),
        ("cut short", "restore a copy of it, or move it away"),
        ("overwritten", "restore a copy of it, or move it away"),
        ("damaged snapshot", "restore a copy of it, or move it away"),
    ],
)
def test_a_file_that_is_no_log_or_damaged_is_refused_with_the_way_out_and_stays_as_it_is(
    path: Path, kind: str, way_out: str, read_only: bool
) -> None:
    broken(kind, path)
    before = None if path.is_dir() else path.read_bytes()
    with pytest.raises(ChangeLogError, match=f"changes.sqlite: the log of live changes cannot be .*{way_out}"):
        SqliteChangeLog(path, read_only=read_only).read()
    assert before is None or path.read_bytes() == before


def write_until_killed(path: Path, first: int, pipe: Connection) -> None:
    """Write changes and make snapshots; send the number of each change once it is confirmed."""
    change_log._STAY = 3
    log = SqliteChangeLog(path)
    for number in range(first, first + 1_000_000):
        log.append([pause(f"a{number}", number), Change(campaign_id="c", version=number, status="paused")])
        pipe.send(number)
        if number % 7 == 0:
            log.compact(log.read())


@pytest.mark.slow
def test_a_hundred_kills_lose_no_confirmed_change(path: Path) -> None:
    context, draw = get_context("forkserver"), random.Random(1)
    context.set_forkserver_preload([__name__])
    confirmed, entries = 0, 0
    for _ in range(100):
        parent, child = context.Pipe()
        writer = context.Process(target=write_until_killed, args=(path, confirmed + 1, child))
        writer.start()
        child.close()
        last = parent.recv()
        time.sleep(draw.random() / 10)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        try:
            while True:
                last = parent.recv()
        except EOFError:
            pass
        log = SqliteChangeLog(path)
        recorded = log.read()
        assert set(recorded.ads.row_of) >= {f"a{number}" for number in range(1, last + 1)}
        assert contents(recorded)["campaigns"]["c"]["status"][0] >= last
        assert recorded.sequence >= entries + 2 * (last - confirmed), "numbers never restart"
        confirmed, entries = len(recorded.ads), recorded.sequence
        log.close()
    assert confirmed > 200


def test_a_writer_that_is_killed_while_it_writes_leaves_a_log_that_can_be_read_only(path: Path, tmp_path: Path) -> None:
    log = SqliteChangeLog(path)
    log.append([pause("a")])
    # A rollback journal and a half-written file, as a kill leaves them.
    connection = log._connection
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("BEGIN IMMEDIATE")
    now = datetime.now(UTC).isoformat()
    rows = [(now, stored_change.write(pause(f"b{number}" * 20))) for number in range(2000)]
    connection.executemany("INSERT INTO entries (received_at, change) VALUES (?, ?)", rows)
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("changes.sqlite", "changes.sqlite-journal"):
        shutil.copyfile(tmp_path / name, killed / name)
    connection.execute("ROLLBACK")
    before = {name: (killed / name).read_bytes() for name in os.listdir(killed)}
    assert [entry.change.ad_id for entry in SqliteChangeLog(killed / path.name, read_only=True).after(0)] == ["a"]
    assert {name: (killed / name).read_bytes() for name in os.listdir(killed)} == before
    assert [entry.change.ad_id for entry in SqliteChangeLog(killed / path.name).after(0)] == ["a"]


def test_many_threads_append_while_snapshots_are_made(path: Path) -> None:
    def write(name: str) -> None:
        log = SqliteChangeLog(path)
        for version in range(10):
            log.append([pause(f"{name}{version}", version)])
            log.compact(log.read())

    SqliteChangeLog(path)
    writers = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    recorded = SqliteChangeLog(path).read()
    assert (recorded.sequence, len(recorded.ads)) == (30, 30)
