"""A night keeps its promises about versions: rollbacks hold, a kill loses no record, unreadable parts are reported.

The stages are stubs; see `stub_stages`.
"""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from jobs.cli.cli import main
from jobs.config import Config
from jobs.errors import StoreUnreachableError
from jobs.nightly import nightly, parent
from jobs.nightly.versions import list_versions, rollback
from jobs.pipeline.days import DayInputs
from jobs.workspace import workspace as store
from jobs.workspace.manifest import Manifest
from jobs.workspace.workspace import Workspace
from tests.jobs.nightly import stub_stages

DAYS = [f"2026-03-0{n}" for n in range(1, 8)]


class Shop:
    """A workspace of nights with stubbed stages, and the log files of the days."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workspace = Workspace(root / "shop")
        root.mkdir(parents=True, exist_ok=True)
        for day in DAYS:
            self.file(day)
        with self.workspace.lock():
            self.ingest(DAYS[0])

    def file(self, day: str, text: str = "", *, good: bool = True) -> None:
        (self.root / f"{day}.json").write_text(json.dumps({"text": f"{day} {text}", "good": good}))

    def ingest(self, day: str) -> None:
        path = str(self.root / f"{day}.json")
        stub_stages._store_days(DayInputs([path], [dt.date.fromisoformat(day)]), self.workspace, Config(), None)

    def night(self, day: str, *flags: str) -> int:
        events = str(self.root / "{date}.json")
        return main(["nightly", "--date", day, "--events", events, "--workspace", self.workspace.uri, *flags])

    def record(self, day: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.workspace.read_file(f"nights/{day}/night.json") or b"")
        return content

    def rolled_back(self, *flags: str) -> str:
        assert main(["rollback", "--workspace", self.workspace.uri, *flags]) == 0
        return self.workspace.current()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """Return a shop in which three nights are published."""
    stub_stages.install(monkeypatch)
    shop = Shop(tmp_path)
    for day in DAYS[1:4]:
        assert shop.night(day) == 0
    return shop


def test_what_a_person_rolled_back_stays_so_until_a_new_night(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = shop.workspace.versions()
    assert shop.rolled_back() == second
    capsys.readouterr()
    for _ in range(2):
        assert shop.night(DAYS[3]) == 0
        assert shop.workspace.current() == second
        assert f"held {second}" in capsys.readouterr().out
        record = shop.record(DAYS[3])
        assert (record["outcome"], record["version"]) == ("published", third), "what was published stays on record"
        assert "a person rolled the night of 2026-03-04 back" in record["held"]
        assert "rolled the night" in (shop.workspace.read_file(f"nights/{DAYS[3]}/report.html") or b"").decode()
        assert b'outcome="held"} 1.0' in (shop.workspace.read_file("nights/lightsage.prom") or b"")
    assert "rolled back on" in list_versions(shop.workspace)[2].remarks[0]
    assert shop.night(DAYS[4]) == 0
    assert shop.record(DAYS[4])["parent"] == second
    assert shop.workspace.current() == shop.record(DAYS[4])["version"] not in (first, second, third)


def test_a_rollback_over_two_nights_is_not_undone_by_the_same_night_with_another_parent(shop: Shop) -> None:
    first, _, _ = shop.workspace.versions()
    assert shop.rolled_back("--to", first) == first
    assert shop.night(DAYS[3]) == 0
    assert shop.workspace.current() == first
    assert shop.night(DAYS[2]) == 0, "the night between was passed over too"
    assert shop.workspace.current() == first
    assert len(shop.workspace.versions()) == 3


def test_force_and_other_inputs_publish_a_night_that_was_rolled_back(shop: Shop) -> None:
    _, second, third = shop.workspace.versions()
    assert shop.rolled_back() == second
    assert shop.night(DAYS[3], "--force") == 0
    assert shop.workspace.current() == third
    assert shop.night(DAYS[3]) == 0
    assert shop.workspace.current() == third, "the word of the person who forced it counts"
    assert shop.rolled_back() == second
    shop.file(DAYS[3], "with late rows")
    assert shop.night(DAYS[3]) == 0
    assert shop.workspace.current() not in (second, third)
    assert shop.workspace.manifest(shop.workspace.current()).config["parent"] == second


def test_a_rollback_holds_although_current_is_lost(shop: Shop) -> None:
    _, second, _ = shop.workspace.versions()
    assert shop.rolled_back() == second
    shop.workspace.delete_file("current")
    assert shop.night(DAYS[3]) == 0
    assert shop.workspace.current() == second


def test_rollbacks_go_back_one_by_one_and_forward_by_name(shop: Shop) -> None:
    first, second, third = shop.workspace.versions()
    assert [shop.rolled_back(), shop.rolled_back()] == [second, first]
    assert main(["rollback", "--workspace", shop.workspace.uri]) == 2
    assert shop.rolled_back("--to", third) == third
    assert shop.rolled_back() == first, "the second was passed over, and nobody took that back"
    assert shop.rolled_back("--to", second) == second
    assert shop.rolled_back() == first


def test_a_night_does_not_undo_a_rollback_during_it_and_the_next_run_follows_it(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    _, second, third = shop.workspace.versions()
    stub_stages.MEANWHILE.append(lambda: rollback(Workspace(shop.workspace.uri), None))
    assert shop.night(DAYS[4]) == 0
    assert shop.workspace.current() == second
    new = shop.workspace.versions()[-1]
    assert f"version {new} is built, but not made current" in capsys.readouterr().out
    record = shop.record(DAYS[4])
    assert (record["outcome"], record["version"], record["parent"]) == ("held", second, third)
    assert new in record["held"]
    assert new in (shop.workspace.read_file(f"nights/{DAYS[4]}/report.html") or b"").decode()
    assert shop.night(DAYS[4]) == 0, "it began after the rollback"
    record = shop.record(DAYS[4])
    assert (record["outcome"], record["parent"]) == ("published", second)
    assert shop.workspace.current() == record["version"] not in (third, new)


def test_run_with_unchanged_inputs_does_not_undo_a_rollback(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    third = shop.workspace.current()
    run = ["run", "--stored-days", "--workspace", shop.workspace.uri]
    assert main(run) == 0
    built = shop.workspace.current()
    assert built != third
    assert shop.rolled_back() == third
    capsys.readouterr()
    assert main(run) == 0
    assert f"version {built} was rolled back on" in capsys.readouterr().out
    assert shop.workspace.current() == third
    assert shop.rolled_back("--to", built) == built
    assert main(run) == 0
    assert shop.workspace.current() == built


def test_run_does_not_undo_a_rollback_during_it(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    _, second, _ = shop.workspace.versions()
    stub_stages.MEANWHILE.append(lambda: rollback(Workspace(shop.workspace.uri), None))
    assert main(["run", "--stored-days", "--workspace", shop.workspace.uri]) == 0
    built = shop.workspace.versions()[-1]
    assert f"version {built} is built, but not made current" in capsys.readouterr().out
    assert shop.workspace.current() == second
    assert "not made current, because a person rolled back" in list_versions(shop.workspace)[-1].remarks[0]
    assert shop.rolled_back("--to", built) == built
    assert shop.rolled_back() == second


class CrashError(BaseException):
    """Stands for the end of the process."""


def crash(*_: object) -> None:
    raise CrashError


def killed(shop: Shop, day: str, *points: tuple[Any, str]) -> None:
    """Run a night that dies at the first of these points, or at the latest before it writes its record."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in [*points, (nightly._Night, "close")]:
            patch.setattr(module, name, crash)
        with pytest.raises(CrashError):
            shop.night(day)


@pytest.mark.parametrize(
    "point",
    [(store.VersionFolder, "put"), (store, "write_current"), (nightly, "write_night")],
    ids=["before the version", "before current", "before the record"],
)
def test_a_kill_at_the_moment_of_publication_loses_neither_gates_nor_figures(
    shop: Shop, point: tuple[Any, str]
) -> None:
    _, _, third = shop.workspace.versions()
    killed(shop, DAYS[4], point)
    assert (shop.workspace.current() == third) == (point[1] != "write_night")
    assert shop.night(DAYS[4]) == 0
    record = shop.record(DAYS[4])
    assert (record["outcome"], record["version"]) == ("published", shop.workspace.current())
    assert record["parent"] == third
    assert {"items", "edges"} <= {gate["name"] for gate in record["gates"]}
    assert record["figures"]["count:items"] == 50
    assert {"graph", "fit", "refit", "index"} <= {stage["name"] for stage in record["stages"]} | set(record["reused"])
    assert "publishing.json" not in shop.workspace.names(f"nights/{DAYS[4]}")
    assert len(shop.workspace.versions()) == 4


def test_the_next_night_completes_the_record_of_a_night_that_was_killed(shop: Shop) -> None:
    killed(shop, DAYS[4])
    fourth = shop.workspace.current()
    killed(shop, DAYS[5], (store, "write_current"))
    assert shop.record(DAYS[4])["version"] == fourth
    assert shop.record(DAYS[4])["gates"]
    assert shop.workspace.current() == fourth
    assert shop.night(DAYS[6]) == 0
    record = shop.record(DAYS[5])
    assert (record["outcome"], record["version"]) == ("failed", None)
    assert "was stopped before" in record["error"]
    assert shop.record(DAYS[6])["parent"] == fourth


def test_a_record_that_cannot_be_written_is_told_and_completed_by_the_same_command(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = Workspace.write_file

    def lost(self: Workspace, name: str, content: bytes) -> None:
        if not name.endswith("publishing.json"):
            raise StoreUnreachableError("the store cannot be reached")
        write(self, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "write_file", lost)
        assert shop.night(DAYS[4]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert shop.night(DAYS[4]) == 0
    assert shop.record(DAYS[4])["version"] == shop.workspace.current() == shop.workspace.versions()[-1]
    assert shop.record(DAYS[4])["gates"]


def test_a_version_with_a_part_of_another_format_is_passed_over_before_the_work(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second, third = shop.workspace.versions()
    monkeypatch.setattr(parent, "unreadable_part", lambda path: "index format 9" if path.name == third else None)
    assert shop.night(DAYS[4]) == 0
    record = shop.record(DAYS[4])
    assert record["parent"] == second
    assert any(third in doubt and "index format 9" in doubt for doubt in record["doubts"])


def test_a_night_follows_the_version_that_run_published_for_the_same_day(shop: Shop) -> None:
    current = shop.workspace.open()
    manifest = Manifest(
        version="20260305T235900-0123abcd",
        fingerprint="0123abcd" * 4,
        as_of=dt.datetime(2026, 3, 5, 23, 59, tzinfo=dt.UTC),
        config={"date": None},
        inputs={},
        code_version="c0de",
    )
    with shop.workspace.lock(), shop.workspace.scratch_folder() as folder:
        (folder / "index").mkdir()
        (folder / "index" / "meta.json").write_bytes((current.path / "index" / "meta.json").read_bytes())
        shop.workspace.publish(folder, manifest)
    assert shop.night(DAYS[4]) == 0
    record = shop.record(DAYS[4])
    assert record["parent"] == manifest.version
    assert not record["warm"]
    assert any("was built by `run` and has seen 2026-03-05" in doubt for doubt in record["doubts"])
    published = shop.workspace.current()
    assert shop.night(DAYS[4]) == 0
    assert shop.workspace.current() == published, "and the second run recognises it"
    assert shop.rolled_back() == manifest.version


@pytest.mark.parametrize("content", [None, b"{"])
def test_a_night_without_current_follows_the_newest_whole_version_with_a_doubt(
    shop: Shop, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    third = shop.workspace.versions()[-1]
    if content is None:
        shop.workspace.delete_file("current")
    else:
        shop.workspace.write_file("current", content)
    assert main(["versions", "--workspace", shop.workspace.uri]) == 0
    assert "counts as published" in " ".join(capsys.readouterr().out.split())
    assert main(["rollback", "--workspace", shop.workspace.uri]) == 2, "nobody knows what is current"
    assert shop.night(DAYS[4]) == 0
    record = shop.record(DAYS[4])
    assert record["parent"] == third
    assert any(f"the newest whole version {third} counts as published" in doubt for doubt in record["doubts"])
    assert shop.workspace.pointer().version == record["version"]


@pytest.mark.parametrize("name", ["shop [1]", "{a,b}*?", "50% #1 läden", "[!x]"])
def test_a_path_is_never_a_pattern(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_stages.install(monkeypatch)
    shop = Shop(tmp_path / name)
    for day in DAYS[1:4]:
        assert shop.night(day) == 0
    first, second, third = shop.workspace.versions()
    shop.workspace.write_file(
        "serving/[a].json", json.dumps({"versions": [first], "at": "2999-01-01T00:00:00Z"}).encode()
    )
    config = tmp_path / "keep.toml"
    config.write_text("[nightly]\nkeep_versions = 1\n")
    assert shop.night(DAYS[4], "--config", str(config)) == 0
    assert shop.workspace.versions() == [first, third, shop.workspace.current()]
    assert [night.outcome for night in nightly.records(shop.workspace)] == ["published"] * 4
    assert shop.record(DAYS[4])["removed"] == [second]
    assert shop.rolled_back() == third
