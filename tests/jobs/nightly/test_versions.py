"""Versions are listed, published again, compared and deleted, but never deleted while a server serves them."""

import datetime as dt
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from jobs.cli.cli import main
from jobs.cli.serve import serve
from jobs.config import Config
from jobs.errors import NoVersionError, StoreError
from jobs.nightly.versions import delete_old_versions, diff, list_versions, rollback
from jobs.workspace.manifest import Manifest
from jobs.workspace.server_leases import Lease, served_versions
from jobs.workspace.workspace import Workspace
from tests.jobs.conftest import add

NAMES = [f"2026030{n}T000000-0000000{n}" for n in range(1, 6)]


def publish(workspace: Workspace, name: str, parent: str | None = None, **metrics: Any) -> None:
    manifest = Manifest(
        version=name,
        fingerprint=name[-8:] * 4,
        as_of=dt.datetime.strptime(name[:8], "%Y%m%d").replace(tzinfo=dt.UTC),
        config={"parent": parent},
        inputs={},
        code_version="c0de",
        metrics=metrics,
        summary={"nodes": 5, "edges": {"swing": 2, "co_search": 1}},
    )
    with workspace.lock(), workspace.scratch_folder() as staged:
        (staged / "file").write_text(name)
        workspace.publish(staged, manifest)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "ws")
    for before, name in zip([None, *NAMES], NAMES, strict=False):
        publish(workspace, name, before, forced=["edges"] if name == NAMES[2] else [])
    return workspace


def delete_old(workspace: Workspace, keep: int) -> list[str]:
    with workspace.lock():
        return delete_old_versions(workspace, keep)


def test_versions_are_listed_with_their_figures_and_their_damage(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(workspace.uri) / "versions" / NAMES[0] / "file").unlink()
    versions = list_versions(workspace)
    assert [version.name for version in versions] == NAMES
    assert [version.current for version in versions] == [False] * 4 + [True]
    assert (versions[2].items, versions[2].edges, versions[2].parent, versions[2].forced) == (
        5,
        3,
        NAMES[1],
        ("edges",),
    )
    assert versions[0].damage is not None
    assert "is missing" in versions[0].damage
    assert main(["versions", "--workspace", workspace.uri]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in NAMES)


def test_rollback_goes_to_the_parent_or_to_the_named_version(workspace: Workspace) -> None:
    assert rollback(workspace, None) == (NAMES[4], NAMES[3])
    assert rollback(workspace, NAMES[1]) == (NAMES[3], NAMES[1])
    assert workspace.current() == NAMES[1]
    assert main(["rollback", "--workspace", workspace.uri]) == 0
    assert workspace.current() == NAMES[0]
    with pytest.raises(StoreError, match="no version before"):
        rollback(workspace, None)
    with pytest.raises(NoVersionError):
        rollback(workspace, "20990101T000000-ffffffff")
    assert workspace.current() == NAMES[0]


def test_versions_of_one_time_are_rolled_back_and_deleted_in_the_order_of_publication(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws")
    names = [f"20260301T000000-{digit * 8}" for digit in "7a1f0"]
    for name in names:
        publish(workspace, name)
    assert [version.name for version in list_versions(workspace)] == names
    assert rollback(workspace, None) == (names[4], names[3])
    assert delete_old(workspace, 2) == names[:3]
    assert workspace.versions() == names[3:]


def test_rollback_refuses_a_damaged_version(workspace: Workspace) -> None:
    (Path(workspace.uri) / "versions" / NAMES[3] / "file").write_text("other")
    assert main(["rollback", "--workspace", workspace.uri]) == 2
    assert workspace.current() == NAMES[4]


def test_the_newest_versions_the_current_one_and_its_parent_stay(workspace: Workspace) -> None:
    rollback(workspace, NAMES[1])
    assert delete_old(workspace, 2) == [NAMES[2]]
    assert workspace.versions() == [NAMES[0], NAMES[1], NAMES[3], NAMES[4]]
    assert delete_old(workspace, 9) == []


def test_an_unpublished_version_is_listed_and_stays_while_it_is_young_or_served(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    young, old, served = (add(workspace, digit) for digit in "789")
    for name in (old, served):
        path = Path(workspace.uri) / "versions" / name / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"created_at": "2026-01-01T00:00:00Z"}))
    listed = {version.name: (version.published, version.current) for version in list_versions(workspace)}
    assert listed == dict.fromkeys([*NAMES[:4]], (True, False)) | {NAMES[4]: (True, True)} | dict.fromkeys(
        [young, old, served], (False, False)
    )
    assert main(["versions", "--workspace", workspace.uri]) == 0
    assert capsys.readouterr().out.count("not published") == 3
    lease = Lease(workspace)
    lease.take(served)
    assert delete_old(workspace, 9) == [old]
    with workspace.lock():  # the sweep of a later run does not delete it either
        pass
    assert workspace.unpublished() == [served, young]
    assert workspace.versions() == NAMES


def test_a_version_that_a_server_serves_stays_until_the_server_ends(workspace: Workspace) -> None:
    lease = Lease(workspace)
    lease.take(NAMES[0])
    lease.take(NAMES[1])  # being loaded, while the first is still served
    assert delete_old(workspace, 1) == [NAMES[2]]
    lease.drop(NAMES[1])  # it was refused
    lease.take(NAMES[4])
    assert delete_old(workspace, 1) == [NAMES[1]], "the first is still served"
    lease.drop(NAMES[0])
    assert lease.current() == NAMES[4]
    assert delete_old(workspace, 1) == [NAMES[0]]
    lease.end()
    assert workspace.versions() == NAMES[3:]


def test_a_server_opens_the_version_of_its_lease(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    take, opened = Lease.take, []

    def another_is_published_meanwhile(lease: Lease, name: str) -> None:
        take(lease, name)
        rollback(workspace, NAMES[1])

    def read(index: Path) -> None:
        opened.append(index.parent.name)
        raise StoreError("seen enough")

    monkeypatch.setattr(Lease, "take", another_is_published_meanwhile)
    monkeypatch.setattr("retrieval.index_folder.read_index", read)
    with pytest.raises(StoreError, match="seen enough"):
        serve(workspace.uri, None, host="127.0.0.1", port=0, at=None)
    assert opened == [NAMES[4]]


def lease_file(workspace: Workspace, name: str, content: bytes, hours: float) -> None:
    """Write the file of a lease that looks `hours` hours old."""
    workspace.write_file(f"serving/{name}", content)
    path, written = Path(workspace.uri) / "serving" / name, time.time() - hours * 3600
    os.utime(path, (written, written))


def test_an_old_lease_protects_nothing(workspace: Workspace) -> None:
    old = {"versions": [NAMES[0]], "at": "2020-01-01T00:00:00+00:00"}
    lease_file(workspace, "gone-1.json", json.dumps(old).encode(), 25)
    lease_file(workspace, "broken-2.json", b"{", 25)
    assert delete_old(workspace, 2) == NAMES[:3]


@pytest.mark.parametrize(
    ("at", "hours"),
    [("2020-01-01T00:00:00+00:00", 0), ("2020-01-01T00:00:00", 20), ("2999-01-01T00:00:00+00:00", 30)],
    ids=["a server whose clock is late", "a time without a zone", "a builder whose clock is late"],
)
def test_a_lease_counts_if_it_is_young_by_one_of_the_clocks(workspace: Workspace, at: str, hours: float) -> None:
    lease_file(workspace, "clock.json", json.dumps({"versions": [NAMES[0]], "at": at}).encode(), hours)
    assert served_versions(workspace) == {NAMES[0]}
    assert delete_old(workspace, 2) == NAMES[1:3]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"versions": 3, "at": "2026-03-01"}', b"\xff"])
def test_nothing_is_deleted_while_a_young_lease_cannot_be_read(workspace: Workspace, content: bytes) -> None:
    workspace.write_file("serving/broken.json", content)
    with pytest.raises(StoreError, match=r"broken\.json is not a readable lease"):
        delete_old(workspace, 1)
    assert workspace.versions() == NAMES


def test_servers_of_one_host_name_and_process_id_have_leases_of_their_own(workspace: Workspace) -> None:
    leases = [Lease(workspace), Lease(workspace)]  # as in two containers
    for lease, name in zip(leases, NAMES, strict=False):
        lease.take(name)
    assert served_versions(workspace) == set(NAMES[:2])
    leases[0].end()
    assert served_versions(workspace) == {NAMES[1]}


def test_the_current_version_cannot_be_removed(workspace: Workspace) -> None:
    with workspace.lock(), pytest.raises(StoreError, match="is current"):
        workspace.remove(NAMES[4])
    with pytest.raises(StoreError, match="lock"):
        workspace.remove(NAMES[0])


def test_a_server_works_without_a_lease_in_a_read_only_workspace(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(workspace, "write_file", refused)
    lease = Lease(workspace)
    lease.take(NAMES[0])
    assert lease.current() == NAMES[4]
    lease.end()


def test_a_version_does_not_differ_from_itself_and_an_unknown_one_is_refused(
    shop: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    name = shop.version.name
    changes = diff(Workspace(shop.workspace), name, name, Config())
    assert changes["settings"] == {}
    assert changes["counts"] == {}
    assert changes["items"]["new"] == changes["items"]["gone"] == 0
    assert changes["ads"]["both"] > 0
    assert changes["neighbours_that_stay"] == 1
    assert main(["diff", name, name, "--workspace", str(shop.workspace)]) == 0
    assert "100% of an item's 20 nearest neighbours stayed the same" in capsys.readouterr().out
    assert main(["diff", name, "nothing", "--workspace", str(shop.workspace)]) == 2
