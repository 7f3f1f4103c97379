"""The record of a night, and the files that it leaves behind."""

import datetime as dt
from pathlib import Path
from typing import Any

from jobs.nightly.nightly import write_night
from jobs.nightly.record import NightRecord, records
from jobs.workspace.workspace import Workspace

DAY = dt.date(2026, 3, 6)


def test_rerunning_a_published_date_keeps_its_record(tmp_path: Path) -> None:
    workspace, on_record = Workspace(tmp_path), list[Any]()
    for outcome in ("failed", "published", "unchanged", "failed", "refused"):
        write_night(NightRecord(date=DAY, outcome=outcome), workspace, [])
        on_record += [night.outcome for night in records(workspace)]
        assert f'outcome="{outcome}"}} 1.0' in (tmp_path / "nights" / "lightsage.prom").read_text()
    assert on_record == ["failed", *["published"] * 4]
