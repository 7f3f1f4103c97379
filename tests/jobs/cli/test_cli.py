"""Errors of the command line: a user's mistake gives one line and exit code 2, Ctrl-C gives one line and 130."""

import argparse
import dataclasses
import errno
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.cli import cli
from jobs.cli.cli import main
from jobs.cli.serve import _log_ads_in_flight
from jobs.workspace import lock, storage


@pytest.fixture
def event_log(tmp_path: Path) -> Path:
    path = tmp_path / "events.csv"
    path.write_text("session_id\n")
    return path


ARGUMENTS = {
    "run": ("--events", "{events}"),
    "retrieve": ("--queries", "q.parquet", "--k", "3", "--output", "{tmp}/out.parquet"),
    "serve": ("--port", "0"),
    "evaluate": ("--events", "{events}"),
}


@pytest.mark.parametrize("command", ARGUMENTS)
def test_a_workspace_that_is_a_file_is_refused_in_one_line(
    refused, command: str, tmp_path: Path, event_log: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    rest = [part.format(events=event_log, tmp=tmp_path) for part in ARGUMENTS[command]]
    message = refused(command, "--workspace", file, *rest)
    assert message.startswith(f"--workspace {file} cannot be used: Not a directory")
    assert message.count("\n") == 1
    assert "served before" not in message


def test_a_demo_into_a_file_is_refused_in_one_line(refused, event_log: Path) -> None:
    assert f"--directory {event_log} cannot be used: Not a directory" in refused("demo", "--directory", event_log)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_workspace_that_cannot_be_written_is_refused_in_one_line(
    refused, tmp_path: Path, event_log: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(_: object) -> None:
        raise OSError(code, os.strerror(code), str(tmp_path / "ws" / "lock"))

    monkeypatch.setattr(lock.Lock, "acquire", fail)
    message = refused("run", "--workspace", tmp_path / "ws", "--events", event_log)
    assert f"--workspace {tmp_path / 'ws'} cannot be used: {os.strerror(code)} ({tmp_path / 'ws' / 'lock'})" in message


def test_a_full_disk_is_a_failure_and_not_wrong_input(
    tmp_path: Path, event_log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "ws" / "lock"))

    monkeypatch.setattr(lock.Lock, "acquire", fail)
    assert main(["run", "--workspace", str(tmp_path / "ws"), "--events", str(event_log)]) == 1
    message = capsys.readouterr().err
    assert f"{tmp_path / 'ws' / 'lock'}: No space left on device; free some space" in message
    assert "Traceback" not in message


def test_a_workspace_with_an_unknown_scheme_is_refused(refused) -> None:
    assert "workspace foo://bucket cannot be used" in refused("serve", "--workspace", "foo://bucket")


@pytest.mark.parametrize("name", ["LIGHTSAGE_READ_TOKEN", "LIGHTSAGE_WRITE_TOKEN"])
@pytest.mark.parametrize("token", ["", "two\nlines"])
def test_a_server_does_not_start_with_a_token_that_nobody_can_send(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused, name: str, token: str
) -> None:
    monkeypatch.setenv(name, token)
    assert name in refused("serve", "--workspace", tmp_path)


def fail_with(monkeypatch: pytest.MonkeyPatch, command: str, error: BaseException) -> None:
    def fail(_: object) -> int:
        raise error

    replace_run(monkeypatch, command, fail)


def replace_run(monkeypatch: pytest.MonkeyPatch, command: str, run: Callable[[object], int]) -> None:
    monkeypatch.setitem(cli.COMMANDS, command, dataclasses.replace(cli.COMMANDS[command], run=run))


def test_an_error_about_a_path_that_the_user_did_not_give_is_unexpected(monkeypatch, capsys) -> None:
    fail_with(monkeypatch, "serve", FileNotFoundError(errno.ENOENT, "gone", "/somewhere/else"))
    assert main(["serve", "--workspace", "/shop"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "still_served"), [("run", True), ("demo", True), ("serve", False), ("evaluate", False)]
)
def test_only_commands_that_publish_say_that_the_version_before_is_still_served(
    monkeypatch, capsys, command, still_served
) -> None:
    arguments = {"run": ["--events", "e"], "evaluate": ["--events", "e"]}.get(command, [])
    workspace = [] if command == "demo" else ["--workspace", "w"]
    for error, code in ((KeyboardInterrupt(), 130), (ZeroDivisionError(), 1)):
        fail_with(monkeypatch, command, error)
        assert main([command, *workspace, *arguments]) == code
        assert ("the version served before is still served" in capsys.readouterr().err) == still_served


def test_an_interrupt_logs_one_line_even_if_cleaning_up_fails(monkeypatch, capsys) -> None:
    def fail(_: object) -> int:
        try:
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt:
                logging.exception("a library logs its traceback")
                raise
        finally:
            raise ConnectionError("the JVM is gone")

    replace_run(monkeypatch, "serve", fail)
    assert main(["serve", "--workspace", "w"]) == 130
    message = capsys.readouterr().err
    assert message.endswith("ERROR interrupted\n")
    assert message.count("\n") == 1


@pytest.mark.parametrize("port", ["80000", "-1", "http", "65536"])
def test_a_port_out_of_range_is_refused(capsys: pytest.CaptureFixture[str], port: str) -> None:
    with pytest.raises(SystemExit) as exit_error:
        main(["serve", "--workspace", "w", f"--port={port}"])
    assert exit_error.value.code == 2
    assert f"got '{port}', expected a port from 0 to 65535" in capsys.readouterr().err


def test_a_port_in_use_is_refused_before_the_version_is_loaded(refused, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refused("serve", "--workspace", tmp_path, "--port", port)
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in message
    assert "another --port" in message


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_the_host_of_another_machine_is_refused(refused, tmp_path: Path, host: str) -> None:
    message = refused("serve", "--workspace", tmp_path, "--host", host, "--port", 0)
    assert f"cannot listen on {host}, port 0" in message
    assert "--host" in message


class SomeAds:
    """Three ads that end on day 100."""

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
        (110, 90, "WARNING", ("0 of 3 ads are in flight at 1970-04-21", "when 3 ads were in flight, add --at as-of")),
        (120, 110, "WARNING", ("0 of 3 ads", "none was in flight at the version's as-of time either")),
    ],
)
def test_a_server_logs_how_many_ads_are_in_flight_and_what_to_do_if_none_is(caplog, at, as_of, level, words) -> None:
    with caplog.at_level(logging.INFO):
        _log_ads_in_flight(SomeAds(), day(at), day(as_of))  # type: ignore[arg-type]
    (record,) = caplog.records
    assert record.levelname == level
    for word in words:
        assert word in record.getMessage()


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_a_help_page_on_which_every_flag_is_explained(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with pytest.raises(SystemExit) as exit_error:
        main([command, "--help"])
    assert exit_error.value.code == 0
    assert f"usage: lightsage {command}" in capsys.readouterr().out
    (subcommands,) = (action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert all(action.help for action in subcommands.choices[command]._actions if action.option_strings)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
@pytest.mark.parametrize("command", [["versions"], ["rollback"], ["nightly", "--date", "2026-03-06"]])
def test_a_network_disk_that_is_gone_is_one_line(
    command: list[str],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def gone(_: object, name: str) -> bytes:
        raise OSError(code, os.strerror(code), str(tmp_path / name))

    monkeypatch.setattr(storage.Storage, "read", gone)
    assert main([*command, "--workspace", str(tmp_path)]) == 1
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    assert f"{os.strerror(code)}; run again when the disk can be reached" in errors
