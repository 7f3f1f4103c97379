"""Twenty nights of a tiny shop with kills, late files, bad days, rollbacks and repeated runs end as in a plain model.

The stages are stubs; see `stub_stages`. The output of a failure names its seed, with which it can be repeated:

    python -m tests.jobs.nightly.test_twenty_nights SEED [SEED ...]
"""

import contextlib
import datetime as dt
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from jobs.errors import StoreError
from jobs.nightly.publication import announced
from jobs.nightly.versions import rollback
from jobs.workspace.workspace import Workspace
from tests.oracles.nights import Nights, NightVersion
from tests.source_tree import ROOT

NIGHTS = 20
KEEP = 3
FIRST_DAY = dt.date(2026, 3, 1)
CONFIG = f"[nightly]\nkeep_versions = {KEEP}\n"


class Shop:
    """A workspace and its model; every step is taken in both, and then the two are compared."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random = root, random.Random(seed)
        self.model = Nights(KEEP)
        self.workspace = Workspace(root / "shop")
        self.steps: list[str] = []
        self.goodness: dict[str, bool] = {}
        (root / "logs").mkdir()
        (root / "config.toml").write_text(CONFIG)

    def live(self) -> None:
        """Run twenty nights, with other steps between them as chance decides."""
        chance = self.random.random
        self.file("2026-02-28", good=True)
        self.store("2026-02-28")
        for night in range(NIGHTS):
            date = str(FIRST_DAY + dt.timedelta(days=night))
            self.file(date, good=chance() > 0.15)
            meanwhile = chance() < 0.15
            self.night(date, rollback_meanwhile=meanwhile)
            if not self.goodness[date] and chance() < 0.5:
                self.night(date, force=True)
            if chance() < 0.25:
                self.night(date)  # the scheduled second run
            if chance() < 0.25:
                self.file(date, good=True)  # the day's file comes again, with late rows
                self.night(date)
            if chance() < 0.3:
                self.rollback()
                self.night(date)
                if chance() < 0.3:
                    self.rollback()
                    self.night(date)
                if chance() < 0.3:
                    self.night(date, force=True)
            if night and chance() < 0.1:
                self.night(str(FIRST_DAY + dt.timedelta(days=night - 1)))
            if chance() < 0.1:
                (self.root / "shop" / "current").unlink(missing_ok=True)  # and a person restores it
                if self.model.current:
                    self.command("rollback", "--to", self.model.current.name)

    def file(self, date: str, *, good: bool) -> None:
        """Deliver the file of a day; each delivery has new content."""
        self.goodness[date] = good
        text = f"{date} {self.random.random()}"
        (self.root / "logs" / f"{date}.json").write_text(json.dumps({"text": text, "good": good}))

    def content(self, date: str) -> str:
        return str(json.loads((self.root / "logs" / f"{date}.json").read_text())["text"])

    def store(self, date: str) -> None:
        """Store the day that comes before the first night."""
        from jobs.config import Config
        from jobs.pipeline.days import DayInputs
        from tests.jobs.nightly.stub_stages import _store_days

        with self.workspace.lock():
            path = str(self.root / "logs" / f"{date}.json")
            _store_days(DayInputs([path], [dt.date.fromisoformat(date)]), self.workspace, Config(), None)
        self.model.stored[date] = self.content(date)

    def night(self, date: str, *, force: bool = False, rollback_meanwhile: bool = False) -> None:
        """Repeat a night until no kill stops it; it must end as the model says, as if there had been no kill."""
        from tests.jobs.nightly import stub_stages

        logs, tables = str(self.root / "logs" / "{date}.json"), ["--config", str(self.root / "config.toml")]
        arguments = ["nightly", "--date", date, "--events", logs, "--workspace", self.workspace.uri, *tables]
        arguments += ["--force"] if force else []
        before = self.model.current.name if self.model.current else None
        known = set(self.workspace.versions())
        if rollback_meanwhile:
            stub_stages.MEANWHILE.append(self.rollback_if_possible)
        while not rollback_meanwhile and self.random.random() < 0.5:
            step = int(self.random.expovariate(1 / 60))
            code = self.run(arguments, kill_at=(self.root / "shop", step))
            self.steps.append(f"night {date} killed at {step}: {code}")
            new = set(self.workspace.versions()) - known
            assert before is None or self.workspace.current() in {before, *new, *self.names()}, self.story()
            if code != -9:
                break
        # If an earlier run has already done everything, this one changes nothing.
        code = self.run(arguments)
        stub_stages.MEANWHILE.clear()
        expected, outcome = self.model.night(
            date,
            self.content(date),
            good=self.goodness[date],
            force=force,
            rollback_meanwhile=rollback_meanwhile,
        )
        self.steps.append(f"night {date}{' --force' if force else ''}{' rollback' * rollback_meanwhile}: {outcome}")
        assert code == expected, f"exit {code}, expected {expected}\n{self.story()}"
        for version in self.model.versions:
            if not version.name:
                [version.name] = set(self.workspace.versions()) - known - self.names()
        self.check(date, outcome)

    def rollback(self) -> None:
        """Roll back as a person does: if the command is killed, look whether it worked, and repeat it if it did not."""
        before = self.model.current
        possible = self.model.rollback()
        self.steps.append(f"rollback to {self.model.current.name if self.model.current else None}")
        if before is not None and self.random.random() < 0.4:
            step = int(self.random.expovariate(1 / 8))
            self.run(["rollback", "--workspace", self.workspace.uri], kill_at=(self.root / "shop", step))
            if self.workspace.pointer().version != before.name:
                return self.check()
        code = self.run(["rollback", "--workspace", self.workspace.uri])
        assert code == (0 if possible else 2), self.story()
        return self.check()

    def rollback_if_possible(self) -> None:
        with contextlib.suppress(StoreError):
            rollback(Workspace(self.workspace.uri), None)

    def command(self, *arguments: str) -> None:
        self.steps.append(" ".join(arguments))
        assert self.run([*arguments, "--workspace", self.workspace.uri]) == 0, self.story()
        self.check()

    def run(self, arguments: list[str], *, kill_at: tuple[Path, int] | None = None) -> int:
        from tests.jobs.nightly import stub_stages

        return stub_stages.run(arguments, self.root / "output.txt", kill_at=kill_at)

    def names(self) -> set[str]:
        return {version.name for version in self.model.versions if version.name}

    def check(self, date: str | None = None, outcome: str | None = None) -> None:
        """Compare what is served, stored and reported with the model."""
        story, current = self.story(), self.model.current
        if current is None:
            assert not (self.root / "shop" / "current").exists(), story
        else:
            assert self.workspace.pointer().version == current.name, story
            served = self.workspace.open(verify=True)
            assert self.days_of(served.path) == current.days, story
            assert served.manifest.config["parent"] == (current.parent.name if current.parent else None), story
        assert self.workspace.versions() == [version.name for version in self.model.versions], story
        days = json.loads((self.root / "shop" / "days" / "days.json").read_text())["days"]
        stored = {
            day: (self.root / "shop" / "days" / facts["folder"] / "sessions" / "day.json")
            for day, facts in days.items()
        }
        assert {day: json.loads(path.read_text())["text"] for day, path in stored.items()} == self.model.stored, story
        assert not list((self.root / "shop" / "staging").glob("*")), story
        assert not (self.root / "shop" / "lock").exists(), story
        if date and outcome:
            self.check_report(date, outcome, current)

    def check_report(self, date: str, outcome: str, current: NightVersion | None) -> None:
        story, folder = self.story(), self.root / "shop" / "nights"
        record = json.loads((folder / date / "night.json").read_text())
        if outcome in ("published", "unchanged"):
            assert current is not None
            assert announced(self.workspace, dt.date.fromisoformat(date)) is None, story
            assert (record["outcome"], record["version"]) == ("published", current.name), story
            assert record["gates"], story
            assert record["figures"], story
            assert record["stages"], story
            assert sum(not gate["passed"] for gate in record["gates"]) == len(record["forced"]) == current.forced, story
        elif outcome == "held":
            assert record["held"], story
        elif outcome == "refused":
            assert record["outcome"] in ("refused", "published"), story
        assert date in (folder / date / "report.html").read_text(), story
        assert (folder / "lightsage.prom").read_text(), story

    def days_of(self, version: Path) -> dict[str, str]:
        content: dict[str, str] = json.loads((version / "index" / "meta.json").read_text())["days"]
        return content

    def story(self) -> str:
        output = self.root / "output.txt"
        return "\n".join([*self.steps, "", output.read_text()[-3000:] if output.exists() else ""])


def simulate(seed: int) -> None:
    from tests.jobs.nightly import stub_stages

    stub_stages.install(pytest.MonkeyPatch())
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder), seed)
        try:
            shop.live()
        except BaseException:
            sys.stderr.write(f"seed {seed}\n")
            raise
        sys.stdout.write(f"seed {seed}: {len(shop.steps)} steps, {len(shop.model.versions)} versions stay\n")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, "random"])
def test_twenty_nights_end_as_the_model_says(seed: int | str) -> None:
    """Run the nights in a process of their own, which forks and replaces the stages."""
    if seed == "random":  # drawn here, because all processes of a test run must collect the same tests
        seed = random.SystemRandom().randrange(10**6)
    command = [sys.executable, "-m", "tests.jobs.nightly.test_twenty_nights", str(seed)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ}, check=False)
    assert process.returncode == 0, process.stdout + process.stderr


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        simulate(int(argument))
