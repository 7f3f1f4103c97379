"""The record of a night, and the files that the night leaves behind."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from jobs.cli.cli import main
from jobs.nightly.outputs import write_metrics, write_night
from jobs.nightly.record import NightRecord, history, records
from jobs.workspace.workspace import Workspace
from tests.jobs.nightly.nights import published_night

DAY = dt.date(2026, 3, 6)


def test_rerunning_a_published_date_keeps_its_record(tmp_path: Path) -> None:
    workspace, on_record = Workspace(tmp_path), list[Any]()
    for outcome in ("failed", "published", "unchanged", "failed", "refused"):
        write_night(NightRecord(date=DAY, outcome=outcome), workspace, [])
        on_record += [night.outcome for night in records(workspace)]
        assert f'outcome="{outcome}"}} 1.0' in (tmp_path / "nights" / "lightsage.prom").read_text()
    assert on_record == ["failed", *["published"] * 4]


def outcome(workspace: Path) -> str:
    """Return the outcome that lightsage.prom shows."""
    lines = (workspace / "nights" / "lightsage.prom").read_text().splitlines()
    (shown,) = [line for line in lines if line.startswith("lightsage_night_outcome{") and line.endswith(" 1.0")]
    return shown.split('"')[1]


def test_no_attempt_leaves_the_outcome_of_the_night_before_standing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    night = ["nightly", "--date", "2026-03-07", "--workspace", str(tmp_path)]
    broken = tmp_path / "broken.toml"
    broken.write_text("[nightly]\nno_such_key = 1\n")
    yesterday = published_night()
    workspace = Workspace(tmp_path)

    def run(code: int, *flags: str) -> dict[str, Any]:
        write_night(yesterday, workspace, [])
        assert outcome(tmp_path) == "published"
        assert main([*night, *flags]) == code
        assert outcome(tmp_path) == "failed"
        path = tmp_path / "nights" / "2026-03-07" / "night.json"
        return json.loads(path.read_text()) if path.exists() else {}

    with workspace.lock():
        assert run(3) == {}, "another run holds the workspace, and writes its own record"
    assert "no_such_key" in run(2, "--config", str(broken))["error"]
    assert "no day is stored" in run(2)["error"]
    assert "does not exist" in run(2, "--events", str(tmp_path / "nothing"))["error"]
    assert records(workspace, "2026-03-06") == [yesterday]


def test_forced_refused_and_rolled_back_nights_do_not_say_what_is_usual() -> None:
    nights = [
        NightRecord(date=dt.date(2026, 3, n), version=f"v{n}", outcome="published", forced=["items"] if n == 4 else [])
        for n in range(1, 6)
    ]
    nights[1].outcome = "refused"
    usual, last = history(nights, {"v5"}, 14)
    assert [night.version for night in usual] == ["v1", "v3"]
    assert last is nights[3], "it stands, although it was forced"
    assert [night.version for night in history(nights, set(), 1)[0]] == ["v5"]
    assert history([], set(), 14) == ([], None)


def test_a_night_that_runs_says_so_until_it_ends(tmp_path: Path) -> None:
    write_metrics(NightRecord(date=DAY), Workspace(tmp_path), running=True)
    assert outcome(tmp_path) == "running"


def test_what_cannot_be_written_stops_no_night(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "nights").write_text("a file")
    write_metrics(NightRecord(date=DAY), Workspace(tmp_path))
    assert "lightsage.prom cannot be written" in caplog.text


def test_a_record_of_a_release_before_ads_and_judged_gates_is_read() -> None:
    record = published_night().model_dump(mode="json")
    for gate in record["gates"]:
        del gate["judged"]
    del record["ads"]
    old = NightRecord.model_validate(record)
    assert old.ads == {}
    assert all(gate.judged for gate in old.gates)
