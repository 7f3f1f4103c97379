"""What the user can mend is one line and exit code 2; Ctrl-C is one line and 130."""

import errno
import logging
import os
import socket
from pathlib import Path

import pytest

from jobs.cli import cli
from jobs.cli.cli import main
from jobs.cli.serve import _say_in_flight
from jobs.workspace import lock


@pytest.fixture
def event_log(tmp_path: Path) -> Path:
    path = tmp_path / "events.csv"
    path.write_text("session_id\n")
    return path


COMMANDS = {
    "run": ("--events", "{events}"),
    "retrieve": ("--queries", "q.parquet", "--k", "3", "--output", "{tmp}/out.parquet"),
    "serve": ("--port", "0"),
    "evaluate": ("--events", "{events}"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_workspace_that_is_a_file_is_said_in_one_line(refused, command: str, tmp_path: Path, event_log: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    rest = [part.format(events=event_log, tmp=tmp_path) for part in COMMANDS[command]]
    said = refused(command, "--workspace", file, *rest)
    assert said.startswith(f"--workspace {file} cannot be used: Not a directory")
    assert said.count("\n") == 1
    assert "served before" not in said


def test_a_demo_into_a_file_is_said_in_one_line(refused, event_log: Path) -> None:
    assert f"--directory {event_log} cannot be used: Not a directory" in refused("demo", "--directory", event_log)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_workspace_that_cannot_be_written_is_said_in_one_line(
    refused, tmp_path: Path, event_log: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def no_lock(_fs: object, path: str, _uri: str) -> None:
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(lock, "acquire", no_lock)
    said = refused("run", "--workspace", tmp_path / "ws", "--events", event_log)
    assert f"--workspace {tmp_path / 'ws'} cannot be used: {os.strerror(code)} ({tmp_path / 'ws' / 'lock'})" in said


def test_a_full_disk_is_nobodys_wrong_input(
    tmp_path: Path, event_log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_lock(_fs: object, path: str, _uri: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(lock, "acquire", no_lock)
    assert main(["run", "--workspace", str(tmp_path / "ws"), "--events", str(event_log)]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path / 'ws' / 'lock'}: No space left on device; free some space" in said
    assert "Traceback" not in said


def test_a_workspace_of_an_unknown_scheme_is_refused(refused) -> None:
    assert "workspace foo://bucket cannot be used" in refused("serve", "--workspace", "foo://bucket")


def fail_with(monkeypatch: pytest.MonkeyPatch, command: str, error: BaseException) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setitem(cli.COMMANDS, command, fail)


def test_a_path_that_nobody_gave_is_our_own_error(monkeypatch, capsys) -> None:
    fail_with(monkeypatch, "serve", FileNotFoundError(errno.ENOENT, "gone", "/somewhere/else"))
    assert main(["serve", "--workspace", "/shop"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "kept"), [("run", True), ("demo", True), ("serve", False), ("evaluate", False)])
def test_only_commands_that_write_a_version_say_what_is_still_served(monkeypatch, capsys, command, kept) -> None:
    arguments = {"run": ["--events", "e"], "evaluate": ["--events", "e"]}.get(command, [])
    where = [] if command == "demo" else ["--workspace", "w"]
    for error, code in ((KeyboardInterrupt(), 130), (ZeroDivisionError(), 1)):
        fail_with(monkeypatch, command, error)
        assert main([command, *where, *arguments]) == code
        assert ("what was served before still is" in capsys.readouterr().err) == kept


def test_an_interrupt_is_one_line_also_when_cleaning_up_failed_on_it(monkeypatch, capsys) -> None:
    def fail(_: object) -> int:
        try:
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt:
                logging.exception("a library logs its traceback")
                raise
        finally:
            raise ConnectionError("the JVM is gone")

    monkeypatch.setitem(cli.COMMANDS, "serve", fail)
    assert main(["serve", "--workspace", "w"]) == 130
    said = capsys.readouterr().err
    assert said.endswith("ERROR interrupted\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize("port", ["80000", "-1", "http", "65536"])
def test_an_impossible_port_is_refused(capsys: pytest.CaptureFixture[str], port: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--workspace", "w", f"--port={port}"])
    assert caught.value.code == 2
    assert f"'{port}' is no port, expected 0 to 65535" in capsys.readouterr().err


def test_a_port_that_is_taken_is_said_before_the_work(refused, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused("serve", "--workspace", tmp_path, "--port", port)
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in said
    assert "another --port" in said


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_that_is_not_here_is_refused(refused, tmp_path: Path, host: str) -> None:
    said = refused("serve", "--workspace", tmp_path, "--host", host, "--port", 0)
    assert f"cannot listen on {host}, port 0" in said
    assert "--host" in said


class SomeAds:
    """Three ads that all end on a day."""

    def __len__(self) -> int:
        return 3

    def in_flight(self, at: int) -> int:
        return 3 if at < 100 * 86_400_000_000 else 0


def day(n: int):  # type: ignore[no-untyped-def]
    import datetime as dt

    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=n)


@pytest.mark.parametrize(
    ("at", "as_of", "level", "words"),
    [
        (90, 90, "INFO", ("3 of 3 ads are in flight",)),
        (110, 90, "WARNING", ("0 of 3 ads are in flight at 1970-04-21", "--at as-of (3 ads were in flight then)")),
        (120, 110, "WARNING", ("0 of 3 ads", "none was at the version's as-of time either")),
    ],
)
def test_a_server_says_how_many_ads_it_can_show_and_the_way_out_of_none(caplog, at, as_of, level, words) -> None:
    with caplog.at_level(logging.INFO):
        _say_in_flight(SomeAds(), day(at), day(as_of))  # type: ignore[arg-type]
    (record,) = caplog.records
    assert record.levelname == level
    for word in words:
        assert word in record.getMessage()
