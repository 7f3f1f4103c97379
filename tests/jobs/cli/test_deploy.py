"""The examples of docs/deploy do what they say: their command is run as by cron, and systemd reads the units."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from jobs.cli.cli import parser
from tests.source_tree import ROOT

DEPLOY = ROOT / "docs" / "deploy"
UNITS = ["lightsage-nightly.service", "lightsage-nightly.timer", "lightsage-serve.service"]


def cron_command(root: Path) -> str:
    """Return the crontab's command as cron hands it to the shell, with the server's paths moved below `root`."""
    [line] = [line for line in (DEPLOY / "lightsage.cron").read_text().splitlines() if line.startswith("30 2,3 ")]
    *times, user, command = line.split(maxsplit=6)
    assert (times, user) == (["30", "2,3", "*", "*", "*"], "lightsage")
    assert not re.search(r"(?<!\\)%", command), "cron ends the command at a percent sign"
    return command.replace("\\%", "%").replace("/srv/", f"{root}/srv/").replace("/var/", f"{root}/var/")


def as_cron(root: Path, exit_code: int) -> subprocess.CompletedProcess[str]:
    """Run the crontab's command with a `lightsage` that prints its arguments and ends with this exit code."""
    program = root / "srv" / "lightsage" / ".venv" / "bin" / "lightsage"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@"\necho "a line of the log" >&2\nexit {exit_code}\n')
    program.chmod(0o755)
    (root / "var" / "log" / "lightsage").mkdir(parents=True, exist_ok=True)
    environment = ["env", "-i", f"HOME={root}", "LOGNAME=lightsage", "SHELL=/bin/sh", "PATH=/usr/bin:/bin"]
    return subprocess.run(
        [*environment, "/bin/sh", "-c", cron_command(root)], capture_output=True, text=True, check=False
    )


def test_cron_mails_nothing_if_all_is_well_and_the_log_has_the_lines(tmp_path: Path) -> None:
    job = as_cron(tmp_path, 0)
    assert (job.returncode, job.stdout, job.stderr) == (0, "", "")
    yesterday = subprocess.run(
        ["date", "-u", "-d", "yesterday", "+%F"], capture_output=True, text=True, check=True
    ).stdout.strip()
    log = (tmp_path / "var" / "log" / "lightsage" / "nightly.log").read_text().splitlines()
    assert log[-1] == "a line of the log"
    arguments = parser().parse_args(log[:-1])
    assert (arguments.command, str(arguments.date)) == ("nightly", yesterday)
    assert arguments.events == [f"{tmp_path}/srv/logs/{{date}}"]


@pytest.mark.parametrize("code", [1, 2, 3, 4])
def test_cron_mails_the_exit_code_and_the_end_of_the_log_if_a_night_fails(tmp_path: Path, code: int) -> None:
    as_cron(tmp_path, 0)
    job = as_cron(tmp_path, code)
    assert job.stdout.startswith(f"lightsage nightly: exit code {code}\n")
    assert job.stdout.endswith("a line of the log\n")
    assert "MAILTO=" in (DEPLOY / "lightsage.cron").read_text()


def test_systemd_reads_the_units(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    for unit in UNITS:
        text = (DEPLOY / unit).read_text().replace("/srv/lightsage/.venv/bin/lightsage", "/bin/true")
        (tmp_path / unit).write_text(text.replace("User=lightsage", "User=root"))
    check = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / unit) for unit in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in check.stderr.splitlines() if str(tmp_path) in line or "lightsage" in line]
    assert (check.returncode, complaints) == (0, [])


def test_the_nightly_unit_does_not_retry_without_end() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(DEPLOY / "lightsage-nightly.service")
    hours = re.fullmatch(r"(\d+)h", unit["Unit"]["StartLimitIntervalSec"])
    assert hours
    attempts = int(unit["Unit"]["StartLimitBurst"])
    # With the lock of a dead process, an attempt fails within about a minute, and the next one starts RestartSec later.
    # All attempts fall into the interval.
    assert attempts * (int(unit["Service"]["RestartSec"]) + 120) < int(hours[1]) * 3600 < 24 * 3600
    assert unit["Service"]["Restart"] == "on-failure"
    assert unit["Service"]["RestartPreventExitStatus"].split() == ["2", "4"]


def test_the_nightly_unit_runs_the_command(tmp_path: Path) -> None:
    service = (DEPLOY / "lightsage-nightly.service").read_text()
    [line] = re.findall(r"^ExecStart=(.*)$", service, re.MULTILINE)
    program = tmp_path / "lightsage"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    variables = dict(re.findall(r'^Environment=(\w+)="?(.*?)"?$', service, re.MULTILINE))
    shell = re.fullmatch(r"/bin/sh -c '(.*)'", line)
    assert shell
    command = shell[1].replace("%%", "%").replace("/srv/lightsage/.venv/bin/lightsage", str(program))
    job = subprocess.run(["/bin/sh", "-c", command], env={**variables, "PATH": "/usr/bin:/bin"}, capture_output=True)
    arguments = parser().parse_args(job.stdout.decode().splitlines())
    assert arguments.events == ["/srv/logs/{date}"]
    assert (arguments.items, arguments.workspace) == ("/srv/catalogue/items.parquet", "/srv/lightsage/shop")
