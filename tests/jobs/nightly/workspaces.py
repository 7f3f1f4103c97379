"""Workspaces of nights on a small marketplace, for tests of what a night does to them."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.cli.cli import main
from jobs.marketplace import MarketplaceFiles
from jobs.workspace.workspace import Workspace

DAYS = [f"2026-03-0{n}" for n in range(2, 7)]
FIRST, SECOND = DAYS[-2:]


@dataclass(frozen=True)
class Night:
    """A workspace of nights, and a log for each day. The workspace's name looks like a pattern, but is not one."""

    name = "shop [1] {a,b}*?"
    root: Path
    files: MarketplaceFiles

    @property
    def workspace(self) -> Path:
        return self.root / self.name

    @property
    def current(self) -> str:
        return Workspace(self.workspace).current()

    def record(self, date: str) -> dict[str, Any]:
        return json.loads((self.workspace / "nights" / date / "night.json").read_text())  # type: ignore[no-any-return]

    def arguments(self, date: str, *flags: object) -> list[str]:
        tables = ["--items", str(self.files.items), "--ads", str(self.files.ads)]
        log = ["--events", str(self.root / "log" / "{date}")]
        return ["nightly", "--date", date, *log, *tables, "--workspace", str(self.workspace), *map(str, flags)]

    def run(self, date: str, *flags: object) -> int:
        return main(self.arguments(date, *flags))

    def intact(self) -> bool:
        """Return True if every file of the served version is as it was published, and raise otherwise."""
        Workspace(self.workspace).open(verify=True)
        return True


def copy_night(night: Night, root: Path) -> Night:
    """Copy the workspace and the logs of a night to another folder."""
    for name in (Night.name, "log"):
        shutil.copytree(night.root / name, root / name)
    return Night(root, night.files)
