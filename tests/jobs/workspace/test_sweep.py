"""Files that dead runs left behind are deleted when they are old and nothing names them."""

import json
import os
import time
from pathlib import Path

import pytest

from jobs.workspace.remote_cache import cache_of
from jobs.workspace.workspace import Workspace
from tests.jobs.conftest import publish

HALF = "20260302T000000-00000002"


def age(path: Path, days: float) -> None:
    """Make a file, or a folder with everything in it, look `days` days old."""
    at = time.time() - days * 86_400
    for each in (*path.rglob("*"), path):
        os.utime(each, (at, at))


def sweep(workspace: Workspace) -> None:
    with workspace.lock():
        pass


@pytest.mark.parametrize("days", [0.5, 1.5])
def test_unfinished_versions_are_deleted_when_they_are_a_day_old(workspace: Workspace, days: float) -> None:
    whole = publish(workspace)
    half, empty = (Path(workspace.uri) / "versions" / name for name in (HALF, "20260303T000000-00000003"))
    (half / "index").mkdir(parents=True)
    (half / "index" / "item.npy").write_text("half")
    empty.mkdir()
    for folder in (half, empty, Path(workspace.uri) / "versions" / whole):
        age(folder, days)
    (Path(workspace.uri) / "versions" / "notes.txt").write_text("of a person")
    sweep(workspace)
    assert (half.exists(), empty.exists()) == (days < 1, days < 1)
    assert workspace.open(verify=True).name == whole
    assert (Path(workspace.uri) / "versions" / "notes.txt").exists()


@pytest.mark.parametrize("name", ["current", "serving/a.json"])
def test_an_unfinished_version_that_is_named_stays(workspace: Workspace, name: str) -> None:
    publish(workspace)
    half = Path(workspace.uri) / "versions" / HALF
    half.mkdir()
    age(half, 3)
    workspace.write_file(name, json.dumps({"version": HALF, "versions": [HALF]}).encode())
    sweep(workspace)
    assert half.exists()


def test_half_written_files_and_forgotten_leases_are_deleted(workspace: Workspace) -> None:
    publish(workspace)
    root = Path(workspace.uri)
    names = [".current.0123abcd", "nights/2026-03-01/.night.json.0123abcd", "serving/.a.json.89abcdef"]
    for name in [*names, "nights/2026-03-01/night.json", ".hidden", "serving/old.json", "serving/new.json"]:
        workspace.write_file(name, b"{}")
        age(root / name, 8)
    workspace.write_file("serving/new.json", b"{}")
    workspace.write_file(".lock.00000000", b"of a run that is just writing it")
    sweep(workspace)
    assert not any((root / name).exists() for name in [*names, "serving/old.json"])
    for name in ("nights/2026-03-01/night.json", ".hidden", "serving/new.json", ".lock.00000000"):
        assert (root / name).exists(), name


def test_half_downloaded_copies_of_a_remote_workspace_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    workspace = Workspace(f"memory://{tmp_path.name}")
    copy = publish(workspace)
    half = cache_of(workspace.uri) / "versions" / ".tmp1234"
    half.mkdir()
    (half / "item.npy").write_text("half")
    age(half, 2)
    sweep(workspace)
    assert not half.exists()
    assert (cache_of(workspace.uri) / "versions" / copy).exists()
